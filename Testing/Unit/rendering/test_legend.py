"""The list beside the pictures: left and right in one line, and all of many labels."""

from __future__ import annotations

import numpy as np
import pytest
from LightSegLib.catalog.card import Label
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.rendering.layers import Layer, list_layers
from LightSegLib.rendering.legend import list_entries

BLUE, GREEN = (40, 60, 210), (40, 210, 60)


def one_voxel_each(*labels: tuple[str, tuple[int, int, int]]) -> list[Layer]:
    """Labels in a row of voxels of 10 mm, 1 ml."""
    row = np.arange(1, len(labels) + 1, dtype=np.uint8).reshape(1, 1, -1)
    named = tuple(Label(value, name, color) for value, (name, color) in enumerate(labels, start=1))
    return list_layers([Segmentation(row, Geometry(row.shape, (10.0, 10.0, 10.0)), named)])


def test_left_and_right_are_one_line() -> None:
    layers = one_voxel_each(("Left thalamus", BLUE), ("Brain stem", GREEN), ("Right thalamus", BLUE))
    thalamus, stem = list_entries(layers)
    assert (thalamus.name, thalamus.color, stem.name, stem.color) == ("Thalamus", BLUE, "Brain stem", GREEN)
    assert thalamus.volumes == pytest.approx((1.0, 1.0)) and stem.volumes == pytest.approx((1.0,))


def test_a_side_alone_and_sides_of_two_colors_keep_their_names() -> None:
    layers = one_voxel_each(("Right kidney", BLUE), ("Left lung", BLUE), ("Right lung", GREEN), ("Left", BLUE))
    assert [entry.name for entry in list_entries(layers)] == ["Right kidney", "Left lung", "Right lung", "Left"]
