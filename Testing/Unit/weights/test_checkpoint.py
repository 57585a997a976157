"""Checkpoints of other programs: every layout is read whole."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import DATASET, LEGACY, PLANS, ZIP, assert_same
from LightSegLib.weights.checkpoint import read_checkpoint, write_slim
from LightSegLib.weights.files import save_weights
from torch import nn


@pytest.mark.parametrize("options", [ZIP, LEGACY], ids=["zip", "legacy"])
def test_an_nnunet_v2_checkpoint_brings_its_plans(
    v2: dict[str, Any], network: nn.Module, tmp_path: Path, options: dict[str, bool]
) -> None:
    path = tmp_path / "mit Leerzeichen ü" / "checkpoint final.pth"
    path.parent.mkdir()
    torch.save(v2, path, **options)
    checkpoint = read_checkpoint(path)
    assert checkpoint.layout == "nnU-Net v2"
    assert_same(checkpoint.state, network.state_dict())
    assert checkpoint.plans == PLANS
    assert checkpoint.dataset == DATASET
    assert (checkpoint.configuration, checkpoint.trainer) == ("3d_fullres", "nnUNetTrainer_Epoch2000_Lr1e3")
    assert (checkpoint.mirror_axes, checkpoint.fold) == ((0, 1, 2), "all")


@pytest.mark.parametrize("options", [ZIP, LEGACY], ids=["zip", "legacy"])
def test_an_nnunet_v1_model_is_read_in_spite_of_its_numpy_numbers(
    v1: dict[str, Any], network: nn.Module, tmp_path: Path, options: dict[str, bool]
) -> None:
    path = tmp_path / "model_final_checkpoint.model"
    torch.save(v1, path, **options)
    checkpoint = read_checkpoint(path)
    assert checkpoint.layout == "nnU-Net v1"
    assert_same(checkpoint.state, network.state_dict())
    assert (checkpoint.plans, checkpoint.mirror_axes, checkpoint.fold) == (None, None, None)


@pytest.mark.parametrize("entry", [None, "state_dict", "model_state_dict", "model"])
def test_a_state_dict_is_found_alone_and_as_an_entry(entry: str | None, network: nn.Module, tmp_path: Path) -> None:
    state = network.state_dict()
    torch.save(state if entry is None else {"epoch": 3, entry: state}, tmp_path / "weights.pt")
    checkpoint = read_checkpoint(tmp_path / "weights.pt")
    assert checkpoint.layout == "state dict"
    assert_same(checkpoint.state, state)


def test_our_own_half_precision_file_is_read(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    save_weights(network.state_dict(), path)
    assert read_checkpoint(path).layout == "LightSeg"
    expected = {k: t.half() if t.is_floating_point() else t for k, t in network.state_dict().items()}
    assert_same(read_checkpoint(path).state, expected)


def test_prefixes_of_wrapped_models_go(network: nn.Module, tmp_path: Path) -> None:
    """DataParallel and torch.compile, in both orders; a network of ours that has a part called `module` is not one."""
    data_parallel = nn.DataParallel(network).state_dict()
    assert next(iter(data_parallel)) == "module.0.weight"
    for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        torch.save({prefix + key: tensor for key, tensor in network.state_dict().items()}, tmp_path / "w.pt")
        assert_same(read_checkpoint(tmp_path / "w.pt").state, network.state_dict())
    partly = {"module.weight": torch.ones(2), "head.weight": torch.ones(3)}
    torch.save(partly, tmp_path / "w.pt")
    assert_same(read_checkpoint(tmp_path / "w.pt").state, partly)


def test_other_precisions_become_float32_and_counts_stay_integers(tmp_path: Path) -> None:
    values = torch.tensor([[0.5, -2.0, 3.25], [1.0, 0.0, 8.0]])  # exact in all four
    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    state = {str(kind): values.to(kind) for kind in kinds} | {"count": torch.tensor(7), "mask": values > 0}
    state["transposed"] = values.t()  # not contiguous in memory
    torch.save(state, tmp_path / "w.pt")
    read = read_checkpoint(tmp_path / "w.pt").state
    assert_same(read, state)
    assert all(tensor.is_contiguous() for tensor in read.values())


def test_weights_saved_on_a_gpu_are_read_without_one(
    v2: dict[str, Any], network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # what torch notes down for tensors of the first CUDA device
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(v2, tmp_path / "gpu.pth")
        torch.save(v2, tmp_path / "legacy.pth", **LEGACY)
    for name in ("gpu.pth", "legacy.pth"):
        assert b"cuda:0" in (tmp_path / name).read_bytes()
        assert_same(read_checkpoint(tmp_path / name).state, network.state_dict())


def test_one_tensor_under_several_names_stays_one(tmp_path: Path) -> None:
    """As nnU-Net stores every convolution: a copy each would make the slim file three times as large."""
    weight = torch.randn(50, 100)
    torch.save({f"{name}.weight": weight.detach() for name in "abc"}, tmp_path / "w.pt")
    checkpoint = read_checkpoint(tmp_path / "w.pt")
    write_slim(checkpoint, tmp_path / "slim.pt")
    for read in (checkpoint, read_checkpoint(tmp_path / "slim.pt")):
        assert_same(read.state, {f"{name}.weight": weight for name in "abc"})
        assert len({tensor.data_ptr() for tensor in read.state.values()}) == 1
    assert (tmp_path / "slim.pt").stat().st_size < 1.2 * weight.nbytes


def test_plans_come_out_as_plain_values(v2: dict[str, Any], tmp_path: Path) -> None:
    """Also where a program put numpy's numbers, tuples or an object of its own into them."""
    v2["init_args"]["plans"] = {
        "spacing": np.array([3.0, 0.75, 0.5]),
        "matrix": np.arange(6, dtype=np.int16).reshape(2, 3).T,
        "big-endian": np.array([1.5, -2.0], dtype=">f4"),
        "patch": (np.int64(64), np.uint8(128)),
        "mean": np.float32(0.1),
        "mask": np.bool_(True),
        0: None,
        "device": torch.device("cpu"),
    }
    torch.save(v2, tmp_path / "c.pth")
    plans = read_checkpoint(tmp_path / "c.pth").plans
    assert plans == {
        "spacing": [3.0, 0.75, 0.5],
        "matrix": [[0, 3], [1, 4], [2, 5]],
        "big-endian": [1.5, -2.0],
        "patch": [64, 128],
        "mean": 0.10000000149011612,  # the float32 nearest to 0.1
        "mask": True,
        "0": None,
        "device": None,
    }
    assert [type(value) for value in (plans["mask"], plans["patch"][0], plans["mean"])] == [bool, int, float]


@pytest.mark.parametrize("written_by", ["numpy.core", "numpy._core"])
def test_numbers_of_numpy_1_and_numpy_2_read_alike(v2: dict[str, Any], tmp_path: Path, written_by: str) -> None:
    v2["init_args"]["plans"] = {"scalar": np.float64(0.1), "array": np.array([1, 2])}
    torch.save(v2, tmp_path / "c.pth", **LEGACY)
    here = np.float64(0).__reduce__()[0].__module__  # numpy.core.multiarray, or numpy._core.multiarray since 2.0
    content = (tmp_path / "c.pth").read_bytes().replace(f"c{here}\n".encode(), f"c{written_by}.multiarray\n".encode())
    assert f"c{written_by}.multiarray\nscalar\n".encode() in content
    assert f"c{written_by}.multiarray\n_reconstruct\n".encode() in content
    (tmp_path / "c.pth").write_bytes(content)
    assert read_checkpoint(tmp_path / "c.pth").plans == {"scalar": 0.1, "array": [1, 2]}


def test_an_optimizer_with_a_default_dictionary_is_not_an_obstacle(network: nn.Module, tmp_path: Path) -> None:
    state = defaultdict(dict, {0: {"step": 1}})
    torch.save({"state_dict": network.state_dict(), "optimizer": state}, tmp_path / "c.pth")
    assert_same(read_checkpoint(tmp_path / "c.pth").state, network.state_dict())


@pytest.mark.parametrize("options", [ZIP, LEGACY], ids=["zip", "legacy"])
def test_the_file_is_let_go_once_it_is_read(network: nn.Module, tmp_path: Path, options: dict[str, bool]) -> None:
    """Else it could not be replaced on Windows, and weights would change with it."""
    path = tmp_path / "w.pt"
    torch.save(network.state_dict(), path, **options)
    checkpoint = read_checkpoint(path)
    if sys.platform == "linux":
        assert str(path) not in Path("/proc/self/maps").read_text()
    path.write_bytes(b"\0" * path.stat().st_size)
    path.unlink()
    assert_same(checkpoint.state, network.state_dict())
