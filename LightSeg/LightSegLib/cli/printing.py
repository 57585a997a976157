"""How the command line prints: tables, nested facts, sizes, and one line of progress."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from ..core.plain_text import plain
from ..core.progress import Progress
from .streams import flush_errors, write_text

WIDTH = 120  # columns for running text
LOG_SECONDS = 5.0  # between two lines of progress that stay


def say(*texts: object, sep: str = " ", file: TextIO | None = None) -> None:
    """Print texts with control characters escaped, so that names and titles cannot command the terminal."""
    write_text(plain(sep.join(map(str, texts))) + "\n", file or sys.stdout)


class ProgressLine:
    """One or more lines on standard error, overwritten by the next; where it is no terminal, a few that stay."""

    def __init__(self, quiet: bool = False) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._logged = not quiet and not self._shown
        self._lines = 1
        self._tenth = 0  # done when the last line was written that stays, or when the work began
        self._since: float | None = None  # when that was

    def __call__(self, progress: Progress) -> None:
        """Show a progress report, or where lines stay, one after each tenth that takes a while."""
        if self._shown:
            self.show(progress.text())
        done, of = (progress.received, progress.size) if progress.received else (progress.tile, progress.tiles)
        if not self._logged or not of:
            return
        tenth, now = 10 * done // of, time.monotonic()
        if self._since is None or tenth < self._tenth:  # something begins, such as the tiles after a download
            self._tenth, self._since = tenth, now
        elif tenth > self._tenth and now >= self._since + LOG_SECONDS:
            self._tenth, self._since = tenth, now
            self.log(f"lightseg: {10 * tenth} %, {progress.text()}")

    def show(self, *lines: str) -> None:
        """Overwrite what was shown before with these lines."""
        if self._shown:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be overwritten
            lines = tuple(plain(line, lines=False) for line in lines)
            texts = lines if len(lines) == 1 else tuple(line[:width] for line in lines)
            self._write(self._erased() + "\n".join(texts))
            self._lines = len(lines)

    def log(self, line: str) -> None:
        """Write a line to a file that standard error leads to; a terminal has seen it already."""
        if self._logged:
            self._write(plain(line) + "\n")

    def clear(self) -> None:
        """Erase what was shown."""
        if self._shown:
            self._write(self._erased())
            self._lines = 1

    def _write(self, text: str) -> None:
        """At once; a terminal that is gone, or a log without room, ends no job."""
        write_text(text, sys.stderr)
        flush_errors()

    def _erased(self) -> str:
        """Return the control characters that go to the first line and erase everything below."""
        return "\r" + "\033[A" * (self._lines - 1) + ("\033[J" if self._lines > 1 else "\033[K")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines with aligned columns."""
    rows = [[plain(text, lines=False) for text in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def wrapped(facts: Mapping[str, str], longest: int) -> str:
    """Return names in a column, for a longest one of so many letters, beside texts of any length."""
    column = longest + 4
    return "\n".join(
        textwrap.fill(
            text,
            WIDTH,
            initial_indent=f"  {name}".ljust(column),
            subsequent_indent=" " * column,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, text in facts.items()
    )


def nested(facts: Mapping[str, object], indent: str = "  ") -> str:
    """Nested measured values, one level of nesting per indentation, the innermost on one line."""
    lines = []
    for name, value in facts.items():
        if not isinstance(value, Mapping):
            lines.append(f"{indent}{name}: {value}")
        elif any(isinstance(entry, Mapping) for entry in value.values()):
            lines += [f"{indent}{name}:", nested(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: " + ", ".join(f"{key} {entry}" for key, entry in value.items()))
    return "\n".join(lines)


def megabytes(size: int | None) -> str:
    """Return a file size for people, in MB of a million bytes."""
    return "size not known" if size is None else f"{size / 1e6:.{2 if size < 1e7 else 0}f} MB"


def silence_itk() -> None:
    """Keep ITK's own warnings off standard error; what matters is raised as an error."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
