"""Put a checkpoint's tensors into a network: all of them, or an error that names what does not fit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ..catalog.lookup import all_cards
from ..core.errors import ModelError
from ..core.i18n import tr as _
from ..networks import build

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..catalog.card import Card

Shape = tuple[int, ...]
Table = Mapping[str, Shape]

PARAMETERS = 4  # of a network for each tensor of a file, whose shared ones are made once each
SPARE = 100
SHOWN = 5  # keys of each kind that a message lists
ALIKE = 0.9  # share of the tensors, on both sides, from which weights look like a model's
BATCH_COUNTER = "num_batches_tracked"  # of batch norms: inference never reads it, and old files lack it


class Difference(NamedTuple):
    """A tensor that is in the file and in the network, but not alike."""

    key: str  # as the file has it
    canonical: str  # as the network has it
    received: Shape
    wanted: Shape


def load_state(
    network: nn.Module,
    state: Mapping[str, Tensor],
    name: str,
    candidates: Callable[[], Mapping[str, Table]] | None = None,
) -> None:
    """Copy every tensor of `state` into `network`, whose parameters and buffers are all set then.

    Keys go through the network's `canonical_key` where it has one; of several keys of one tensor the last one wins.

    Args:
        name: what messages call the weights, such as the file's name.
        candidates: makes title -> key -> shape of the known models, so that a message can say whose weights these
            are; called only where they do not fit.

    Raises:
        ModelError: the network being unchanged, where a key is missing or unknown or a shape differs.
    """
    canonical_key: Callable[[str], str] = getattr(network, "canonical_key", str)
    check_fit(network, state, name, candidates)
    received = {canonical_key(key): tensor for key, tensor in state.items()}
    network.load_state_dict(received, strict=False)  # strict but for the batch counters


def check_fit(
    network: nn.Module,
    state: Mapping[str, Tensor],
    name: str,
    candidates: Callable[[], Mapping[str, Table]] | None = None,
) -> None:
    """Check that weights fit a network, without loading them.

    Raises:
        ModelError: as `load_state`; shapes are compared, so the network's tensors may be without numbers.
    """
    canonical_key: Callable[[str], str] = getattr(network, "canonical_key", str)
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    received = {canonical_key(key): tensor for key, tensor in state.items()}
    missing = [key for key in wanted if key not in received and not key.endswith(BATCH_COUNTER)]
    unexpected = [key for key in state if canonical_key(key) not in wanted]
    differences = list(_differences(state, wanted, canonical_key))
    if not missing and not unexpected and not differences:
        return

    what = None if missing or unexpected else _other_count(network, differences)
    if what is None:
        what = f"{len(missing)} missing, {len(unexpected)} unexpected, {len(differences)} of another shape"
    whose = _whose(state, wanted, canonical_key, candidates() if candidates else {})
    lists = (
        _listed("Missing", missing),
        _listed("Unexpected", unexpected),
        _listed("Other shape", [f"{d.key} ({_text(d.received)}, in the model {_text(d.wanted)})" for d in differences]),
    )
    raise ModelError(
        f"The weights in {name} do not fit the network {type(network).__name__}: {what}{whose and f'; {whose}'}. "
        f"Use weights that were made for this model{whose and ', or these with that one'}." + "".join(lists)
    )


def fitting_network(
    card: Card, state: Mapping[str, Tensor], name: str, candidates: Callable[[], Mapping[str, Table]] | None = None
) -> nn.Module:
    """Return the network of a card with the tensors of `state`, as `load_state`.

    Whether they fit is seen before memory is taken for the network: a card of a few bytes can ask for any widths, and
    any number of layers.

    Raises:
        ModelError: as `load_state` and `build`, and for more layers than `state` can fill.
    """
    import torch

    with torch.device("meta"), _at_most(PARAMETERS * len(state) + SPARE):  # shapes without numbers
        shapes = build(card.network, card.network_arguments)
    check_fit(shapes, state, name, candidates)
    network = build(card.network, card.network_arguments)
    load_state(network, state, name, candidates)
    return network


@contextmanager
def _at_most(most: int) -> Iterator[None]:
    """Refuse, in this thread, to create a network with more parameters.

    Raises:
        ModelError: for a model that cannot be used.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    made, thread = 0, threading.get_ident()

    def count(*_arguments: object) -> None:
        nonlocal made
        made += threading.get_ident() == thread
        if made > most:
            raise ModelError(
                _(
                    "The model card asks for a network of many more layers than its weights have. "
                    "Correct network_arguments, or take the weights that belong to the card."
                )
            )

    counting = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        counting.remove()


def known_models() -> Mapping[str, Table]:
    """Return the keys and shapes of the networks of all models, by title: candidates for `load_state`."""
    import torch

    tables: dict[str, Table] = {}
    with torch.device("meta"):  # shapes without numbers
        for card in all_cards():
            state = build(card.network, card.network_arguments).state_dict()
            tables[card.title] = {key: tuple(tensor.shape) for key, tensor in state.items()}
    return tables


def _differences(
    state: Mapping[str, Tensor], wanted: Table, canonical_key: Callable[[str], str]
) -> Iterable[Difference]:
    """Tensors of another shape, once each where several keys of one tensor agree."""
    seen = set()
    for key, tensor in state.items():
        canonical, shape = canonical_key(key), tuple(tensor.shape)
        if wanted.get(canonical, shape) != shape and (canonical, shape) not in seen:
            seen.add((canonical, shape))
            yield Difference(key, canonical, shape, wanted[canonical])


def _other_count(network: nn.Module, differences: Sequence[Difference]) -> str | None:
    """Return the commonest case in words: the same network for another number of labels, or of channels."""
    found = set()
    for _kind, canonical, received, wanted in differences:
        axes = [axis for axis, (a, b) in enumerate(zip(received, wanted, strict=False)) if a != b]
        if len(received) != len(wanted) or len(axes) != 1:
            return None
        module = network.get_submodule(canonical.rpartition(".")[0])
        output_axis = 1 if getattr(module, "transposed", False) and len(received) > 1 else 0
        found.add((axes[0] == output_axis, received[axes[0]], wanted[axes[0]]))
    if len(found) != 1:
        return None
    ((outputs, ours, theirs),) = found
    return f"they have {ours} {'outputs' if outputs else 'input channels'}, the model has {theirs}"


def _whose(
    state: Mapping[str, Tensor],
    wanted: Table,
    canonical_key: Callable[[str], str],
    candidates: Mapping[str, Table],
) -> str:
    """Which of the candidates fit the weights best, if clearly and better than the network at hand; else ""."""
    tensors: dict[tuple[int, Shape], set[tuple[str, Shape]]] = {}  # of each tensor the keys that it has
    for key, tensor in state.items():
        if key.endswith(BATCH_COUNTER):
            continue
        shape = tuple(tensor.shape)
        tensors.setdefault((tensor.data_ptr(), shape), set()).update({(key, shape), (canonical_key(key), shape)})
    fits = {title: _fit(tensors.values(), table) for title, table in candidates.items()}
    best = max(fits.values(), default=0.0)
    if best < ALIKE or best <= _fit(tensors.values(), wanted):
        return ""
    titles = " or ".join(f"'{title}'" for title, fit in fits.items() if fit == best)
    return f"they {'fit' if best == 1 else 'look like those of'} {titles}"


def _fit(tensors: Iterable[set[tuple[str, Shape]]], table: Table) -> float:
    """Share of the file's tensors that a model has by key and shape, or of the model's that the file has."""
    known = {(key, shape) for key, shape in table.items() if not key.endswith(BATCH_COUNTER)}
    found = [bool(keys & known) for keys in tensors]
    present = known & set().union(*tensors)
    return min(sum(found) / max(1, len(found)), len(present) / max(1, len(known)))


def _listed(title: str, entries: Sequence[str]) -> str:
    """Return a line with the first entries under a title, or nothing if there are none."""
    if not entries:
        return ""
    more = f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
    return f"\n{title}: {', '.join(entries[:SHOWN])}{more}"


def _text(shape: Shape) -> str:
    """Return a shape as text."""
    return " x ".join(map(str, shape)) or "one number"
