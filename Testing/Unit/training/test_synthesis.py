"""Images synthesized from label maps: what the scanner does to them, and settings that say what the maps hold."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from label_phantoms import BODY, CYST, LEFT_KIDNEY, LIVER, RIGHT_KIDNEY, image_of, phantom, settings, write_maps
from LightSegLib.catalog.anatomy import look_up
from LightSegLib.cli.main import main
from LightSegLib.core.errors import InputError
from LightSegLib.training.synthesis import scanner
from LightSegLib.training.synthesis.alignment import align, landmarks
from LightSegLib.training.synthesis.contrast import Contrast
from LightSegLib.training.synthesis.draw import Draw
from LightSegLib.training.synthesis.generator import IGNORED, Generator, SampleRequest
from LightSegLib.training.synthesis.grid import Grid, choose_grid
from LightSegLib.training.synthesis.label_maps import LabelMap, read_label_maps
from LightSegLib.training.synthesis.options import SynthesisOptions
from LightSegLib.training.synthesis.settings import SHIPPED, read_settings, settings_from_dict

STILL: dict[str, Any] = {"pose": (0.0, 0.0), "mirrored": 0.0}
CLEAN: dict[str, Any] = {
    "bias": (0.0, 0.0),
    "blur": (0.0, 0.0),
    "noise": (0.0, 0.0),
    "gamma": 0.0,
    "thick": 0.0,
    "coarse": 0.0,
    "cut": 0.0,
    "spot": 0.0,
    "merged": 0.0,
    "stripped": 0.0,
    "empty_background": 1.0,
    "texture": (0.0, 0.0),
}
GRID = Grid((32, 32, 32), 4.0, (-62.0, -62.0, -62.0))
SETTINGS = settings_from_dict(settings())


def numbered(values: np.ndarray) -> torch.Tensor:
    """Sources of the phantom's values."""
    order = [0, *(value.value for value in SETTINGS.values)]
    return torch.tensor([order.index(value) for value in range(max(order) + 1)], dtype=torch.uint8)[values.astype(int)]


def generator(count: int = 2, seed: int = 3, **changes: Any) -> Generator:
    maps = []
    for number in range(count):
        values, matrix = phantom(number, **changes)
        maps.append(LabelMap(f"subject_{number}", numbered(values), np.linalg.inv(matrix)))
    return Generator(maps, [np.eye(4)] * count, SETTINGS, seed)


# --- the same seed, the same image ---------------------------------------------------------------


def test_a_seed_and_a_number_give_the_same_image_again_and_others_give_others() -> None:
    options = SynthesisOptions()
    first, again = (generator(seed=3).sample(7, GRID, options) for _ in range(2))
    assert torch.equal(first.image, again.image) and torch.equal(first.classes, again.classes)
    for other in (generator(seed=3).sample(8, GRID, options), generator(seed=4).sample(7, GRID, options)):
        assert not torch.equal(first.image, other.image)


# --- shape ---------------------------------------------------------------------------------------


def test_a_halo_follows_one_structure_within_another_and_changes_no_label() -> None:
    halo = {"beside": [LIVER], "within": [LIVER, LEFT_KIDNEY], "tissue": "fluid"}
    haloed = settings_from_dict({**settings(), "halos": [halo]})
    values, matrix = phantom(0)
    maps = [LabelMap("subject", numbered(values), np.linalg.inv(matrix))]
    request = SampleRequest(kind="T1")
    options = {**STILL, **CLEAN, "tissue_jitter": 0.0, "value_jitter": 0.0, "halo_width": (4.0, 4.0)}
    plain, bright = (
        Generator(maps, [np.eye(4)], haloed, 3).sample(0, GRID, SynthesisOptions(**options, halo=share), request)
        for share in (0.0, 1.0)
    )
    assert torch.equal(plain.classes, bright.classes)
    changed = (plain.image - bright.image).abs() > 0.01
    liver = plain.classes == 1
    assert 0 < int(changed.sum()) < int(liver.sum())  # in patches
    assert not changed[~liver].any()  # the left kidney is farther than a voxel from the liver


def test_without_pose_the_labels_are_the_map_and_a_mirror_image_changes_sides() -> None:
    values, _ = phantom(0)
    expected = torch.tensor(SETTINGS.source_classes)[numbered(values).long()]
    plain = generator(1).sample(0, GRID, SynthesisOptions(**STILL | CLEAN))
    assert torch.equal(plain.classes.long(), expected)
    assert plain.classes[values == LEFT_KIDNEY].unique().tolist() == [2]
    mirrored = generator(1).sample(0, GRID, SynthesisOptions(**STILL | CLEAN | {"mirrored": 1.0}))
    swapped = torch.tensor([0, 1, 3, 2])[expected.flip(-1)]
    assert torch.equal(mirrored.classes.long(), swapped)
    torch.testing.assert_close(mirrored.image, plain.image.flip(-1))


def test_the_pose_turns_and_shifts_as_far_as_it_states() -> None:
    """A shift of 8 mm at most along each axis is two voxels of the centroid, and never more."""
    options = SynthesisOptions(
        **CLEAN | STILL | {"pose": (1.0, 1.0), "rotation": 0.0, "scaling": 0.0, "stretching": 0.0, "shearing": 0.0}
    )
    options = dataclasses.replace(options, shift=8.0, bending=(0.0, 0.0), wrinkling=(0.0, 0.0))
    images = generator(1)
    middle = np.argwhere(generator(1).sample(0, GRID, SynthesisOptions(**STILL | CLEAN)).classes.numpy() == 1).mean(0)
    moved = [np.argwhere(images.sample(n, GRID, options).classes.numpy() == 1).mean(0) - middle for n in range(12)]
    assert 1.2 < np.abs(moved).max() < 2.1 and np.abs(np.mean(moved)) < 0.7


# --- contrast ------------------------------------------------------------------------------------


def test_a_known_contrast_has_the_intensities_of_the_settings() -> None:
    """Without any jitter, the T1 image's liver is to its kidneys as 100 to 60, and to the body as 100 to 30."""
    options = SynthesisOptions(**STILL | CLEAN | {"tissue_jitter": 0.0, "value_jitter": 0.0, "outside_jitter": 0.0})
    sample = generator(1).sample(0, GRID, options, SampleRequest(kind="T1"))
    values, _ = phantom(0)
    inner = {}
    for value in (BODY, LIVER, LEFT_KIDNEY, RIGHT_KIDNEY):
        inside = torch.from_numpy(values == value).float()[None, None]
        core = (-torch.nn.functional.max_pool3d(-inside, 3, 1, 1))[0, 0] > 0
        inner[value] = sample.image[core]
    assert inner[LIVER].std() == pytest.approx(0, abs=1e-6)
    for value, intensity in ((BODY, 30), (LEFT_KIDNEY, 60), (RIGHT_KIDNEY, 60)):
        assert float(inner[value].mean() / inner[LIVER].mean()) == pytest.approx(intensity / 100, rel=1e-4)


def test_texture_is_as_rough_as_the_contrast_states() -> None:
    """Within the liver, the spread over many images is that of a uniform draw up to the span's end: end / sqrt(3)."""
    options = SynthesisOptions(**STILL | CLEAN | {"texture": (0.08, 0.08)})
    contrasts = [Contrast(SETTINGS, options, Draw(0, number)) for number in range(400)]
    deviations = torch.stack([contrast.deviations for contrast in contrasts])
    assert float((deviations[:, 1] ** 2).mean().sqrt()) == pytest.approx(0.08 / math.sqrt(3), rel=0.08)
    assert float(deviations.min()) >= 0 and float(deviations.max()) <= 0.08


def test_left_and_right_look_alike_whatever_the_contrast() -> None:
    sources = [0, *(value.value for value in SETTINGS.values)]
    left, right = sources.index(LEFT_KIDNEY), sources.index(RIGHT_KIDNEY)
    for number in range(20):
        contrast = Contrast(SETTINGS, SynthesisOptions(), Draw(1, number), kind="values")
        assert contrast.means[left] == contrast.means[right]
        assert contrast.deviations[left] == contrast.deviations[right]


def test_stripping_leaves_the_structures_alone() -> None:
    sample = generator(1).sample(0, GRID, SynthesisOptions(**STILL | CLEAN | {"stripped": 1.0}))
    outside = sample.classes == 0
    assert float(sample.image[outside].max()) == 0 and float(sample.image[~outside].min()) > 0


# --- scanner -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("thickness", "distance"), [(5.0, 5.0), (3.0, 4.5), (8.0, 8.0)])
def test_a_thick_slice_is_the_mean_over_its_thickness(thickness: float, distance: float) -> None:
    """An edge becomes the share of the slice beyond it: a ramp as long as the slice is thick."""
    length, spacing, edge = 40, 2.0, 41.0  # the edge is between voxels 20 and 21
    profile = scanner.slice_profile(length, spacing, thickness, distance, offset=1.0)
    voxels = (torch.arange(length) * spacing > edge).float()
    centers = 1.0 + distance * torch.arange(len(profile))
    expected = ((centers - edge + thickness / 2) / thickness).clamp(0, 1)
    inner = (centers > thickness) & (centers < length * spacing - thickness)
    torch.testing.assert_close((profile @ voxels)[inner], expected[inner], atol=1e-5, rtol=0)
    torch.testing.assert_close(profile.sum(1), torch.ones(len(profile)))


def test_between_slices_the_image_is_linear_and_beyond_them_constant() -> None:
    matrix = scanner.interpolation(30, 2.0, count=8, distance=7.0, offset=3.0)
    positions = torch.arange(30) * 2.0
    slices = 10 + 4 * (3.0 + 7.0 * torch.arange(8))
    expected = 10 + 4 * positions.clamp(3.0, 3.0 + 7 * 7.0)
    torch.testing.assert_close(matrix @ slices, expected)


def test_noise_is_that_of_magnitude_images() -> None:
    """Rayleigh's mean sigma sqrt(pi / 2) where there is not a signal; mean square A^2 + 2 sigma^2 where there is."""
    sigma = 0.05
    dark = scanner.rician(torch.zeros(40, 40, 40), sigma, Draw(0, 0))
    assert float(dark.mean()) == pytest.approx(sigma * math.sqrt(math.pi / 2), rel=0.01)
    bright = scanner.rician(torch.full((40, 40, 40), 0.6), sigma, Draw(0, 1))
    assert float((bright**2).mean()) == pytest.approx(0.36 + 2 * sigma**2, rel=0.01)


def test_blur_keeps_the_mean_and_spreads_a_point_by_its_deviation() -> None:
    point = torch.zeros(31, 31, 31)
    point[15, 15, 15] = 1
    spread = scanner.blurred(point, 1.5)
    line = spread.sum((1, 2))
    variance = float((line * (torch.arange(31) - 15.0) ** 2).sum())
    assert float(spread.sum()) == pytest.approx(1, rel=1e-4) and variance == pytest.approx(1.5**2, rel=0.01)


def test_the_bias_field_is_smooth_and_multiplies() -> None:
    options = SynthesisOptions(bias=(0.4, 0.4), bias_nodes=(3, 3))
    fields = torch.stack([scanner.bias_field(torch.ones(24, 24, 24), options, Draw(2, n)) for n in range(40)])
    corners = fields[:, ::23, ::23, ::23]  # at the nodes the spread is what was asked for
    assert float(corners.std()) == pytest.approx(0.4, rel=0.1)
    assert float((fields[:, 1:] - fields[:, :-1]).abs().max()) < 0.25


def test_an_image_of_thick_slices_has_as_many_degrees_of_freedom_as_slices() -> None:
    """16 slices of 8 mm on a grid of 32 x 4 mm: what is between them is interpolated."""

    def rank(slices: float) -> int:
        image = generator(1).sample(0, GRID, SynthesisOptions(**STILL | CLEAN), SampleRequest(slices=slices)).image
        return int(torch.linalg.matrix_rank(image.flatten(1).double(), rtol=1e-5))

    assert rank(8.0) <= 16 < 20 < rank(0.0)


def test_beyond_a_cut_field_of_view_there_is_nothing_to_learn() -> None:
    options = SynthesisOptions(**STILL | CLEAN | {"cut": 1.0, "cut_share": (0.25, 0.25), "empty_background": 0.0})
    sample = generator(1).sample(2, GRID, options)
    lost = sample.classes == IGNORED
    assert float(lost.float().mean()) == pytest.approx(0.25) and float(sample.image[lost].max()) == 0


# --- a common space ------------------------------------------------------------------------------


def test_copies_of_one_subject_are_aligned_by_the_maps_between_them() -> None:
    """Turned, shifted and scaled phantoms: organs coincide, and the template is unbiased."""
    turned = []
    values, matrix = phantom(0, (48, 48, 48), 3.0, differ=0.0)
    for angle, shift, scale in ((0.08, (5, -3, 8), 1.1), (-0.06, (0, 6, -4), 0.95), (0.0, (-7, 2, 0), 1.0)):
        world = np.eye(4)
        world[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        world[:3, :3] *= scale
        world[:3, 3] = shift
        turned.append(LabelMap("turned", numbered(values), np.linalg.inv(world @ matrix)))
    points = [landmarks(label_map, SETTINGS) for label_map in turned]
    space = align(points, SETTINGS)
    for subject, affine in zip(points, space.affines, strict=True):
        found = space.mean[:3] @ affine[:3, :3].T + affine[:3, 3]
        assert np.linalg.norm(found - subject.centroids, axis=1).max() < 0.5  # mm, a sixth of a voxel
    assert np.abs(np.mean(space.affines, 0)[:3, :3] - np.eye(3)).max() < 0.03
    assert space.mean[1] == pytest.approx(space.mean[2] * [-1, 1, 1], abs=1e-6)  # the kidneys mirror each other


def test_the_grid_covers_the_structures_and_its_halves_fit_the_network() -> None:
    layout = choose_grid(np.array([[-50.0, -70, -60], [55.0, 80, 50]]), 2.0, 8.0, 16, 12.0, symmetric=True)
    grid = layout.grid
    assert all(length % 16 == 0 for length in layout.half.size) and layout.overlap * 2.0 >= 12
    assert grid.origin[0] == pytest.approx(-(grid.size[2] - 1))  # mm: the middle is x = 0
    for axis, (low, high) in enumerate(((-63, 63), (-78, 88), (-68, 58))):
        assert grid.origin[axis] - 1 <= low and grid.origin[axis] + 2 * grid.size[2 - axis] - 1 >= high
    whole = choose_grid(np.array([[-50.0, -70, -60], [55.0, 80, 50]]), 2.0, 8.0, 16, 12.0, symmetric=False)
    assert whole.overlap == 0 and whole.half == whole.grid


# --- the brain's settings ------------------------------------------------------------------------


def test_the_brain_has_thirty_two_structures_with_standard_terms() -> None:
    brain = read_settings(SHIPPED / "brain.json")
    assert len(brain.structures) == 32 and len(brain.class_pairs) == 14
    assert brain.contrasts == ("T1", "T2", "FLAIR")
    for structure in brain.structures:
        terminology, _ = look_up(structure.name)
        assert terminology is not None, structure.name
        side = structure.name.split()[0] if structure.name.split()[0] in ("Left", "Right") else None
        assert (terminology.modifier and terminology.modifier.meaning) == side
    names = {value.value: value.name for value in brain.structures}
    for left, right in brain.mirrored:
        if left in names:
            assert names[left].replace("Left", "Right") == names[right]


def test_the_tutorial_shows_settings_that_work() -> None:
    page = Path(__file__).parents[3] / "Documentation" / "tutorials" / "train-from-label-maps.md"
    example = page.read_text(encoding="utf-8").split("```json")[1].split("```")[0]
    knee = settings_from_dict(json.loads(example))
    assert [value.name for value in knee.structures] == ["Femur", "Tibia", "Patella", "Cartilage"]
    assert knee.contrasts == ("T1", "PD fat-saturated") and knee.class_pairs == ()


# --- bad input -----------------------------------------------------------------------------------


def changed(path: str, value: Any) -> dict[str, Any]:
    """The phantom's settings with one entry replaced; `path` like values.0.tissue, and + adds to a list."""
    data = copy.deepcopy(settings())
    *parents, last = path.split(".")
    target: Any = data
    for part in parents:
        target = target[int(part)] if isinstance(target, list) else target[part]
    if last == "+":
        target.append(value)
    else:
        target[int(last) if isinstance(target, list) else last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("mirrored.0", [3, 3], "pairs 3 with itself"),
        ("mirrored.0", [3, 9], "has 9, which is not listed"),
        ("mirrored.+", [4, 2], "4, which is in another pair"),
        ("mirrored.0", [2, 3], "different tissues"),
        ("values.0.tissue", "bone", "'bone' is not"),
        ("values.+", {"value": 3, "tissue": "fat"}, "3 occurs before"),
        ("values.1.name", "liver", "'liver' occurs before"),
        ("values.3.counts_as", 1, "counts_as must be the value of a structure"),
        ("values.0.counts_as", 3, "not both"),
        ("values.0.values", 3, r"values\[0\].values is not a known field \(did you mean value"),
        ("values.0.value", 0, "at least 1"),
        ("tissues.liver.between", ["fat", "muscle"], "two other tissues"),
        ("tissues.liver.intensity", {"T1": -4}, "at least 0"),
        ("totals.0.values", [3, 77], "values of structures"),
        ("halos", [{"beside": [9], "within": [2], "tissue": "fluid"}], "values of structures"),
        ("halos", [{"beside": [3], "within": [2], "tissue": "muscle"}], "'muscle' is not"),
        ("subject", "Phantom 7", "must look like head"),
    ],
)
def test_settings_that_cannot_be_right_are_named(tmp_path: Path, path: str, value: Any, words: str) -> None:
    file = tmp_path / "synthesis.json"
    file.write_text(json.dumps(changed(path, value)), encoding="utf-8")
    with pytest.raises(InputError, match=words) as caught:
        read_settings(file)
    assert str(caught.value).startswith("synthesis.json is not valid") and str(caught.value).endswith("field.")


def test_settings_without_any_structure_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    data = settings() | {"mirrored": [], "totals": [], "values": [{"value": 1, "tissue": "fat"}]}
    with pytest.raises(ValueError, match="nothing to segment"):
        settings_from_dict(data)
    (tmp_path / "synthesis.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(tmp_path / "synthesis.json")


def test_maps_that_do_not_fit_are_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(folder: Path, words: str, *flags: str) -> None:
        out = tmp_path / "out"
        assert main(["train", "--synthesize", str(folder), "--out", str(out), "--nice", "0", *flags]) == 2
        message = capsys.readouterr().err
        assert words in message and message.count(". ") >= 1, message
        assert not out.exists()

    folder = write_maps(tmp_path / "maps", 3)
    refused(folder, "none is left", "--validation-maps", "3")
    write_maps(folder / "other", 1, spacing=5.0)
    (folder / "other" / "subject_0.nii.gz").rename(folder / "subject_9.nii.gz")
    refused(folder, "subject_9.nii.gz and subject_0.nii.gz have grids with different sizes, spacings or directions")
    (folder / "subject_9.nii.gz").unlink()
    data = settings()
    data["values"] = [value for value in data["values"] if value["value"] != CYST]
    (folder / "synthesis.json").write_text(json.dumps(data), encoding="utf-8")
    refused(folder, f"has voxels with the value {CYST}, which the settings do not list")
    (folder / "synthesis.json").unlink()
    refused(folder, "Put synthesis.json next to the label maps")
    refused(folder, "no.json does not exist", "--settings", "no.json")
    refused(tmp_path / "nowhere", "does not exist")
    refused(folder, "is not an option of the synthesis", "--set", "epoch=3", "--settings", str(folder / "no"))


def test_a_map_without_structures_and_a_lone_map_are_refused(tmp_path: Path) -> None:
    folder = write_maps(tmp_path / "maps", 1)
    with pytest.raises(InputError, match=r"too few label maps \(1\)"):
        read_label_maps(folder, SETTINGS)
    import SimpleITK as sitk

    image = sitk.ReadImage(str(folder / "subject_0.nii.gz"))
    sitk.WriteImage(image * 0, str(folder / "subject_1.nii.gz"))
    with pytest.raises(InputError, match=r"subject_1.nii.gz does not contain any structure"):
        read_label_maps(folder, SETTINGS)


@pytest.mark.parametrize(
    "change", [{"noise": (0.3, 0.1)}, {"rotation": -5.0}, {"stripped": 1.5}, {"first_contrast": 0.9}]
)
def test_options_of_the_synthesis_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        SynthesisOptions(**change)


def test_an_image_of_a_phantom_has_the_means_it_was_given() -> None:
    """The tests' own images are what they seem to be."""
    values, _ = phantom(5)
    image = image_of(values, 0, {LIVER: 200, BODY: 50})
    assert image[values == LIVER].mean() == pytest.approx(200, abs=0.5)
