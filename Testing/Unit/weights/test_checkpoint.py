"""Checkpoints of other programs: every layout is read whole, and nothing in a file is ever executed."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from LightSegLib.core.errors import ModelError
from LightSegLib.weights.checkpoint import Checkpoint, read_checkpoint, write_slim
from LightSegLib.weights.files import save_weights
from torch import Tensor, nn

PLANS = {
    "dataset_name": "Dataset024_Täst",
    "transpose_forward": [0, 1, 2],
    "configurations": {"3d_fullres": {"patch_size": [96, 128, 128], "spacing": [3.0, 2.0, 2.0], "batch_dice": True}},
    "foreground_intensity_properties_per_channel": {"0": {"mean": -52.2320181037366, "std": 268.7993885716853}},
}
DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": "0", "tumor": "1"}, "numTraining": 5000}
ZIP, LEGACY = {}, {"_use_new_zipfile_serialization": False}


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8), nn.Conv3d(8, 2, 1))


@pytest.fixture
def optimizer_state(network: nn.Module) -> dict[str, Any]:
    """What SGD with momentum remembers after one step: as many numbers as the network has."""
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.99, nesterov=True)
    network(torch.randn(2, 1, 5, 5, 5)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.fixture
def v2(network: nn.Module, optimizer_state: dict[str, Any]) -> dict[str, Any]:
    """The content of nnU-Net v2's checkpoint_final.pth."""
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer_state,
        "grad_scaler_state": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 7},
        "logging": {
            "mean_fg_dice": [np.float64(0.5), np.float64(0.75)],
            "dice_per_class_or_region": [[np.float64(0.5)], [np.float32(0.75)]],
            "lrs": [0.01, 0.009],
        },
        "_best_ema": np.float64(0.625),
        "current_epoch": 2,
        "init_args": {
            "plans": PLANS,
            "configuration": "3d_fullres",
            "fold": "all",
            "dataset_json": DATASET,
            "unpack_dataset": True,
            "device": torch.device("cuda", 0),
        },
        "trainer_name": "nnUNetTrainer_Epoch2000_Lr1e3",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


@pytest.fixture
def v1(network: nn.Module, optimizer_state: dict[str, Any]) -> dict[str, Any]:
    """The content of a `.model` file of nnU-Net v1, as UNETR++ writes it with mixed precision."""
    return {
        "epoch": 1000,
        "state_dict": network.state_dict(),
        "optimizer_state_dict": optimizer_state,
        "lr_scheduler_state_dict": None,
        "plot_stuff": ([np.float32(0.25)], [np.array([0.5, 0.25])], [], [np.mean([0.5, 0.75])]),
        "best_stuff": (np.int64(7), np.float64(-0.5), np.array([True])),
        "amp_grad_scaler": {"scale": 1024.0},
    }


def assert_same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Keys, their order and every value, as float32 (integers as they are) and on the CPU."""
    assert list(state) == list(expected)
    for key, tensor in expected.items():
        wanted = tensor.float() if tensor.is_floating_point() else tensor
        assert state[key].dtype == wanted.dtype and state[key].device.type == "cpu"
        assert torch.equal(state[key], wanted)


# --- the layouts -------------------------------------------------------------------------------


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


def test_an_optimiser_with_a_default_dictionary_is_no_obstacle(network: nn.Module, tmp_path: Path) -> None:
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


# --- slim copies -------------------------------------------------------------------------------


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
    write_slim(replace(first, further=others), tmp_path / "slim.pt")
    again = read_checkpoint(tmp_path / "slim.pt")
    assert_same(again.state, first.state)
    assert len(again.further) == 2
    for state, expected in zip(again.further, others, strict=True):
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
    assert (old.plans, old.fold, old.further) == (checkpoint.plans, "all", ())
    write_slim(checkpoint, tmp_path / "new.pt")
    new = torch.load(tmp_path / "new.pt", weights_only=True)
    assert list(new) == ["format", "about", "weights"] and new["about"] == about


@pytest.mark.parametrize("further", [3, [{"a": 1}], [[]], [None]])
def test_a_slim_copy_whose_further_folds_are_no_weights_is_refused(further: object, tmp_path: Path) -> None:
    weights = {"weight": torch.zeros(2)}
    content = {"format": "LightSeg slim copy", "about": '{"layout": "nnU-Net v2"}', "weights": weights}
    torch.save({**content, "further": further}, tmp_path / "slim.pt")
    with pytest.raises(ModelError, match=r"is damaged|No weights were found"):
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
def test_the_optimisers_state_is_never_in_memory(tmp_path: Path) -> None:
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


# --- files that would run code -----------------------------------------------------------------


class Malicious:
    """Unpickling it calls a function of its choice."""

    def __init__(self, function: Callable[..., Any], argument: str) -> None:
        self.call = (function, (argument,))

    def __reduce__(self) -> Any:
        return self.call


SYSTEM = f"{os.system.__module__}.system"  # posix or nt


def hide(place: str, bad: Malicious, v2: dict[str, Any], path: Path) -> None:
    """Write a file with something malicious in a certain place."""
    if place.startswith("raw pickle"):
        path.write_bytes(pickle.dumps(bad, int(place[-1])))
    elif place == "newer pickle in a torch file":
        torch.save({}, path)
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, pickle.dumps(bad, 4) if name.endswith("data.pkl") else content)
    else:
        if place == "init_args":
            v2["init_args"]["plans"] = {**PLANS, "spacing": [bad]}
        elif place == "state dict":
            v2["network_weights"] = {**v2["network_weights"], "1.weight": bad}
        elif place == "array of objects":
            v2["logging"] = {"x": np.array([bad, 1], dtype=object)}
        content = bad if place in ("torch file", "legacy torch file") else v2
        torch.save(content, path, **(LEGACY if place == "legacy torch file" else ZIP))


@pytest.mark.parametrize(
    "place",
    [
        "raw pickle 0",
        "raw pickle 2",
        "raw pickle 4",
        "torch file",
        "legacy torch file",
        "newer pickle in a torch file",
        "init_args",
        "state dict",
        "array of objects",
    ],
)
@pytest.mark.parametrize("function", [os.system, exec])
def test_a_malicious_file_never_runs(
    v2: dict[str, Any], tmp_path: Path, place: str, function: Callable[..., Any]
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "checkpoint_final.pth"
    argument = f'echo > "{marker}"' if function is os.system else f"open({str(marker)!r}, 'w').close()"
    bad = Malicious(function, argument)
    pickle.loads(pickle.dumps(bad))
    assert marker.exists(), "the attack would not even work unhindered"
    marker.unlink()

    hide(place, bad, v2, path)
    name = SYSTEM if function is os.system else "builtins.exec"
    with pytest.raises(ModelError, match=rf"(?s)checkpoint_final\.pth .*refers to {name}\b.* Use a file "):
        read_checkpoint(path)
    assert not marker.exists()


def test_a_whole_pickled_model_is_refused_by_the_name_of_its_class(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"refers to torch\.nn\.modules\.container\.Sequential, .*state_dict\(\)"):
        read_checkpoint(tmp_path / "model.pt")


def test_arrays_of_anything_but_numbers_are_refused(v2: dict[str, Any], tmp_path: Path) -> None:
    for array, code in ((np.array(["a", 1], dtype=object), "O8"), (np.zeros(2, "f8,i4"), "V12")):
        torch.save({**v2, "logging": array}, tmp_path / "c.pth")
        with pytest.raises(ModelError, match=rf"refers to numpy\.dtype\('{code}'\)"):
            read_checkpoint(tmp_path / "c.pth")


def test_what_others_allowed_does_not_count_and_stays_allowed(network: nn.Module, tmp_path: Path) -> None:
    """Other extensions of the application share torch's allow-list with us."""
    others = torch.serialization.get_safe_globals()
    torch.save({"state_dict": network.state_dict(), "x": np.float64(1)}, tmp_path / "fine.pth")
    torch.save({"state_dict": network.state_dict(), "x": Path("a")}, tmp_path / "bad.pth")
    scalar, dtype = np.float64(1).__reduce__()[0], np.dtype
    with torch.serialization.safe_globals([type(Path("a")), scalar, dtype]):
        before = set(torch.serialization.get_safe_globals())
        assert_same(read_checkpoint(tmp_path / "fine.pth").state, network.state_dict())
        with pytest.raises(ModelError, match=r"refers to pathlib\.\S*Path"):
            read_checkpoint(tmp_path / "bad.pth")
        assert set(torch.serialization.get_safe_globals()) >= before
    assert scalar not in torch.serialization.get_safe_globals()
    assert set(torch.serialization.get_safe_globals()) >= set(others)


# --- files that are no checkpoints -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("w.pth", b"", "w.pth is empty. Download"),
        ("w.pth", b"\r\n\r\n", "w.pth is empty. Download"),
        ("w.pth", b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning", "web page.*download button"),
        ("w.pth", b"\xef\xbb\xbf<html>\n", "web page"),
        (
            "w.pth",
            b"version https://git-lfs.github.com/spec/v1\r\noid sha256:4d",
            "text file.*'version https://git-lfs",
        ),
        ("w.pth", b"checkpoint\nof the authors: see the site.\n", "text file.*'checkpoint'"),
        ("w.pth", "1. Häkchen setzen".encode(), "text file.*'1. Häkchen"),
        ("w.pth", b"\x89HDF\r\n\x1a\n\0\0\0\0", "no file that torch.save wrote. Give"),
        ("w.pth", pickle.dumps({"epoch": 1}), "plain Python pickle, not a torch file"),
        ("w.model.pkl", pickle.dumps({"plans": 1}), "never opens those.*Give the checkpoint itself"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=words):
        read_checkpoint(tmp_path / name)


def test_a_zip_archive_is_not_taken_for_weights(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("Dataset024/plans.json", "{}")
    with pytest.raises(ModelError, match=r"zip archive that torch did not write.* Unpack it"):
        read_checkpoint(tmp_path / "export.zip")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", pickle.dumps({}, 2))
        archive.writestr("script/constants.pkl", pickle.dumps((), 2))
    with pytest.raises(ModelError, match="TorchScript program, which carries code"):
        read_checkpoint(tmp_path / "script.pt")


def test_missing_files_and_folders_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"w\.pth is missing"):
        read_checkpoint(tmp_path / "w.pth")
    with pytest.raises(ModelError, match="is a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("options", [ZIP, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.98])
def test_a_download_that_was_cut_off_is_damaged(
    v2: dict[str, Any], tmp_path: Path, options: dict[str, bool], share: float
) -> None:
    path = tmp_path / "c.pth"
    torch.save(v2, path, **options)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelError, match=r"c\.pth is damaged or not complete .* Download or copy it again"):
        read_checkpoint(path)


def test_one_wrong_bit_in_a_weight_is_noticed(v2: dict[str, Any], network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save(v2, path)
    content = bytearray(path.read_bytes())
    place = content.index(network.state_dict()["0.weight"].numpy().tobytes())
    content[place + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(path)


def test_a_tensor_that_claims_to_be_larger_than_the_file_is_refused(tmp_path: Path) -> None:
    """torch before 2.10 read whatever lay behind it in memory (CVE-2026-24747)."""
    path = tmp_path / "c.pth"
    torch.save({"weight": torch.ones(7)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            if name.endswith("data.pkl"):  # 7 is there twice: as the storage's length and as the tensor's
                assert content.count(b"K\x07") == 2
                content = content.replace(b"K\x07", b"J" + (1_000_000).to_bytes(4, "little"))
            archive.writestr(name, content)
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(path)


def test_a_file_without_weights_says_what_it_holds_instead(v2: dict[str, Any], tmp_path: Path) -> None:
    del v2["network_weights"]
    torch.save(v2, tmp_path / "c.pth")
    with pytest.raises(ModelError, match=r"No weights .* c\.pth, which holds optimizer_state, grad_scaler_state, "):
        read_checkpoint(tmp_path / "c.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ModelError, match=r"No weights .* which holds list"):
        read_checkpoint(tmp_path / "list.pth")


def test_plans_without_an_end_are_damage(v2: dict[str, Any], tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    v2["init_args"]["plans"] = {"x": endless}
    torch.save(v2, tmp_path / "c.pth")
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(tmp_path / "c.pth")
