"""Files that are not checkpoints, or not whole, are called what they are."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import LEGACY, ZIP
from LightSegLib.core.errors import ModelError
from LightSegLib.weights.checkpoint import read_checkpoint
from torch import nn


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
        ("w.pth", b"\x89HDF\r\n\x1a\n\0\0\0\0", "not written by torch.save. Use"),
        ("w.pth", pickle.dumps({"epoch": 1}), "a Python pickle, not a torch file"),
        ("w.model.pkl", pickle.dumps({"plans": 1}), "never opens.*Use the checkpoint itself"),
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
    with pytest.raises(ModelError, match="TorchScript program, which contains code"):
        read_checkpoint(tmp_path / "script.pt")


def test_missing_files_and_folders_are_distinguished(tmp_path: Path) -> None:
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
    with pytest.raises(ModelError, match=r"c\.pth is damaged or incomplete .* Download or copy it again"):
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


def test_a_file_without_weights_states_what_it_holds_instead(v2: dict[str, Any], tmp_path: Path) -> None:
    del v2["network_weights"]
    torch.save(v2, tmp_path / "c.pth")
    with pytest.raises(ModelError, match=r"c\.pth does not contain weights, only optimizer_state, grad_scaler_state, "):
        read_checkpoint(tmp_path / "c.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ModelError, match=r"does not contain weights, only list"):
        read_checkpoint(tmp_path / "list.pth")


def test_plans_without_an_end_are_damage(v2: dict[str, Any], tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    v2["init_args"]["plans"] = {"x": endless}
    torch.save(v2, tmp_path / "c.pth")
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(tmp_path / "c.pth")
