"""Where LightSeg keeps its own files: what ships with it, and the folders of the user."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def resources_folder() -> Path:
    """`Resources` of the module: beside the library in Slicer and in a checkout, inside it when pip-installed."""
    library = Path(__file__).resolve().parent.parent
    beside = library.parent / "Resources"
    return beside if (beside / "Models").is_dir() else library / "resources"


def user_folder() -> Path:
    """Return the user's LightSeg folder, where the system keeps a program's data."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
    return base / "LightSeg"


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
