"""The selective scan without a loop over the tokens, its block, and the sizes that Slim UNETRV2 takes."""

from __future__ import annotations

import pytest
import torch
from LightSegLib.networks import build
from LightSegLib.networks.mamba import LinearScan, Mamba, scan_orders, selective_scan
from reference_weights import fill
from torch import Tensor

CPU = torch.device("cpu")


def step_by_step(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The recurrence as the paper writes it, one token after the other, in float64."""
    u, delta, a, b, c = (tensor.double() for tensor in (u, delta, a, b, c))
    state, outputs = torch.zeros_like(a), []
    for t in range(len(u)):
        state = torch.exp(delta[t] * a) * state + delta[t] * u[t] * b[t][:, None]
        outputs.append(c[t] @ state)
    return torch.stack(outputs)


def problem(length: int, step: float, rate: float = 1.0, channels: int = 5, states: int = 4) -> list[Tensor]:
    """u, delta, a, b and c of a sequence with step sizes up to `step` and decay rates up to `rate`."""
    random = torch.Generator().manual_seed(length)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random, dtype=torch.float64)

    return [
        uniform(length, channels) - 0.5,
        step * uniform(length, channels),
        -rate * uniform(states, channels),
        uniform(length, states) - 0.5,
        uniform(length, states) - 0.5,
    ]


def block(channels: int = 32, slices: int = 4) -> Mamba:
    """A block with the weights of the reference networks, whose scans have time constants of 1 to 100 tokens."""
    mamba = Mamba(channels, slices).eval()
    weights = fill({name: tuple(tensor.shape) for name, tensor in mamba.state_dict().items()}, seed=1)
    mamba.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return mamba


@pytest.mark.parametrize("length", [1, 2, 3, 7, 63, 64, 65, 127, 200])
def test_the_scan_is_the_recurrence_at_any_length(length: int) -> None:
    arguments = problem(length, step=1.0)
    assert torch.allclose(selective_scan(*arguments), step_by_step(*arguments), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(1e-4, 1.0), (1.0, 16.0), (30.0, 30.0)],
    ids=["remembers everything", "forgets in a token", "below the smallest number"],
)
def test_long_sequences_in_float32_neither_overflow_nor_lose_their_memory(step: float, rate: float) -> None:
    arguments = [tensor.float() for tensor in problem(1500, step, rate)]
    expected = step_by_step(*arguments)
    assert torch.allclose(selective_scan(*arguments).double(), expected, rtol=0, atol=1e-5 * expected.abs().max())


def test_the_scan_sees_no_later_token() -> None:
    u, delta, a, b, c = problem(150, step=0.1)
    before = selective_scan(u, delta, a, b, c)
    for sequence in (u, delta, b, c):
        sequence[101:] = 7.0
    after = selective_scan(u, delta, a, b, c)
    assert torch.equal(after[:101], before[:101])
    assert not torch.isclose(after[101], before[101]).any()


def test_the_scan_leaves_what_it_was_given_alone() -> None:
    arguments = problem(70, step=1.0)
    copies = [tensor.clone() for tensor in arguments]
    selective_scan(*arguments)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(arguments, copies, strict=True))


@pytest.mark.parametrize("length", [1, 2, 7])
def test_the_scan_s_gradient_is_that_of_finite_differences(length: int) -> None:
    random = torch.Generator().manual_seed(0)
    decay, drive = (torch.rand(length, 3, generator=random, dtype=torch.float64).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(LinearScan.apply, (decay, drive))


def test_every_parameter_of_the_block_learns() -> None:
    mamba = Mamba(16, slices=5)
    mamba(torch.randn(2, 75, 16)).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in mamba.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []


def test_slices_are_read_side_by_side() -> None:
    order = scan_orders(6, slices=2, device=CPU)
    assert order[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert order[:, 1].tolist() == [5, 4, 3, 2, 1, 0]
    assert order[:, 2].tolist() == [0, 3, 1, 4, 2, 5]  # tokens 0 1 2 are the first slice, 3 4 5 the second
    with pytest.raises(ValueError, match="7 tokens cannot be divided into 2 equal slices"):
        scan_orders(7, slices=2, device=CPU)


def test_each_direction_reads_the_tokens_from_its_own_end() -> None:
    """With one direction left, a changed token shows only where that direction reads it before."""
    tokens = torch.randn(1, 24, 32, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 10] += 1.0
    touched = {"": range(10, 24), "_b": range(11), "_s": [t for t in range(24) if (t % 6, t // 6) >= (10 % 6, 10 // 6)]}
    for kept, reached in touched.items():
        mamba = block(slices=4)  # 4 slices of 6 tokens
        for other in {"", "_b", "_s"} - {kept}:
            mamba.get_submodule(f"x_proj{other}").weight.data.zero_()  # type: ignore[union-attr, operator]
            mamba.get_parameter(f"D{other}").data.zero_()
        with torch.inference_mode():
            different = (mamba(changed) != mamba(tokens)).any(dim=-1)[0]
        assert torch.nonzero(different)[:, 0].tolist() == list(reached)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_costs_the_block_two_roundings(dtype: torch.dtype) -> None:
    """That is 2 x 2^-7 of the largest output in bfloat16, and 2 x 2^-10 in float16."""
    mamba = block()
    tokens = torch.randn(2, 512, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = mamba(tokens)
        with torch.autocast("cpu", dtype):
            rounded = mamba(tokens)
    assert rounded.dtype is dtype
    assert (rounded.float() - exact).abs().max() <= 2 * torch.finfo(dtype).eps * exact.abs().max()


def test_the_scan_stays_in_float32_under_autocast() -> None:
    arguments = [tensor.float() for tensor in problem(300, step=1e-2)]
    exact = selective_scan(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(selective_scan(*arguments), exact)
        assert selective_scan(*(tensor.bfloat16() for tensor in arguments)).dtype is torch.float32


@pytest.mark.parametrize(
    ("first_kernel", "slices", "accepted", "refused", "words"),
    [
        (4, [64, 32, 16, 8], (64, 128, 128), (64, 64, 64), "multiples of 64 voxels and .* multiple of 4 cubes"),
        (4, [64, 32, 16, 8], (64, 64, 256), (128, 128, 100), "not 128 x 128 x 100"),
        (2, [16, 8, 4, 2], (32, 64, 32), (48, 96, 96), "multiples of 32 voxels, not 48 x 96 x 96"),
    ],
)
def test_slim_unetrv2_states_which_sizes_it_takes(
    first_kernel: int, slices: list[int], accepted: tuple[int, ...], refused: tuple[int, ...], words: str
) -> None:
    arguments = {"in_channels": 1, "classes": 3, "first_kernel": first_kernel, "slices": slices}
    network = build("slim_unetrv2", arguments).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, *accepted)).shape == (1, 3, *accepted)
        with pytest.raises(ValueError, match=words):
            network(torch.zeros(1, 1, *refused))
