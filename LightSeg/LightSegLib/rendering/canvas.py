"""A picture in memory: rectangles, smooth lines, pasted images and text, in plain numpy.

Nothing here needs a screen or OpenGL. Positions are pixels (x to the right, y down) from the top left corner.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..core.atomic_io import whole_file
from ..imaging.writers import check_output

Color = tuple[int, int, int]

# (text, size in pixels, bold) -> coverage [height, width] from 0 to 1; every line of one size is equally high
TextMask = Callable[[str, int, bool], np.ndarray]


class Canvas:
    """An RGB picture, `pixels` [height, width, 3] from 0 to 255, that things are drawn onto."""

    def __init__(self, width: int, height: int, background: Color, text_mask: TextMask) -> None:
        self.pixels = np.empty((height, width, 3), np.float32)
        self.pixels[:] = background
        self._text_mask = text_mask

    def rectangle(self, x: float, y: float, width: float, height: float, color: Color) -> None:
        """Fill a rectangle."""
        top, left = round(y), round(x)
        self.pixels[top : top + round(height), left : left + round(width)] = color

    def paste(self, image: np.ndarray, x: int, y: int) -> None:
        """Put an image [height, width, 3] with its top left corner at (x, y)."""
        height, width = image.shape[:2]
        self.pixels[y : y + height, x : x + width] = image

    def polyline(self, points: Sequence[tuple[float, float]], color: Color, width: float = 2.0) -> None:
        """Draw connected straight lines, anti-aliased, `width` pixels wide with round ends."""
        line = np.array(points, float)
        corner = np.floor(line.min(axis=0) - width / 2 - 1).astype(int)
        columns, rows = np.ceil(line.max(axis=0) + width / 2 + 2).astype(int) - corner
        coverage = np.zeros((rows, columns), np.float32)
        for start, end in zip(line[:-1] - corner, line[1:] - corner, strict=True):
            _cover_segment(coverage, start, end, width / 2)
        self._blend(coverage, color, *corner.tolist())

    def dot(self, x: float, y: float, color: Color, radius: float) -> None:
        """Draw a filled circle."""
        self.polyline([(x, y), (x, y)], color, 2 * radius)

    def text(
        self,
        words: str,
        x: float,
        y: float,
        size: int,
        color: Color,
        bold: bool = False,
        align: str = "left",
        halo: Color | None = None,
    ) -> None:
        """Write one line; (x, y) is the middle of its height and its left end, centre or right end by `align`.

        halo: colour of a soft rim around the letters, which keeps them readable on a picture.
        """
        if not words:
            return
        mask = self._text_mask(words, size, bold)
        left = x - mask.shape[1] * {"left": 0.0, "center": 0.5, "right": 1.0}[align]
        top = round(y - mask.shape[0] / 2)
        if halo is not None:
            rim = ndimage.gaussian_filter(ndimage.grey_dilation(np.pad(mask, 6), 3), 1.5)
            self._blend(np.minimum(rim * 1.4, 1), halo, round(left) - 6, top - 6)
        self._blend(mask, color, round(left), top)

    def text_width(self, words: str, size: int, bold: bool = False) -> int:
        """Pixels that `words` take on one line."""
        return self._text_mask(words, size, bold).shape[1] if words else 0

    def wrapped(self, words: str, width: float, size: int, bold: bool = False) -> list[str]:
        """`words` broken into lines of at most `width` pixels; a single longer word keeps its line."""
        lines: list[str] = []
        for word in words.split():
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and self.text_width(longer, size, bold) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    def save(self, path: str | Path) -> None:
        """Write a PNG file, whole or not at all. Raises OutputError where it cannot be written."""
        import SimpleITK as sitk

        pixels = np.clip(np.rint(self.pixels), 0, 255).astype(np.uint8)
        check_output(path, (".png",))
        with whole_file(path) as part:
            try:
                sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(part))
            except RuntimeError as error:
                raise OSError(errno.ENOSPC, "the file could not be written completely") from error

    def _blend(self, coverage: np.ndarray, color: Color, x: int, y: int) -> None:
        """Lay `color` over the pixels from (x, y) on as far as `coverage` says; what sticks out is cut off."""
        height, width = self.pixels.shape[:2]
        top, left = max(y, 0), max(x, 0)
        bottom, right = min(y + coverage.shape[0], height), min(x + coverage.shape[1], width)
        if top >= bottom or left >= right:
            return
        part = coverage[top - y : bottom - y, left - x : right - x, None]
        below = self.pixels[top:bottom, left:right]
        below += part * (np.array(color, np.float32) - below)


def _cover_segment(coverage: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float) -> None:
    """Raise `coverage` to 1 within `radius` pixels of the line from `start` to `end`, fading over one pixel."""
    height, width = coverage.shape
    low = np.floor(np.minimum(start, end) - radius - 1).astype(int)
    high = np.ceil(np.maximum(start, end) + radius + 2).astype(int)
    left, right = np.clip([low[0], high[0]], 0, width)
    top, bottom = np.clip([low[1], high[1]], 0, height)
    y, x = np.mgrid[top:bottom, left:right] + 0.5  # pixel centres
    along = end - start
    position = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / max(float(along @ along), 1e-9)
    position = np.clip(position, 0, 1)
    distance = np.hypot(x - start[0] - position * along[0], y - start[1] - position * along[1])
    block = coverage[top:bottom, left:right]
    np.maximum(block, np.clip(radius + 0.5 - distance, 0, 1), out=block)
