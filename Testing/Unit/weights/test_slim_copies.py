"""A slim copy has the weights and facts of its checkpoint, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import LEGACY, assert_same
from LightSegLib.core.errors import ModelError
from LightSegLib.weights.checkpoint import Checkpoint, read_checkpoint, write_slim
from torch import nn


def assert_equal(a: Checkpoint, b: Checkpoint) -> None:
    assert_same(a.state, b.state)
    assert {k: v for k, v in vars(a).items() if k != "state"} == {k: v for k, v in vars(b).items() if k != "state"}


@pytest.mark.parametrize("layout", ["v2", "v1"])
def test_a_slim_copy_holds_the_same_and_is_smaller(
    layout: str, tmp_path: Path, request: pytest.FixtureRequest, network: nn.Module
) -> None:
    path, slim = tmp_path / "large.pth", tmp_path / "schlank ü.pt"
    torch.save(request.getfixturevalue(layout), path)
    checkpoint = read_checkpoint(path)
    write_slim(checkpoint, slim)
    assert_equal(read_checkpoint(slim), checkpoint)
    assert slim.stat().st_size < 0.8 * path.stat().st_size


def test_a_slim_copy_holds_the_weights_of_all_folds_of_an_ensemble(v2: dict[str, Any], tmp_path: Path) -> None:
    torch.save(v2, tmp_path / "fold 0.pth")
    first = read_checkpoint(tmp_path / "fold 0.pth")
    others = tuple({key: tensor + n for key, tensor in first.state.items()} for n in (1, 2))
    write_slim(replace(first, other_folds=others), tmp_path / "slim.pt")
    again = read_checkpoint(tmp_path / "slim.pt")
    assert_same(again.state, first.state)
    assert len(again.other_folds) == 2
    for state, expected in zip(again.other_folds, others, strict=True):
        assert_same(state, expected)
    assert (again.plans, again.fold, again.mirror_axes) == (first.plans, first.fold, first.mirror_axes)


def test_a_slim_copy_of_one_fold_is_as_it_was_before_there_were_ensembles(v2: dict[str, Any], tmp_path: Path) -> None:
    """What was written then is read, and nothing else is written now."""
    torch.save(v2, tmp_path / "checkpoint.pth")
    checkpoint = read_checkpoint(tmp_path / "checkpoint.pth")
    facts = ("layout", "plans", "dataset", "configuration", "trainer", "mirror_axes", "fold")
    about = json.dumps({name: getattr(checkpoint, name) for name in facts})
    torch.save({"format": "LightSeg slim copy", "about": about, "weights": checkpoint.state}, tmp_path / "old.pt")
    old = read_checkpoint(tmp_path / "old.pt")
    assert_same(old.state, checkpoint.state)
    assert (old.plans, old.fold, old.other_folds) == (checkpoint.plans, "all", ())
    write_slim(checkpoint, tmp_path / "new.pt")
    new = torch.load(tmp_path / "new.pt", weights_only=True)
    assert list(new) == ["format", "about", "weights"] and new["about"] == about


def test_other_folds_in_a_slim_copy_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    weights = [{"weight": torch.full((2,), float(fold))} for fold in range(3)]
    content = {"format": "LightSeg slim copy", "about": '{"layout": "nnU-Net v2"}', "weights": weights[0]}
    torch.save({**content, "further": weights[1:]}, tmp_path / "slim.pt")
    assert [fold["weight"][0] for fold in read_checkpoint(tmp_path / "slim.pt").other_folds] == [1, 2]


@pytest.mark.parametrize("other_folds", [3, [{"a": 1}], [[]], [None]])
def test_a_slim_copy_whose_other_folds_are_not_weights_is_refused(other_folds: object, tmp_path: Path) -> None:
    weights = {"weight": torch.zeros(2)}
    content = {"format": "LightSeg slim copy", "about": '{"layout": "nnU-Net v2"}', "weights": weights}
    torch.save({**content, "other_folds": other_folds}, tmp_path / "slim.pt")
    with pytest.raises(ModelError, match=r"is damaged|does not contain weights"):
        read_checkpoint(tmp_path / "slim.pt")


def test_slim_copies_of_equal_content_have_equal_bytes(v2: dict[str, Any], tmp_path: Path) -> None:
    """Whatever the file around them was, and whether equal texts are one object in memory or two."""
    text = "Täst"
    twice = "".join(text[:2]) + text[2:]
    assert twice == text and twice is not text
    arguments = v2["init_args"]
    torch.save({**v2, "init_args": {**arguments, "plans": {"names": [text, text]}}}, tmp_path / "a.pth")
    other = {**v2, "logging": {}, "init_args": {**arguments, "plans": {"names": [text, twice]}}}
    torch.save(other, tmp_path / "b.pth", **LEGACY)
    write_slim(read_checkpoint(tmp_path / "a.pth"), tmp_path / "a.pt")
    write_slim(read_checkpoint(tmp_path / "b.pth"), tmp_path / "b.pt")
    write_slim(read_checkpoint(tmp_path / "a.pt"), tmp_path / "c.pt")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes() == (tmp_path / "c.pt").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_the_optimizers_state_is_never_in_memory(tmp_path: Path) -> None:
    """A file of 4 MB of weights and 100 MB beside them takes far less memory than its size."""
    torch.save({"state_dict": {"w": torch.ones(1_000_000)}, "optimizer": torch.zeros(25_000_000)}, tmp_path / "c.pth")
    assert (tmp_path / "c.pth").stat().st_size > 100e6
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[3] / "LightSeg")!r})
import torch
from LightSegLib.weights.checkpoint import read_checkpoint
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1e3
before = peak()
assert read_checkpoint({str(tmp_path / "c.pth")!r}).state["w"].sum() == 1_000_000
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 50
