"""Where LightSeg keeps its own files: what ships with it, and the folders of the user."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

NOWHERE = Path("/nonexistent")  # as the home of system users is called: nothing is there, nothing can be written


def resources_folder() -> Path:
    """`Resources` of the module: beside the library in Slicer and in a checkout, inside it when pip-installed."""
    library = Path(__file__).resolve().parent.parent
    beside = library.parent / "Resources"
    return beside if (beside / "Models").is_dir() else library / "resources"


def user_folder() -> Path:
    """Return the user's LightSeg folder, where the system keeps a program's data; it need not exist."""
    if sys.platform == "win32":
        base = _configured("LOCALAPPDATA") or home_folder() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = home_folder() / "Library" / "Application Support"
    else:
        base = _configured("XDG_DATA_HOME") or home_folder() / ".local" / "share"
    return base / "LightSeg"


def _configured(variable: str) -> Path | None:
    """Return a folder in the environment, where it is a whole path: others are ignored (XDG Base Directory, 0.8)."""
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else None


def home_folder() -> Path:
    """Return the user's home; `NOWHERE` for a user whom the system does not know, as in containers."""
    with suppress(RuntimeError):
        home = Path.home()
        if home.is_absolute():
            return home
    return NOWHERE


def user_models_folder() -> Path:
    """Return the folder of the user's own models, with one folder each; LIGHTSEG_MODELS overrides it."""
    if configured := os.environ.get("LIGHTSEG_MODELS"):
        return Path(configured)
    return user_folder() / "models"


def weights_folder() -> Path:
    """Return the folder of downloaded weights, with one folder per model; LIGHTSEG_WEIGHTS overrides it."""
    if configured := os.environ.get("LIGHTSEG_WEIGHTS"):
        return Path(configured)
    return user_folder() / "weights"
