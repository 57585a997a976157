"""Volume and mean intensity of each structure of a segmentation, as a file for other programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..catalog.sides import side_of
from ..core.atomic_io import atomic_write, write_table
from ..core.figures import rounded_ml
from .geometry import Geometry
from .roi import RegionOfInterest, Slices
from .volume import Segmentation, Volume

ENDINGS = (".json", ".csv")
MEAN = "mean_intensity"


@dataclass(frozen=True)
class StructureStatistics:
    """What was measured of one structure.

    Attributes:
        name: of the label or the total.
        labels: its values in the segmentation.
        volume_ml: of all its voxels.
        means: mean intensity by channel, in the image's own unit; None without a voxel.
        cut_off: it reaches the border of the image, or of the region in it where the model looked, so that a part of it
            may be missing.
        expected_dice: by the model; None where it does not state one.
    """

    name: str
    labels: tuple[int, ...]
    volume_ml: float
    means: Mapping[str, float | None]
    cut_off: bool
    expected_dice: float | None = None


def structure_statistics(segmentation: Segmentation, channels: Mapping[str, Volume]) -> list[StructureStatistics]:
    """Return the statistics of every label, in the order of the label table, then of every total.

    Args:
        segmentation: labels.
        channels: the images by their names, on the same grid.
    """
    labels = segmentation.voxels
    values = max(label.value for label in segmentation.labels) + 1
    counts = np.zeros(values)
    sums = {name: np.zeros(values) for name in channels}
    for number, part in enumerate(labels):  # slice by slice: numpy counts in a copy of 8 bytes a voxel
        found = part.ravel()
        counts += np.bincount(found, minlength=values)
        for name, volume in channels.items():
            sums[name] += np.bincount(found, volume.voxels[number].ravel().astype(float), values)
    border = _border_values(segmentation)
    ml, expected = segmentation.volumes_ml(), segmentation.expected_dice

    def measured(name: str, own: tuple[int, ...]) -> StructureStatistics:
        voxels = counts[list(own)].sum()
        means = {name: float(total[list(own)].sum() / voxels) if voxels else None for name, total in sums.items()}
        return StructureStatistics(name, own, ml[name], means, not border.isdisjoint(own), expected.get(name))

    single = [measured(label.name, (label.value,)) for label in segmentation.labels]
    return single + [measured(total.name, total.labels) for total in segmentation.totals]


def cut_off_labels(segmentation: Segmentation) -> list[str]:
    """Return the names of the labels that reach a border, as `StructureStatistics.cut_off`."""
    border = _border_values(segmentation)
    return [label.name for label in segmentation.labels if label.value in border]


def _border_values(segmentation: Segmentation) -> set[int]:
    """Return the values at the border of the image, or of the regions where the model looked."""
    return _at_faces(segmentation.voxels) | _at_regions(segmentation)


def _at_faces(labels: np.ndarray) -> set[int]:
    """Return the values on the faces of a box of labels [k, j, i]."""
    sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1])
    return {int(value) for side in sides for value in np.unique(side)}


def _at_regions(segmentation: Segmentation) -> set[int]:
    """Return the values on the faces of the regions that limited the work: the user's, and those that a finder made."""
    settings, found = (segmentation.provenance.get(name) or {} for name in ("settings", "region_from"))
    geometry, labels, values = segmentation.geometry, segmentation.voxels, set()
    if corners := settings.get("roi_lps"):
        values |= _at_faces(labels[RegionOfInterest(np.array(corners, float)).slices(geometry)])
    for side, corners in (found.get("rois_lps") or {}).items():
        # of one side only its own labels, as the faces of its box may pass through the other side's
        own = {label.value for label in segmentation.labels if not side or side_of(label) == side}
        values |= own & _at_faces(labels[_between_centers(np.array(corners, float), geometry)])
    return values


def _between_centers(corners: np.ndarray, geometry: Geometry) -> Slices:
    """Return the slices of a box whose corners [8, 3] in LPS mm are centers of voxels, rounded as records have them."""
    index = np.linalg.inv(geometry.index_to_world) @ np.c_[corners, np.ones(len(corners))].T
    bounds = np.rint(index[2::-1]).astype(int)
    k, j, i = (slice(low, high + 1) for low, high in zip(bounds.min(1).tolist(), bounds.max(1).tolist(), strict=True))
    return k, j, i


def write_statistics(segmentation: Segmentation, channels: Mapping[str, Volume], path: str | Path) -> None:
    """Write the statistics of a segmentation as JSON, or as a table in CSV, by the ending of the file.

    With what a user should know of the result: its notices, in the table on each line, as lines are copied from it.

    Args:
        segmentation: labels.
        channels: the images by their names, on the same grid.
        path: of the file, `.json` or `.csv`.

    Raises:
        OutputError: if the file cannot be written.
    """
    rows, path = structure_statistics(segmentation, channels), Path(path)
    expected = any(row.expected_dice is not None for row in rows)
    notices = [str(notice) for notice in segmentation.provenance.get("notices", ())]
    if path.name.lower().endswith(".csv"):
        # the channel of a model that takes one image, such as "Any contrast", would distinguish nothing
        means = [f"{MEAN} ({name})" for name in channels] if len(channels) > 1 else [MEAN]
        header = ("structure", "volume_ml", *means, "cut_off", "labels")
        header += (*(("expected_dice",) if expected else ()), "notices")
        lines = [
            (
                row.name,
                rounded_ml(row.volume_ml),
                *("" if mean is None else round(mean, 6) for mean in row.means.values()),
                "yes" if row.cut_off else "no",
                " ".join(map(str, row.labels)),
                *(("" if row.expected_dice is None else row.expected_dice,) if expected else ()),
                " ".join(notices),
            )
            for row in rows
        ]
        write_table([header, *lines], path)
        return
    content = {
        "model": segmentation.provenance.get("model", ""),
        "notices": notices,
        "structures": {
            row.name: {
                "volume_ml": rounded_ml(row.volume_ml),
                "mean": {name: mean if mean is None else round(mean, 6) for name, mean in row.means.items()},
                "cut_off": row.cut_off,
                "labels": list(row.labels),
                **({"expected_dice": row.expected_dice} if row.expected_dice is not None else {}),
            }
            for row in rows
        },
    }
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
