"""Checkpoints of other programs: their weights, and what they say about themselves.

Read are
- nnU-Net v2's `.pth`: `network_weights`, with plans, configuration, fold and dataset in `init_args`;
- nnU-Net v1's `.model` (UNETR++ and other descendants too): `state_dict` beside `plot_stuff`, plans elsewhere;
- a plain state dict, also as the entry `state_dict`, `model_state_dict` or `model` of a dict;
- MeshNet as TensorFlow.js keeps it, and models of several files, each with a state dict, in one archive (`bundle`);
- LightSeg's own: the plain half-precision files of `save_weights`, and the slim copies made here, which can hold the
  weights of several folds.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError
from ..core.i18n import tr as _
from .bundle import is_bundle, unpacked
from .files import save_torch
from .safe_load import first_line, safe_load
from .tensorflow_js import TOPOLOGY, read_tensorflow_js

if TYPE_CHECKING:
    from torch import Tensor

NNUNET_V2 = "nnU-Net v2"
NNUNET_V1 = "nnU-Net v1"
PLAIN = "state dict"
TENSORFLOW_JS = "TensorFlow.js"
PARTS = "several files"
LIGHTSEG = "LightSeg"
SLIM = "LightSeg slim copy"  # how a slim copy marks itself
FORMER_OTHER_FOLDS = "further"  # where slim copies of earlier versions have the weights of other folds
ENTRIES = ("state_dict", "model_state_dict", "model")  # where other programs put the state dict
MOST_FACTS = 1 << 20  # characters and values of plans and dataset; nnU-Net's have some ten thousands
COPIES = 4  # bytes of the copies for each byte of the file; halves become twice as large
SPARE = 1 << 20
WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every key


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights and the facts that came with them; what a file does not state is None.

    Attributes:
        state: tensors on the CPU by key, without the prefixes of wrapped models; floating-point ones are float32,
            and keys that shared one tensor in the file share one here.
        layout: "nnU-Net v2", "nnU-Net v1", "state dict" or "LightSeg" (all halves, as LightSeg's training writes
            them); a slim copy has that of the file it was made from.
        plans: the contents of nnU-Net's plans.json and dataset.json, in plain Python values.
        dataset: the contents of nnU-Net's plans.json and dataset.json, in plain Python values.
        configuration: nnU-Net's names.
        trainer: nnU-Net's names.
        fold: nnU-Net's names.
        mirror_axes: spatial axes whose flips were trained.
        other_folds: weights of the same network from the other folds of an ensemble, like `state`, which is of
            `fold`.
        network: arguments of the network, where the file has them.
    """

    state: dict[str, Tensor]
    layout: str
    plans: dict[str, Any] | None = None
    dataset: dict[str, Any] | None = None
    configuration: str | None = None
    trainer: str | None = None
    mirror_axes: tuple[int, ...] | None = None
    fold: int | str | None = None
    other_folds: tuple[dict[str, Tensor], ...] = ()
    network: dict[str, Any] | None = None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the weights of any known layout; the optimizer's state is never copied into memory from a zip archive.

    Nothing in the file is executed.

    Raises:
        ModelError: for a file that is missing, damaged, without weights, or that refers to more than weights need.
    """
    path = Path(path)
    if is_bundle(path):
        with unpacked(path) as files:
            return _of_parts(files)
    try:
        layout, weights, about = _parts(safe_load(path), path.name)
        facts = _Plain().of(about)
        _check_copies(weights, COPIES * path.stat().st_size + SPARE)
        state, *other_folds = (_unwrapped(_tensors(each)) for each in weights)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:  # lists that hold themselves, endless tensors
        raise ModelError(
            _("The weights file {file} is damaged ({reason}). Download or copy it again.").format(
                file=path.name, reason=first_line(error)
            )
        ) from error
    mirror_axes = _of(list, facts.get("mirror_axes"))
    return Checkpoint(
        state=state,
        layout=layout,
        plans=_of(dict, facts.get("plans")),
        dataset=_of(dict, facts.get("dataset")),
        configuration=_of(str, facts.get("configuration")),
        trainer=_of(str, facts.get("trainer")),
        mirror_axes=None if mirror_axes is None else tuple(mirror_axes),
        fold=_of((int, str), facts.get("fold")),
        other_folds=tuple(other_folds),
        network=_of(dict, facts.get("network")),
    )


def _of_parts(files: list[Path]) -> Checkpoint:
    """Return a model of several files; the keys of torch's have the name of their file before them."""
    topology = next((file for file in files if file.name == TOPOLOGY), None)
    if topology is not None:
        state, arguments = read_tensorflow_js(topology)
        return Checkpoint(state, TENSORFLOW_JS, network=arguments)
    states = {file.stem: read_checkpoint(file).state for file in files}
    return Checkpoint(
        {f"{stem}.{key}": tensor for stem, state in states.items() for key, tensor in state.items()}, PARTS
    )


def write_slim(checkpoint: Checkpoint, path: Path) -> None:
    """Write weights and facts alone, whole or not at all; equal content gives equal bytes.

    Raises:
        OutputError: if the file or folder cannot be written.
    """
    about = {name: value for name, value in vars(checkpoint).items() if name not in ("state", "other_folds")}
    if checkpoint.network is None:  # only files of another kind have it
        del about["network"]
    other_folds = {"other_folds": list(map(dict, checkpoint.other_folds))} if checkpoint.other_folds else {}
    # As text: pickle writes one string twice or once by whether it is one object in memory.
    save_torch({"format": SLIM, "about": json.dumps(about), "weights": dict(checkpoint.state), **other_folds}, path)


def _parts(content: Any, name: str) -> tuple[str, list[dict[str, Tensor]], dict[str, Any]]:
    """Layout, weights of each fold and facts of what was in a file; nothing else of it is kept."""
    fields = content if isinstance(content, dict) else {}
    if fields.get("format") == SLIM:
        other_folds: Any = fields.get("other_folds", fields.get(FORMER_OTHER_FOLDS, ()))
        about, folds = json.loads(fields["about"]), [fields["weights"], *other_folds]
        if all(map(_is_state, folds)):
            return about["layout"], folds, about
    if _is_state(fields.get("network_weights")):
        return NNUNET_V2, [fields["network_weights"]], _facts(fields)
    if _is_state(fields.get("state_dict")) and "plot_stuff" in fields:
        return NNUNET_V1, [fields["state_dict"]], {}
    for entry in ENTRIES:
        if _is_state(fields.get(entry)):
            return PLAIN, [fields[entry]], {}
    if _is_state(fields):
        return LIGHTSEG if _is_half(fields) else PLAIN, [fields], {}
    held = ", ".join(str(key)[:40] for key in list(fields)[:5]) or type(content).__name__
    raise ModelError(
        _(
            "{file} does not contain weights, only {held}. "
            "Use an nnU-Net checkpoint (.pth or .model) or a file with a plain state dict."
        ).format(file=name, held=held)
    )


def _facts(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what an nnU-Net v2 checkpoint states; `init_args` are its trainer's arguments by name."""
    arguments = fields.get("init_args")
    arguments = arguments if isinstance(arguments, dict) else {}
    return {
        "plans": arguments.get("plans"),
        "dataset": arguments.get("dataset_json"),
        "configuration": arguments.get("configuration"),
        "fold": arguments.get("fold"),
        "trainer": fields.get("trainer_name"),
        "mirror_axes": fields.get("inference_allowed_mirroring_axes"),
    }


def _is_state(value: Any) -> bool:
    """Return whether a value is a state dict: tensors by text keys."""
    from torch import Tensor

    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def _is_half(state: dict[str, Tensor]) -> bool:
    """Return whether all floating-point tensors are float16."""
    import torch

    return all(tensor.dtype == torch.float16 for tensor in state.values() if tensor.is_floating_point())


def _tensors(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies in float32 (integers as they are); keys that share one tensor in the file share the copy."""
    import torch

    copies: dict[tuple[Any, ...], Tensor] = {}
    state = {}
    for key, tensor in weights.items():
        place = _place(tensor)
        if place not in copies:
            kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
            copies[place] = tensor.detach().to(kind, copy=True, memory_format=torch.contiguous_format)
        state[key] = copies[place]
    return state


def _check_copies(weights: list[dict[str, Tensor]], most: int) -> None:
    """A view can repeat a number without end, in a file that holds it once.

    Raises:
        ValueError: for tensors whose copies would take more than `most` bytes, or that have no numbers to copy.
    """
    import torch

    sizes: dict[tuple[Any, ...], int] = {}
    for tensor in (tensor for state in weights for tensor in state.values()):
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise ValueError(_("some of its tensors have no data"))
        sizes[_place(tensor)] = tensor.numel() * (4 if tensor.is_floating_point() else tensor.element_size())
    if sum(sizes.values()) > most:
        raise ValueError(_("its tensors are larger than the file"))


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Return what identifies the storage of a tensor."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the keys without the prefixes of wrapped models, in whatever order these were wrapped."""
    for prefix in WRAPPERS:
        if all(key.startswith(prefix) for key in state):
            return _unwrapped({key.removeprefix(prefix): tensor for key, tensor in state.items()})
    return state


class _Plain:
    """Values as JSON has them: tuples and arrays as lists, keys as text, None for what JSON cannot say.

    Raises:
        ValueError: for more than `MOST_FACTS`: a file can hold one value in many places.
    """

    def __init__(self) -> None:
        self._left = MOST_FACTS

    def of(self, value: Any) -> Any:
        """Return a value as JSON has it."""
        self._count(len(value) if isinstance(value, str) else 1)
        if isinstance(value, dict):
            return {self._key(key): self.of(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(entry) for entry in value]
        if hasattr(value, "tolist"):
            self._count(math.prod(max(length, 1) for length in value.shape))
            return self.of(value.tolist())
        if isinstance(value, int) and abs(value) >= 1 << 63:
            return None
        return value if isinstance(value, str | int | float | None) else None

    def _key(self, key: Any) -> str:
        """Return the key of a dict as text.

        Raises:
            ValueError: for a key that JSON cannot have.
        """
        if not isinstance(key, str | int | float | None):
            raise ValueError(_("its metadata has keys that are not text"))
        return str(self.of(key))

    def _count(self, number: int) -> None:
        """Count characters and values against the limit.

        Raises:
            ValueError: if there are too many.
        """
        self._left -= number
        if self._left < 0:
            raise ValueError(_("its metadata is too large"))


def _of(kind: type | tuple[type, ...], value: Any) -> Any:
    """Return a value if it is of this kind, else None."""
    return value if isinstance(value, kind) else None
