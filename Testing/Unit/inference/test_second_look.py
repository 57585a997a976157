"""A position that is found again by what a network saw in the first one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from LightSegLib.catalog.card import Alignment
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.alignment.align import Aligned
from LightSegLib.inference.alignment.registration import Registration
from LightSegLib.inference.alignment.second_look import RATE, TRIAL, displacement, fitted, look_again, smoothed
from scipy import ndimage
from scipy.spatial.transform import Rotation

SHAPE = (40, 48, 36)  # voxels of the grid, k, j, i
RULES = Alignment("template.nrrd", "0" * 64, "head", (36, 48, 40), (2.0, 2.0, 2.0), (-35.0, -47.0, -39.0), True)


def blobs() -> np.ndarray:
    """Probabilities of a background and six structures, [classes, k, j, i]."""
    random = np.random.default_rng(4)
    places = np.moveaxis(np.indices(SHAPE), 0, -1)
    middles = np.array(SHAPE) / 2 + random.uniform(-10, 10, (6, 3))
    shapes = [1.2 * np.exp(-((places - middle) ** 2).sum(-1) / 40) for middle in middles]
    maps = np.stack([np.full(SHAPE, 0.2), *shapes])
    return maps / maps.sum(0)


def moved_by(degrees: float, shift: tuple[float, float, float], scale: float) -> np.ndarray:
    """4x4 in indices (i, j, k), about the middle of the grid."""
    step, middle = np.eye(4), (np.array(SHAPE[::-1]) - 1) / 2
    step[:3, :3] = scale * Rotation.from_euler("zyx", [degrees, 0, -degrees], degrees=True).as_matrix()
    step[:3, 3] = middle + shift - step[:3, :3] @ middle
    return step


def seen_through(step: np.ndarray, maps: np.ndarray) -> torch.Tensor:
    """Maps [classes, k, j, i] on the grid whose index a matrix takes to that of the maps' grid."""
    swapped = np.eye(4)[[2, 1, 0, 3]]
    matrix = swapped @ step @ swapped
    moved = [ndimage.affine_transform(one, matrix[:3, :3], matrix[:3, 3], order=1, mode="nearest") for one in maps]
    return torch.tensor(np.stack(moved)).float()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("degrees", "shift", "scale"), [(0, (0, 0, 0), 1), (0, (2.3, -1.6, 1.1), 1), (4, (1, 0, -2), 1.04)]
)
def test_a_map_that_was_wrong_is_mended(degrees: float, shift: tuple[float, float, float], scale: float) -> None:
    prior, wrong = blobs(), moved_by(degrees, shift, scale)
    step = fitted(seen_through(wrong, prior), smoothed(torch.tensor(prior).float()))
    left = displacement(wrong @ step, SHAPE)
    assert left < 0.5, left
    assert left < 0.2 * displacement(wrong, SHAPE) or (not degrees and not any(shift))


def test_a_background_alone_moves_nothing() -> None:
    empty = torch.zeros(7, *SHAPE)
    empty[0] = 1
    assert np.array_equal(fitted(empty, smoothed(torch.tensor(blobs()).float())), np.eye(4))


class Looks:
    """A network that finds the blobs of an image whose voxels have their place in it as value."""

    def __init__(self, wrong: np.ndarray) -> None:
        self.calls, self.logits = 0, seen_through(wrong, blobs()).clamp(min=1e-4).log()[None]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.logits


def aligned() -> Aligned:
    """An image of the grid's own size, registered with a shift of 5 mm."""
    matrix = np.eye(4)
    matrix[:3, 3] = 5.0
    grid = Geometry(SHAPE, RULES.spacing, RULES.origin)
    volume = Volume(np.zeros(SHAPE, np.float32), grid, "image")
    everything = tuple(slice(0, n) for n in SHAPE)
    registration = Registration(matrix, 1.0, 0.5, 1.0)
    return Aligned((volume,), SHAPE, (0, 1, 2), (), SHAPE, matrix @ grid.index_to_world, everything, registration)


def test_a_better_map_is_that_of_the_image_and_of_the_record() -> None:
    wrong = moved_by(3, (2, 1, -2), 1.0)
    network, first = Looks(wrong), aligned()
    second, again = look_again(first, network, smoothed(torch.tensor(blobs()).float()), RULES)
    assert again is network and second.facts["alignment"]["looked_again"]
    grid = Geometry(SHAPE, RULES.spacing, RULES.origin).index_to_world
    assert np.allclose(second.registration.matrix @ grid, second.grid_to_image)  # the image's middle is at 0 mm here
    place = second.grid_to_image @ [18, 24, 20, 1]
    expected = first.grid_to_image @ np.linalg.inv(wrong) @ [18, 24, 20, 1]
    assert np.linalg.norm(place - expected) < 1.0  # mm; voxels are 2 mm


def test_where_the_map_is_right_the_network_does_not_run_twice() -> None:
    network, first = Looks(np.eye(4)), aligned()
    second, again = look_again(first, network, smoothed(torch.tensor(blobs()).float()), RULES)
    assert second is first
    assert torch.equal(again(torch.zeros(1, 1, *SHAPE)), network.logits)
    assert network.calls == 1


def test_a_fit_takes_the_steps_of_adam(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch's own Adam with a cosine of the rate does, whose import takes longer than the fit."""
    prior = torch.tensor(blobs()).float()
    seen = seen_through(moved_by(1, (1.2, -0.5, 0), 1.0), prior.numpy())
    with monkeypatch.context() as patch:
        patch.setattr("LightSegLib.inference.alignment.second_look.STEPS", 12)
        found = fitted(seen, smoothed(prior))
        parameters = torch.zeros(3, 4, requires_grad=True)
        optimizer = torch.optim.Adam([parameters], lr=2 * RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
        gradient = torch.autograd.grad

        def step_too(loss: torch.Tensor, change: torch.Tensor) -> tuple[torch.Tensor]:
            (result,) = gradient(loss, change)
            assert torch.allclose(parameters, change, atol=1e-5)
            parameters.grad = result.clone()
            optimizer.step()
            schedule.step()
            return (result,)

        patch.setattr(torch.autograd, "grad", step_too)
        assert np.array_equal(fitted(seen, smoothed(prior)), found)
    assert parameters.detach().abs().max() > 0.1


def steps_taken(wrong: np.ndarray, least: float, monkeypatch: pytest.MonkeyPatch) -> tuple[int, np.ndarray]:
    """How many steps a fit takes, and what it finds."""
    taken: list[int] = []
    gradient = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *given: (taken.append(1), gradient(*given))[1])
    prior = blobs()
    found = fitted(seen_through(wrong, prior), smoothed(torch.tensor(prior).float()), least)
    return len(taken), found


def test_a_fit_goes_on_only_where_the_map_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    right, _ = steps_taken(np.eye(4), 1.0, monkeypatch)
    assert right == TRIAL
    wrong = moved_by(0, (1.2, 0, 0), 1.0)
    far, found = steps_taken(wrong, 1.0, monkeypatch)
    assert far > TRIAL
    assert displacement(found, SHAPE) == pytest.approx(1.2, abs=0.4)
