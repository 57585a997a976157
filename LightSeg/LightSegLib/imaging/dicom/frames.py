"""A frame: one slice of an image, what its file states about it, and what of that is unusable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ...core.i18n import Message
from ...core.i18n import tr as _

REMEDIES = {
    "ImagePositionPatient": _("its position is unknown. Export the series again with all attributes"),
    "ImageOrientationPatient": _("its orientation is unknown. Export the series again with all attributes"),
    "PixelSpacing": _("its spacing is unknown. Export the series again with all attributes"),
    "RescaleSlope": _("its values are unknown. Export the series again"),
    "RescaleIntercept": _("its values are unknown. Export the series again"),
}
SCALING = {"slope": "RescaleSlope", "intercept": "RescaleIntercept"}
COUNTS = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
PERPENDICULAR = 0.01  # how far the two directions of a slice may be from it, as a cosine
EXACT_DIGITS = 3  # directions with fewer decimals, such as 1\0\0\0\1\0, are no rounded ones


@dataclass(frozen=True, slots=True)
class Study:
    """Study and series of a file, as text.

    Attributes:
        kind: why it is not a slice of a volume, or nothing.
    """

    series: str
    study: str = ""
    patient: str = ""
    date: str = ""
    number: str = ""
    description: str = ""
    modality: str = ""
    frame_of_reference: str = ""
    origin: str = ""  # ORIGINAL or DERIVED
    kind: str = ""
    colors: int = 1
    inverted: bool = False  # MONOCHROME1: the lowest value is shown as white


@dataclass(frozen=True, slots=True)
class Stored:
    """How voxels are stored.

    Attributes:
        bits: of BitsStored and HighBit, 0 where they are floating-point numbers.
        high_bit: of BitsStored and HighBit, 0 where they are floating-point numbers.
    """

    bits: int
    high_bit: int
    signed: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice.

    position (mm, LPS, of the center of the first voxel), orientation (directions along a row and down a column) and
    spacing (mm down a column and along a row) as the standard has them (PS3.3, C.7.6.2); decimals: of the texts of
    position and orientation.

    Attributes:
        number: of the frame in its file, or None where the file is one slice.
        traits: what may distinguish volumes at the same position.
        problem: why it cannot be placed.
        times: when it was taken, in ms, by the kinds of `timeline`.
        missing: which of RescaleSlope and RescaleIntercept its file does not state.
        gantry_tilt: degrees of GantryDetectorTilt, 0 where it is not stated.
    """

    path: Path
    number: int | None
    study: Study
    shape: tuple[int, int]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    decimals: tuple[int, int]
    slope: float
    intercept: float
    stored: Stored
    instance: int | None
    thickness: float | None
    traits: tuple[tuple[str, str], ...]
    problem: str = ""
    times: tuple[tuple[str, float], ...] = ()
    missing: tuple[str, ...] = ()
    gantry_tilt: float = 0.0

    @property
    def rescaled(self) -> bool:
        """Whether its file states a RescaleIntercept, as every CT must."""
        return "RescaleIntercept" not in self.missing

    @property
    def name(self) -> str:
        """Name of the frame in messages."""
        if self.number is None:
            return self.path.name
        return _("frame {number} of {file}").format(number=self.number + 1, file=self.path.name)


class UnusableFrame(Exception):
    """An attribute that is missing or no number; its text completes "FILE ..."."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)


def placed(texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return position, orientation and intensity scaling of a frame from the texts of its attributes.

    The field `problem` states what cannot be used.
    """
    found: dict[str, Any] = {"position": (), "orientation": (), "spacing": (), "slope": 1.0, "intercept": 0.0}
    found |= {"decimals": (0, 0), "problem": ""}
    found["missing"] = tuple(name for name in SCALING.values() if not any(texts.get(name, ())))
    try:
        found["position"] = _numbers(texts, "ImagePositionPatient")
        found["orientation"] = _directions(_numbers(texts, "ImageOrientationPatient"))
        found["spacing"] = _numbers(texts, "PixelSpacing")
        if min(found["spacing"]) <= 0:
            raise UnusableFrame(
                _("has a PixelSpacing of {spacing} mm, which is not positive. Export the series again.").format(
                    spacing=" x ".join(texts["PixelSpacing"])
                )
            )
        for field, name in SCALING.items():
            if name not in found["missing"]:
                (found[field],) = _numbers(texts, name)
        if found["slope"] == 0:
            raise UnusableFrame(_("has a RescaleSlope of 0, so its values are unknown. Export the series again."))
        found["decimals"] = (_decimals(texts["ImagePositionPatient"]), _decimals(texts["ImageOrientationPatient"]))
    except UnusableFrame as problem:
        found["problem"] = problem.args[0]
    return found


def check_usable(frames: Sequence[Frame]) -> None:
    """Check that every frame can be placed.

    Raises:
        InputError: for the first frame that cannot be placed.
    """
    for frame in frames:
        if frame.problem:
            raise InputError(
                _("{frame} in {folder} {problem}").format(
                    frame=frame.name, folder=frame.path.parent, problem=frame.problem
                )
            )


def lacking_scaling(frames: Sequence[Frame]) -> dict[str, int]:
    """Return how many frames lack an attribute that scales the values of the others, by its name."""
    found = {}
    for (field, name), plain in zip(SCALING.items(), (1.0, 0.0), strict=True):
        lacking = sum(name in frame.missing for frame in frames)
        if lacking and any(getattr(frame, field) != plain for frame in frames):
            found[name] = lacking
    return found


def number(text: str) -> float | None:
    """Return a text as a finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _numbers(texts: Mapping[str, Sequence[str]], name: str) -> tuple[float, ...]:
    """Return the numbers of an attribute.

    Raises:
        UnusableFrame: if they are missing or not as many as they must be.
    """
    given = [text for text in texts.get(name, ()) if text]
    if not given:
        raise UnusableFrame(_("has no {attribute}: {remedy}.").format(attribute=name, remedy=REMEDIES[name]))
    values = [number(text) for text in given]
    if None in values or len(values) != COUNTS.get(name, 1):
        invalid = _("has an invalid {attribute}, '{value}': {remedy}.")
        raise UnusableFrame(invalid.format(attribute=name, value="\\".join(given)[:80], remedy=REMEDIES[name]))
    return tuple(value for value in values if value is not None)


def _directions(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return the directions of row and column as unit vectors.

    Raises:
        UnusableFrame: if they are not perpendicular.
    """
    row, column = values[:3], values[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    cosine = sum(x * y for x, y in zip(row, column, strict=True))
    if any(abs(length - 1) > PERPENDICULAR for length in lengths) or abs(cosine) > PERPENDICULAR:
        words = "\\".join(f"{value:g}" for value in values)
        raise UnusableFrame(
            _(
                "has the ImageOrientationPatient '{words}', which is not two perpendicular directions. "
                "Export the series again."
            ).format(words=words)
        )
    return values


def _decimals(texts: Sequence[str]) -> int:
    """Return the most digits behind the point; many for a number with an exponent."""
    return max(99 if "e" in text.lower() else len(text.partition(".")[2]) for text in texts)
