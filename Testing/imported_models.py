"""What the tests of imports share: files that are changed, zipped and compared, and the weights that came in."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from LightSegLib.catalog.card import Card
from LightSegLib.weights.checkpoint import read_checkpoint

ID = "dataset042_tiny-3d_fullres"


def change(file: Path, **changes: Any) -> None:
    """Change fields of a JSON file; None removes one."""
    data = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    file.write_text(json.dumps({k: v for k, v in data.items() if v is not None}), encoding="utf-8")


def zipped(folder: Path, file: Path, inside: str = "") -> Path:
    """A zip file of a folder, as nnU-Net exports it if `inside` is the name of the folder above."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, (Path(inside) / folder.name / path.relative_to(folder)).as_posix())
    return file


def tarred(folder: Path, file: Path, inside: str = "") -> Path:
    """A tar.gz file of a folder, with an entry for each folder, as tar writes it."""
    with tarfile.open(file, "w:gz") as archive:
        archive.add(folder, (Path(inside) / folder.name).as_posix())
    return file


def packed(folder: Path, file: Path, inside: str = "") -> Path:
    return (zipped if file.suffix == ".zip" else tarred)(folder, file, inside)


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def weights_of(model: Path, fold: int | str) -> dict[str, torch.Tensor]:
    """What nnU-Net's own checkpoint holds."""
    return torch.load(model / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)["network_weights"]


def assert_holds(card: Card, model: Path, folds: tuple[int | str, ...]) -> None:
    """The imported model has the weights of these folds, all of them and in this order."""
    assert card.folder is not None and card.training["folds"] == list(folds)
    kept = read_checkpoint(card.folder / "weights.pt")
    assert len(kept.other_folds) == len(folds) - 1
    for fold, state in zip(folds, (kept.state, *kept.other_folds), strict=True):
        trained = weights_of(model, fold)
        assert state.keys() == trained.keys()
        assert all(torch.equal(state[name], trained[name]) for name in trained)


def damage(model: Path, fold: int, **changes: Any) -> None:
    """Change entries of a fold's checkpoint."""
    file = model / f"fold_{fold}" / "checkpoint_final.pth"
    torch.save({**torch.load(file, weights_only=False), **changes}, file)
