"""The colors that pictures share, as red, green and blue from 0 to 255."""

from __future__ import annotations

Color = tuple[int, int, int]

BACKGROUND: Color = (24, 26, 31)
PANEL: Color = (0, 0, 0)
BRIGHT: Color = (240, 242, 245)
TEXT: Color = (200, 205, 212)
FAINT: Color = (128, 135, 146)
RULE: Color = (58, 62, 70)
LETTER: Color = (255, 214, 92)
PLANES: tuple[Color, ...] = ((243, 74, 51), (110, 176, 75), (237, 213, 76))  # as Slicer's slice views
SURFACE: Color = (116, 112, 196)
AXES: tuple[Color, ...] = ((226, 92, 80), (104, 190, 96), (96, 148, 240))  # to the right, the front and the top
