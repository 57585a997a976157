"""Rows of features that are kept while later layers need them, and what they are where nothing but air is seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Box = tuple[int, int, int, int]  # first and after the last along j, then along i


class Air:
    """Features in a volume [k, j, i] of air alone: those of a small one, whose middle is as all far from the border.

    values: [k, j, i, channels] of the small volume. reach: how far from the border they differ from the middle.
    """

    def __init__(self, values: Tensor, reach: int, shape: Sequence[int]) -> None:
        self._values = torch.nn.functional.pad(values, (0, 0, 0, 1, 0, 1))  # zeros, for what is beyond the volume
        self._reach, self._shape = reach, tuple(shape)

    def new_empty(self, *size: int) -> Tensor:
        """Room for features [*size, channels] like these."""
        return self._values.new_empty((*size, self._values.shape[-1]))

    def place(self, row: int) -> int:
        """Return the row of the small volume that is as this one."""
        return int(self._places(0, row, row + 1))

    def part(self, place: int, box: Box) -> Tensor:
        """Values [j, i, channels] of a part of a row, by its `place`; zeros beyond the volume."""
        j0, j1, i0, i1 = box
        return self._values[place][self._places(1, j0, j1)].index_select(1, self._places(2, i0, i1))

    def _places(self, axis: int, first: int, last: int) -> Tensor:
        length, size = self._shape[axis], self._values.shape[axis] - (axis > 0)
        places = torch.arange(first, last, device=self._values.device)
        small = torch.where(places < length - self._reach, places.clamp(max=self._reach), size - length + places)
        return torch.where((places < 0) | (places >= length), size, small)


class Kept:
    """The last rows of some features [row, j, i, channels], in one window [j, i], which may reach beyond the volume."""

    def __init__(self, rows: int, window: Box, air: Air) -> None:
        self._window, self._air = window, air
        j0, j1, i0, i1 = window
        self._rows = air.new_empty(rows, j1 - j0, i1 - i0)
        self._held: list[tuple[int, Box] | None] = [None] * rows  # of each row: where its air is from, and what is not

    @property
    def nbytes(self) -> int:
        """Memory of the rows."""
        return self._rows.nbytes

    @torch.inference_mode()
    def begin(self, row: int, box: Box) -> None:
        """Let a row be air but for a box, which is put before, after, or meanwhile."""
        slot, place = row % len(self._rows), self._air.place(row)
        box = _common(box, self._window)
        held = self._held[slot]
        stale = held[1] if held is not None and held[0] == place else self._window
        for j0, j1, i0, i1 in _without(stale, box):
            self._inner(row, j0, j1, i0, i1)[:] = self._air.part(place, (j0, j1, i0, i1))
        self._held[slot] = place, box

    def put(self, row: int, j: int, i: int, values: Tensor) -> None:
        """Values [j, i, channels] of a part of a row that begins at j, i; what is beyond the window is dropped."""
        j0, j1, i0, i1 = _common((j, j + values.shape[0], i, i + values.shape[1]), self._window)
        if not _is_empty((j0, j1, i0, i1)):
            self._inner(row, j0, j1, i0, i1)[:] = values[j0 - j : j1 - j, i0 - i : i1 - i]

    def part(self, row: int, j0: int, j1: int, i0: int, i1: int) -> Tensor:
        """Values [j, i, channels] of a part of a row; zeros beyond the volume."""
        return self._inner(row, j0, j1, i0, i1)

    def _inner(self, row: int, j0: int, j1: int, i0: int, i1: int) -> Tensor:
        j, _, i, _ = self._window
        return self._rows[row % len(self._rows), j0 - j : j1 - j, i0 - i : i1 - i]


def _common(first: Box, second: Box) -> Box:
    """Return the part that both boxes have in common."""
    pairs = list(zip(first, second, strict=True))
    return max(pairs[0]), min(pairs[1]), max(pairs[2]), min(pairs[3])


def _is_empty(box: Box) -> bool:
    return box[0] >= box[1] or box[2] >= box[3]


def _without(box: Box, hole: Box) -> list[Box]:
    """What of a box is not in the hole, as boxes."""
    j0, j1, i0, i1 = box
    top, bottom, left, right = _common(box, hole)
    if _is_empty((top, bottom, left, right)):
        parts = [box]
    else:
        parts = [(j0, top, i0, i1), (bottom, j1, i0, i1), (top, bottom, i0, left), (top, bottom, right, i1)]
    return [part for part in parts if not _is_empty(part)]
