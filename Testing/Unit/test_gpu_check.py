"""The check for graphics cards, tried on the processor: what agrees, what differs, and where there is no card."""

from __future__ import annotations

import gpu_check
import numpy as np
import pytest
import torch
from torch import Tensor

CPU = ["--device", "cpu", "--models"]


def test_networks_agree_with_their_authors_in_every_precision(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(CPU) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.endswith("agrees")]
    assert {line.split()[1] for line in rows} == {"float32", "float16", "bfloat16"}
    assert len(rows) == 3 * len({line.split()[0] for line in rows}) >= 3 * 5


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("wrong", [lambda output: 1.2 * output, lambda output: output * torch.nan])
def test_a_card_that_computes_something_else_fails(
    wrong: object, precision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = gpu_check.computed

    def computed(network: torch.nn.Module, volume: Tensor, asked: str) -> list[Tensor]:
        outputs = right(network, volume, asked)
        return [wrong(output) for output in outputs] if asked == precision else outputs  # type: ignore[operator]

    monkeypatch.setattr(gpu_check, "computed", computed)
    monkeypatch.setattr(gpu_check, "network_names", lambda: ["plain_conv_unet_gelu", "plain_conv_unet_batch_norm"])
    assert gpu_check.main(CPU) == 1
    differing = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.endswith("DIFFERS")]
    assert differing == [precision] * 2


def test_without_a_card_nothing_is_called_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == gpu_check.NOTHING_CHECKED
    assert capsys.readouterr().out.startswith("Nothing was checked")


def test_labels_agree_by_the_dice_of_those_with_enough_voxels() -> None:
    expected = np.zeros((10, 10, 10), np.uint8)
    expected[:5], expected[5:7], expected[9, 0, 0] = 1, 2, 3
    found = expected.copy()
    found[6], found[9, 0, 0] = 0, 0
    least, mean = gpu_check.agreement(expected, found)
    assert (least, mean) == pytest.approx((2 / 3, (1 + 2 / 3) / 2))
    assert gpu_check.agreement(np.zeros_like(expected), found) == (0, 0)
