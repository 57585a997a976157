"""The Dice that a model expects of its structures, and the warning about an image that it does not understand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from LightSegLib.catalog.card import Calibration, Inference, Normalization, Preprocessing
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.expected_dice import SoftDice, doubts, expected_dice, explained, figures
from LightSegLib.inference.processing.restore import Decision
from LightSegLib.inference.segmenter import Segmenter

RAW = Preprocessing(normalization=(Normalization("none"),))
POOR = {"information": 0.3, "inner_information": 0.1}
NEARLY = {"information": 0.3, "inner_information": 0.148}
CALIBRATION = Calibration((0.5, 0.9, 1.0), (0.2, 0.8, 0.9), (1,), 0.7)


def logits(probabilities: list[list[float]]) -> torch.Tensor:
    """Rows [outputs, 1, 1, voxels] of the probabilities of each voxel."""
    return torch.tensor(probabilities).T.log()[:, None, None]


def test_it_is_the_dice_of_labels_with_their_probabilities() -> None:
    """By hand: class 1 has two voxels, of 0.9 and 0.6, and 0.2 and 0.3 elsewhere; class 2 is never the largest."""
    found = SoftDice(Decision())
    found.add(logits([[0.1, 0.9, 0.0], [0.4, 0.6, 0.0]]))
    found.add(logits([[0.8, 0.2, 0.0], [0.5, 0.3, 0.2]]))
    assert found.by_label() == {1: pytest.approx(2 * 1.5 / (2 + 2.0))}


def test_outputs_without_a_label_are_left_out_and_probabilities_are_taken_as_they_are() -> None:
    found = SoftDice(Decision(threshold=0.5, unnamed=(1,)))
    found.add(torch.tensor([[0.1, 0.6, 0.3], [0.2, 0.0, 0.8]]).T[:, None, None])
    assert found.by_label() == {2: pytest.approx(2 * 1.1 / (2 + 1.1))}


def test_the_card_says_what_to_expect(segmenter: Segmenter) -> None:
    """Straight lines between its points, and what is added for a label; never more than 1."""
    card = segmenter.card
    assert expected_dice(card, {1: 0.7, 2: 0.95}) == {1: 0.5, 2: 0.85}
    assert expected_dice(card, {2: 0.1}) == {2: 0.2}
    shifted = replace(CALIBRATION, offsets=(0.1, -0.05))
    card = replace(card, inference=replace(card.inference, calibration=shifted))
    assert expected_dice(card, {1: 0.7, 2: 0.95}) == {1: 0.6, 2: 0.8}
    assert expected_dice(card, {1: 1.0}) == {1: 1.0}


@pytest.mark.parametrize(
    ("expected", "alignment", "expected_doubts"),
    [
        ({1: 0.8, 2: 0.6}, {}, []),
        ({1: 0.8, 2: 0.5}, {}, ["unsure of this image (it expects a Dice of 0.65"]),
        ({1: 0.95}, {}, ["unsure of this image (it expects a Dice of 0.47"]),  # the other one was not found
        ({1: 0.8, 2: 0.8}, POOR, ["agrees less with the model's template (0.40) than it should (0.45 or more)"]),
        ({1: 0.8, 2: 0.8}, {"information": 0.4, "inner_information": 0.1}, []),
        ({1: 0.6, 2: 0.6}, POOR, ["unsure of this image (it expects a Dice of 0.60", "unsure of the position"]),
        ({1: 0.95, 2: 0.6}, POOR, ["unsure of the position"]),  # of which the sides say nothing more
        ({1: 0.9, 2: 0.6}, {}, ["a Dice of 0.600 of 'Rück' and of 0.900 of 'Front'"]),
        ({1: 0.9, 2: 0.65}, {}, []),
        # Whose figures would be those of the limits, with two digits.
        ({1: 0.798, 2: 0.6}, {}, ["a Dice of 0.699 of large structures, less than the limit of 0.700)"]),
        ({1: 0.8, 2: 0.8}, NEARLY, ["template (0.448) than it should (0.450 or more)"]),
        ({1: 0.903, 2: 0.652}, {}, ["a Dice of 0.652 of 'Rück' and of 0.903 of 'Front'"]),
    ],
)
def test_a_low_mean_a_poor_alignment_or_a_worse_side_is_a_doubt(
    segmenter: Segmenter, expected: dict[int, float], alignment: dict[str, float], expected_doubts: list[str]
) -> None:
    calibration = Calibration(
        (0.0, 1.0), (0.0, 1.0), (1, 2), least_dice=0.7, least_information=0.45, pairs=((1, 2),), most_difference=0.25
    )
    card = replace(segmenter.card, inference=replace(segmenter.card.inference, calibration=calibration))
    found = doubts(card, expected, alignment)
    assert len(found) == len(expected_doubts)
    assert all(doubt in notice for doubt, notice in zip(expected_doubts, found, strict=True))


def test_the_figures_are_those_of_large_structures_and_of_the_worst_pair() -> None:
    calibration = Calibration((0.0, 1.0), (0.0, 1.0), (1, 2, 3), 0.7, pairs=((3, 4), (1, 2)))
    found = figures(calibration, {1: 0.55, 2: 0.3, 3: 0.9, 4: 0.8}, explained({}))
    assert found.mean == pytest.approx(1.75 / 3) and found.information == math.inf
    assert found.worse == (0.3, 2) and found.better == (0.55, 1)
    assert found.difference == 0.25  # not 0.25000000000000006, which a limit of 0.25 would not let pass


def ball(contrast: float) -> Volume:
    """A ball that is as much above zero as its surroundings are below."""
    k, j, i = np.ogrid[-8:8, -8:8, -8:8]
    inside = k * k + j * j + i * i < 36
    return Volume(np.where(inside, contrast, -contrast).astype(np.float32), Geometry((16, 16, 16)), "ball")


@pytest.fixture
def segmenter(threshold_segmenter: Callable[..., Segmenter]) -> Segmenter:
    """Class 1 where the image is above zero, with the probability of the logistic function of twice its value."""
    return threshold_segmenter(RAW, Inference((8, 8, 8), calibration=CALIBRATION))


def test_a_clear_image_has_a_high_one_and_a_faint_one_a_warning(segmenter: Segmenter) -> None:
    clear, faint = segmenter.segment([ball(4.0)]), segmenter.segment([ball(0.3)])
    assert np.array_equal(clear.voxels, faint.voxels)
    count, others = (clear.voxels == 1).sum(), (clear.voxels == 0).sum()
    for result, contrast in ((clear, 4.0), (faint, 0.3)):
        sure = 1 / (1 + np.exp(-2 * contrast))
        soft = 2 * count * sure / (count + count * sure + others * (1 - sure))
        expected = np.interp(soft, CALIBRATION.soft_dice, CALIBRATION.dice)
        assert result.provenance["soft_dice"] == {"Front": pytest.approx(soft, abs=1e-4)}
        assert result.expected_dice == {"Front": pytest.approx(expected, abs=2e-3)}
    assert clear.expected_dice["Front"] > 0.85 and clear.provenance["notices"] == []
    assert any("unsure of this image" in notice for notice in faint.provenance["notices"])


def test_a_model_that_was_not_calibrated_states_none(threshold_segmenter: Callable[..., Segmenter]) -> None:
    result = threshold_segmenter(RAW).segment([ball(0.3)])
    assert result.expected_dice == {} and "expected_dice" not in result.provenance
    assert result.provenance["notices"] == []


def test_structures_that_were_not_wanted_have_none(segmenter: Segmenter) -> None:
    segmenter.options = replace(segmenter.options, structures=("Rück",))
    result = segmenter.segment([ball(4.0)])
    assert result.expected_dice == {}
    assert list(result.provenance["soft_dice"]) == ["Front"]  # by which the image was judged
