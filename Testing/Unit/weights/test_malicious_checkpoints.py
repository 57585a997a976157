"""Nothing in a file is ever executed."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import LEGACY, PLANS, ZIP, assert_same
from LightSegLib.core.errors import ModelError
from LightSegLib.weights.checkpoint import read_checkpoint
from torch import nn


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
