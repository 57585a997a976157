"""The position of each voxel of a synthetic image in a label map: pose, size and shape of the subject."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .draw import Draw
from .grid import Grid
from .label_maps import LabelMap
from .options import SynthesisOptions

# within a voxel, in voxels (k, j, i): four points that are alike along every axis (a tetrahedron)
WITHIN_VOXEL = ((-0.25, -0.25, -0.25), (-0.25, 0.25, 0.25), (0.25, -0.25, 0.25), (0.25, 0.25, -0.25))


class Shape:
    """A subject of random pose and shape on a grid.

    Args:
        affine: 4x4 from template to the label map's world, mm.
        mirrored: the image is the subject's mirror image, so that its labels have to change sides.
    """

    def __init__(
        self, label_map: LabelMap, affine: np.ndarray, grid: Grid, options: SynthesisOptions, draw: Draw
    ) -> None:
        self._sources, self._grid = label_map.sources, grid
        self.mirrored = draw.happens(options.mirrored)
        pose = draw.span(options.pose)
        residual = _residual(options, pose, draw)
        to_index = label_map.world_to_index @ affine @ residual
        flip = np.diag([-1.0 if self.mirrored else 1.0, 1.0, 1.0, 1.0])
        grid_to_world = np.diag([grid.spacing] * 3 + [1.0])
        grid_to_world[:3, 3] = grid.origin
        self._matrix = to_index @ flip @ grid_to_world  # from (i, j, k) of the grid to (i, j, k) of the label map
        bend = _displacement(options, pose, grid, draw)
        step = torch.tensor(to_index[:3, :3], dtype=torch.float32)
        matrix = torch.tensor(self._matrix, dtype=torch.float32)
        k, j, i = (torch.arange(length, dtype=torch.float32) for length in grid.size)
        self._positions = []  # along k, j, i of the label map
        for row in (2, 1, 0):
            position = (
                matrix[row, 2] * k[:, None, None] + matrix[row, 1] * j[:, None] + (matrix[row, 0] * i + matrix[row, 3])
            )
            if bend is not None:
                position = position + torch.tensordot(step[row], bend, 1)
            self._positions.append(position)

    def sources(self, within: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Tensor:
        """Source at each voxel [k, j, i], at a point `within` it (k, j, i, in voxels from its center); not mirrored."""
        shift = self._matrix[:3, :3] @ np.array(within[::-1])
        flat: Tensor | None = None
        for position, offset, length in zip(self._positions, shift[::-1], self._sources.shape, strict=True):
            index = (position + float(offset)).round_().clamp_(0, length - 1).int()
            flat = index if flat is None else flat * length + index
        assert flat is not None
        return self._sources.flatten()[flat.flatten()].reshape(self._grid.size)

    def mean(self, of_source: Tensor) -> Tensor:
        """Return the mean within each voxel [k, j, i] of what each source has, [sources]."""
        total = torch.zeros(self._grid.size)
        for point in WITHIN_VOXEL:
            total += of_source[self.sources(point).long()]
        return total / len(WITHIN_VOXEL)


def _residual(options: SynthesisOptions, pose: float, draw: Draw) -> np.ndarray:
    """4x4 affine in template space, about its origin."""
    matrix = np.eye(4)
    for axis in range(3):
        angle = math.radians(draw.either_way(options.rotation) * pose)
        a, b = (other for other in range(3) if other != axis)
        turn = np.eye(4)
        turn[[a, b], [a, b]] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    scale = 1 + draw.either_way(options.scaling) * pose
    for axis in range(3):
        matrix[:3, axis] *= scale * (1 + draw.either_way(options.stretching) * pose)
    shear = np.eye(4)
    for row in range(3):
        for column in range(3):
            if row != column:
                shear[row, column] = draw.either_way(options.shearing) * pose
    matrix = matrix @ shear
    matrix[:3, 3] = [draw.either_way(options.shift) * pose for _ in range(3)]
    return matrix


def _displacement(options: SynthesisOptions, pose: float, grid: Grid, draw: Draw) -> Tensor | None:
    """Smooth displacement [3 (x, y, z), k, j, i] in mm."""
    bending, wrinkling = (draw.span(span) * pose for span in (options.bending, options.wrinkling))
    if bending == 0 and wrinkling == 0:
        return None
    lengths = [length * grid.spacing for length in grid.size]

    def nodes(distance: float) -> list[int]:
        return [round(length / distance) + 1 for length in lengths]

    wide = draw.smooth(grid.size, nodes(draw.span(options.bending_nodes)), 3)
    return bending * wide + wrinkling * draw.smooth(grid.size, nodes(options.wrinkling_nodes), 3)
