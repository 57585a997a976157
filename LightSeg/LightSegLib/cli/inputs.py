"""The images that a command was given, as volumes, which frame of one over time, and the region in them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError, SeriesOverTimeError
from ..core.i18n import tr as _
from .printing import say

if TYPE_CHECKING:
    from ..imaging.roi import RegionOfInterest
    from ..imaging.volume import Volume

MOST_OUTSIDE = 0.2  # of a region, beyond the image: thick or oblique slices of the same head may cover so much


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


def region_in(image: Volume, arguments: argparse.Namespace) -> RegionOfInterest | None:
    """Return the region of `--roi`, and print where labels that it is made of are probably of another image.

    Raises:
        InputError: for a file without labels, or with labels that are all beyond the image.
    """
    from ..imaging.label_sources import region_of

    if not isinstance(arguments.roi, Path):
        return arguments.roi
    region = region_of(arguments.roi)
    outside = region.share_outside(image.geometry)
    if outside >= 1:
        raise InputError(
            _("The labels of {file} are not where {image} is. Choose labels of this image, or omit --roi.").format(
                file=arguments.roi.name, image=image.name
            )
        )
    if outside > MOST_OUTSIDE and not arguments.quiet:
        notice = _(
            "{share:.0%} of the box around the labels of {file} are outside of {image}, and are left out. "
            "Check that the labels are of this image."
        ).format(share=outside, file=arguments.roi.name, image=image.name)
        say(f"lightseg: {notice}", file=sys.stderr)
    return region
