"""How well a segmentation agrees with an expert's: overlap, surface distances and volumes, per label and case."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..catalog.anatomy import structure_key
from ..core.errors import InputError
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from ..imaging.geometry import Geometry
from ..imaging.image_names import IMAGE_ENDINGS, is_image
from ..imaging.image_names import case_name as name_of_image
from ..imaging.label_sides import sided_keys
from ..imaging.label_sources import is_label_file, read_label_pair
from ..imaging.readers import missing
from .unnamed_labels import NameCheck

TOLERANCE_MM = 1.0
# share of a square that is inside when 0 to 4 of its corners do and the border runs through edge midpoints
INSIDE_SHARE = np.array([0, 1 / 8, 1 / 2, 7 / 8, 1], np.float32)
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
    pairs = _pairs(Path(predictions), Path(labels))
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


def without_prediction(predictions: str | Path, labels: str | Path) -> list[str]:
    """Return the names of the expert files that `evaluate_folders` leaves out because no prediction has their name."""
    if not (Path(predictions).is_dir() and Path(labels).is_dir()):
        return []
    predicted = {case_name(path) for path in image_files(Path(predictions))}
    return [case_name(path) for path in image_files(Path(labels)) if case_name(path) not in predicted]


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


# --- measures of two masks ---------------------------------------------------------------------


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) of two boolean arrays (Dice 1945); NaN where both are empty."""
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2.0 * int(np.count_nonzero(a & b)) / total if total else math.nan


def surface_agreement(
    a: np.ndarray, b: np.ndarray, spacing: Sequence[float], tolerance: float = TOLERANCE_MM
) -> tuple[float, float]:
    """Return surface Dice at `tolerance` mm, and HD95 in mm, of two boolean arrays.

    Surface Dice: the share of both surfaces that is within the tolerance of the other one, by area (Nikolov et al.
    2018, arXiv:1809.04430, section "Surface DSC"). HD95: the larger of the two directed 95th percentiles, by area, of
    the distances from one surface to the other (the robust form of Huttenlocher et al. 1993, doi:10.1109/34.232073).
    NaN, NaN where both are empty; 0, infinity where one is.

    Args:
        a: [k, j, i].
        b: [k, j, i].
        spacing: mm [k, j, i].
    """
    from scipy import ndimage

    if not a.any() or not b.any():
        return (0.0, math.inf) if a.any() or b.any() else (math.nan, math.nan)
    box = ndimage.find_objects((a | b).astype(np.uint8))[0]
    surfaces = [surface_area(mask[box], spacing) for mask in (a, b)]
    near, total = 0.0, 0.0
    directed = []
    for area, other in (surfaces, surfaces[::-1]):
        distances = ndimage.distance_transform_edt(other == 0, sampling=spacing)[area > 0]
        weights = area[area > 0]
        near += float(weights[distances <= tolerance].sum())
        total += float(weights.sum())
        directed.append(_weighted_percentile(distances, weights, 0.95))
    return near / total, max(directed)


def surface_area(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the area in mm^2 of a mask's surface around each corner point.

    The mask is [k, j, i], the points between its voxels [k+1, j+1, i+1].

    The eight voxel centers around a corner span a cell, which the surface cuts half-way between inside and outside. The
    inside areas of opposite cell faces differ by the surface's area vector (divergence theorem).
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    cell = float(np.prod(spacing))
    squares = np.zeros([size + 1 for size in mask.shape], np.float32)
    for axis in range(3):
        corners = padded
        for other in {0, 1, 2} - {axis}:
            pairs = np.moveaxis(corners, other, 0)
            corners = np.moveaxis(pairs[:-1] + pairs[1:], 0, other)
        component = np.diff(INSIDE_SHARE[corners], axis=axis) * (cell / spacing[axis])
        squares += component**2
    return np.sqrt(squares)


def _weighted_percentile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Return the smallest value that at least `share` of the weight does not exceed."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order], dtype=float)
    return float(values[order][np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-6))])


# --- files -------------------------------------------------------------------------------------


def image_files(folder: Path) -> list[Path]:
    """Return the visible images and DICOM files with labels in a folder, sorted.

    Raises:
        InputError: if there is none.
    """
    if not folder.is_dir():
        raise InputError(_("{folder} is not a folder. Check the path and the spelling.").format(folder=folder))
    visible = (path for path in folder.iterdir() if path.name[0] != ".")
    found = sorted(path for path in visible if is_image(path) or is_label_file(path))
    if not found:
        raise InputError(
            _("{folder} does not contain images. Choose a folder with {endings} files.").format(
                folder=folder, endings=", ".join(IMAGE_ENDINGS)
            )
        )
    return found


def case_name(path: Path) -> str:
    """Return the name of a label file without its ending: what pairs a prediction with its label map."""
    return path.stem if path.suffix.lower() == ".dcm" else name_of_image(path)


def _pairs(predictions: Path, labels: Path) -> list[tuple[str, Path, Path]]:
    """Return case, prediction and label file of every case that has both."""
    for path in (predictions, labels):
        if not path.exists():
            raise missing(path)
    if predictions.is_file() and labels.is_file():
        return [(case_name(predictions), predictions, labels)]
    for file, folder in ((predictions, labels), (labels, predictions)):
        if file.is_file() and folder.is_dir():
            raise InputError(
                _("{file} is a file, but {folder} is a folder. Give two files or two folders.").format(
                    file=file, folder=folder
                )
            )
    experts = _by_case(labels)
    pairs = [(case, path, experts.get(case)) for case, path in _by_case(predictions).items()]
    if lonely := [case for case, _, expert in pairs if expert is None]:
        raise InputError(
            _(
                "Some predictions ({count}) have no label map of the same name; the first is {first}. "
                "Rename them like the files in {folder}, or remove them."
            ).format(count=len(lonely), first=lonely[0], folder=labels)
        )
    return [(case, path, expert) for case, path, expert in pairs if expert is not None]


def _by_case(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by the names of their cases.

    Raises:
        InputError: for two files of one case.
    """
    found: dict[str, Path] = {}
    for path in image_files(folder):
        if found.setdefault(case_name(path), path) != path:
            raise InputError(
                _("{folder} has two files of the case {case}, {first} and {second}. Keep the one that counts.").format(
                    folder=folder, case=case_name(path), first=found[case_name(path)].name, second=path.name
                )
            )
    return found
