"""Slices: what is on the patient's left is drawn on the left side, to scale, and where there is most to see."""

from __future__ import annotations

import numpy as np
import pytest
from balls import DIRECTIONS, GREEN, LABELS, RED, find_color, make_balls
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.rendering.framing import Framing, frame
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


def test_borders_are_between_the_voxels_and_round_their_corners() -> None:
    """A cube of two labels in voxels of 10 mm: at its corners the linear shares u * v are half where u = v = 0.707."""
    voxels = np.zeros((8, 8, 8), np.uint8)
    voxels[2:6, 2:6, 2:4], voxels[2:6, 2:6, 4:6] = 1, 2
    segmentation = Segmentation(voxels, Geometry(voxels.shape, (10, 10, 10)), LABELS)
    black = Volume(np.full(voxels.shape, 100, np.float32), segmentation.geometry)
    middle = np.array([-35.0, -35.0, 30.0])  # of the cube, on a slice of voxels
    axial = draw_slices(black, list_layers([segmentation]), Framing(middle, middle, 0.25), 240, 240)[0]
    red, green = (np.asarray(axial, int)[..., channel] for channel in (0, 1))
    assert np.count_nonzero((red + green)[120]) == pytest.approx(4 * 10 / 0.25, abs=1)
    assert np.count_nonzero((red + green).diagonal()) == pytest.approx(2 * (25 - 7.071) / 0.25, abs=1)
    assert np.count_nonzero((red > green)[120]) == np.count_nonzero((green > red)[120]) == pytest.approx(80, abs=1)


def test_a_label_shines_through_its_outline() -> None:
    _, segmentation = make_balls(np.eye(3), (-18, 12, 3), (900, 0, 0))
    volume = Volume(np.full(segmentation.voxels.shape, 100, np.float32), segmentation.geometry)  # is drawn as black
    layers = list_layers([segmentation])
    for drawn in draw_slices(volume, layers, frame(volume, layers, 240, 200), 240, 200):
        picture = np.asarray(drawn, float)
        x, y = find_color(picture, RED).round().astype(int)
        assert picture[y, x] == pytest.approx(0.35 * np.array(RED), abs=1)
        assert picture[5, 5] == pytest.approx([0, 0, 0])
