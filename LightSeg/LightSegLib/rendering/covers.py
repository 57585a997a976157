"""Which surfaces are left out in 3D, since all that is of interest is within them: fluid around a brain, or skin."""

from __future__ import annotations

from collections.abc import Sequence

from ..imaging.roi import Slices
from .layers import Layer
from .legend import Entry, list_entries

FEWEST = 4  # structures that a cover hides; what has less around it, as the heart's muscle, is shown itself


def find_covers(layers: Sequence[Layer]) -> list[Entry]:
    """Return the structures that enclose most of the others of a segmentation, left and right together.

    One encloses another where its box, along the axes of the image, holds the other's.
    """
    boxes = [(entry, box) for entry in list_entries(layers) if (box := _box(entry)) is not None]
    covers = []
    for entry, box in boxes:
        within = sum(_holds(box, other) for one, other in boxes if one is not entry)
        if within >= FEWEST and 2 * within > len(boxes) - 1:
            covers.append(entry)
    return covers


def _box(entry: Entry) -> Slices | None:
    """Return the box of a structure, of both sides if it has two; None without a voxel."""
    boxes = [layer.box for layer in entry.layers if layer.box is not None]
    if not boxes:
        return None
    k, j, i = (slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in range(3))
    return k, j, i


def _holds(box: Slices, other: Slices) -> bool:
    """Return whether a box holds another."""
    return all(a.start <= b.start and b.stop <= a.stop for a, b in zip(box, other, strict=True))
