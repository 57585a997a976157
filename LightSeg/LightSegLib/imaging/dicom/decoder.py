"""GDCM in a process of its own: with bytes of strangers its decoders may crash, hang, and print much."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from ...core import processes
from ...core.i18n import tr as _

PATIENCE = 60.0  # seconds for a file, and one more for each of so many bytes
BYTES_A_SECOND = 1 << 20
SCRIPT = """
import sys
sys.path[:] = [place for place in sys.path if place]
import json, os
answers = os.fdopen(os.dup(1), "w")
nothing = os.open(os.devnull, os.O_WRONLY)
os.dup2(nothing, 1)
os.dup2(nothing, 2)
import numpy, SimpleITK
for line in sys.stdin:
    source, target = json.loads(line)
    try:
        numpy.save(target, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(source)))
        print("done", file=answers, flush=True)
    except Exception:
        print("failed", file=answers, flush=True)
"""


class DecodingError(Exception):
    """A file that GDCM cannot decode."""


class Decoder:
    """The process starts with the first file, and ends when this object is closed or the program ends."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def decode(self, path: Path) -> np.ndarray:
        """Return the voxels of a DICOM file as GDCM reads them, [n, j, i] or [j, i].

        Raises:
            DecodingError: if it cannot, does not start, ends, or takes longer than a minute and a second for each MB.
        """
        try:
            process = self._running()
        except OSError as error:
            raise DecodingError(
                _("its decoder could not be started ({reason})").format(reason=error.strerror or error)
            ) from error
        with tempfile.TemporaryDirectory(prefix="lightseg-") as folder:
            target = Path(folder, "voxels.npy")
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps([str(path), str(target)]) + "\n")
                process.stdin.flush()
                answer = self._answers.get(timeout=self._patience + path.stat().st_size / BYTES_A_SECOND)
            except queue.Empty:
                self.close()
                raise DecodingError(_("its decoder did not finish")) from None
            except OSError:
                answer = ""
            if answer == "done":
                return np.asarray(np.load(target, allow_pickle=False))
            if answer != "failed":
                self.close()
                raise DecodingError(_("its decoder crashed"))
            raise DecodingError(_("its decoder does not support it"))

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        processes.end(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [shutil.which("PythonSlicer") or sys.executable, "-u", "-c", SCRIPT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                env=os.environ | {"PYTHONUTF8": "1"} | processes.safe_path(),
                **processes.own_group(),
            )
            self._answers = queue.SimpleQueue()
            threading.Thread(target=_listen, args=(self._process, self._answers), daemon=True).start()
        return self._process


def _listen(process: subprocess.Popen[str], answers: queue.SimpleQueue[str]) -> None:
    """Pass on every answer, and an empty one when there is none any more."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            answers.put(line.strip())
    except ValueError:  # it was closed meanwhile
        pass
    answers.put("")
