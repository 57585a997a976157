"""Slices: what is on the patient's left is drawn on the left side, to scale, and where there is most to see."""

from __future__ import annotations

import numpy as np
import pytest
from balls import DIRECTIONS, GREEN, RED, find_color, make_balls
from LightSegLib.imaging.volume import Volume
from LightSegLib.rendering.framing import frame
from LightSegLib.rendering.layers import list_layers
from LightSegLib.rendering.slices import AXIAL, CORONAL, PLANES, SAGITTAL, Plane, draw_slices


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize(
    ("plane", "one", "two", "shift_mm"),
    [
        # one: left and in front; two: right and behind. Seen from below: 32 mm to the right, 20 mm up.
        (AXIAL, (-18, 12, 3), (14, -8, 3), (32, -20)),
        # one: left and above; two: right and below. Seen from the front.
        (CORONAL, (-16, 4, 14), (12, 4, -8), (28, -22)),
        # one: in front and below; two: behind and above. The face looks to the left.
        (SAGITTAL, (5, 16, -12), (5, -10, 10), (-26, 22)),
    ],
    ids=["axial", "coronal", "sagittal"],
)
def test_balls_are_drawn_where_the_patient_has_them(
    plane: Plane,
    one: tuple[float, ...],
    two: tuple[float, ...],
    shift_mm: tuple[float, float],
    direction: np.ndarray,
) -> None:
    volume, segmentation = make_balls(direction, one, two)
    layers = list_layers([segmentation])
    framing = frame(volume, layers, 240, 200)
    picture = np.asarray(draw_slices(volume, layers, framing, 240, 200)[PLANES.index(plane)], float)
    shift = (find_color(picture, RED) - find_color(picture, GREEN)) * framing.mm_per_pixel
    assert shift == pytest.approx(shift_mm, abs=1.5)


def test_paired_organs_are_cut_and_not_the_gap_between_them() -> None:
    volume, segmentation = make_balls(np.eye(3), (-18, 0, 0), (18, 0, 0))
    focus = frame(volume, list_layers([segmentation]), 200, 200).focus
    assert abs(focus[0]) == pytest.approx(18, abs=3)
    assert focus[1:] == pytest.approx([0, 0], abs=3)


def test_a_label_shines_through_its_outline() -> None:
    _, segmentation = make_balls(np.eye(3), (-18, 12, 3), (900, 0, 0))
    volume = Volume(np.full(segmentation.voxels.shape, 100, np.float32), segmentation.geometry)  # is drawn as black
    layers = list_layers([segmentation])
    for drawn in draw_slices(volume, layers, frame(volume, layers, 240, 200), 240, 200):
        picture = np.asarray(drawn, float)
        x, y = find_color(picture, RED).round().astype(int)
        assert picture[y, x] == pytest.approx(0.35 * np.array(RED), abs=1)
        assert picture[5, 5] == pytest.approx([0, 0, 0])
