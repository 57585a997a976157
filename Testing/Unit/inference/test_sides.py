"""Left and right of structures that a model labels together, in heads as they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from LightSegLib.catalog.lookup import find_card
from LightSegLib.catalog.sides import right_step, split_labels
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.sides import midplane, split

PAIRED = (1, 2, 3)


def turned(degrees: tuple[float, float, float]) -> np.ndarray:
    """A rotation about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = (n for n in range(3) if n != axis)
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def head(rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """Labels [k, j, i] of a head of 3 mm voxels, where its right side (patient's, -x in LPS) truly is, and the grid.

    Two lobes (1) that touch in the middle, with a core (2) and, apart from the middle, a small body (3) in each; an
    unpaired one (4) on the midline. One side is a little larger, as in people.
    """
    geometry = Geometry((60, 60, 60), (3.0, 3.0, 3.0), (-88.5, -88.5, -88.5))
    k, j, i = np.indices(geometry.shape)
    world = np.stack((i, j, k), axis=-1) * 3.0 - 88.5 - np.array([7.0, -4.0, 3.0])
    x, y, z = np.moveaxis(world @ rotation, -1, 0)  # in the head's own directions
    labels = np.zeros(geometry.shape, np.uint8)
    outward = np.abs(x) * np.where(x < 0, 0.95, 1.0)
    labels[((outward - 25) / 32) ** 2 + (y / 62) ** 2 + ((z - 8) / 45) ** 2 < 1] = 1
    labels[((outward - 27) / 12) ** 2 + ((y - 6) / 28) ** 2 + ((z - 12) / 14) ** 2 < 1] = 2
    labels[((outward - 28) / 8) ** 2 + ((y - 20) / 18) ** 2 + ((z + 12) / 8) ** 2 < 1] = 3
    labels[(x / 9) ** 2 + ((y - 25) / 12) ** 2 + ((z + 30) / 20) ** 2 < 1] = 4
    return labels, x < 0, geometry


@pytest.mark.parametrize("degrees", [(0, 0, 0), (0, 20, 0), (0, 0, 25), (15, -12, 18), (-30, 8, -35)])
def test_the_sides_of_a_tilted_head_are_found(degrees: tuple[float, float, float]) -> None:
    labels, on_right, geometry = head(turned(degrees))
    found = labels.copy()
    plane = split(found, geometry, PAIRED, 100)
    assert plane is not None
    paired = np.isin(labels, PAIRED)
    wrong = (found[paired] >= 100) != on_right[paired]
    assert wrong.mean() < 0.01
    assert not ((found[labels == 3] >= 100) != on_right[labels == 3]).any()  # which do not touch the middle
    assert np.array_equal(np.where(found >= 100, found - 100, found), labels)
    assert np.degrees(np.arccos(plane.normal @ turned(degrees)[:, 0])) < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("flips", [(0,), (2,), (0, 1, 2)])
def test_how_the_voxels_are_stored_does_not_matter(flips: tuple[int, ...]) -> None:
    labels, _, geometry = head(turned((0, 10, 0)))
    expected = labels.copy()
    split(expected, geometry, PAIRED, 100)
    matrix = geometry.index_to_world
    for axis in flips:
        matrix[:3, 3] += matrix[:3, 2 - axis] * (geometry.shape[axis] - 1)
        matrix[:3, 2 - axis] *= -1
    found = np.ascontiguousarray(np.flip(labels, flips))
    split(found, Geometry.from_index_to_world(matrix, geometry.shape), PAIRED, 100)
    assert (np.flip(found, flips) != expected).mean() < 1e-3


def test_without_a_mirror_plane_nothing_is_split() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (40, 40, 40)).astype(np.uint8)
    before = labels.copy()
    assert split(labels, Geometry(labels.shape), tuple(range(1, 9)), 100) is None
    assert np.array_equal(labels, before)
    assert midplane(np.zeros((9, 9, 9), np.uint8), Geometry((9, 9, 9)), PAIRED) is None


def test_each_label_of_both_sides_becomes_two_with_the_terms_of_their_side() -> None:
    card = find_card("brain-structures-meshnet")
    labels = {label.name: label for label in split_labels(card)}
    left, right = labels["Left hippocampus"], labels["Right hippocampus"]
    assert (left.value, right.value) == (14, 14 + right_step(card))
    assert left.terminology and left.terminology.modifier and left.terminology.modifier.value == "7771000"
    assert right.terminology and right.terminology.modifier and right.terminology.modifier.value == "24028007"
    assert "Brain stem" in labels and "Left brain stem" not in labels
    assert len({label.value for label in labels.values()}) == len(labels) == 17 + 14
    assert InferenceOptions(split_sides=False).labels(card) == card.labels


@pytest.mark.slow
def test_the_sides_agree_with_those_of_another_network(shared_models: Path) -> None:
    """The atlas of 104 classes has left and right labels of its own."""
    import json

    import SimpleITK as sitk

    image = sitk.ReadImage(str(shared_models / "expected" / "brain-structures-meshnet__head_a.nii.gz"))
    labels = sitk.GetArrayFromImage(image)
    atlas = sitk.GetArrayFromImage(sitk.ReadImage(str(shared_models / "expected" / "brain-atlas-104__head_a.nii.gz")))
    names = json.loads((shared_models / "brain-atlas-104" / "labels.json").read_text(encoding="utf-8"))
    left = np.array([name.startswith(("ctx-lh", "Left")) for name in names])[atlas]
    right = np.array([name.startswith(("ctx-rh", "Right")) for name in names])[atlas]
    paired = find_card("brain-structures-meshnet").inference.paired
    geometry = Geometry(labels.shape, image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    assert split(labels, geometry, paired, 100) is not None
    both = np.isin(labels % 100, paired) & (left | right)
    assert ((labels[both] >= 100) == right[both]).mean() > 0.998
