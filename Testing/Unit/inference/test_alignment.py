"""Models that take images in one position: a phantom head is found in any pose, and its labels come back in place."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from LightSegLib.catalog.card import Alignment, Card, Inference, Label, Normalization, Preprocessing, Total, Weights
from LightSegLib.catalog.card_file import card_from_dict, card_to_dict, write_card
from LightSegLib.catalog.lookup import find_card, template_path, weights_path
from LightSegLib.core.errors import Canceled, InputError, ModelError, NothingToAlignError
from LightSegLib.core.file_hash import sha256
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.alignment.align import align
from LightSegLib.inference.alignment.aligned_restore import AlignedRestorer
from LightSegLib.inference.alignment.registration import Registration, register
from LightSegLib.inference.alignment.template import Template, read_template, write_template
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.processing.orientation import turned
from LightSegLib.inference.processing.restore import Decision
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.models.importing import import_model
from run_options import with_confidence
from scipy import ndimage
from torch import Tensor, nn

LEFT_BALL, RIGHT_BALL = np.array([28.0, -12.0, 10.0]), np.array([-28.0, -12.0, 10.0])  # LPS mm in the phantom
TURNED = {"x": (0, 0.44), "y": (1, -0.44), "z": (2, 0.44)}  # axis and radians: 25 degrees
GRID = Geometry((72, 80, 68), (2.0, 2.0, 2.0), (-67.0, -79.0, -71.0))


def phantom(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Intensities of a head-like phantom at places in mm (LPS): scalp, skull, brain, two different balls, a nose."""

    def within(center: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        return sum(((p - c) / r) ** 2 for p, c, r in zip((x, y, z), center, radii, strict=True)) < 1

    image = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape))
    image[within((0, -85, -35), (12, 18, 14))] = 90
    image[within((0, 0, 0), (66, 86, 80))] = 100
    image[within((0, 0, 0), (59, 79, 73))] = 25
    image[within((0, 0, 0), (52, 72, 66))] = 70
    image[within((0, 10, 5), (38, 52, 48))] = 110
    image[within((0, 0, 12), (9, 28, 12))] = 30
    image[within((0, 35, -32), (30, 18, 16))] = 85
    image[within(tuple(LEFT_BALL), (12, 12, 12))] = 200
    image[within(tuple(RIGHT_BALL), (12, 12, 12))] = 160
    return image


def pictured(geometry: Geometry, head_to_world: np.ndarray | None = None, noise: float = 2.0) -> Volume:
    """The phantom, moved in the world, as a scanner with this grid shows it: means over each voxel, and noise."""
    to_head = np.linalg.inv(np.eye(4) if head_to_world is None else head_to_world) @ geometry.index_to_world
    k, j, i = np.ogrid[tuple(slice(n) for n in geometry.shape)]
    samples = []
    steps = [(-0.25, 0.25) if mm > 2 else (0.0,) for mm in geometry.spacing]
    for di, dj, dk in itertools.product(*steps):
        x, y, z = (row[0] * (i + di) + row[1] * (j + dj) + row[2] * (k + dk) + row[3] for row in to_head[:3])
        samples.append(phantom(x, y, z))
    image = np.mean(samples, axis=0)
    return Volume(
        (image + np.random.default_rng(0).normal(0, noise, image.shape)).astype(np.float32), geometry, "phantom"
    )


def motion(
    turn: tuple[int, float] = (0, 0.0), shift: tuple[float, ...] = (0, 0, 0), scale: tuple[float, ...] = (1, 1, 1)
) -> np.ndarray:
    """4x4 in mm: scaled, turned about an axis, then shifted."""
    axis, angle = turn
    a, b = (n for n in range(3) if n != axis)
    matrix = np.eye(4)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    matrix[:3, :3] = matrix[:3, :3] @ np.diag(scale)
    matrix[:3, 3] = shift
    return matrix


def around(
    world: np.ndarray,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    turn: tuple[int, float] = (0, 0),
) -> Geometry:
    """A grid whose middle is at a position in the world, turned about an axis."""
    direction = motion(turn)[:3, :3]
    middle = direction @ (np.array(spacing) * (np.array(shape[::-1]) - 1) / 2)
    x, y, z = map(float, world - middle)
    return Geometry(shape, spacing, (x, y, z), tuple(map(float, direction.ravel())))


def center(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The position of a mask's middle in the world, LPS mm."""
    k, j, i = np.argwhere(mask).mean(axis=0)
    return (geometry.index_to_world @ [i, j, k, 1])[:3]


@pytest.fixture(scope="module")
def template() -> Template:
    geometry = Geometry((96, 104, 88), (2.0, 2.0, 2.0), (-87.0, -103.0, -95.0))
    image = pictured(geometry, noise=0).voxels
    k, j, i = (np.arange(n) for n in geometry.shape)
    x, y, z = i * 2.0 - 87, (j * 2.0 - 103)[:, None], (k * 2.0 - 95)[:, None, None]
    brain = ((x / 52) ** 2 + (y / 72) ** 2 + (z / 66) ** 2 < 1) * np.uint8(255)
    return Template(ndimage.gaussian_filter(image, 0.7).clip(0, 255).astype(np.uint8), brain, geometry)


class FindsBalls(nn.Module):
    """Class 1 in the left half and 2 in the right, where the image is brighter than halfway from brain to ball."""

    def forward(self, tiles: Tensor) -> Tensor:
        left = torch.linspace(-1, 1, tiles.shape[-1]) > 0  # L is +x
        nowhere = torch.full_like(tiles, -9.0)
        balls = torch.where(left, (tiles - 155) / 10, nowhere), torch.where(left, nowhere, (tiles - 135) / 10)
        return torch.cat((torch.zeros_like(tiles), *balls), dim=1)


@pytest.fixture(scope="module")
def card(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Card:
    folder = tmp_path_factory.mktemp("aligned")
    write_template(template, folder / "template.nrrd")
    return Card(
        id="phantom",
        title="Phantom",
        version="1.0",
        description="Balls in a phantom.",
        modality="MR",
        channels=("any",),
        network="plain_conv_unet",
        network_arguments={},
        preprocessing=Preprocessing(
            normalization=(Normalization("none"),),
            alignment=Alignment(
                "template.nrrd",
                sha256(folder / "template.nrrd"),
                "head",
                GRID.shape[::-1],
                GRID.spacing,
                GRID.origin,
            ),
        ),
        inference=Inference(GRID.shape),
        labels=(Label(1, "Left ball", (255, 0, 0)), Label(2, "Right ball", (0, 255, 0))),
        weights=Weights("weights.pt"),
        license="CC0-1.0",
        citation="None.",
        totals=(Total("Balls", (1, 2)),),
        folder=folder,
    )


@pytest.fixture(scope="module")
def segmenter(card: Card) -> Segmenter:
    made = Segmenter(card, InferenceOptions(device="cpu"))
    made.use_network(FindsBalls())
    return made


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    yield
    torch.set_num_threads(before[0])
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before[1])


# --- position of the template -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moved", "shape", "spacing", "turn"),
    [
        (motion(TURNED["x"], (120, -130, 90)), (90, 100, 90), (2.0, 2.0, 2.0), (0, 0)),
        (motion(TURNED["y"], (0, 30, -250), (0.9, 1.1, 1.05)), (120, 120, 36), (5.0, 1.8, 1.8), (0, 0)),
        (motion((0, 0.1), (15, 0, 0), (1.1, 0.95, 1.0)), (36, 120, 130), (1.7, 1.7, 5.5), TURNED["z"]),
    ],
    ids=["turned by 25 degrees and far away", "other proportions in sagittal slices", "oblique thick slices"],
)
def test_a_known_pose_is_found_to_a_millimeter_and_a_half(
    template: Template,
    moved: np.ndarray,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    turn: tuple[int, float],
) -> None:
    found = register(pictured(around(moved[:3, 3], shape, spacing, turn), moved), template)
    k, j, i = np.nonzero(template.focus)
    places = template.geometry.index_to_world @ np.array([i, j, k, np.ones(len(i))])
    off = np.linalg.norm((found.matrix @ places - moved @ places)[:3], axis=0)
    assert off.mean() < 1.5
    assert found.credible
    assert found.inside == pytest.approx(1, abs=0.02)


def test_the_contrast_does_not_matter(template: Template) -> None:
    moved = motion((0, 0.2), (10, 20, -30))
    volume = pictured(around(moved[:3, 3], (80, 90, 76), (2.2, 2.2, 2.2)), moved)
    inverted = dataclasses.replace(volume, voxels=1000 - 4 * volume.voxels)
    places = np.c_[LEFT_BALL, RIGHT_BALL, [0, 60, 0]]
    expected = moved[:3, :3] @ places + moved[:3, 3:]
    found = register(inverted, template)
    assert np.linalg.norm(found.matrix[:3, :3] @ places + found.matrix[:3, 3:] - expected, axis=0).max() < 1.5
    assert found.credible


@pytest.mark.slow
def test_the_number_of_threads_changes_nothing(segmenter: Segmenter, threads: None) -> None:
    moved = motion((2, 0.15), (5, -8, 12), (1.05, 0.97, 1.0))
    volume = pictured(around(moved[:3, 3], (80, 88, 74), (2.3, 2.3, 2.3)), moved)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
        results.append(segmenter.segment([volume]))
    for other in results[1:]:
        assert other.provenance["alignment"] == results[0].provenance["alignment"]
        assert np.array_equal(other.voxels, results[0].voxels)


def test_the_order_of_the_axes_changes_no_bit(card: Card, template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of what is registered nor of what the network sees, although NIfTI rounds the corner of the image, which
    is another one in each order, to float32.
    """
    shape, spacing = (30, 34, 28), (6.1, 5.7, 6.3)
    direction = motion((0, 0.31))[:3, :3] @ motion((1, 0.23))[:3, :3] @ motion((2, 0.17))[:3, :3]
    volume = pictured(Geometry(shape, spacing, (-70.123, -91.71, -81.37), tuple(map(float, direction.ravel()))))

    def stored_in(order: tuple[int, ...], flips: tuple[int, ...]) -> Volume:
        other = turned(volume, order, flips)
        origin = tuple(float(np.float32(mm)) for mm in other.geometry.origin)
        return dataclasses.replace(other, geometry=dataclasses.replace(other.geometry, origin=origin))

    registered = []

    def register_nowhere(image: Volume, *_: object) -> Registration:
        registered.append(image)
        return Registration(motion((1, 0.17), (0.3, 0.2, 0.1)), 1.0, 1.0, 1.0)

    monkeypatch.setattr("LightSegLib.inference.alignment.align.register", register_nowhere)
    orders = [((0, 1, 2), (0, 2)), ((0, 2, 1), (1,)), ((1, 0, 2), ()), ((1, 2, 0), (0, 1, 2)), ((2, 1, 0), (0, 1))]
    expected = align([volume], card.preprocessing, template)
    others = [align([stored_in(*order)], card.preprocessing, template) for order in orders]
    for image, found in zip(registered[1:], others, strict=True):
        assert image.geometry == registered[0].geometry
        assert np.array_equal(image.voxels, registered[0].voxels)
        assert np.array_equal(found.to_grid, expected.to_grid)
        assert torch.equal(found.rows(0, GRID.shape[0]), expected.rows(0, GRID.shape[0]))
        np.testing.assert_allclose(found.registration.matrix, expected.registration.matrix, atol=1e-4)


# --- where there is nothing to find ------------------------------------------------------------------


def nothing() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    k, j, i = np.ogrid[:80, :80, :80]
    tube = 80.0 * ((j - 40) ** 2 + (i - 40) ** 2 < 18**2) - 60.0 * ((j - 40) ** 2 + (i - 40) ** 2 < 7**2) + 0 * k
    ball = 100.0 * ((k - 40) ** 2 + (j - 40) ** 2 + (i - 40) ** 2 < 30**2)
    return {
        "noise": rng.normal(0, 1, (80, 80, 80)),
        "clouds": ndimage.gaussian_filter(rng.normal(0, 1, (80, 80, 80)), 4),
        "a limb": tube + rng.normal(0, 3, tube.shape),
        "a ball": ball + rng.normal(0, 3, ball.shape),
        "a small crop": rng.normal(100, 20, (40, 50, 40)),
        "one bright voxel": np.eye(1, 80**3, 80**3 // 2)[0].reshape(80, 80, 80),
    }


@pytest.mark.parametrize("name", nothing())
def test_what_shows_no_head_is_refused(segmenter: Segmenter, name: str) -> None:
    voxels = nothing()[name].astype(np.float32)
    k, j, i = voxels.shape
    with pytest.raises(NothingToAlignError, match="No head was found in knee, or only a small part of one"):
        segmenter.segment([Volume(voxels, Geometry((k, j, i), (2.0, 2.0, 2.0)), "knee")])
    assert NothingToAlignError("").exit_code == 2


def test_a_ct_and_a_label_map_are_named_as_the_probable_cause(segmenter: Segmenter) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 33, (5, 5, 5)).repeat(8, 0).repeat(8, 1).repeat(8, 2)
    images = {
        "ct": (rng.normal(0, 400, (40, 40, 40)).clip(-1024), "ct is a CT .* made for MR: choose an MR volume"),
        "labels": (labels, "The voxels of labels are .* as those of a label map: choose the image"),
        "labels as floats": (labels.astype(np.float32), "The voxels of labels as floats are .* a label map"),
    }
    for name, (voxels, words) in images.items():
        volume = Volume(voxels, Geometry((40, 40, 40), (3.0, 3.0, 3.0)), name)
        with pytest.raises(NothingToAlignError, match=f"^{words}.* No head was found in {name}, or only "):
            segmenter.segment([volume])
    dark_mr = Volume(rng.integers(0, 90, (40, 40, 40)), Geometry((40, 40, 40), (3.0, 3.0, 3.0)), "dark MR")
    with pytest.raises(NothingToAlignError, match=r"^No head .* Choose a volume that shows a head, or another model"):
        segmenter.segment([dark_mr])


def test_an_empty_volume_is_refused_for_what_it_is(segmenter: Segmenter) -> None:
    with pytest.raises(InputError, match="constant"):
        segmenter.segment([Volume(np.zeros((50, 50, 50), np.int16), Geometry((50, 50, 50)), "empty")])


# --- labels in the world -----------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [40.0, 0.001])
def test_a_head_of_meters_or_of_a_hair_s_breadth_is_refused_for_its_spacing(segmenter: Segmenter, scale: float) -> None:
    """Voxels of 80 mm, and millimeters taken for meters: without a search that would take minutes."""
    head = pictured(GRID)
    spacing = tuple(scale * mm for mm in GRID.spacing)
    with pytest.raises(
        InputError, match=r"According to the spacing in its header, \w+ is \S+ mm long, but a \w+ is about \d+ mm"
    ):
        segmenter.segment([dataclasses.replace(head, geometry=Geometry(GRID.shape, spacing))])


def ball_volume(mask: np.ndarray, geometry: Geometry) -> float:
    return float(np.count_nonzero(mask)) * geometry.voxel_volume_ml


@pytest.mark.slow
@pytest.mark.parametrize("order", ["RAS", "ASR", "SRA", "LIP", "PRS", "ILA"])
def test_labels_are_where_the_structures_are_whatever_the_axes(segmenter: Segmenter, order: str) -> None:
    moved = motion((1, 0.2), (40, -25, 60), (1.0, 1.08, 0.95))
    directions = {"R": (-1, 0, 0), "L": (1, 0, 0), "A": (0, -1, 0), "P": (0, 1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    axes = np.array([directions[letter] for letter in order], float).T
    lengths, spacing = (84, 92, 80), (2.1, 2.3, 2.2)  # along x, y, z of the world
    along = [int(np.argmax(np.abs(axis))) for axis in axes.T]
    size, steps = [lengths[n] for n in along], [spacing[n] for n in along]
    matrix = np.eye(4)
    matrix[:3, :3] = axes * steps
    matrix[:3, 3] = moved[:3, 3] - matrix[:3, :3] @ ((np.array(size) - 1) / 2)
    geometry = Geometry.from_index_to_world(matrix, (size[2], size[1], size[0]))
    result = segmenter.segment([pictured(geometry, moved)])
    assert result.geometry == geometry
    assert result.voxels.shape == geometry.shape
    for value, ball in ((1, LEFT_BALL), (2, RIGHT_BALL)):
        expected = moved[:3, :3] @ ball + moved[:3, 3]
        assert np.linalg.norm(center(result.voxels == value, geometry) - expected) < 1.5


def test_totals_and_provenance_come_with_the_labels(segmenter: Segmenter) -> None:
    moved = motion((0, -0.2), (3, 4, 5))
    result = with_confidence(segmenter).segment([pictured(around(moved[:3, 3], (78, 90, 76), (2.2, 2.2, 2.2)), moved)])
    ml = result.volumes_ml()
    assert list(ml) == ["Left ball", "Right ball", "Balls"]
    assert ml["Balls"] == pytest.approx(ml["Left ball"] + ml["Right ball"])
    assert ml["Left ball"] == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.15)  # a radius of 12 mm
    assert result.provenance["totals"] == {"Balls": ["Left ball", "Right ball"]}
    assert np.allclose(result.provenance["alignment"]["template_to_image_lps"], moved, atol=1.5)
    assert result.confidence is not None
    assert result.confidence[result.voxels > 0].min() >= 34  # the largest of three probabilities


def test_a_cut_off_head_gets_the_labels_that_are_left_and_a_sentence(segmenter: Segmenter) -> None:
    moved = motion((2, 0.1), (0, 0, 0))
    whole = pictured(around(moved[:3, 3], (90, 96, 80), (2.0, 2.0, 2.0)), moved)
    keep = 50  # of 90 slices, from above: the left-over 60 percent
    matrix = whole.geometry.index_to_world.copy()
    matrix[2, 3] += 2.0 * (90 - keep)
    upper = Volume(whole.voxels[-keep:].copy(), Geometry.from_index_to_world(matrix, (keep, 96, 80)), "upper")
    result = segmenter.segment([upper])
    assert np.linalg.norm(center(result.voxels == 1, upper.geometry) - moved[:3, :3] @ LEFT_BALL) < 2
    assert any("is outside the image" in notice for notice in result.provenance["notices"])


def test_a_region_restricts_the_labels_and_changes_none(segmenter: Segmenter) -> None:
    geometry = around(np.zeros(3), (80, 92, 76), (2.1, 2.1, 2.1))
    volume = pictured(geometry)
    everywhere = segmenter.segment([volume])
    low, high = LEFT_BALL - 20, LEFT_BALL + 20
    region = RegionOfInterest(np.array(list(itertools.product(*zip(low, high, strict=True)))))
    within = with_confidence(segmenter).segment([volume], roi=region)
    part = region.slices(geometry)
    assert np.array_equal(within.voxels[part], everywhere.voxels[part])
    assert np.count_nonzero(within.voxels) == np.count_nonzero(within.voxels[part]) > 0
    assert not (within.voxels == 2).any()
    assert within.provenance["notices"] == []


def test_cancel_stops_the_search(segmenter: Segmenter) -> None:
    calls = iter(range(1000))
    with pytest.raises(Canceled):
        segmenter.segment(
            [pictured(around(np.zeros(3), (60, 70, 60), (3.0, 3.0, 3.0)))], canceled=lambda: next(calls) > 6
        )


def test_a_ct_is_distinguished_from_its_values(segmenter: Segmenter) -> None:
    volume = pictured(around(np.zeros(3), (80, 92, 76), (2.1, 2.1, 2.1)))
    result = segmenter.segment([dataclasses.replace(volume, voxels=volume.voxels * 5 - 1000)])
    assert any("made for MR" in notice for notice in result.provenance["notices"])


# --- parts -------------------------------------------------------------------------------------------


def test_restoring_at_an_angle_equals_interpolating_every_output() -> None:
    rng = np.random.default_rng(3)
    logits = ndimage.gaussian_filter(rng.normal(0, 1, (4, 14, 12, 10)), (0, 2, 2, 2)) * 60
    to_grid = motion((1, 0.3), (1.0, -2.0, 1.5), (0.7, 0.6, 0.5))
    labels, confidence = np.full((20, 26, 18), 9, np.uint8)[1:, ::-1], np.zeros((19, 26, 18), np.uint8)
    labels[...] = 0
    restorer = AlignedRestorer((14, 12, 10), to_grid, labels, Decision(), confidence)
    restorer.add(torch.from_numpy(logits[:, :5].astype(np.float32)))
    restorer.add(torch.from_numpy(logits[:, 5:].astype(np.float32)))
    k, j, i = np.indices(labels.shape)
    x, y, z = (row[0] * i + row[1] * j + row[2] * k + row[3] for row in to_grid[:3])
    inside = np.all([(p >= -0.5) & (p <= n - 0.5) for p, n in zip((z, y, x), logits.shape[1:], strict=True)], axis=0)
    at = np.stack([ndimage.map_coordinates(one, (z, y, x), order=1, mode="nearest") for one in logits])
    probability = np.exp(at - at.max(axis=0))
    probability = (probability / probability.sum(axis=0)).max(axis=0)
    assert inside.any()
    assert not inside.all()
    assert np.array_equal(labels, np.where(inside, at.argmax(axis=0), 0))
    assert np.abs(confidence - np.where(inside, 100 * probability, 0)).max() <= 0.51
    assert (confidence == 100).any()  # where nothing was computed, too


def test_a_template_survives_its_file_and_a_damaged_one_is_refused(
    template: Template, card: Card, tmp_path: object
) -> None:
    assert card.folder is not None
    again = read_template(card.folder / "template.nrrd")
    assert np.array_equal(again.image, template.image)
    assert np.array_equal(again.focus, template.focus)
    assert again.geometry.matches(template.geometry)
    alignment = card.preprocessing.alignment
    assert alignment is not None
    wrong = dataclasses.replace(alignment, template_sha256="0" * 64)
    other = dataclasses.replace(card, preprocessing=dataclasses.replace(card.preprocessing, alignment=wrong))
    segmenter = Segmenter(other, InferenceOptions(device="cpu"))
    segmenter.use_network(FindsBalls())
    with pytest.raises(ModelError, match="is missing or is not the one that its card describes"):
        segmenter.segment([pictured(around(np.zeros(3), (40, 40, 40), (4.0, 4.0, 4.0)))])


GUIDED = {"patch_size": [8, 8, 8], "guided_upsampling": True}
PLAIN = {"normalization": [{"method": "none"}]}
LOOKING = {
    "template": "template.nrrd",
    "template_sha256": "0" * 64,
    "subject": "head",
    "size": [8, 8, 8],
    "spacing": [2.0, 2.0, 2.0],
    "origin": [0.0, 0.0, 0.0],
    "second_look": True,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inference": {"patch_size": [8, 8, 8]}}, "inference.patch_size must be preprocessing.alignment.size"),
        ({"totals": [{"name": "Balls", "labels": [1, 7]}]}, r"totals\[0\].labels must be values of labels"),
        ({"totals": [{"name": "Left ball", "labels": [1]}]}, r"totals\[0\].name must differ"),
        ({"inference": GUIDED | {"average": "probabilities"}}, "guided_upsampling needs logits"),
        ({"inference": GUIDED, "preprocessing": PLAIN}, "guided_upsampling needs preprocessing.alignment"),
        ({"network_arguments": {"border_channels": 8}}, "border_channels needs inference.guided_upsampling"),
        ({"preprocessing": PLAIN | {"alignment": LOOKING}}, "second_look needs the network atlas_unet"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(card: Card, change: dict[str, Any], message: str) -> None:
    fields = card_to_dict(card)
    assert card_from_dict(fields, card.folder) == card
    with pytest.raises(ValueError, match=message):
        card_from_dict(fields | change)


def test_an_import_takes_the_template_along(card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "models"))
    brain = find_card("brain-mr-atlas-unet")
    template = template_path(brain)
    assert template is not None
    given = tmp_path / "given"
    given.mkdir()
    shutil.copy(weights_path(brain), given)
    write_card(dataclasses.replace(brain, id="brain-copy", folder=given), given / "model.json")
    with pytest.raises(ModelError, match="is missing or is not the one that its card describes"):
        import_model(given)
    assert not (tmp_path / "models" / "brain-copy").exists()
    shutil.copy(template, given)
    imported = import_model(given)
    taken = template_path(imported)
    assert taken is not None
    assert taken.parent == tmp_path / "models" / "brain-copy"
    assert sha256(taken) == sha256(template)
