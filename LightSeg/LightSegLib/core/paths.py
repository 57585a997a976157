"""Where LightSeg keeps its own files: what ships with it, and the folders of the user."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from .errors import InputError
from .i18n import tr as _

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
    """Return the folder of the user's own models, with one folder each; LIGHTSEG_MODELS overrides it.

    Raises:
        InputError: if that is no whole path.
    """
    return _chosen("LIGHTSEG_MODELS") or user_folder() / "models"


def weights_folder() -> Path:
    """Return the folder of downloaded weights, with one folder per model; LIGHTSEG_WEIGHTS overrides it.

    Raises:
        InputError: if that is no whole path.
    """
    return _chosen("LIGHTSEG_WEIGHTS") or user_folder() / "weights"


def _chosen(variable: str) -> Path | None:
    """Return the folder that the user has set in the environment, where "~" is the home as in a shell.

    Raises:
        InputError: for a path that depends on the current folder, which is another one in each terminal and in Slicer.
    """
    value = os.environ.get(variable, "")
    path = Path(value)
    with suppress(RuntimeError):  # the system knows no home
        path = path.expanduser()
    if value and not path.is_absolute():
        raise InputError(
            _(
                "{variable} is '{value}', which is no whole path. Set it to one that begins at the root or with ~."
            ).format(variable=variable, value=value)
        )
    return path if value else None
