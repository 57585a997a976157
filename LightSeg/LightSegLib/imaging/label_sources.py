"""Labels of any file that has some: label maps, DICOM segmentations, structures; two on one grid, or their box."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..catalog.anatomy import structure_key
from ..catalog.structures import closest_names
from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from .dicom.attributes import text
from .dicom.files import is_dicom
from .dicom_segmentation_reader import LABEL_MAP, SEGMENTATION, read_dicom_segmentation
from .dicom_structures import STRUCTURE_SET, Structures, read_structures
from .geometry import Geometry
from .label_pairing import paired, renumbered, values_of
from .label_planes import LabelPlanes
from .label_sides import Side, on_one_side, sided_keys
from .nrrd import nrrd_segment_names
from .readers import read_labels
from .roi import RegionOfInterest
from .volume import LARGEST_LABEL, check_labels

COUNTED = re.compile(r"((segment|label|roi)?[ _-]*\d*)", re.IGNORECASE)  # "Segment_1" is 3D Slicer's, "ROI-1" Horos's
Labels = tuple[np.ndarray, Geometry] | LabelPlanes | Structures  # on a grid, on planes, or as contours


@dataclass(frozen=True)
class LabelPair:
    """Labels [k, j, i] of two files on one grid, of which equal values are compared.

    Attributes:
        names: of the values.
        notices: what a user should know about how labels were paired.
        sides: what the two files have.
    """

    first: np.ndarray
    second: np.ndarray
    geometry: Geometry
    names: Mapping[int, str]
    notices: tuple[Message, ...]
    sides: tuple[Side, Side]


def read_label_pair(
    first: Path, second: Path, label_names: Mapping[int, str] | None = None, structure: str = ""
) -> LabelPair:
    """Read two files onto one grid, labels of one structure with one value (see `label_pairing.paired`).

    A label map has the grid of its file. A DICOM segmentation has its slices alone, and structures have none: they are
    put onto the grid of the other file.

    Args:
        first: file with the prediction.
        second: file with the expert's labels.
        label_names: of the prediction's values that its file does not name.
        structure: that a file shows which has a single label, or none, and no names.

    Raises:
        InputError: for files that are not labels or not of one grid, and for a structure that the other file lacks.
    """
    one, other = _read(first), _read(second)
    names = label_names or {}
    side = _side(one, _names(first, one))
    missing = {value: name for value, name in names.items() if not side.names or value in side.values}
    sides = replace(side, names={**missing, **side.names}), _side(other, _names(second, other))
    if structure:
        sides = _called(structure, sides, (first, second))
    pairing = paired(*sides)
    if isinstance(one, Structures):
        one = one.only(pairing.first)
    if isinstance(other, Structures):
        other = other.only(pairing.second)
    voxels, expected, geometry = _on_one_grid(first, one, second, other)
    of_first, located = on_one_side(*sides, voxels, expected)
    of_second, located_expert = on_one_side(*sides[::-1], expected, voxels)
    if located or located_expert:
        sides = of_first, of_second
        pairing = paired(*sides)
    first_labels, second_labels = renumbered(voxels, pairing.first), renumbered(expected, pairing.second)
    notices = (*located, *located_expert, *pairing.notices)
    return LabelPair(first_labels, second_labels, geometry, {**names, **pairing.names}, notices, sides)


def _on_one_grid(first: Path, one: Labels, second: Path, other: Labels) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """Return the labels of two files on a grid that both have.

    Raises:
        InputError: if there is none.
    """
    if isinstance(one, tuple) and isinstance(other, tuple):
        if not one[1].matches(other[1]):
            raise InputError(
                _(
                    "{prediction} and {label} do not have the same grid ({difference}). "
                    "Segment the image on which the label map was drawn, or resample one to the other."
                ).format(prediction=first.name, label=second.name, difference=_difference(one[1], other[1]))
            )
        return one[0], other[0], one[1]
    if isinstance(one, tuple) and not isinstance(other, tuple):
        return one[0], other.on_grid(one[1], first.name), one[1]
    if isinstance(other, tuple) and not isinstance(one, tuple):
        return one.on_grid(other[1], second.name), other[0], other[1]
    if isinstance(one, LabelPlanes) and isinstance(other, LabelPlanes):
        geometry = one.geometry(other)
        return one.on_grid(geometry, second.name), other.on_grid(geometry, first.name), geometry
    raise InputError(
        _(
            "{first} and {second} have no grid of a whole image in common. "
            "Give one of them as a label map on the image's grid, such as .seg.nrrd or NIfTI."
        ).format(first=first.name, second=second.name)
    )


def region_of(path: Path) -> RegionOfInterest:
    """Return the box around all labels of a file, with all that their voxels cover; contours cover half a step across.

    Raises:
        InputError: for a file that has none.
    """
    found = _read(path)
    if isinstance(found, tuple):
        labeled = [np.flatnonzero(found[0].any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        if len(labeled[0]):
            k, j, i = (slice(int(one[0]), int(one[-1]) + 1) for one in labeled)
            return RegionOfInterest.around_voxels((k, j, i), found[1])
    elif len(local := found.outline() @ found.axes):
        low, high = local.min(axis=0), local.max(axis=0)
        corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T
        return RegionOfInterest(corners @ found.axes.T)
    raise InputError(
        _("{file} has no labels, so it is not a region. Choose a file with labels.").format(file=path.name)
    )


def label_values(path: Path) -> frozenset[int]:
    """Return the values above 0 of the labels of a file.

    Raises:
        InputError: for a file that is not labels.
    """
    return _side(_read(path), {}).values


def read_volumes_ml(path: Path, label_names: Mapping[int, str]) -> dict[str, float]:
    """Return the volume in ml of every label of a file, by the name that the file gives it, or else `label_names`.

    Raises:
        InputError: for a file without labels on a grid.
    """
    found = _read(path)
    names = {**label_names, **_names(path, found)}
    if isinstance(found, Structures):
        raise InputError(
            _("{file} has contours, not labels. Choose the file with the segmentation.").format(file=path.name)
        )
    voxels, geometry = (found.labels, found.geometry()) if isinstance(found, LabelPlanes) else found
    ml: dict[str, float] = {}
    for value in sorted(values_of(voxels)):
        name = names.get(value, f"label {value}")
        ml[name] = ml.get(name, 0.0) + int((voxels == value).sum()) * geometry.voxel_volume_ml
    return ml


def is_label_file(path: Path) -> bool:
    """Return whether a DICOM file holds labels."""
    return _kind(path) in (SEGMENTATION, LABEL_MAP, STRUCTURE_SET)


def _read(path: Path) -> Labels:
    """Return the labels of a file: on its grid, on planes, or as contours.

    Raises:
        InputError: for a file that is not labels.
    """
    kind = _kind(path)
    if kind in (SEGMENTATION, LABEL_MAP):
        return read_dicom_segmentation(path)
    if kind == STRUCTURE_SET:
        return read_structures(path)
    voxels, geometry = read_labels(path)
    check_labels(voxels, path.name)
    return voxels, geometry


def _names(path: Path, found: Labels) -> dict[int, str]:
    """Return the names that a file, of which these labels were read, gives their values."""
    if not isinstance(found, tuple):
        return dict(found.names)
    return nrrd_segment_names(path) if path.name.lower().endswith((".nrrd", ".nhdr")) else {}


def _called(structure: str, sides: tuple[Side, Side], files: tuple[Path, Path]) -> tuple[Side, Side]:
    """Return what two files have, with masks under the name of the structure that they show.

    Raises:
        InputError: if neither is a mask, or the other file has labels and none of them has the name of the structure.
    """
    new = sides[0].called(structure), sides[1].called(structure)
    if new == sides:
        raise InputError(
            _(
                "Neither {first} nor {second} has a single label without a name, so --structure is not for them. "
                "Omit it."
            ).format(first=files[0].name, second=files[1].name)
        )
    for side, file in zip(new, files, strict=True):
        if not side.names:  # else one of its values would be compared because the mask happens to have it, too
            raise InputError(
                _(
                    "{file} has several labels without names, so it is not known which of them is '{structure}'. "
                    "Save it with names as .seg.nrrd, or if it is the prediction, name them with --model."
                ).format(file=file.name, structure=structure)
            )
    keys = {structure_key(structure), *sided_keys(structure)}
    for side, file in zip(new, files, strict=True):
        if not any(structure_key(name) in keys for name in side.names.values()):
            raise InputError(
                _("{file} names no label '{word}'. Choose one of the closest names ({closest}).").format(
                    file=file.name, word=structure, closest=", ".join(closest_names(structure, side.names.values()))
                )
            )
    return new


def _side(found: Labels, names: Mapping[int, str]) -> Side:
    """Return which values labels have, with their names; 0 and what no label may have are none.

    A name that is blank, or one that a program gave by counting, names no structure.
    """
    names = {
        value: name
        for value, name in names.items()
        if 0 < value <= LARGEST_LABEL and not COUNTED.fullmatch(name.strip())
    }
    if isinstance(found, Structures):
        return Side(frozenset(found.contours), names, is_contours=True)
    return Side(values_of(found[0] if isinstance(found, tuple) else found.labels), names)


def _kind(path: Path) -> str:
    """Return the SOP class of a DICOM file, or nothing."""
    import pydicom

    try:
        if not is_dicom(path):
            return ""
        return text(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]), "SOPClassUID")
    except Exception:  # whatever pydicom stumbles over in bytes of strangers: reading it next reports it
        return ""


def _difference(one: Geometry, other: Geometry) -> Message:
    """Return in what two grids differ: their sizes, else how far apart they place a voxel."""
    if one.shape != other.shape:
        sizes = [" x ".join(map(str, grid.shape[::-1])) for grid in (one, other)]
        return _("{grid} and {other} voxels").format(grid=sizes[0], other=sizes[1])
    first = float(np.linalg.norm(np.subtract(one.origin, other.origin)))
    return _("{size} voxels each, of which the first are {first:.3g} mm apart and the farthest {apart:.3g} mm").format(
        size=" x ".join(map(str, one.shape[::-1])), first=first, apart=one.farthest_apart(other)
    )
