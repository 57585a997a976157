"""Published models with their real weights, from a mirror, and what is no head in a sentence."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from LightSegLib.catalog.card import Inference, Normalization, Preprocessing
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.by_rows import Computer
from LightSegLib.inference.conformed import SIZE, conform
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.inference.threads import InlineExecutor
from LightSegLib.networks.meshnet import MeshNet

STEPS = Preprocessing(normalization=(Normalization("minmax"),), conform=True)


def ball(geometry: Geometry, radius: float = 70.0) -> Volume:
    """A bright ball about the origin, brighter to the left, in air."""
    k, j, i = np.indices(geometry.shape)
    places = np.stack((i, j, k, np.ones_like(i)), axis=-1) @ geometry.index_to_world.T
    inside = np.linalg.norm(places[..., :3], axis=-1) < radius
    return Volume(np.where(inside, 500 + places[..., 0], 0).astype(np.float32), geometry, "ball")


def test_places_and_intensities_on_the_grid_are_those_of_the_image() -> None:
    turn = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn * [2.0, 3.0, 2.5]
    matrix[:3, 3] = matrix[:3, :3] @ [-39.5, -29.5, -34.5]
    volume = ball(Geometry.from_index_to_world(matrix, (70, 60, 80)))
    found = conform(volume, STEPS)
    assert found.shape == (SIZE,) * 3 and found.image.dtype == np.uint8 and found.image.max() == 255
    for world in ([30.0, 10.0, -20.0], [-40.0, 20.0, 5.0], [0.0, -50.0, 30.0]):  # LPS mm
        i, j, k = np.rint((np.linalg.inv(found.grid.index_to_world) @ [*world, 1.0])[:3]).astype(int)
        assert found.image[k, j, i] == pytest.approx(255 * (500 + world[0]) / 570, abs=4)
    left = found.grid.index_to_world[:3, 2]  # rows run to the left, lines down, columns to the front
    assert left.tolist() == [1, 0, 0] and found.grid.index_to_world[:3, 1].tolist() == [0, 0, -1]


def test_labels_come_back_to_the_grid_of_the_image() -> None:
    volume = ball(Geometry((60, 70, 80), (2.5, 3.0, 3.5), (-98.75, -103.5, -103.25)))
    found = conform(volume, STEPS)
    back = found.returned((found.image > 100).astype(np.uint8))
    expected = volume.voxels > 224
    assert 2 * (back.astype(bool) & expected).sum() / (back.sum() + expected.sum()) > 0.98


@pytest.mark.parametrize(
    ("voxels", "spacing", "message"),
    [
        (np.zeros((40, 40, 40)), 4.0, "same intensity everywhere"),
        (np.pad(np.ones((60, 60, 60)), 2), 5.0, r"shows 295 x 295 x 295 mm, .* heads in 256 mm\. Set a region"),
        (np.pad(np.ones((47, 40, 40)), 2), 5.572, r"shows 218 x 218 x 257 mm, .* heads in 256 mm"),  # 256.3
    ],
)
def test_what_cannot_be_a_head_is_refused(voxels: np.ndarray, spacing: float, message: str) -> None:
    volume = Volume(voxels.astype(np.float32), Geometry(voxels.shape, (spacing,) * 3), "odd")
    with pytest.raises(InputError, match=message):
        conform(volume, STEPS)


def test_two_heads_side_by_side_are_refused() -> None:
    one = ball(Geometry((60, 60, 60), (3.0,) * 3, (-90.0,) * 3))
    two = Volume(np.concatenate((one.voxels, one.voxels), axis=2), Geometry((60, 60, 120), (3.0,) * 3), "twins")
    with pytest.raises(InputError, match=r"twins shows 3\d\d x 1\d\d x 1\d\d mm, and this model takes heads"):
        conform(two, STEPS)


@pytest.mark.parametrize(("structures", "refused"), [(1, False), (2, False), (3, True)])
def test_an_image_in_which_most_structures_are_missing_is_refused(structures: int, refused: bool) -> None:
    net = MeshNet(1, structures + 1, 1, (1,), "relu", "none", bias=True).eval()
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    *_, first, last = (module for module in net.modules() if isinstance(module, torch.nn.Conv3d))
    with torch.no_grad():
        first.weight[0, 0, 1, 1, 1] = 1
        last.weight[1], last.bias[1] = 1, -0.2  # the first structure is whatever is bright; nothing else is found
    run = partial(conform(ball(Geometry((60, 60, 60), (3.0,) * 3)), STEPS).label, net, Inference((SIZE,) * 3))
    computer = Computer(InlineExecutor(), torch.device("cpu"), step=4)
    if refused:
        with pytest.raises(InputError, match=r"Only 1 of 3 structures were found .* upside down"):
            run(computer, False, lambda *_: None)
    else:
        assert run(computer, False, lambda *_: None).labels.max() == 1


def test_ct_is_refused_by_models_that_see_a_whole_image() -> None:
    segmenter = Segmenter(find_card("brain-structures-meshnet"))
    voxels = np.full((20, 20, 20), -1000, np.int16)
    voxels[5:15, 5:15, 5:15] = 40
    volume = Volume(voxels, Geometry((20, 20, 20)), "scan")
    with pytest.raises(InputError, match="made for MR"):
        segmenter.segment([volume])


@pytest.fixture
def mirror(shared_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published weights as a mirror, and an empty store."""
    monkeypatch.setenv("LIGHTSEG_MIRROR", str(shared_models))
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights"))
    return shared_models


@pytest.mark.slow
@pytest.mark.parametrize("head", ["head_a", "head_b"])
def test_hippodeep_finds_what_its_authors_program_finds(head: str, mirror: Path, shared_data: Path) -> None:
    volume = read_volume(shared_data / "heads" / f"{head}_t1.nii.gz")
    found = Segmenter(find_card("hippodeep")).segment([volume]).voxels
    for value, side in ((1, "L"), (2, "R")):
        expected = read_volume(mirror / "expected" / f"hippodeep_{side}__{head}.nii.gz").voxels >= 128
        assert 2 * ((found == value) & expected).sum() / ((found == value).sum() + expected.sum()) >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "head"),
    [
        ("brain-tissue-tiny", "head_a_t1"),
        ("brain-tissue", "head_a_t1"),
        ("brain-structures-meshnet", "head_a_t1"),
        ("brain-structures-meshnet", "head_b_t1"),
        ("brain-mask-mindgrab", "head_a_t1"),
        ("brain-mask-mindgrab", "head_t2_oblique"),
        ("brain-atlas-104", "head_a_t1"),
    ],
)
def test_meshnets_find_what_their_published_weights_give(
    model: str, head: str, mirror: Path, shared_data: Path
) -> None:
    volume = read_volume(shared_data / "heads" / f"{head}.nii.gz")
    options = InferenceOptions(precision="float32", split_sides=False)
    found = Segmenter(find_card(model), options).segment([volume]).voxels
    expected = read_volume(mirror / "expected" / f"{model}__{head.removesuffix('_t1')}.nii.gz").voxels
    dice = [
        2 * ((found == value) & (expected == value)).sum() / ((found == value).sum() + (expected == value).sum())
        for value in np.unique(expected)[1:]
        if (expected == value).sum() >= 500
    ]
    assert np.mean(dice) >= 0.98


def test_an_image_of_noise_has_no_brain(mirror: Path) -> None:
    """By hippodeep, which is quick."""
    noise = np.random.default_rng(0).integers(0, 100, (40, 40, 40)).astype(np.int16)
    with pytest.raises(InputError, match=r"No brain was found|does not lie"):
        Segmenter(replace(find_card("hippodeep"))).segment([Volume(noise, Geometry((40, 40, 40), (2.0,) * 3), "noise")])


@pytest.mark.slow
def test_a_head_whose_header_says_it_is_upright_when_it_is_not_is_refused(mirror: Path, shared_data: Path) -> None:
    head = read_volume(shared_data / "heads" / "head_b_t1.nii.gz")
    matrix = head.geometry.index_to_world
    matrix[1:3] *= -1  # turned by 180 degrees about the axis from right to left
    turned = replace(head, geometry=Geometry.from_index_to_world(matrix, head.geometry.shape))
    with pytest.raises(InputError, match=r"No hippocampus was found in head_b_t1.*\. Check that the directions"):
        Segmenter(find_card("hippodeep")).segment([turned])
