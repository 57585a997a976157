"""The command `lightseg verify`: whether a model works on this computer, in plain words."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable

from ..catalog.lookup import find_card
from ..core.errors import LightSegError
from ..core.i18n import joined
from ..core.i18n import tr as _
from ..inference.options import InferenceOptions
from .inputs import read_inputs
from .printing import WIDTH, ProgressLine, say, silence_itk


def _verify(arguments: argparse.Namespace) -> None:
    """Run `lightseg verify`."""
    from ..evaluation.verification import verify_model

    silence_itk()
    card = find_card(arguments.model)
    volumes = read_inputs(arguments)
    options = InferenceOptions(arguments.device, accept_license=arguments.accept_license)
    progress = ProgressLine(arguments.quiet)
    try:
        verification = verify_model(card, volumes, options, progress)
    finally:
        progress.clear()
    if not arguments.quiet:
        say(f"{verification.model.title} ({card.id}, version {card.version})")
        _say_list("Checked", verification.found)
        _say_list("In doubt", verification.doubts)
        _say_list("Not checked", verification.not_checked)
    if not verification.passed:
        raise LightSegError(
            _("{model} stays unverified on this computer. {reasons}").format(
                model=card.id, reasons=joined(" ", verification.doubts)
            )
        )
    if not arguments.quiet:
        say(f"{card.id} works on this computer{', where it is no longer marked as unverified' * card.unverified}.")


def _say_list(title: str, sentences: Iterable[object]) -> None:
    """Print sentences below a title; nothing without any."""
    lines = [
        textwrap.fill(str(sentence), WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
        for sentence in sentences
    ]
    if lines:
        say("\n".join([title, *lines]))


VERIFY_COMMANDS = {"verify": _verify}
