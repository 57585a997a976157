"""Labels that nothing names, which may be of any structure of the other file: refused or reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..imaging.label_sides import Side
from ..imaging.label_sources import LabelPair, label_values

SHOWN = 3  # labels in a notice
SHADES = 128  # of 255, from which on values are those of a gray image rather than labels


@dataclass
class NameCheck:
    """Whether labels may be compared by their values alone.

    A label map with one label may be a mask of any structure, or one of several label maps that are numbered alike, of
    which this one happens to show one structure. The files of the other cases distinguish them.

    Attributes:
        files: of all cases, the predictions and the experts'.
        model_names: of the values, in the model that the user states; labels that have these are numbered as there.
    """

    files: tuple[Sequence[Path], Sequence[Path]]
    model_names: Mapping[int, str]
    _masks: dict[int, bool] = field(default_factory=dict)

    def notices(self, pair: LabelPair, prediction: Path, expert: Path) -> list[Message]:
        """Return what a user should know about labels of a case that were compared by their values.

        Raises:
            InputError: for a mask beside a file that names others.
        """
        paths = prediction, expert
        for own, other in ((1, 0), (0, 1)):
            side, against = pair.sides[own], pair.sides[other]
            if side.names or not side.values:
                continue
            if max(side.values) == 255 and len(side.values) >= SHADES:
                return [_shades(paths[own], len(side.values))]
            others = against.values - side.values  # none where each has the same single label
            if side.is_mask and others and self._are_masks(own):
                if against.names:
                    raise InputError(_which_structure(paths[own], paths[other], against))
                if not against.is_mask:
                    return [_which_label()]
                return [_other_values()] if self._are_masks(other) else []
            common = [(value, against.names[value]) for value in sorted(side.values & against.names.keys())]
            of_model = all(self.model_names.get(value) == name for value, name in common)
            if not of_model and (len(side.values) > 1 or len(against.names) > 1):
                return [_by_value(common)]
        return []

    def _are_masks(self, number: int) -> bool:
        """Return whether the files of all cases have one label, and all of them the same."""
        if number not in self._masks:
            seen: frozenset[int] = frozenset()
            for path in self.files[number]:
                seen |= label_values(path)
                if len(seen) > 1:
                    break
            self._masks[number] = len(seen) == 1
        return self._masks[number]


def _which_structure(mask: Path, other: Path, side: Side) -> Message:
    """Return why a mask is not compared with labels of several names."""
    names = [side.names[value] for value in sorted(side.names)]
    return _(
        "{mask} has a single label without a name, so it is not known which structure of {other} it shows ({names}). "
        "Name it with --structure, such as --structure '{example}'."
    ).format(
        mask=mask.name,
        other=other.name,
        names=", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else ""),
        example=names[0],
    )


def _shades(path: Path, count: int) -> Message:
    """Return the notice about a file whose labels are probably shades of gray."""
    return _(
        "{file} has {count} labels up to 255, as a map of probabilities has shades of gray, each of which was compared "
        "as a structure of its own. If it is such a map, make a mask of it, of the voxels above half."
    ).format(file=path.name, count=count)


def _which_label() -> Message:
    """Return the notice about a mask that is compared with one of several labels without names."""
    return _(
        "One of the files has a single label, the other several, all without names, so that of the same value was "
        "compared. If the single one shows another structure, name it with --structure, and the others with --model."
    )


def _other_values() -> Message:
    """Return the notice about two masks whose values differ."""
    return _(
        "Both files have a single label without a name, with different values, so they were not compared with each "
        "other. If they show one structure, name it with --structure."
    )


def _by_value(pairs: Sequence[tuple[int, str]]) -> Message:
    """Return the notice about labels without names that are compared with those of several names."""
    shown = ", ".join(_("{value} with '{name}'").format(value=value, name=name) for value, name in pairs[:SHOWN])
    return _(
        "Labels without names were compared by their values ({list}). Check that both files number structures alike; "
        "if not, give the one without names as .seg.nrrd with names, or as the prediction with --model."
    ).format(list=shown + (", ..." if len(pairs) > SHOWN else ""))
