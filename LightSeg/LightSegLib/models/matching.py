"""Put a checkpoint's tensors into a network: all of them, or an error that names what does not fit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ..catalog.lookup import all_cards
from ..core.errors import ModelError
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from ..networks import build

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..catalog.card import Card
    from ..weights.checkpoint import Checkpoint

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
        what = _("missing: {missing}, unexpected: {unexpected}, with another shape: {differences}").format(
            missing=len(missing), unexpected=len(unexpected), differences=len(differences)
        )
    whose = _whose(state, wanted, canonical_key, candidates() if candidates else {})
    shapes = _("{key} ({given}, in the model {wanted})")
    other = [shapes.format(key=d.key, given=_text(d.received), wanted=_text(d.wanted)) for d in differences]
    lists = [
        _listed(title, entries)
        for title, entries in ((_("Missing"), missing), (_("Unexpected"), unexpected), (_("Other shape"), other))
        if entries
    ]
    if whose is None:
        message = _(
            "The weights in {file} do not fit the network {network}: {difference}. "
            "Use weights that were made for this model.{tensors}"
        )
    else:
        message = _(
            "The weights in {file} do not fit the network {network}: {difference}; {whose}. "
            "Use weights that were made for this model, or use these with that model.{tensors}"
        )
    network_name = type(network).__name__
    raise ModelError(
        message.format(file=name, network=network_name, difference=what, whose=whose, tensors=joined("", lists))
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


def fitting_networks(card: Card, checkpoint: Checkpoint, name: str) -> Iterator[nn.Module]:
    """Yield the networks of all folds in a checkpoint, ready to run.

    Raises:
        ModelError: as `fitting_network`, and for a file that has another network than the card.
    """
    if checkpoint.network not in (None, card.network_arguments):
        raise ModelError(
            _(
                "{file} contains a different network than the card of {model} describes. "
                "Correct network_arguments in the card, or use the weights that belong to the card."
            ).format(file=name, model=card.title)
        )
    for number, state in enumerate((checkpoint.state, *checkpoint.other_folds), start=1):
        file = name if number == 1 else f"{name} (network {number})"
        yield fitting_network(card, state, file, known_models).eval()


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
                    "The model card describes a network with many more layers than its weights have. "
                    "Correct network_arguments, or use the weights that belong to the card."
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
            if not card.network:  # which its weights state
                continue
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


def _other_count(network: nn.Module, differences: Sequence[Difference]) -> Message | None:
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
    if outputs:
        return _("they have {given} outputs, the model has {wanted}").format(given=ours, wanted=theirs)
    return _("they have {given} input channels, the model has {wanted}").format(given=ours, wanted=theirs)


def _whose(
    state: Mapping[str, Tensor],
    wanted: Table,
    canonical_key: Callable[[str], str],
    candidates: Mapping[str, Table],
) -> Message | None:
    """Which of the candidates fit the weights best, if clearly and better than the network at hand."""
    tensors: dict[tuple[int, Shape], set[tuple[str, Shape]]] = {}  # of each tensor the keys that it has
    for key, tensor in state.items():
        if key.endswith(BATCH_COUNTER):
            continue
        shape = tuple(tensor.shape)
        tensors.setdefault((tensor.data_ptr(), shape), set()).update({(key, shape), (canonical_key(key), shape)})
    fits = {title: _fit(tensors.values(), table) for title, table in candidates.items()}
    best = max(fits.values(), default=0.0)
    if best < ALIKE or best <= _fit(tensors.values(), wanted):
        return None
    titles = joined(_(" or "), (f"'{title}'" for title, fit in fits.items() if fit == best))
    fit = _("they fit {models}") if best == 1 else _("they look like those of {models}")
    return fit.format(models=titles)


def _fit(tensors: Iterable[set[tuple[str, Shape]]], table: Table) -> float:
    """Share of the file's tensors that a model has by key and shape, or of the model's that the file has."""
    known = {(key, shape) for key, shape in table.items() if not key.endswith(BATCH_COUNTER)}
    found = [bool(keys & known) for keys in tensors]
    present = known & set().union(*tensors)
    return min(sum(found) / max(1, len(found)), len(present) / max(1, len(known)))


def _listed(title: Message, entries: Sequence[str]) -> Message:
    """Return a line with the first entries under a title, or nothing if there are none."""
    more = [_("and {count} more").format(count=len(entries) - SHOWN)] if len(entries) > SHOWN else []
    return _("\n{title}: {entries}").format(title=title, entries=joined(", ", [*entries[:SHOWN], *more]))


def _text(shape: Shape) -> str:
    """Return a shape as text."""
    return " x ".join(map(str, shape)) or "one number"
