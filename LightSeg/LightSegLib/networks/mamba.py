"""The Mamba block with three scan directions ("v3"), in pure torch and without a loop over the tokens.

Sources: A. Gu, T. Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", section 3 (the
selective scan); Z. Xing et al., "SegMamba: Long-range Sequential Modeling Mamba For 3D Medical Image Segmentation"
(the scans forwards, backwards and across slices). Parameters are named as in the published checkpoints.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.i18n import tr as _

STATES = 16  # per inner channel
EXPANSION = 2  # inner channels per channel
TAPS = 4  # of the causal convolution
DIRECTIONS = ("", "_b", "_s")  # forwards, backwards, across slices: the suffixes in the parameters' names
CHUNK = 64  # tokens scanned at once: bounds the memory that their states take
NOTHING = 1e-18  # a decay that leaves nothing, even of a float64; processors are slow with numbers near 1e-38


class LinearScan(torch.autograd.Function):
    """The recurrence h[t] = decay[t] * h[t - 1] + drive[t] along the first axis, with h[-1] = 0.

    Where no gradient is asked for, both arguments are overwritten, and the result is in `drive`.
    """

    @staticmethod
    def forward(ctx: Any, decay: Tensor, drive: Tensor) -> Tensor:
        """Return the states of the scan; see the class."""
        if any(ctx.needs_input_grad):
            states = drive.clone()
            _scan(decay.clone(), states)
            ctx.save_for_backward(decay, states)
            return states
        _scan(decay, drive)
        return drive

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients: the same recurrence, from the end."""
        decay, states = ctx.saved_tensors
        following = torch.cat((torch.zeros_like(decay[:1]), decay[1:].flip(0)))
        total = gradient.flip(0)
        _scan(following, total)
        total = total.flip(0)
        return torch.cat((torch.zeros_like(decay[:1]), total[1:] * states[:-1])), total


def _scan(decay: Tensor, drive: Tensor) -> None:
    """Turn `drive` into the states of LinearScan, in place; `decay` is used up.

    Two steps at a time are one step of the same kind (decays multiply, drives add up), so the states at odd t are a
    scan of half the length, and those at even t follow from their neighbors. Nothing is ever divided by a product of
    decays, so such products may become as small as they like.
    """
    length = len(drive)
    if length == 1:
        return
    before = slice(0, length - 1, 2)  # the even step before each odd one
    odd_decay, odd = decay[1::2], drive[1::2]
    odd.addcmul_(odd_decay, drive[before])
    odd_decay.mul_(decay[before]).clamp_min_(NOTHING)
    _scan(odd_decay, odd)
    drive[2::2].addcmul_(decay[2::2], odd[: (length - 1) // 2])


def selective_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return the selective state space model.

    y[t] = c[t] . h[t] with h[t] = exp(delta[t] a) h[t - 1] + delta[t] u[t] b[t].

    Args:
        u: [L, ..., D], a step size and an input per token and channel; a: [..., S, D], negative; b, c: [L, ..., S].
            Returns y [L, ..., D]. Computed in float32 at least, under autocast too: rounding errors would pile up
            along t.
        delta: see `u`.
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    device = u.device.type
    # Torch's meta device, on which costs are counted, knows no autocast.
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        u, delta, a, b, c = (tensor.to(dtype).contiguous() for tensor in (u, delta, a, b, c))
        a = a * math.log2(math.e)  # powers of 2 take two thirds of the time of powers of e
        drives, delta = (delta * u).unsqueeze(-2), delta.unsqueeze(-2)  # [L, ..., 1, D]
        b, c = b.unsqueeze(-1), c.unsqueeze(-2)  # [L, ..., S, 1] and [L, ..., 1, S]
        outputs: list[Tensor] = []
        states: Tensor | None = None
        for start in range(0, len(u), CHUNK):
            chunk = slice(start, start + CHUNK)
            decay = (delta[chunk] * a).exp2_()  # [chunk, ..., S, D]
            drive = drives[chunk] * b[chunk]
            if states is not None:
                drive[0] += decay[0] * states[-1]
            states = LinearScan.apply(decay, drive)
            outputs.append(torch.matmul(c[chunk], states).squeeze(-2))
        return torch.cat(outputs)


def scan_orders(length: int, slices: int, device: torch.device) -> Tensor:
    """[L, 3]: which token each direction reads at which step.

    Across slices means: the tokens are cut into `slices` consecutive slices, and the first tokens of all slices come
    before the second ones.

    Raises:
        ValueError: if the slices would not be of equal length.
    """
    if length % slices:
        raise ValueError(
            _(
                "{length} tokens cannot be divided into {slices} equal slices. "
                "Use a number of tokens that is a multiple of {slices}."
            ).format(length=length, slices=slices)
        )
    forwards = torch.arange(length, device=device)
    return torch.stack((forwards, forwards.flip(0), forwards.view(slices, -1).T.flatten()), dim=1)


class Mamba(nn.Module):
    """Mamba "v3": [B, L, C] -> [B, L, C], L a multiple of `slices`.

    One projection gives 2C inner channels and as many gates. Three scans, each with weights of its own, read the same
    tokens in different orders; their results, back in the tokens' order, are added up and gated.
    """

    def __init__(self, channels: int, slices: int) -> None:
        super().__init__()
        inner = EXPANSION * channels
        self.slices = slices
        self.rank = -(-channels // 16)  # of the step sizes' projection
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        for direction in DIRECTIONS:
            rates = torch.arange(1, STATES + 1, dtype=torch.float32).log().repeat(inner, 1)
            self.register_parameter(f"A{direction}_log", nn.Parameter(rates))
            self.register_parameter(f"D{direction}", nn.Parameter(torch.ones(inner)))
            self.add_module(f"conv1d{direction}", nn.Conv1d(inner, inner, TAPS, groups=inner))
            self.add_module(f"x_proj{direction}", nn.Linear(inner, self.rank + 2 * STATES, bias=False))
            self.add_module(f"dt_proj{direction}", _step_projection(self.rank, inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, L, C] -> [B, L, C]."""
        x, gate = self.in_proj(tokens).chunk(2, dim=-1)
        order = scan_orders(tokens.shape[1], self.slices, tokens.device)
        y = self._scan_directions(x.transpose(0, 1)[order])
        restored = y[order.argsort(dim=0), torch.arange(len(DIRECTIONS), device=y.device)]
        return self.out_proj(restored.sum(dim=1).transpose(0, 1) * F.silu(gate))

    def _scan_directions(self, x: Tensor) -> Tensor:
        """Return all three scans side by side, each in its own order: [L, 3, B, D] -> the same shape."""
        taps = self._stacked("conv1d{}.weight").permute(3, 0, 2, 1)  # [3, D, 1, TAPS] -> [TAPS, 3, 1, D]
        padded = F.pad(x, (0, 0) * 3 + (TAPS - 1, 0))
        u = self._stacked("conv1d{}.bias")[:, None]
        for tap, weight in enumerate(taps):
            u = torch.addcmul(u, padded[tap : tap + len(x)], weight)
        u = F.silu(u)

        projected = torch.einsum("lkbd,krd->lkbr", u, self._stacked("x_proj{}.weight"))
        dt, b, c = projected.split((self.rank, STATES, STATES), dim=-1)
        steps = torch.einsum("lkbr,kdr->lkbd", dt, self._stacked("dt_proj{}.weight"))
        delta = F.softplus(steps + self._stacked("dt_proj{}.bias")[:, None])
        a = -self._stacked("A{}_log").exp().transpose(1, 2)[:, None]  # [3, 1, S, D]
        return selective_scan(u, delta, a, b, c) + self._stacked("D{}")[:, None] * u

    def _stacked(self, name: str) -> Tensor:
        """Return the same parameter of the three directions, stacked along a new first axis."""
        return torch.stack([self.get_parameter(name.format(direction)) for direction in DIRECTIONS])


def _step_projection(rank: int, inner: int) -> nn.Linear:
    """Return the layer before the softplus that gives the step sizes; training starts with steps of 0.001 to 0.1."""
    layer = nn.Linear(rank, inner)
    steps = 10 ** torch.empty(inner).uniform_(-3, -1)
    with torch.no_grad():
        layer.bias.copy_(steps.expm1().log())
    return layer
