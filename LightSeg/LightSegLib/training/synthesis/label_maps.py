"""A folder of label maps, read, checked and numbered by its settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...core.errors import InputError
from ...core.i18n import tr as _
from ...imaging.geometry import Geometry
from ...imaging.image_names import IMAGE_ENDINGS, is_image
from ...imaging.readers import read_labels
from ...imaging.volume import LARGEST_LABEL, check_labels
from .settings import Settings


@dataclass(frozen=True)
class LabelMap:
    """The outermost voxels are background.

    Attributes:
        sources: number of each voxel's value in the settings, uint8 [k, j, i], cropped to what is not background.
        world_to_index: 4x4 matrix from LPS positions in mm to indices (i, j, k) of the cropped array.
    """

    name: str
    sources: Tensor
    world_to_index: np.ndarray

    @property
    def index_to_world(self) -> np.ndarray:
        """4x4 matrix from indices (i, j, k) to LPS positions in mm."""
        return np.linalg.inv(self.world_to_index)


def read_label_maps(folder: Path, settings: Settings) -> list[LabelMap]:
    """Return the label maps in a folder, by name.

    Raises:
        InputError: for a folder with fewer than two, for files that are no label maps, that have values which the
            settings do not know or no structure at all, and for grids of different size, spacing or direction.
    """
    if not folder.is_dir():
        raise InputError(
            _("The folder {folder} does not exist. Check the path and the spelling.").format(folder=folder)
        )
    paths = sorted(path for path in folder.iterdir() if is_image(path))
    if len(paths) < 2:
        raise InputError(
            _(
                "{folder} has too few label maps ({count}): training needs at least two, "
                "one to learn from and one for validation. Use files with the extension {endings}."
            ).format(folder=folder, count=len(paths), endings=", ".join(IMAGE_ENDINGS))
        )
    if len(settings.values) > 255:
        raise InputError(_("The settings list more than 255 values. Merge some of them in the label maps."))
    numbers = np.zeros(LARGEST_LABEL + 1, np.uint8)
    numbers[[value.value for value in settings.values]] = np.arange(1, len(settings.values) + 1)
    classes = np.array(settings.source_classes)
    result: list[LabelMap] = []
    first: Geometry | None = None
    for path in paths:
        voxels, geometry = read_labels(path)
        check_labels(voxels, path.name)
        first = first or geometry
        if not _same_grid(geometry, first):
            raise InputError(
                _(
                    "{file} and {other} have grids with different sizes, spacings or directions. "
                    "Resample the label maps to one grid with nearest-neighbor interpolation."
                ).format(file=path.name, other=paths[0].name)
            )
        sources = numbers[voxels.astype(np.int64)]
        unknown = np.unique(voxels[(sources == 0) & (voxels != 0)])
        if len(unknown):
            raise InputError(
                _(
                    "{file} has voxels with the value {value}, which the settings do not list. Add it to values, "
                    "or correct the label map."
                ).format(file=path.name, value=int(unknown[0]))
            )
        if not classes[sources].any():
            raise InputError(
                _("{file} does not contain any structure. Correct or remove this label map.").format(file=path.name)
            )
        result.append(_cropped(path.name.split(".")[0], sources, geometry))
    return result


def _same_grid(a: Geometry, b: Geometry) -> bool:
    """Return whether two grids are alike but for their position."""
    return (
        a.shape == b.shape
        and np.allclose(a.spacing, b.spacing, rtol=1e-3)
        and np.allclose(a.direction, b.direction, atol=1e-3)
    )


def _cropped(name: str, sources: np.ndarray, geometry: Geometry) -> LabelMap:
    """Return a label map cropped to its labels."""
    bounds = []
    for axis in range(3):
        filled = np.flatnonzero(sources.any(axis=tuple(other for other in range(3) if other != axis)))
        bounds.append(slice(int(filled[0]), int(filled[-1]) + 1))
    k, j, i = (bound.start - 1 for bound in bounds)  # one voxel of background around
    index_to_world = geometry.index_to_world
    index_to_world[:3, 3] += index_to_world[:3, :3] @ np.array([i, j, k], float)
    padded = np.pad(sources[bounds[0], bounds[1], bounds[2]], 1)
    return LabelMap(name, torch.from_numpy(padded), np.linalg.inv(index_to_world))
