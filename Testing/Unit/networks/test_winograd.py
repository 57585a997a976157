"""A convolution with half the products: the numbers of the usual one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from LightSegLib.networks.cpu.winograd import Scratch, WinogradConvolution, elu_
from torch import Tensor


@pytest.mark.parametrize(("dilation", "lines", "channels"), [(1, 12, 5), (2, 16, 3), (4, 16, 1)])
def test_a_dilated_convolution_has_the_numbers_of_the_usual_one(dilation: int, lines: int, channels: int) -> None:
    generator = torch.Generator().manual_seed(dilation)
    weight = torch.randn(4, channels, 3, 3, 3, generator=generator)
    bias = torch.randn(4, generator=generator)
    volume = torch.randn(7, lines + 2 * dilation, 9 + 2 * dilation, channels, generator=generator)
    rows: list[list[Tensor | None]] = [[volume[0], volume[1], volume[2]], [volume[3], volume[4], None]]
    convolution = WinogradConvolution(weight, bias, dilation, Scratch(2, lines, 9 + 2 * dilation, 5))
    assert lines % convolution.group == 0
    found = convolution(rows).clone()
    nothing = torch.zeros_like(volume[0])
    for values, row in zip(found, rows, strict=True):
        three = torch.stack([nothing if source is None else source for source in row]).double()
        expected = F.conv3d(
            three.permute(3, 0, 1, 2)[None], weight.double(), bias.double(), dilation=(1, *(dilation,) * 2)
        )
        torch.testing.assert_close(values.double(), expected[0, :, 0].permute(1, 2, 0), atol=1e-4, rtol=0)


def test_elu_is_that_of_its_definition() -> None:
    values = torch.tensor([-80.0, -3.0, -1e-3, 0.0, 1e-3, 5.0]).reshape(1, 1, 6, 1)
    expected = [np.expm1(-80), np.expm1(-3), np.expm1(-1e-3), 0.0, 1e-3, 5.0]
    assert elu_(values, Scratch(1, 4, 6, 1)).ravel().tolist() == pytest.approx(expected, abs=2e-7)
