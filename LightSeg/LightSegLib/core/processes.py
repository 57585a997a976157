"""Processes of Python beside this one: started apart from it, and ended with all that they have started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any


def own_group() -> dict[str, Any]:
    """Return arguments of `Popen` for a group of its own, by which `end` reaches what is behind a launcher."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def safe_path() -> dict[str, str]:
    """Return variables that keep the current folder off Python's module path.

    An empty entry in PYTHONPATH, as a stray colon leaves it, means the current folder too.
    """
    places = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(places)}


def end(process: subprocess.Popen[str]) -> None:
    """End a process that has its own group, and its children, at once; wait until it is gone."""
    if sys.platform == "win32":
        command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(command, capture_output=True, check=False, creationflags=subprocess.CREATE_NO_WINDOW)
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
