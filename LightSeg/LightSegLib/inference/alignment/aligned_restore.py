"""From logits on the grid of an aligned network to labels on an image's grid that is at an angle to it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ...imaging.roi import Slices
from ..processing.resample import Shape
from ..processing.restore import Decision
from .borders import Borders
from .guided import Guide, Intensities

POINTS = 1 << 17  # voxels whose places are computed at once, in each thread
POINT_BYTES = 64  # of what is known of one
BATCH = 1 << 14  # of those whose logits are
CORNERS = tuple(itertools.product((0, 1), repeat=3))  # of a cell, z, y, x


class AlignedRestorer:
    """Takes the logits of an aligned grid and decides labels [k, j, i] on a grid at an angle to it.

    Between eight voxels of one label any mean of their logits has it, too, and is at least as certain as the least
    certain of them: there nothing is computed, and a guide, which is for borders, is not asked.

    Args:
        to_grid: 4x4, from index (i, j, k) in labels to that on the grid. Logits are interpolated linearly; outside
            the grid is background.
        confidence: uint8, as large as labels, takes the probability of each label in percent.
        guide: what places the borders between labels within the voxels of the grid; None for the logits alone.
    """

    def __init__(
        self,
        shape: Shape,
        to_grid: np.ndarray,
        labels: np.ndarray,
        decision: Decision,
        confidence: np.ndarray | None,
        guide: Guide | None = None,
    ) -> None:
        self._shape, self._to_grid = shape, to_grid
        self._labels, self._confidence = labels, confidence
        self._decision, self._guide = decision, guide
        self._intensities: Intensities | None = None
        self._borders: Borders | None = None
        self._slabs: list[Tensor] = []

    def add(self, slab: Tensor) -> None:
        """The next rows [outputs, rows, J, I]; with the last, all labels are decided."""
        self._slabs.append(slab.cpu())
        if sum(part.shape[1] for part in self._slabs) == self._shape[0]:
            self._decide(self._joined())

    def _joined(self) -> Tensor:
        """Return all logits [outputs, k, j, i], which nothing else then holds."""
        logits = torch.cat(self._slabs, dim=1)
        self._slabs.clear()
        return logits

    def _decide(self, logits: Tensor) -> None:
        """Write labels, and confidence if wanted, from all logits [outputs, k, j, i]."""
        used = box(np.linalg.inv(self._to_grid), self._shape, self._labels.shape)
        depth, height, width = (max(0, part.stop - part.start) for part in used)
        if depth * height * width == 0:
            return
        labels = self._decision.labels(logits[None])[0].flatten()
        uniform = torch.zeros(self._shape, dtype=torch.bool)
        if not self._decision.regions:
            uniform = uniform_cells(labels.reshape(self._shape))
        known = (uniform & self._certain(logits)).flatten()
        if self._guide is not None:
            self._look_at(self._guide, used, self._decision.probabilities(logits[None])[0])
            logits = torch.cat((logits, self._guide.coarse[None]))  # which is interpolated with them
        logits = logits.flatten(1).T.contiguous()  # [voxels, outputs]: the values of one voxel are contiguous
        grid = labels, uniform.flatten(), known
        step = max(1, POINTS // (height * width))
        threads = self._guide.threads if self._guide is not None else 1

        @torch.inference_mode()
        def decide_from(first: int) -> None:
            rows = slice(first, min(first + step, used[0].stop))
            matrix = self._to_grid.copy()
            matrix[:3, 3] = (matrix @ [used[2].start, used[1].start, rows.start, 1.0])[:3]
            self._decide_part((rows, used[1], used[2]), matrix, grid, logits)

        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as workers:
            list(workers.map(decide_from, range(used[0].start, used[0].stop, step)))

    def _look_at(self, guide: Guide, used: Slices, probabilities: Tensor) -> None:
        """Learn what intensities mean; used: part of the labels, probabilities: on the grid, [classes, k, j, i]."""
        self._intensities = Intensities(guide.coarse, probabilities)
        if (network := guide.border_network) is not None:
            self._borders = Borders(network, guide, self._to_grid, used, probabilities)

    def _certain(self, logits: Tensor) -> Tensor:
        """Return whether a voxel and its next neighbors are certain, if that is asked for."""
        if self._confidence is None:
            return torch.ones(self._shape, dtype=torch.bool)
        certain = torch.zeros(self._shape, dtype=torch.bool)
        certain[:-1, :-1, :-1] = torch.stack(_corners(self._decision.percent(logits[None])[0] == 100)).all(dim=0)
        return certain

    def _decide_part(
        self,
        part: Slices,
        matrix: np.ndarray,
        grid: tuple[Tensor, Tensor, Tensor],
        logits: Tensor,
    ) -> None:
        """Labels of a part [k, j, i], whose first voxel `matrix` takes as index (0, 0, 0) to the grid.

        Args:
            grid: of the grid's voxels, the labels, whether the next neighbors have the same, and whether all is known.
        """
        labels, uniform, known = grid
        shape = [one.stop - one.start for one in part]
        index = [place.expand(shape).flatten() for place in places(matrix, shape)]
        inside = torch.ones(index[0].shape, dtype=torch.bool)
        for place, length in zip(index, self._shape[::-1], strict=True):
            inside &= (place >= -0.5) & (place <= length - 0.5)
        chosen = inside.nonzero()[:, 0]
        corner, fractions = cells([place[chosen] for place in index], self._shape)
        found, sure = labels[corner], torch.full(corner.shape, 100, dtype=torch.uint8)

        for some in (~known[corner]).nonzero()[:, 0].split(BATCH):
            mean = interpolated(logits, self._shape, corner[some], [fraction[some] for fraction in fractions])
            if self._guide is not None:
                at_borders = (~uniform[corner[some]]).nonzero()[:, 0]
                voxels = chosen[some[at_borders]]
                mean, seen = mean[:, :-1], mean[at_borders]
                if len(voxels):
                    mean = mean.index_add(0, at_borders, self._change(seen, part, shape, voxels, index[0][voxels]))
            found[some] = self._decision.labels(mean).to(found.dtype)
            if self._confidence is not None:
                sure[some] = self._decision.percent(mean)

        self._labels[part] = _spread(found, chosen, shape)
        if self._confidence is not None:
            self._confidence[part] = _spread(sure, chosen, shape)

    def _change(self, mean: Tensor, part: Slices, shape: Sequence[int], chosen: Tensor, x: Tensor) -> Tensor:
        """Return what the image adds to the logits of voxels of a part, [n, classes].

        Args:
            mean: [n, classes + 1], the logits and the image that the network saw.
            chosen: flat indices in the part, of this shape.
            x: index of each along i of the grid.
        """
        assert self._guide is not None and self._intensities is not None
        logits, coarse = mean[:, :-1], mean[:, -1]
        at = torch.unravel_index(chosen, tuple(shape))
        seen = self._guide.part(part)[tuple(axis.numpy() for axis in at)]
        image = torch.from_numpy(seen.astype(np.float32))
        change = self._intensities.evidence(image, coarse)
        if self._borders is not None:
            voxels = [place + one.start for place, one in zip(at, part, strict=True)]
            logits, evidence = logits.T.contiguous(), change.T.contiguous()
            change = change + self._borders.changes(logits, evidence, voxels, x > (self._shape[2] - 1) / 2).T
        return change


def uniform_cells(labels: Tensor) -> Tensor:
    """Return whether a voxel and its next neighbors have one label, bool [k, j, i]."""
    uniform = torch.zeros(labels.shape, dtype=torch.bool)
    corners = _corners(labels)
    uniform[:-1, :-1, :-1] = torch.stack([corner == corners[0] for corner in corners[1:]]).all(dim=0)
    return uniform


def cells(index: Sequence[Tensor], shape: Shape) -> tuple[Tensor, list[Tensor]]:
    """Flat index of the grid voxel at the lower corner of the cell of each place, and its place in the cell.

    Args:
        index: x, y, z of each; both in this order.
        shape: of the grid, [k, j, i].
    """
    corner, fractions = torch.zeros(index[0].shape, dtype=torch.long), []
    stride = 1
    for place, length in zip(index, shape[::-1], strict=True):
        place = place.clamp(0, length - 1)
        lower = place.floor().clamp(max=length - 2)
        fractions.append(place - lower)
        corner += lower.long() * stride
        stride *= length
    return corner, fractions


def interpolated(values: Tensor, shape: Shape, corner: Tensor, fractions: Sequence[Tensor]) -> Tensor:
    """Return the values [n, outputs] at places in `cells` of a grid, from those of its voxels, [voxels, outputs]."""
    mean = torch.zeros(len(corner), values.shape[1])
    for offset, weight in weighted_corners(shape, fractions):
        mean.addcmul_(values[corner + offset], weight[:, None])
    return mean


def weighted_corners(shape: Shape, fractions: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Yield each corner of `cells`: how far it is from the lower one in the flat grid, and its weights [n]."""
    _, height, width = shape
    for z, y, x in CORNERS:
        a, b, c = (fraction if step else 1 - fraction for step, fraction in zip((x, y, z), fractions, strict=True))
        yield (z * height + y) * width + x, a * b * c


def _corners(grid: Tensor) -> list[Tensor]:
    """Return, for every cell of eight voxels of a grid [k, j, i], the values at its corners [k - 1, j - 1, i - 1]."""
    k, j, i = (length - 1 for length in grid.shape)
    return [grid[z : z + k, y : y + j, x : x + i] for z, y, x in CORNERS]


def _spread(values: Tensor, chosen: Tensor, shape: Sequence[int]) -> np.ndarray:
    """Return an array [k, j, i] with values at the chosen flat indices and 0 elsewhere."""
    full = torch.zeros(math.prod(shape), dtype=values.dtype)
    full[chosen] = values
    return full.reshape(*shape).numpy()


def places(matrix: np.ndarray, shape: Sequence[int], offset: Sequence[float] = (0, 0, 0)) -> list[Tensor]:
    """Return x, y, z [k, j, i]: a 4x4 matrix applied to the indices of a grid, shifted by `offset` (i, j, k)."""
    k, j, i = (
        torch.arange(n, dtype=torch.float32).reshape(-1, *[1] * after)
        for n, after in zip(shape, (2, 1, 0), strict=True)
    )
    return [
        float(a) * i + (float(b) * j + (float(c) * k + float(d)))
        for a, b, c, d in np.c_[matrix[:3, :3], matrix[:3] @ [*offset, 1.0]]
    ]


def box(matrix: np.ndarray, shape: Sequence[int], within: Sequence[int]) -> Slices:
    """Return the slices [k, j, i] of an array of shape `within` around where a matrix takes a grid of `shape`."""
    corners = np.array([[*corner[::-1], 1.0] for corner in itertools.product(*((-0.5, n - 0.5) for n in shape))]).T
    places = (matrix @ corners)[2::-1]
    low = np.clip(np.floor(places.min(axis=1)) - 1, 0, within).astype(int)
    high = np.clip(np.ceil(places.max(axis=1)) + 2, 0, within).astype(int)
    k, j, i = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return k, j, i
