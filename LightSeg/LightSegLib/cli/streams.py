"""Standard streams that are closed, full or read by no one any more: none of these harms a result."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ..core.errors import LightSegError
from ..core.i18n import tr as _


def open_standard_streams() -> None:
    """Let closed streams lead nowhere.

    Else the next file that is opened, such as a result, would get the number 1 or 2, and what a library writes about an
    error would be written into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (until the program ends)


def write_text(text: str, stream: TextIO) -> None:
    """Write to a standard stream.

    Raises:
        LightSegError: standard output cannot be written, for a full disk.
        BrokenPipeError: anyone who read standard output has seen enough.
    """
    is_output = stream is sys.stdout
    try:
        stream.write(text)
    except BrokenPipeError:
        if is_output:
            raise
    except OSError as error:
        drop(stream)
        if is_output:
            raise _not_written(error) from error


def flush_output() -> None:
    """Bring what was written to where standard output goes. Raises as `write_text`."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop(sys.stdout)
        raise _not_written(error) from error
    except ValueError:  # it was closed
        pass


def flush_errors() -> None:
    """As `flush_output`; no one is left to read an error."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        drop(sys.stderr)


def drop(stream: TextIO) -> None:
    """Let all that is still to be written to a stream vanish, so that Python does not stumble over it at its end."""
    with suppress(OSError, ValueError, AttributeError):
        number = os.open(os.devnull, os.O_WRONLY)
        os.dup2(number, stream.fileno())
        os.close(number)


def _not_written(error: OSError) -> LightSegError:
    return LightSegError(
        _(
            "The standard output cannot be written ({reason}). Redirect it to another file, or free some disk space."
        ).format(reason=error.strerror or error)
    )
