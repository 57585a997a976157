"""The images that a command was given, as volumes; how a frame of one over time is chosen on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.errors import InputError, SeriesOverTimeError
from ..core.i18n import tr as _

if TYPE_CHECKING:
    from ..imaging.volume import Volume


def read_inputs(arguments: argparse.Namespace, frames: Sequence[int | None] = ()) -> list[Volume]:
    """Return the volumes of the inputs of a command that has `--frame`.

    Args:
        arguments: of the command.
        frames: of each input, from 1, where the command line states none; None for a single volume.

    Raises:
        InputError: as `read_volume`; for a series over time it names the flags of this command.
    """
    from ..imaging.readers import read_volume

    inputs = arguments.inputs
    chosen = frames if frames and arguments.frame is None else [arguments.frame] * len(inputs)
    try:
        return [
            read_volume(path, allow_gaps=arguments.allow_gaps, frame=frame)
            for path, frame in zip(inputs, chosen, strict=True)
        ]
    except SeriesOverTimeError as error:
        remedy = _("{fact} Choose a frame with --frame, or a three-dimensional image.")
        if hasattr(arguments, "all_frames"):
            remedy = _("{fact} Choose a frame with --frame, all with --all-frames, or a three-dimensional image.")
        raise InputError(remedy.format(fact=error.fact)) from error
