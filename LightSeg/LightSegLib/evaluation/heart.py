"""What the heart does over a series: end-diastole, end-systole, stroke volume and ejection fraction.

The volumes are sums of voxels over all slices, which for short-axis cine images is the disk summation of the Society
for Cardiovascular Magnetic Resonance (Schulz-Menger et al., J Cardiovasc Magn Reson 22, 19 (2020)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..catalog.card import Card

DENSITY = 1.05  # g/ml of the myocardium, as there
FOUND = 0.05  # of the largest cavity: no heart ejects more than 95 %, so a smaller one was not found in its frame


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
        frames: how many have a result; one that is missing may have been the largest or smallest.
        not_found: in how many of these the model did not find the cavity.
        diastole: the frame with the largest cavity; None where it was found in fewer than two frames.
        systole: the frame with the smallest of those in which it was found; None as there.
        mass_g: of the myocardium at end-diastole; None where the card names none, or none was found there.
    """

    name: str
    frames: int
    not_found: int = 0
    diastole: Phase | None = None
    systole: Phase | None = None
    mass_g: float | None = None

    @property
    def stroke_ml(self) -> float | None:
        """Stroke volume in ml; None without the two phases."""
        return None if self.diastole is None or self.systole is None else self.diastole.ml - self.systole.ml

    @property
    def ejection_percent(self) -> float | None:
        """Ejection fraction in percent; None without the two phases."""
        return None if self.diastole is None or self.stroke_ml is None else 100 * self.stroke_ml / self.diastole.ml


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
        every = [(Phase(number, ms, ml[cavity]), ml) for number, ms, ml in frames if cavity in ml]
        if len(every) < 2:
            continue
        least = FOUND * max(phase.ml for phase, _ml in every)
        phases = [(phase, ml) for phase, ml in every if phase.ml > 0 and phase.ml >= least]
        function = HeartFunction(cavity, len(every), len(every) - len(phases))
        if len(phases) >= 2:
            diastole, volumes = max(phases, key=lambda phase: phase[0].ml)
            systole, _volumes = min(phases, key=lambda phase: phase[0].ml)
            muscle = volumes.get(names[chamber.myocardium]) if chamber.myocardium is not None else None
            mass_g = DENSITY * muscle if muscle else None
            function = replace(function, diastole=diastole, systole=systole, mass_g=mass_g)
        found.append(function)
    return tuple(found)
