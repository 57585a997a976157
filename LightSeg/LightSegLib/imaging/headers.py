"""What the headers of all formats are held to."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..core.errors import InputError, SeriesOverTimeError
from ..core.i18n import Message
from ..core.i18n import tr as _

PLACEHOLDERS = (b"version https://git-lfs.github.com/", b"/annex/objects/")  # what these begin with in place of files


def check_spacing(name: str, spacing: Sequence[float]) -> None:
    """Check that the steps between voxels, in mm, are positive.

    Raises:
        InputError: if steps in mm are not positive; name: what the message calls the file.
    """
    if not all(math.isfinite(step) and step > 0 for step in spacing):
        raise InputError(
            _(
                "{name} has a voxel spacing of {spacing} mm, which is not positive. "
                "Correct the spacing in the file header or export the image again."
            ).format(name=name, spacing=" x ".join(f"{step:.4g}" for step in spacing))
        )


def other_format(name: str, beginning: bytes, formats: str) -> InputError:
    """Return the error for a file that does not begin like one of its format; formats: as "a NIfTI file"."""
    if beginning.startswith(PLACEHOLDERS):
        return InputError(
            _(
                "{file} is a placeholder of Git LFS or git-annex, not the image itself. "
                "Get the image, for example by 'git lfs pull' or 'datalad get', or choose another file."
            ).format(file=name)
        )
    return InputError(
        _(
            "{file} cannot be read as an image (it does not begin like {format}). Use NIfTI, NRRD, "
            "MetaImage or a folder with one DICOM series."
        ).format(file=name, format=formats)
    )


def not_scalar(name: str, components: int = 1, dimensions: int = 3) -> InputError:
    """Return the error for an image with several components, or not of three dimensions."""
    if components > 1:
        return InputError(
            _(
                "{file} has {components} components per voxel. Save one component, or each channel, as a separate file."
            ).format(file=name, components=components)
        )
    if dimensions == 4:
        return InputError(
            _("{file} has 4 dimensions, so it holds several images. Save one of them as a file of its own.").format(
                file=name
            )
        )
    return InputError(
        _("{file} has {dimensions} dimensions. Choose a three-dimensional image.").format(
            file=name, dimensions=dimensions
        )
    )


def several_images(name: str, count: int, timed: bool) -> SeriesOverTimeError:
    """Return the error for a file with several images, of which one can be chosen; timed: it states when each is."""
    if timed:
        return over_time(_("{file} has 4 dimensions, so it is a series over time.").format(file=name))
    return over_time(
        _("{file} has 4 dimensions: it holds {count} images, and does not state that they are over time.").format(
            file=name, count=count
        )
    )


def over_time(fact: Message) -> SeriesOverTimeError:
    """Return the error for a series over time in place of one volume; fact: that it is one, as a sentence."""
    return SeriesOverTimeError(
        _("{fact} Choose one of its frames, or a three-dimensional image.").format(fact=fact), fact
    )


def not_over_time(name: str) -> InputError:
    """Return the error for a frame of an image that has none."""
    return InputError(
        _("{file} is not a series over time. Segment it without a frame, or choose another image.").format(file=name)
    )


def no_such_frame(name: str, frame: int, count: int) -> InputError:
    """Return the error for a frame beyond those of an image."""
    return InputError(
        _("{file} has no frame {frame}. Choose one from 1 to {count}.").format(file=name, frame=frame, count=count)
    )


def converted(name: str, unit: str) -> Message:
    """Return the notice about lengths in another unit than mm, which ITK and 3D Slicer do not convert."""
    return _(
        "The lengths in {file} are in {unit} and were converted to mm. "
        "3D Slicer takes them as mm: check there that the result is at the same place as the image."
    ).format(file=name, unit=unit)


def finite(word: str) -> float:
    """Return the number, with a decimal point whatever the locale; NaN where the word is none, or infinite."""
    try:
        value = float(word)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def whole(word: str) -> int | None:
    """Return the whole number; None where the word is none, or one of absurd length."""
    word = word.strip()
    digits = word[1:] if word[:1] in ("-", "+") else word
    return int(word) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None
