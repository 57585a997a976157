"""The folders of the user's own files, also for a user who has no home, as in containers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from LightSegLib.catalog.lookup import all_cards
from LightSegLib.core.errors import InputError, OutputError
from LightSegLib.core.paths import NOWHERE, user_folder, user_models_folder, weights_folder
from LightSegLib.models.importing import import_model

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these folders")
LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"


@LINUX
@pytest.mark.parametrize("value", ["", "relative", None])
def test_only_a_whole_path_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """By the XDG Base Directory Specification."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_DATA_HOME", value)
    assert user_folder() == Path("/home/somebody/.local/share/LightSeg")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert user_folder() == Path("/data/LightSeg")


@pytest.mark.parametrize(
    ("variable", "folder"), [("LIGHTSEG_WEIGHTS", weights_folder), ("LIGHTSEG_MODELS", user_models_folder)]
)
def test_a_folder_of_the_users_choice_may_be_in_the_home_and_is_the_same_from_everywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, folder: Callable[[], Path]
) -> None:
    """A setting is read as a shell reads it also where no shell has: in a .desktop file, a service, an .env file."""
    for home in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(home, str(tmp_path))
    monkeypatch.setenv(variable, "~/weights of all")
    assert folder() == tmp_path / "weights of all"
    monkeypatch.setenv(variable, "")
    assert user_folder() in folder().parents
    for relative in ("weights", "./weights", "../weights"):
        monkeypatch.setenv(variable, relative)
        with pytest.raises(InputError, match=f"^{variable} is '{relative}', which is no whole path"):
            folder()


@pytest.fixture
def no_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the system does not know and who has no HOME."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "LIGHTSEG_MODELS", "LIGHTSEG_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_user")
def test_without_a_home_the_bundled_models_work_and_an_import_states_what_to_set(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert NOWHERE in user_folder().parents and NOWHERE in user_models_folder().parents
    assert "hippocampus-mr-lightmedseg" in [card.id for card in all_cards()]
    monkeypatch.setattr("LightSegLib.core.paths.NOWHERE", tmp_path / "file")
    (tmp_path / "file").touch()  # no one, not even root, makes a folder there
    with pytest.raises(OutputError, match="set LIGHTSEG_MODELS to another one"):
        import_model(tiny_model)
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights"))
    assert import_model(tiny_model).folder == tmp_path / "models" / "tiny-1"
    assert weights_folder() == tmp_path / "weights"


@LINUX
def test_a_user_without_name_and_home_lists_the_models() -> None:
    """As `docker run --user 12345` makes one: the system's list of users has no entry for the number."""
    script = (
        "import pwd, sys\n"
        "def unknown(number): raise KeyError(number)\n"
        "pwd.getpwuid = unknown\n"
        f"sys.path.insert(0, {str(LIBRARY)!r})\n"
        "from LightSegLib.cli.main import main\nsys.exit(main(['models']))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_DATA_HOME")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0 and "hippocampus-mr-lightmedseg" in done.stdout, done.stderr
