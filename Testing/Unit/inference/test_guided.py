"""Borders between labels within the voxels of a coarse grid, placed by the image's own voxels."""

from __future__ import annotations

import numpy as np
import torch
from LightSegLib.evaluation.metrics import dice
from LightSegLib.inference.alignment.aligned_restore import AlignedRestorer
from LightSegLib.inference.alignment.guided import LIMIT, Guide, Intensities
from LightSegLib.inference.processing.restore import Decision
from scipy import stats
from scipy.spatial.transform import Rotation

SHAPE, COARSE = (40, 44, 36), (20, 22, 18)  # voxels of the image, of the network's grid; k, j, i
SHELL, CORE = 14.0, 9.0  # radii in voxels of the image
INTENSITY = np.array([30.0, 90.0, 60.0])  # of what is around, of the shell and of the core


def turned_by(degrees: float) -> np.ndarray:
    """4x4 from index (i, j, k) in the image to that on a grid of half as many voxels, about the middle of both."""
    to_grid = np.eye(4)
    to_grid[:3, :3] = Rotation.from_euler("zyx", [degrees, degrees / 2, -degrees], degrees=True).as_matrix() / 2
    middle, grid_middle = (np.array([(n - 1) / 2 for n in shape[::-1]]) for shape in (SHAPE, COARSE))
    to_grid[:3, 3] = grid_middle - to_grid[:3, :3] @ middle
    return to_grid


def nested_balls(distance: np.ndarray) -> np.ndarray:
    """Labels by the distance from the middle, in voxels of the image."""
    return np.where(distance < CORE, 2, np.where(distance < SHELL, 1, 0))


def from_middle(shape: tuple[int, ...], size: float) -> np.ndarray:
    """Distance of every voxel from the middle."""
    places = [(np.arange(n) - (n - 1) / 2) * size for n in shape]
    return np.sqrt(sum(place**2 for place in np.meshgrid(*places, indexing="ij")))


def what_a_network_saw(noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, torch.Tensor, torch.Tensor]:
    """The image and its labels; on the network's grid the image, and logits that are unsure about the borders."""
    labels = nested_balls(from_middle(SHAPE, 1.0))
    random = np.random.default_rng(0)
    image = INTENSITY[labels] + noise * random.normal(0, 1, SHAPE)
    distance = from_middle(COARSE, 2.0)
    logits = np.stack([distance - SHELL, np.minimum(SHELL - distance, distance - CORE), CORE - distance])
    logits += random.normal(0, 1, logits.shape)
    coarse = INTENSITY[nested_balls(distance)]
    return image, labels, torch.tensor(coarse).float(), torch.tensor(logits).float()


def restored(logits: torch.Tensor, guide: Guide | None, confidence: np.ndarray | None = None) -> np.ndarray:
    """The labels on the image's grid."""
    labels = np.zeros(SHAPE, np.uint8)
    AlignedRestorer(COARSE, turned_by(7.0), labels, Decision(), confidence, guide).add(logits)
    return labels


def test_the_image_places_borders_between_the_voxels_of_the_grid() -> None:
    image, truth, coarse, logits = what_a_network_saw(noise=4.0)
    plain, guided = restored(logits, None), restored(logits, Guide(image, coarse))
    for label in (1, 2):
        before, after = (dice(found == label, truth == label) for found in (plain, guided))
        assert after > before + 0.02, (label, before, after)


def test_an_image_of_one_intensity_says_nothing() -> None:
    _, _, coarse, logits = what_a_network_saw()
    flat = Guide(np.full(SHAPE, 7, np.int16), torch.full_like(coarse, 7))
    assert np.array_equal(restored(logits, flat), restored(logits, None))


def test_labels_are_the_same_where_their_probabilities_are_wanted_too() -> None:
    image, _, coarse, logits = what_a_network_saw(noise=40.0)
    guide, confidence = Guide(image, coarse), np.zeros(SHAPE, np.uint8)
    assert np.array_equal(restored(logits, guide, confidence), restored(logits, guide))
    assert (confidence[confidence > 0] < 100).any()


def test_the_floor_of_the_probabilities_does_not_count() -> None:
    """A network gives each label a least probability everywhere, in the large air around a head, too."""
    _, _, coarse, logits = what_a_network_saw()
    coarse[:4] = 3000
    probabilities = logits.softmax(0)
    probabilities[:, :4] = torch.tensor([1 - 2e-5, 1e-5, 1e-5])[:, None, None, None]
    with_floor = Intensities(coarse, probabilities)
    probabilities[1:, :4] = 0
    without = Intensities(coarse, probabilities)
    assert torch.equal(with_floor.mean[1:], without.mean[1:])
    assert torch.equal(with_floor.variance[1:], without.variance[1:])


def test_a_brighter_image_with_another_contrast_gives_the_same_labels() -> None:
    image, _, coarse, logits = what_a_network_saw(noise=4.0)
    same = restored(logits, Guide(image, coarse))
    other = restored(logits, Guide(-8 * image + 4096, -8 * coarse + 4096))
    assert np.mean(same != other) < 1e-4  # but for rounding


def test_the_evidence_is_a_difference_of_log_likelihoods_within_limits() -> None:
    _, _, coarse, logits = what_a_network_saw()
    probabilities = logits.softmax(0)
    seen = Intensities(coarse, probabilities)
    weights, values = probabilities.double().numpy().reshape(3, -1), coarse.double().numpy().ravel()
    weights = np.where(weights < 0.001, 0, weights)
    means = [np.average(values, weights=weight) for weight in weights]
    variances = [np.average((values - mean) ** 2, weights=weight) for weight, mean in zip(weights, means, strict=True)]
    labeled = weights[1] + weights[2]
    spread = np.average((values - np.average(values, weights=labeled)) ** 2, weights=labeled)
    fine, blurred = np.array([60.0, 90.0, 75.0, 30.0]), np.array([70.0, 80.0, 75.0, 90.0])
    found = seen.evidence(torch.tensor(fine).float(), torch.tensor(blurred).float())
    assert torch.all(found[:, 0] == 0)
    for label in (1, 2):
        density = stats.norm(means[label], np.sqrt(variances[label] + 0.2 * spread))
        expected = np.clip(density.logpdf(fine) - density.logpdf(blurred), -LIMIT, LIMIT)
        assert np.allclose(found[:, label], expected, atol=1e-4)
