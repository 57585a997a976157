"""Weights that need no file: drawn from the names and shapes of a network's tensors.

The networks behind Testing/Data/reference were filled by these rules, so a network filled by them too must give the
numbers stored there. A tensor depends on its own name, shape and the seed alone; the order of the names, and which
others there are, make no difference.

For each name a generator seeded with [seed, CRC-32 of the name in UTF-8] draws one array in float64 and C order, n
from the standard normal distribution or u from [0, 1). The first fitting rule decides what becomes of it; everything
but the batch counters is float32 in the end. `leaf` is the name's part after the last dot.

    leaf num_batches_tracked            0, int64
    leaf running_var                    0.5 + u
    bias of dt_proj, dt_proj_b or _s    -4 + 2 u
    leaf running_mean                   0.1 n
    leaf A_log, A_b_log, A_s_log        log(1), log(2), ... along the last axis, + 0.05 n
    leaf D, D_b, D_s, gamma, temperature, temperature2
                                        1 + 0.1 n
    leaf pos_embed                      0.5 n
    leaf EF                             n / (first length) ** 0.25
    matrix that is the weight of E or F n / (second length) ** 0.25
    any other of two axes or more       n / sqrt(product of all lengths but the first)
    leaf weight                         1 + 0.1 n
    the rest                            0.1 n
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

DECAYS = ("A_log", "A_b_log", "A_s_log")
NEAR_ONE = ("D", "D_b", "D_s", "gamma", "temperature", "temperature2")


def fill(
    shapes: Mapping[str, Sequence[int]], seed: int, tied: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """Name -> array for all of `shapes`, in its order. tied: name -> the other name whose values it has."""
    sources = tied or {}
    return {name: _tensor(sources.get(name, name), tuple(shape), seed) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    _, owner, leaf = ["", "", *name.split(".")][-3:]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_var":
        values = 0.5 + random.random(shape)
    elif leaf == "bias" and owner in ("dt_proj", "dt_proj_b", "dt_proj_s"):
        values = -4 + 2 * random.random(shape)
    else:
        values = _normal(owner, leaf, random.standard_normal(shape))
    return np.asarray(values, np.float32)


def _normal(owner: str, leaf: str, n: np.ndarray) -> np.ndarray:
    """What becomes of normally distributed numbers."""
    if leaf == "running_mean":
        return 0.1 * n
    if leaf in DECAYS:
        return np.log(np.arange(n.shape[-1]) + 1) + 0.05 * n
    if leaf in NEAR_ONE:
        return 1 + 0.1 * n
    if leaf == "pos_embed":
        return 0.5 * n
    if leaf == "EF":
        return n * n.shape[0] ** -0.25
    if leaf == "weight" and owner in ("E", "F") and n.ndim == 2:
        return n * n.shape[1] ** -0.25
    if n.ndim >= 2:
        return n / math.sqrt(math.prod(n.shape[1:]))
    return 1 + 0.1 * n if leaf == "weight" else 0.1 * n
