"""How well a segmentation agrees with an expert's: overlap, surface distances and volumes, per label and case."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..catalog.anatomy import structure_key
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from ..imaging.geometry import Geometry
from ..imaging.label_sides import sided_keys
from ..imaging.label_sources import read_label_pair
from .case_files import pairs_of_files
from .metrics import dice, surface_agreement
from .unnamed_labels import NameCheck

LISTED = 8  # names in a notice
MEASURES = ("dice", "surface_dice", "hd95_mm", "volume_difference_ml")


@dataclass(frozen=True)
class Row:
    """Metrics of one label of one case.

    A label that neither file contains has no row. One of the prediction that no expert drew (see `evaluate_folders`)
    has a row without numbers: they are NaN.

    Attributes:
        label: the prediction's value. A label of the expert alone has the expert's, or where that means another
            structure in the prediction, one that is in neither file.
        surface_dice: within 1 mm.
        hd95_mm: infinite where only one of the two files has the label.
        volume_ml: the expert's.
        volume_difference_ml: prediction minus expert.
    """

    case: str
    label: int
    name: str
    dice: float
    surface_dice: float
    hd95_mm: float
    volume_ml: float
    volume_difference_ml: float

    @property
    def is_drawn(self) -> bool:
        """Whether the expert looked for this structure, so that the row has numbers."""
        return not math.isnan(self.volume_ml)


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (of the population) of every measure of one structure over its cases.

    Attributes:
        label: its value in the first of its cases.
        name: that of the first of its cases.
        missed: cases in which only one of the two files has the label; their Dice of 0 counts, their infinite
            distance is left out of the mean.
    """

    label: int
    name: str
    cases: int
    missed: int
    mean: dict[str, float]
    std: dict[str, float]


def evaluate_folders(
    predictions: str | Path,
    labels: str | Path,
    label_names: Mapping[int, str] | None = None,
    on_notice: Callable[[str, Message], None] | None = None,
    structure: str = "",
) -> list[Row]:
    """Compare every label map in `predictions` with the file of the same case name in `labels`.

    Label maps may be DICOM segmentations or structures (RTSTRUCT). Both may also be single files. Expert files without
    a prediction are not compared. Labels are compared by their names where both sides have them, else by their values
    (see `label_pairing.paired`). Names are those of the files, the prediction's first, else those of `label_names`.

    A label that the prediction alone has is wrong where an expert looked for it and drew nothing: where the expert's
    file names it, or that of another case has it. Else no expert has drawn it: it has no score. Files in which the
    experts have drawn nothing at all state that there is nothing.

    Args:
        predictions: folder or file.
        labels: folder or file, the expert's.
        label_names: of the predictions' values, where their files do not name them.
        on_notice: is called with a case and what a user should know about how its labels were paired.
        structure: that files show which have a single label, or none, and no names.

    Raises:
        InputError: for a missing folder or partner, for grids or voxels that do not compare, and for masks of one
            label beside files that name several, as long as the structure is not known.
    """
    rows: list[Row] = []
    drawn: set[Hashable] = set()
    pairs = pairs_of_files(Path(predictions), Path(labels))
    check = NameCheck(([path for _c, path, _e in pairs], [path for _c, _p, path in pairs]), label_names or {})
    for case, prediction, label in pairs:
        pair = read_label_pair(prediction, label, label_names or {}, structure)
        notices = [*pair.notices, *check.notices(pair, prediction, label)]
        found = compare_labels(case, pair.first, pair.second, pair.geometry, pair.names)
        drawn |= {structure_key(row.name) for row in found if row.volume_ml > 0}
        drawn |= set(map(structure_key, pair.sides[1].names.values()))
        rows += found
        if on_notice is not None:
            for notice in notices:
                on_notice(case, notice)
    return _without_scores_of_not_drawn(rows, drawn, on_notice) if drawn else rows


def _without_scores_of_not_drawn(
    rows: Sequence[Row], drawn: Set[Hashable], on_notice: Callable[[str, Message], None] | None
) -> list[Row]:
    """Return rows without the numbers of labels that the predictions alone have and no expert has drawn.

    An expert who looked for both sides looked for the structure.
    """
    lacking = {
        row: None
        for row in rows
        if row.volume_ml == 0 and structure_key(row.name) not in drawn and not drawn >= {*sided_keys(row.name)}
    }
    names = {structure_key(row.name): row.name for row in lacking}
    if on_notice is not None:
        for case in dict.fromkeys(row.case for row in lacking):
            on_notice(case, _not_drawn([*names.values()]))
    return [_without_score(row) if row in lacking else row for row in rows]


def _without_score(row: Row) -> Row:
    """Return a row without its numbers."""
    nan = math.nan
    return replace(row, dice=nan, surface_dice=nan, hd95_mm=nan, volume_ml=nan, volume_difference_ml=nan)


def _not_drawn(names: Sequence[str]) -> Message:
    """Return the notice about labels without a score, of which a model of the whole body has a hundred."""
    more = [_("and {count} more").format(count=len(names) - LISTED)] if len(names) > LISTED else []
    return _(
        "These labels of the prediction are not in the expert's files, so they have no score: {names}. "
        "If an expert looked for one and there is none, add it to the expert's .seg.nrrd file as an empty segment."
    ).format(names=joined(", ", [*names[:LISTED], *more]))


def compare_labels(
    case: str, predicted: np.ndarray, expected: np.ndarray, geometry: Geometry, label_names: Mapping[int, str]
) -> list[Row]:
    """Return the rows of two label arrays [k, j, i] on one grid: one per value above 0 that either contains."""
    rows = []
    for number in np.union1d(predicted, expected):
        value = int(number)
        if value == 0:
            continue
        a, b = predicted == value, expected == value
        surface, hd95 = surface_agreement(a, b, geometry.spacing[::-1])
        volume, expert_volume = (np.count_nonzero(mask) * geometry.voxel_volume_ml for mask in (a, b))
        name = label_names.get(value, f"label {value}")
        rows.append(Row(case, value, name, dice(a, b), surface, hd95, expert_volume, volume - expert_volume))
    return rows


def nothing_in_common(rows: Sequence[Row]) -> bool:
    """Return whether predictions and experts have labels, but not one case has the same label on both sides."""
    sides = {
        (row.volume_ml > 0, not row.is_drawn or row.volume_ml + row.volume_difference_ml > 0)  # expert, prediction
        for row in rows
    }
    return sides == {(True, False), (False, True)}


def summarize(rows: Sequence[Row]) -> list[Summary]:
    """Return one summary per structure that is drawn, in the order of the label values in the first of its cases.

    As when labels are paired, it is the name that counts, since values may differ from case to case. Labels of which a
    case has several of one name, such as two lesions, are distinguished by their values.
    """
    rows = [row for row in rows if row.is_drawn]
    keys = [structure_key(row.name) for row in rows]
    often = Counter((row.case, key) for row, key in zip(rows, keys, strict=True))
    several = {key for (_case, key), count in often.items() if count > 1}
    structures: dict[Hashable, list[Row]] = {}
    for row, key in zip(rows, keys, strict=True):
        structures.setdefault((key, row.label if key in several else None), []).append(row)
    summaries = []
    for own in sorted(structures.values(), key=lambda members: (members[0].label, members[0].name)):
        numbers = {measure: np.array([getattr(row, measure) for row in own]) for measure in MEASURES}
        finite = {measure: array[np.isfinite(array)] for measure, array in numbers.items()}
        summaries.append(
            Summary(
                own[0].label,
                own[0].name,
                len(own),
                sum(math.isinf(row.hd95_mm) for row in own),
                {measure: float(array.mean()) if array.size else math.nan for measure, array in finite.items()},
                {measure: float(array.std()) if array.size else math.nan for measure, array in finite.items()},
            )
        )
    return summaries
