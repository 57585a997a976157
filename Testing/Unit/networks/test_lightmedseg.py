"""LightMedSeg against the numbers that its paper prints, and the properties its text promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from LightSegLib.inference.backends.multiply_adds import multiply_adds
from LightSegLib.networks import build
from LightSegLib.networks.cpu import lightmedseg as lightmedseg_cpu
from LightSegLib.networks.lightmedseg import (
    AnchorDetector,
    EncoderStage,
    GhostConv3d,
    LightMedSeg,
    LocalStructuralPrior,
    PositionBias,
    standard_conv3d,
)
from torch import nn


def parameters(module: nn.Module | None) -> int:
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_paper_s_parameter_counts_hold() -> None:
    full = LightMedSeg(in_channels=4, classes=4)
    assert parameters(full) == pytest.approx(480_000, rel=0.03)
    assert parameters(LightMedSeg(4, 4, ghost=False)) == pytest.approx(660_000, rel=0.05)
    assert parameters(full.detector) == 8_616  # "8.6K"
    assert parameters(full.prior) == pytest.approx(11_700, rel=0.10)
    assert parameters(full.router) == pytest.approx(24_000, rel=0.03)


@pytest.mark.parametrize(("anchors", "millions"), [(16, 0.49), (32, 0.52)])
def test_more_anchors_cost_what_table_4_states(anchors: int, millions: float) -> None:
    assert round(parameters(LightMedSeg(4, 4, anchors=anchors)) / 1e6, 2) == millions


def test_multiply_adds_are_counted_as_by_hand() -> None:
    network = nn.Sequential(nn.Conv3d(2, 3, 3, stride=2, padding=1), nn.ConvTranspose3d(3, 5, 2, stride=2))
    assert multiply_adds(network, (1, 2, 8, 8, 8)) == 2 * 3 * 27 * 4**3 + 3 * 5 * 8 * 4**3
    assert multiply_adds(nn.Linear(7, 5), (1, 7)) == 35


def test_the_paper_s_multiply_adds_hold() -> None:
    assert multiply_adds(LightMedSeg(4, 4), (1, 4, 128, 128, 128)) == pytest.approx(14.64e9, rel=0.05)


@pytest.mark.parametrize(
    "ablation",
    [{"structural_prior": False}, {"anchors": 0}, {"skip_router": False}, {"ghost": False}, {"anchors": 3}],
)
def test_every_ablation_of_table_4_uses_all_its_parameters(ablation: dict[str, int]) -> None:
    network = build("lightmedseg", {"in_channels": 1, "classes": 2, **ablation})
    network(torch.randn(1, 1, 16, 16, 16)).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []


@pytest.mark.parametrize("size", [(16, 32, 16), (17, 31, 40), (5, 3, 9)])
def test_any_size_channels_and_classes_come_back_on_the_same_grid(size: tuple[int, int, int]) -> None:
    logits = LightMedSeg(in_channels=2, classes=5)(torch.randn(2, 2, *size))
    assert tuple(logits.shape) == (2, 5, *size)


def test_a_padded_volume_gets_the_logits_of_its_padded_self() -> None:
    network = LightMedSeg(1, 2).eval()
    volume = torch.randn(1, 1, 20, 16, 30)
    padded = F.pad(volume, (0, 2, 0, 0, 0, 12), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(network(volume), network(padded)[:, :, :20, :, :30])


def test_ghost_convolution_halves_the_dense_work() -> None:
    ghost, dense = GhostConv3d(16, 32), standard_conv3d(16, 32)
    assert ghost(torch.randn(1, 16, 4, 4, 4)).shape == dense(torch.randn(1, 16, 4, 4, 4)).shape
    assert parameters(ghost) == (16 * 16 * 27 + 16) + (16 * 27 + 16)  # dense half, depthwise half


def test_anchors_are_inside_the_volume_and_follow_the_image() -> None:
    detector = AnchorDetector(1, anchors=8)
    with torch.no_grad():
        first, second = detector(torch.randn(1, 1, 32, 32, 32)), detector(5 * torch.randn(1, 1, 32, 32, 32))
    assert tuple(first.shape) == (1, 8, 3)
    assert float(first.min()) > 0 and float(first.max()) < 1
    assert not torch.allclose(first, second)


def test_position_bias_is_the_projected_sum_of_signed_offsets() -> None:
    """The factored form against equation 14 and 15 written out with one value per voxel and anchor."""
    bias, anchors, size = PositionBias(anchors=4, channels=6), torch.rand(2, 4, 3), (5, 6, 7)
    axes = [(torch.arange(length) + 0.5) / length for length in size]
    voxels = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # [3, D, H, W]
    distance = (voxels[None, None] - anchors[..., None, None, None]).sum(dim=2)  # [B, K, D, H, W]
    torch.testing.assert_close(bias(anchors, size), bias.projection(distance))


def test_flat_regions_and_edges_get_different_routes() -> None:
    """With its kernel set to a mean, branch 1 sees nothing in a flat volume and a response at a step."""
    prior = LocalStructuralPrior()
    nn.init.constant_(prior.smooth.weight, 1 / 27)
    nn.init.zeros_(prior.smooth.bias)  # type: ignore[arg-type]
    nn.init.ones_(prior.texture.weight)
    nn.init.zeros_(prior.texture.bias)  # type: ignore[arg-type]
    step = torch.zeros(1, 8, 9, 9, 9)
    step[..., 5:] = 3.0
    with torch.no_grad():
        texture, mixed = prior(step)
    assert tuple(mixed.shape) == (1, 16, 9, 9, 9)
    assert float(texture[0, 0, 4, 4, 2]) == pytest.approx(0.5)  # sigmoid(0): no residual in the flat part
    assert float(texture[0, 0, 4, 4, 4]) == pytest.approx(float(torch.sigmoid(torch.tensor(8 * 1.0))), abs=1e-5)


def test_film_with_zero_weights_leaves_the_features_alone() -> None:
    stage = EncoderStage(8, 16, anchors=8, convolution=GhostConv3d).eval()
    for layer in (stage.scale, stage.shift):
        nn.init.zeros_(layer.weight)  # type: ignore[union-attr]
        nn.init.zeros_(layer.bias)  # type: ignore[union-attr]
    x = torch.randn(1, 8, 8, 8, 8)
    torch.testing.assert_close(stage(x, torch.rand(1, 8, 3), None), stage(x, None, None))


# --- the form for the CPU --------------------------------------------------------------------------


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize(
    ("samples", "size", "slab"),
    [
        (1, (32, 48, 32), 1 << 20),
        (2, (16, 16, 16), 1),
        (1, (30, 41, 27), 1 << 12),
        pytest.param(1, (64, 80, 64), 1 << 16, marks=pytest.mark.slow),
    ],
)
def test_the_cpu_form_gives_the_logits_of_the_modules_in_float64(
    samples: int, size: tuple[int, int, int], slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the slabs, down to pairs of rows, and with every norm, bias and recalibration at work."""
    for name in ("VOXELWISE_BYTES", "MOMENTS_BYTES", "CONVOLVED_BYTES"):
        monkeypatch.setattr(lightmedseg_cpu, name, slab)
    monkeypatch.setattr(lightmedseg_cpu, "SMALL", 0)
    torch.manual_seed(3)
    network = LightMedSeg(2, 3).eval()
    volume = torch.randn(samples, 2, *size)
    with torch.inference_mode():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        found = lightmedseg_cpu.LightMedSegOnCpu(network)(volume)
        expected = network.double()(volume.double())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
def test_no_convolution_of_the_cpu_form_makes_torch_copy_maps_to_another_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where torch does not see that channels are last, it gives them first: twenty times slower for a depthwise one."""
    convolve, channels_last = torch.mkldnn_convolution, []

    def noted(*arguments: Any) -> torch.Tensor:
        result = convolve(*arguments)
        channels_last.append(result[0].movedim(0, -1).is_contiguous())
        return result

    monkeypatch.setattr(torch, "mkldnn_convolution", noted)
    with torch.inference_mode():
        lightmedseg_cpu.LightMedSegOnCpu(LightMedSeg(2, 3).eval())(torch.randn(1, 2, 32, 32, 32))
    assert len(channels_last) > 20 and all(channels_last)


def test_variants_of_table_4_and_other_networks_have_no_cpu_form() -> None:
    for without in ({"anchors": 0}, {"structural_prior": False}, {"skip_router": False}, {"ghost": False}):
        assert not lightmedseg_cpu.LightMedSegOnCpu.takes(LightMedSeg(1, 2, **without))
    assert not lightmedseg_cpu.LightMedSegOnCpu.takes(nn.Conv3d(1, 2, 1))
