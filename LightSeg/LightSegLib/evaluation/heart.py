"""What the heart does over a series: end-diastole, end-systole, stroke volume and ejection fraction.

The volumes are sums of voxels over all slices, which for short-axis cine images is the disk summation of the Society
for Cardiovascular Magnetic Resonance (Schulz-Menger et al., J Cardiovasc Magn Reson 22, 19 (2020)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..catalog.card import Card

DENSITY = 1.05  # g/ml of the myocardium, as there


@dataclass(frozen=True)
class Phase:
    """The frame of a phase of the heart: its number from 1, its time in ms if that is known, and the cavity's ml."""

    frame: int
    ms: float | None
    ml: float


@dataclass(frozen=True)
class HeartFunction:
    """The function of one chamber.

    Attributes:
        name: of the cavity's label.
        diastole: the frame with the largest cavity.
        systole: the frame with the smallest.
        frames: how many show the chamber; one that is missing may have been the largest or smallest.
        mass_g: of the myocardium at end-diastole, None where the card names none.
    """

    name: str
    diastole: Phase
    systole: Phase
    frames: int
    mass_g: float | None = None

    @property
    def stroke_ml(self) -> float:
        """Stroke volume in ml."""
        return self.diastole.ml - self.systole.ml

    @property
    def ejection_percent(self) -> float | None:
        """Ejection fraction in percent; None for a chamber that was found in no frame."""
        return 100 * self.stroke_ml / self.diastole.ml if self.diastole.ml > 0 else None


def heart_function(
    card: Card, frames: Sequence[tuple[int, float | None, Mapping[str, float]]]
) -> tuple[HeartFunction, ...]:
    """Return the function of the chambers that a card names; none of fewer than two frames.

    Args:
        frames: number, ms and the volumes in ml by name of the labels, of each frame.
    """
    names = {label.value: label.name for label in card.labels}
    found = []
    for chamber in card.chambers:
        cavity = names[chamber.cavity]
        phases = [(Phase(number, ms, ml[cavity]), ml) for number, ms, ml in frames if cavity in ml]
        if len(phases) < 2:
            continue
        diastole, volumes = max(phases, key=lambda phase: phase[0].ml)
        systole, _volumes = min(phases, key=lambda phase: phase[0].ml)
        muscle = volumes.get(names[chamber.myocardium]) if chamber.myocardium is not None else None
        mass_g = None if muscle is None else DENSITY * muscle
        found.append(HeartFunction(cavity, diastole, systole, len(phases), mass_g))
    return tuple(found)
