"""What becomes of a model that is there already, and on a disk that is full or closed."""

from __future__ import annotations

import dataclasses
import errno
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from imported_models import ID, change, content
from LightSegLib.catalog.card_file import read_card, write_card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import InputError, OutputError
from LightSegLib.models.importing import import_model
from nnunet_models import make_plans, write_model

LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"

pytestmark = pytest.mark.usefixtures("nothing_left_over")


def test_a_model_that_is_there_already_stays(results: Path, models: Path) -> None:
    import_model(results)
    before = content(models)
    change(results / "dataset.json", name="newer")
    with pytest.raises(InputError, match=rf"A model '{ID}' already exists .*--replace"):
        import_model(results)
    assert content(models) == before


def test_a_model_is_replaced_when_asked_for(results: Path, models: Path) -> None:
    import_model(results)
    (models / ID / "notes.txt").write_text("of the older model")
    change(results / "dataset.json", name="newer")
    assert import_model(results, replace=True).title == find_card(ID).title == "newer (3d_fullres)"
    assert sorted(content(models)) == [f"{ID}/model.json", f"{ID}/weights.pt"]


def test_a_models_folder_can_be_imported_over_itself(results: Path, models: Path) -> None:
    import_model(results)
    before = content(models)
    import_model(models / ID, replace=True)
    assert content(models) == before


def test_a_bundled_model_is_never_hidden(results: Path, tiny_model: Path, tmp_path: Path, models: Path) -> None:
    bundled = "hippocampus-mr-lightmedseg"
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    write_card(dataclasses.replace(read_card(folder / "model.json"), id=bundled), folder / "model.json")
    for replace in (False, True):
        with pytest.raises(InputError, match=f"'{bundled}' is already used by the model 'Hippocampus"):
            import_model(folder, replace=replace)
    assert not models.exists()


def test_an_id_made_from_names_gives_way_to_a_bundled_model(tmp_path: Path) -> None:
    plans = {**make_plans(), "dataset_name": "Hippocampus"}
    plans["configurations"]["mr-lightmedseg"] = {"inherits_from": "3d_fullres"}
    card = import_model(write_model(tmp_path, plans, configuration="mr-lightmedseg"))
    assert card.id == "hippocampus-mr-lightmedseg-imported" and find_card(card.id) == card


def test_another_model_in_the_folder_of_that_name_is_not_replaced(
    results: Path, tiny_model: Path, models: Path
) -> None:
    shutil.copytree(tiny_model, models / ID)  # a person may call a folder what they like
    before = content(models)
    with pytest.raises(InputError, match=f"'{ID}' is already used by the model 'Tiny'"):
        import_model(results, replace=True)
    assert content(models) == before


@pytest.mark.parametrize("replace", [False, True])
def test_a_full_disk_changes_nothing(
    results: Path, models: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    if replace:
        import_model(results)
    before = content(models) if replace else {}

    def fill_up(_: object, stream: Any) -> None:
        stream.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_up)
    with pytest.raises(OutputError, match="disk is full"):
        import_model(results, replace=replace)
    assert content(models) == before
    assert not replace or find_card(ID).id == ID


def test_the_older_model_comes_back_if_the_new_one_cannot_take_its_place(
    results: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_model(results)
    before = content(models)
    rename = Path.rename

    def refuse_the_new_one(self: Path, target: Path) -> Path:
        if self.parent.name.startswith(".import-"):
            raise PermissionError(errno.EACCES, "Access is denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(OutputError, match="Access is denied"):
        import_model(results, replace=True)
    assert content(models) == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
@pytest.mark.parametrize("renames", [1, 2])
def test_a_model_survives_an_import_that_is_killed_between_its_renames(
    results: Path, models: Path, renames: int
) -> None:
    """The older one is back, or the newer one there, for the next search for models; nothing else is left."""
    import_model(results)
    change(results / "dataset.json", name="newer")
    script = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(LIBRARY)!r})
rename, done = Path.rename, []
def rename_and_die(self, target):
    rename(self, target)
    done.append(target)
    if len(done) == {renames}:
        os.kill(os.getpid(), signal.SIGKILL)
Path.rename = rename_and_die
from LightSegLib.models.importing import import_model
import_model({str(results)!r}, replace=True)
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert find_card(ID).title == ("Tiny (3d_fullres)" if renames == 1 else "newer (3d_fullres)")
    assert sorted(content(models / ID)) == ["model.json", "weights.pt"]
    import_model(results, replace=True)
    assert [path.name for path in models.iterdir()] == [ID], "the next import removes the rest"


def test_an_import_that_is_stopped_between_its_renames_puts_the_older_model_back(
    results: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_model(results)
    before = content(models)
    rename = Path.rename

    def stop_at_the_new_one(self: Path, target: Path) -> Path:
        if self.parent.name.startswith(".import-"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop_at_the_new_one)
    with pytest.raises(KeyboardInterrupt):
        import_model(results, replace=True)
    assert content(models) == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that even root cannot write to")
def test_a_models_folder_that_cannot_be_written_is_named(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTSEG_MODELS", "/proc/models")
    with pytest.raises(OutputError, match=r"could not be stored in /proc/models .*LIGHTSEG_MODELS"):
        import_model(results)
