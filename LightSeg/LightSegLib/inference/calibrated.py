"""Int8 for one volume: calibrated on some of its tiles, used where it finds the labels of float32 in them.

Each volume is calibrated anew, so its result depends on no other volume, on no file, and on no other process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.i18n import Message
from ..core.i18n import tr as _
from .backends.accelerate import Model, Runner, accelerate, openvino_errors
from .backends.agreement import AGREEMENT
from .backends.backend_choice import can_compute
from .backends.precisions import INT8, OPENVINO8, OPENVINO32
from .int8 import quantize
from .labeling import one_value

if TYPE_CHECKING:
    from ..core.progress import Reporter
    from .options import InferenceOptions
    from .processing.preprocess import NetworkInput
    from .sliding_window import TileSampler

LEAST_TILES = 16  # of a volume; with fewer, calibration takes a good part of what int8 saves
COMPARED = 4  # tiles, in float32 and in int8
CALIBRATING = 2  # of these; so int8 is judged by tiles that it was not made for, too


@dataclass(frozen=True)
class Calibrated:
    """What computes a volume for which int8 is wanted.

    Attributes:
        facts: for the provenance.
        notices: why it is not int8.
    """

    runner: Runner
    facts: dict[str, Any] = field(default_factory=dict)
    notices: list[Message] = field(default_factory=list)


def calibrated(
    model: Model, prepared: NetworkInput, sampler: TileSampler, threads: int, reporter: Reporter
) -> Calibrated:
    """Return the model in int8 for one volume, or in OpenVINO's float32 where int8 does not suit that."""
    cpu = torch.device("cpu")
    if len(sampler) < LEAST_TILES:
        notice = _(
            "Int8 saves no time in a volume of {count} tiles, so {backend} was used. "
            "Choose int8 for volumes of at least {least} tiles."
        ).format(count=len(sampler), least=LEAST_TILES, backend=OPENVINO32)
        return Calibrated(accelerate(model, cpu, OPENVINO32, sampler.patch, threads), notices=[notice])
    reporter.step(_("Calibrating int8"))
    tiles = chosen_tiles(prepared, sampler)
    with openvino_errors():
        found = quantize(model, tiles, CALIBRATING, threads, reporter.check_canceled)
    facts = {"int8": {"compared_tiles": len(tiles), "mean_dice": None if found.dice is None else round(found.dice, 5)}}
    if found.dice is not None and found.dice >= AGREEMENT:
        return Calibrated(found.runner, facts)
    notice = _(
        "Int8 does not find the labels of float32 in this volume ({reason}), so {backend} was used. "
        "Choose the precision auto for such volumes, which saves the comparison."
    ).format(
        reason=_("none in the compared tiles") if found.dice is None else f"Dice {found.dice:.3f}",
        backend=OPENVINO32,
    )
    return Calibrated(accelerate(model, cpu, OPENVINO32, sampler.patch, threads), facts, [notice])


def chosen_tiles(prepared: NetworkInput, sampler: TileSampler) -> list[Tensor]:
    """Return the tiles [1, C, k, j, i] with which int8 is calibrated and compared: from all heights, rich and poor.

    A tile of one value shows nothing, and is not taken.
    """
    tiles = []
    for number in range(COMPARED):
        start = sampler.rows[(2 * number + 1) * len(sampler.rows) // (2 * COMPARED)]
        rows = prepared.rows(start, start + sampler.tile_size[0])
        varied = [tile for j, i in sampler.columns if one_value(tile := sampler.tile(rows, (0, j, i))) is None]
        varied.sort(key=lambda tile: -float(tile.std()))  # in rows of equal variation, in the order of the columns
        tiles += [tile[None].clone() for tile in varied[number * len(varied) // COMPARED :][:1]]
    return tiles


def without_int8(options: InferenceOptions, backend: str) -> list[Message]:
    """Return the notice of a run that does not compute in int8 although that is wanted."""
    if options.precision != INT8 or backend == OPENVINO8:
        return []
    if not can_compute(OPENVINO8, options.openvino):
        notice = _(
            "Int8 needs OpenVINO, which is not installed or switched off, so {backend} was used. "
            "Install it with 'pip install openvino', in Slicer with the button in Advanced."
        )
    else:
        notice = _(
            "This model was computed in {backend}: int8 is for large models that see an image in tiles, on the CPU. "
            "Choose the precision auto for it."
        )
    return [notice.format(backend=backend)]
