"""A dilated convolution of 3 x 3 x 3 with half the products: Winograd's F(4, 3) along one axis, on CPU in float32.

Four outputs at a distance of the dilation take six products instead of twelve: six sums of their six inputs, each
convolved with a kernel of 3 x 3 along the other axes, then four sums of the results.

Source: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016 (arXiv:1509.09308),
section 4.3 and equation 14, for the matrices.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

OUTPUTS, INPUTS = 4, 6
INPUT_SUMS = (  # B^T
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
WEIGHT_SUMS = (  # G, times 24
    (6, 0, 0),
    (-4, -4, -4),
    (-4, 4, -4),
    (1, 2, 4),
    (1, -2, 4),
    (0, 0, 24),
)
OUTPUT_SUMS = (  # A^T
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)
IN_EVERY_OUTPUT = 1  # of the six: the one that is added to all four outputs as it is


class Scratch(threading.local):
    """Two places in memory for each thread, used again and again: fresh pages would cost as much as the sums in them.

    Enough for convolutions of [rows, lines, width, channels] with their border, lines counted in whole groups.
    """

    def __init__(self, rows: int, lines: int, width: int, channels: int) -> None:
        products = INPUTS * rows * (lines // OUTPUTS) * width * channels
        self._places = torch.empty(3 * products), torch.empty(products)

    @property
    def nbytes(self) -> int:
        """Memory of the places of one thread, once it has used them."""
        return sum(place.nbytes for place in self._places)

    def empty(self, place: int, *shape: int) -> Tensor:
        """Return a float32 tensor in one of the two places, where the last one ends to be."""
        return self._places[place][: math.prod(shape)].view(shape)


class WinogradConvolution:
    """A convolution of lines j of some rows k, by four lines at a distance of `dilation` at a time.

    Args:
        weight: [out, in, 3, 3, 3], along k, j, i.
        bias: [out], or none.
        dilation: that along j and i; the caller chooses the rows.
        scratch: for its sums and its result, in place 0.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int, scratch: Scratch) -> None:
        sums = torch.tensor(WEIGHT_SUMS, dtype=torch.float64) / 24
        weights = torch.einsum("fj,oikjl->foikl", sums, weight.double()).float()
        self._weights = [each[:, :, :, None].contiguous(memory_format=torch.channels_last_3d) for each in weights]
        self._bias, self._dilation, self._scratch = bias, dilation, scratch
        self._input_sums = torch.tensor(INPUT_SUMS, dtype=torch.float32).expand(dilation, -1, -1)
        self._output_sums = torch.tensor(OUTPUT_SUMS, dtype=torch.float32)

    @property
    def group(self) -> int:
        """Lines that are computed together; their number is a multiple of it."""
        return OUTPUTS * self._dilation

    def __call__(self, rows: Sequence[Sequence[Tensor | None]]) -> Tensor:
        """Return the outputs [row, j, i, out], which last until the next call in this thread.

        rows: for each row of the output the three rows [j, i, in] that it sees, with `dilation` voxels more on each
        side along j and i; None where all of it is zero.
        """
        summed = self._sums_of_inputs(rows)
        count, _, lines, width, _ = summed.shape[1:]
        wanted = width - 2 * self._dilation
        outputs = len(self._weights[0])
        products = self._scratch.empty(1, INPUTS, count, lines, wanted, outputs)
        for number, (source, weight) in enumerate(zip(summed, self._weights, strict=True)):
            bias = self._bias if number == IN_EVERY_OUTPUT else None
            product = F.conv3d(source.permute(0, 4, 1, 2, 3), weight, bias, dilation=(1, 1, self._dilation))
            products[number] = product[:, :, 0].permute(0, 2, 3, 1)
        result = self._scratch.empty(0, count, OUTPUTS * lines, wanted, outputs)
        for row, values in enumerate(result):
            for first in range(0, lines, self._dilation):
                part = products[:, row, first : first + self._dilation].view(INPUTS, -1)
                four = values[OUTPUTS * first : OUTPUTS * (first + self._dilation)].view(OUTPUTS, -1)
                torch.mm(self._output_sums, part, out=four)
        return result

    def _sums_of_inputs(self, rows: Sequence[Sequence[Tensor | None]]) -> Tensor:
        """[six, row, three, lines / 4, i, in]."""
        example = next(source for row in rows for source in row if source is not None)
        height, width, channels = example.shape
        dilation = self._dilation
        lines = (height - 2 * dilation) // OUTPUTS
        summed = self._scratch.empty(0, INPUTS, len(rows), 3, lines, width, channels)
        for number, row in enumerate(rows):
            for tap, source in enumerate(row):
                if source is None:
                    summed[:, number, tap] = 0
                    continue
                for first in range(0, lines, dilation):
                    six = source[OUTPUTS * first : OUTPUTS * first + INPUTS * dilation]
                    sums = summed[:, number, tap, first : first + dilation]
                    torch.bmm(self._input_sums, _by_phase(six, dilation), out=_by_phase(sums, dilation))
        return summed


def elu_(values: Tensor, scratch: Scratch) -> Tensor:
    """ELU in place, to within 2e-7; torch's takes twice as long, for the digits of its expm1 near zero.

    scratch: of which place 1 is used.
    """
    below = torch.clamp(values, max=0, out=scratch.empty(1, *values.shape))
    return torch.maximum(values, below.exp_().sub_(1), out=values)


def _by_phase(lines: Tensor, dilation: int) -> Tensor:
    """A view [dilation, six, all else] of lines, those at a distance of `dilation` together."""
    return lines.view(INPUTS, dilation, -1).transpose(0, 1)
