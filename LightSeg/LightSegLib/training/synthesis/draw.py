"""Random numbers of one image: all from one generator, so that a seed gives the same image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .options import Span


def random_generator(*seeds: int) -> torch.Generator:
    """Return a generator of torch for several seeds, of which it would itself take in the lowest 32 bits alone."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))


class Draw:
    """Draws for the image `number` of the stream `seed`."""

    def __init__(self, seed: int, number: int) -> None:
        self._generator = random_generator(seed, number)

    def uniform(self, low: float, high: float) -> float:
        """Return a number between two."""
        return low + (high - low) * float(torch.rand((), generator=self._generator))

    def span(self, span: Span) -> float:
        """Return a number within a span."""
        return self.uniform(*span)

    def either_way(self, most: float) -> float:
        """Return a number from -most to most."""
        return self.uniform(-most, most)

    def happens(self, share: float) -> bool:
        """Return whether something happens that does in a share of the images."""
        return self.uniform(0, 1) < share

    def choice(self, count: int) -> int:
        """Return a whole number from 0 to count - 1."""
        return int(torch.randint(count, (), generator=self._generator))

    def normal(self, *shape: int) -> Tensor:
        """Independent numbers of the standard normal distribution."""
        return torch.randn(shape, generator=self._generator)

    def uniforms(self, *shape: int) -> Tensor:
        """Independent numbers between 0 and 1."""
        return torch.rand(shape, generator=self._generator)

    def smooth(self, size: Sequence[int], nodes: Sequence[int], channels: int = 1) -> Tensor:
        """Return the fields [channels, k, j, i], linear between nodes with independent standard normal values."""
        coarse = [max(2, min(count, length)) for count, length in zip(nodes, size, strict=True)]
        field = self.normal(1, channels, *coarse)
        return F.interpolate(field, size=tuple(size), mode="trilinear", align_corners=True)[0]
