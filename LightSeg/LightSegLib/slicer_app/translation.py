"""Texts of the library in the application's language."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import slicer
from slicer.i18n import translate

from ..core.errors import LightSegError
from ..core.i18n import Message


def translated(text: object) -> str:
    """Return a message, or that of an error, in the application's language; other text as it is."""
    if isinstance(text, LightSegError):
        text = text.args[0]
    return text.translated(translate) if isinstance(text, Message) else str(text)


@contextmanager
def errorDisplay(message: str, **options: Any) -> Iterator[None]:
    """Show errors like `slicer.util.tryWithErrorDisplay`, in the application's language."""
    with slicer.util.tryWithErrorDisplay(message, **options):
        try:
            yield
        except LightSegError as error:
            raise RuntimeError(translated(error)) from error
