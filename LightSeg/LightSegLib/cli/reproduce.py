"""The command `lightseg reproduce`: a result again, as its record describes, and the labels compared."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ..core.errors import LightSegError
from ..core.i18n import Message
from ..core.i18n import tr as _
from .inputs import read_inputs
from .printing import ProgressLine, say, silence_itk

if TYPE_CHECKING:
    from ..evaluation.reproduction import Reproduction


def _reproduce(arguments: argparse.Namespace) -> None:
    """Run `lightseg reproduce`."""
    from ..evaluation.reproduction import frames_of, reproduce

    silence_itk()
    progress = ProgressLine(arguments.quiet)
    volumes = read_inputs(arguments, frames_of(arguments.result, arguments.inputs))
    try:
        found = reproduce(arguments.result, volumes, arguments.model, progress, arguments.accept_license)
    finally:
        progress.clear()
    if found.different:
        different = _("{result} has another label in {different} of {voxels} voxels. {reasons}")
        raise LightSegError(
            different.format(
                different=found.different, voxels=found.voxels, result=arguments.result, reasons=_reasons(found)
            )
        )
    if arguments.quiet:
        return
    for change in found.other_input:
        say(f"lightseg: another input than in the original run: {change}", file=sys.stderr)
    for change in found.changes:
        say(f"lightseg: different from the original run: {change}", file=sys.stderr)
    say(f"The labels are the same in all {found.voxels} voxels ({found.segmentation.provenance['computed_in']}).")


def _reasons(found: Reproduction) -> Message:
    """Return why the labels probably differ, and what to do."""
    if found.other_input:
        return _(
            "The input is another one than in the original run ({differences}). "
            "Give the same image and, of one over time, the same frame."
        ).format(differences="; ".join(found.other_input))
    if found.changes:
        return _(
            "The run differs from the original one ({differences}). Run it where these are the same to compare."
        ).format(differences="; ".join(found.changes))
    if found.input_known:
        return _(
            "The input, the software and the processor are the same, so the labels were probably edited "
            "after they were written. Compare with an unedited copy."
        )
    return _("Check that the input is the same, and that the labels were not edited after they were written.")


REPRODUCE_COMMANDS = {"reproduce": _reproduce}
