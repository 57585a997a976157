"""Progress and sizes in the user's words."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from ...core.progress import Progress
from ..translation import translated


def megabytes(size: int | None) -> str:
    """Return a file's size."""
    if not size:
        return _("unknown size")
    return _("{size:.1f} MB").format(size=size / 1e6) if size < 1e7 else _("{size:.0f} MB").format(size=size / 1e6)


def letterByLetter(text: str) -> str:
    """Return a text with its HTML escaped, for a dialog or a tool tip."""
    return f'<span style="white-space: pre-wrap">{html.escape(text)}</span>' if "<" in text else text


def progressText(progress: Progress) -> str:
    """Return a progress report as one line."""
    text = translated(progress.step)
    if progress.tiles:
        text = _("{step}: tile {tile} of {tiles}").format(step=text, tile=progress.tile, tiles=progress.tiles)
    if progress.received:
        received, size, rate = (n / 1e6 for n in (progress.received, progress.size, progress.bytes_per_second))
        words = _("{step}: {received:.1f} of {size:.1f} MB") if size else _("{step}: {received:.1f} MB")
        text = words.format(step=text, received=received, size=size)
        if rate:
            text = _("{text}, {rate:.1f} MB per second").format(text=text, rate=rate)
    if progress.seconds_left is not None:
        text = _("{step}, {seconds:.0f} s left").format(step=text, seconds=progress.seconds_left)
    return text


def fraction(progress: Progress) -> float | None:
    """Return the share of a step that is done, or None if it is unknown."""
    if progress.tiles:
        return progress.tile / progress.tiles
    return progress.received / progress.size if progress.size else None


def colorIcon(color: Sequence[float]) -> Any:
    """Return a segment's color, of parts from 0 to 1, as an icon."""
    picture = qt.QPixmap(12, 12)
    picture.fill(qt.QColor(*(round(255 * part) for part in color)))
    return qt.QIcon(picture)
