"""The network for aligned images: what it knows before it has learned anything, and that sides cannot be confused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from LightSegLib.core.errors import ModelError
from LightSegLib.evaluation.metrics import dice
from LightSegLib.inference.threads import one_thread_each
from LightSegLib.models.matching import load_state
from LightSegLib.networks import build
from LightSegLib.networks.atlas_layers import Doubled
from LightSegLib.networks.atlas_unet import AtlasUNet
from LightSegLib.training.widening import widened
from LightSegLib.weights.checkpoint import read_checkpoint
from LightSegLib.weights.files import save_weights

SIZE = (16, 16, 16)
ARGUMENTS = {
    "classes": 4,  # background, left, middle, right
    "size": SIZE,
    "tissues": [0, 1, 2, 1],
    "pairs": [(1, 3)],
    "overlap": 4,
    "widths": (4, 6),
    "fine_channels": 4,
}
LEFT, MIDDLE, RIGHT = 1, 2, 3


def truth() -> torch.Tensor:
    """Classes [k, j, i]: a block on either side and one across the middle."""
    classes = torch.zeros(SIZE, dtype=torch.long)
    classes[3:13, 3:13, 10:15] = LEFT  # i runs to the left
    classes[3:13, 3:13, 1:6] = RIGHT
    classes[4:12, 4:12, 6:10] = MIDDLE
    return classes


def network(seed: int = 0, trained: bool = False) -> AtlasUNet:
    """A network with the prior of `truth`, smeared; `trained`: with random heads instead of zeros."""
    torch.manual_seed(seed)
    made = build("atlas_unet", ARGUMENTS)
    assert isinstance(made, AtlasUNet)
    half = F.one_hot(truth(), 4).movedim(-1, 0)[[LEFT, MIDDLE], ..., 4:].float()
    made.set_prior(F.avg_pool3d(F.avg_pool3d(half[None], 3, 1, 1), 2)[0])
    if trained:
        for head in (made.coarse_head, made.fine_head):
            torch.nn.init.normal_(head.weight, std=0.3)
    return made.eval()


def image(seed: int = 1, left_and_right: float = 2.0, middle: float = -1.0) -> torch.Tensor:
    """An image [1, 1, K, J, I] in which the tissues differ."""
    means = torch.tensor([0.5, left_and_right, middle, left_and_right])
    noise = torch.randn(SIZE, generator=torch.Generator().manual_seed(seed))
    return (means[truth()] + 0.2 * noise)[None, None]


@torch.no_grad()
def logits(made: AtlasUNet, x: torch.Tensor) -> torch.Tensor:
    return made(x)[0]


def overlap(found: torch.Tensor) -> float:
    """Least Dice of the three structures."""
    return min(dice((found == label).numpy(), (truth() == label).numpy()) for label in (LEFT, MIDDLE, RIGHT))


def test_before_any_training_it_answers_as_atlas_and_intensities_do() -> None:
    """The prior alone is smeared; the intensities of the image at hand sharpen it."""
    by_place = overlap(logits(network(), torch.zeros(1, 1, *SIZE)).argmax(0))
    by_place_and_tissue = overlap(logits(network(), image()).argmax(0))
    assert by_place < 0.9 < by_place_and_tissue


def test_the_offset_is_bayes_rule() -> None:
    """Prior times likelihood over their sum, computed here with the classes one by one."""
    made = network()
    half = image()[0, 0, ..., 4:]
    _, likelihood = made.inputs(half)
    offset = made.offset(likelihood).exp().T
    atlas, evidence = made.atlas, likelihood.flatten(1).exp()
    joint = torch.stack([atlas.classes[n] * evidence[tissue] for n, tissue in enumerate((0, 1, 2))])
    joint[0] += (atlas.others * evidence).sum(0)
    torch.testing.assert_close(offset, (joint / joint.sum(0)).clamp(min=1e-6), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("trained", [False, True])
def test_a_mirror_image_gives_the_mirrored_answer_with_the_sides_exchanged(trained: bool) -> None:
    made = network(trained=trained)
    plain, mirrored = logits(made, image()), logits(made, image().flip(-1))
    torch.testing.assert_close(mirrored.flip(-1)[[0, RIGHT, MIDDLE, LEFT]], plain, atol=1e-4, rtol=1e-4)
    assert float(plain[LEFT, ..., :3].max()) < float(plain[0, ..., :3].min())  # nothing left on the right


@pytest.mark.parametrize("trained", [False, True])
def test_gray_levels_have_no_scale_and_no_zero(trained: bool) -> None:
    made = network(trained=trained)
    torch.testing.assert_close(logits(made, image() * 37 - 900), logits(made, image()), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(1, 1, *SIZE),
        torch.full((1, 1, *SIZE), 7.0),
        torch.randn(1, 1, *SIZE),
        torch.eye(16).expand(1, 1, *SIZE),
    ],
    ids=["empty", "constant", "noise", "almost empty"],
)
def test_an_image_without_anything_in_it_gives_numbers_all_the_same(x: torch.Tensor) -> None:
    for trained in (False, True):
        assert torch.isfinite(logits(network(trained=trained), x)).all()


def test_each_image_of_a_batch_is_taken_by_itself() -> None:
    made = network(trained=True)
    pair = torch.cat((image(1), image(2, left_and_right=-3)))
    with torch.no_grad():
        torch.testing.assert_close(made(pair)[1], logits(made, pair[1:]))


def test_a_larger_network_takes_a_trained_smaller_one_over_and_learns_in_all_its_parts() -> None:
    """Channels and blocks are added without a change of what is computed, and none of the new ones is idle."""
    deep = {**ARGUMENTS, "widths": (4, 6, 8), "pairs": []}
    torch.manual_seed(0)
    small = build("atlas_unet", deep)
    assert isinstance(small, AtlasUNet)
    small.set_prior(F.avg_pool3d(F.one_hot(truth(), 4).movedim(-1, 0)[1:][None].float(), 2)[0])
    for parameter in small.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    large = build("atlas_unet", {**deep, "widths": (6, 9, 11), "fine_channels": 7, "residual_blocks": 2})
    assert isinstance(large, AtlasUNet)
    large.load_state_dict(widened(small.state_dict(), large))
    x = image()[0, 0]
    torch.testing.assert_close(large.half_logits(x), small.half_logits(x), atol=1e-4, rtol=1e-4)
    before = {key: value.clone() for key, value in large.named_parameters()}
    optimizer = torch.optim.Adam(large.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(large.half_logits(x), torch.ones(x.numel(), dtype=torch.long)).backward()
        optimizer.step()
    for key, value in large.named_parameters():
        for axis in range(min(value.dim(), 2)):  # every channel that gets input, and every one that gives output
            assert (value != before[key]).movedim(axis, 0).reshape(value.shape[axis], -1).any(1).all(), key


def test_a_smaller_network_does_not_take_a_larger_one_over() -> None:
    large = build("atlas_unet", {**ARGUMENTS, "fine_channels": 6})
    with pytest.raises(ModelError, match="do not fit the network AtlasUNet"):
        load_state(network(), widened(large.state_dict(), network()), "large.pt")


def test_the_weights_file_holds_the_prior(tmp_path: Path) -> None:
    made = network(trained=True)
    save_weights(made.state_dict(), tmp_path / "weights.pt")
    again = build("atlas_unet", ARGUMENTS)
    again.load_state_dict(read_checkpoint(tmp_path / "weights.pt").state)
    assert isinstance(again, AtlasUNet) and torch.equal(again.prior, made.prior)
    torch.testing.assert_close(logits(again.eval(), image()), logits(made, image()), atol=0.05, rtol=0.05)


def test_voxels_that_are_chosen_have_the_logits_that_all_have() -> None:
    made = network(trained=True)
    half, chosen = image()[0, 0, ..., 4:], torch.tensor([0, 17, 1500])
    with torch.no_grad():
        torch.testing.assert_close(made.half_logits(half, chosen), made.half_logits(half)[chosen])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_both_halves_side_by_side_are_those_one_after_the_other(mode: Callable[[], AbstractContextManager]) -> None:
    made = network(trained=True)
    with one_thread_each(), mode():
        one_by_one = made(image())
        made.threads = 2
        assert torch.equal(made(image()), one_by_one)


def test_without_pairs_the_whole_grid_is_computed_at_once() -> None:
    torch.manual_seed(0)
    made = build("atlas_unet", {**ARGUMENTS, "pairs": []})
    assert isinstance(made, AtlasUNet)
    made.set_prior(F.avg_pool3d(F.one_hot(truth(), 4).movedim(-1, 0)[1:][None].float(), 2)[0])
    assert overlap(logits(made.eval(), image()).argmax(0)) > 0.9


def test_the_gradient_of_the_doubled_grid_is_that_of_interpolation() -> None:
    x = torch.randn(1, 3, 4, 1, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(1, 3, 8, 2, 10, dtype=torch.float64)
    (expected,) = torch.autograd.grad(F.interpolate(x, scale_factor=2.0, mode="trilinear"), x, weights)
    (found,) = torch.autograd.grad(Doubled.apply(x), x, weights)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "change",
    [
        {"size": (16, 16, 18)},
        {"tissues": [0, 1, 2]},
        {"tissues": [1, 1, 2, 1]},
        {"pairs": [(1, 1)]},
        {"pairs": [(1, 9)]},
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="Correct network_arguments"):
        build("atlas_unet", {**ARGUMENTS, **change})


def with_border_head(seed: int = 3) -> AtlasUNet:
    """A network whose border head has random weights."""
    torch.manual_seed(seed)
    made = build("atlas_unet", {**ARGUMENTS, "border_channels": 8})
    assert isinstance(made, AtlasUNet) and made.border is not None
    torch.nn.init.normal_(made.border.head.weight)
    return made.eval()


def at_borders(count: int = 50) -> dict[str, torch.Tensor]:
    """What a border head is asked."""
    random = torch.Generator().manual_seed(4)
    return {
        "logits": 2 * torch.randn(4, count, generator=random),
        "evidence": torch.randn(4, count, generator=random),
        "patches": torch.randn(3, 3, 3, count, generator=random),
        "tissues": torch.tensor([[-1.0, 1.0], [0.5, 0.4]]),
        "on_left": torch.arange(count) % 2 == 0,
    }


@torch.no_grad()
def test_a_new_border_head_changes_nothing() -> None:
    made = build("atlas_unet", {**ARGUMENTS, "border_channels": 8})
    assert not made.border_changes(**at_borders()).any()  # type: ignore[operator]


@torch.no_grad()
def test_the_border_head_cannot_confuse_left_and_right() -> None:
    """The mirror image gets the same answer with the sides exchanged."""
    made, seen = with_border_head(), at_borders()
    swap = [0, RIGHT, MIDDLE, LEFT]
    mirrored = {
        "logits": seen["logits"][swap],
        "evidence": seen["evidence"][swap],
        "patches": seen["patches"].flip(2),
        "tissues": seen["tissues"],
        "on_left": ~seen["on_left"],
    }
    change = made.border_changes(**seen)
    assert change.abs().max() > 0.1
    assert torch.allclose(made.border_changes(**mirrored), change[swap], atol=1e-5)


@torch.no_grad()
def test_for_a_border_head_the_other_side_is_background() -> None:
    made, seen = with_border_head(), at_borders()
    change = made.border_changes(**seen)
    difference = seen["logits"][LEFT] - seen["logits"][RIGHT]
    assert torch.equal(change[RIGHT, difference > 0.1], change[0, difference > 0.1])
    assert torch.equal(change[LEFT, difference < -0.1], change[0, difference < -0.1])
