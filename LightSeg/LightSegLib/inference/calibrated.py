"""Int8 for one volume: calibrated on some of its tiles, used where it finds the labels of float32 in them.

Each volume is calibrated anew, so its result depends on no other volume, on no file, and on no other process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.figures import distinct
from ..core.i18n import Message
from ..core.i18n import tr as _
from .backends.accelerate import Model, Runner, accelerate, choose_backend, is_large, openvino_errors
from .backends.agreement import AGREEMENT
from .backends.backend_choice import can_compute
from .backends.precisions import AUTO, INT8, OPENVINO8
from .int8 import COMPARED, quantize
from .labeling import one_value

if TYPE_CHECKING:
    from ..core.progress import Reporter
    from .options import InferenceOptions
    from .processing.preprocess import NetworkInput
    from .sliding_window import Position, TileSampler

LEAST_TILES = 16  # of a volume; with fewer, calibration takes a good part of what int8 saves


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
    model: Model, prepared: NetworkInput, sampler: TileSampler, threads: int, reporter: Reporter, openvino: bool
) -> Calibrated:
    """Return the model in int8 for one volume, or as the precision auto computes it where int8 does not suit that.

    Args:
        threads: that may compute tiles at a time.
        openvino: whether auto may use it.
    """
    cpu = torch.device("cpu")

    def automatic(notice: Message, facts: dict[str, Any], **fields: object) -> Calibrated:
        backend = choose_backend(model, cpu, AUTO, openvino)
        runner = accelerate(model, cpu, backend, sampler.patch, threads)
        return Calibrated(runner, facts, [notice.format(backend=backend, **fields)])

    reporter.step(_("Calibrating int8"))
    tiles = chosen_tiles(prepared, sampler) if len(sampler) >= LEAST_TILES else []
    if len(tiles) < COMPARED:
        notice = _(
            "Int8 is for volumes of at least {least} tiles that show something at all heights, so {backend} was used. "
            "Choose the precision auto for other volumes."
        )
        return automatic(notice, {}, least=LEAST_TILES)
    with openvino_errors():
        found = quantize(model, tiles, threads, reporter.check_canceled)
    facts = {"int8": {"compared_tiles": len(tiles), "mean_dice": None if found.dice is None else round(found.dice, 5)}}
    if found.dice is not None and found.dice >= AGREEMENT:
        return Calibrated(found.runner, facts)
    notice = _(
        "Int8 does not find the labels of float32 in this volume ({reason}), so {backend} was used. "
        "Choose the precision auto for such volumes, which saves the comparison."
    )
    reason = _("none in the compared tiles")
    if found.dice is not None:
        dice, least = distinct(found.dice, AGREEMENT, digits=3)
        reason = _("Dice {dice}, less than {least}").format(dice=dice, least=least)
    return automatic(notice, facts, reason=reason)


def chosen_tiles(prepared: NetworkInput, sampler: TileSampler) -> list[Tensor]:
    """Return the tiles [1, C, k, j, i] with which int8 is calibrated and compared: from all heights, rich and poor.

    A tile of one value shows nothing, and is not taken, and none is taken twice: there are fewer than COMPARED where
    little of a volume shows anything.
    """
    tiles: dict[Position, Tensor] = {}
    for number in range(COMPARED):
        start = sampler.rows[(2 * number + 1) * len(sampler.rows) // (2 * COMPARED)]
        rows = prepared.rows(start, start + sampler.tile_size[0])
        pieces = ((j, i, sampler.tile(rows, (0, j, i))) for j, i in sampler.columns)
        varied = [(-float(tile.std()), j, i) for j, i, tile in pieces if one_value(tile) is None]
        for _contrast, j, i in sorted(varied)[number * len(varied) // COMPARED :][:1]:
            tiles[start, j, i] = sampler.tile(rows, (0, j, i))[None].clone()
    return list(tiles.values())


def without_int8(options: InferenceOptions, backend: str, model: Model | None) -> list[Message]:
    """Return the notice of a run that does not compute in int8 although that is wanted.

    Args:
        model: None where it does not see an image in tiles on the CPU.
    """
    if options.precision != INT8 or backend == OPENVINO8:
        return []
    if can_compute(OPENVINO8, options.openvino) or model is None or not is_large(model):
        notice = _(
            "This model was computed in {backend}: int8 is for large models that see an image in tiles, on the CPU. "
            "Choose the precision auto for it."
        )
    else:
        notice = _(
            "Int8 needs OpenVINO, which is not installed or switched off, so {backend} was used. "
            "Install it with 'pip install openvino', in Slicer with the button in Advanced."
        )
    return [notice.format(backend=backend)]
