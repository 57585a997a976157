"""The worker process as its owner sees it: volumes in, a segmentation out, and stopped at any moment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ..catalog.lookup import resolve_model
from ..core import i18n, processes
from ..core.atomic_io import output_error
from ..core.errors import Canceled
from ..core.leftovers import new_folder
from ..core.progress import CancelCallback, Progress, ProgressCallback
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import Segmentation, Volume
from ..inference.options import InferenceOptions
from . import ending, messages

IDLE_SECONDS = 300.0  # after which a worker with nothing to do ends
LOG = "log.txt"
LOG_BYTES = 20_000  # of its end, which are kept
PACKAGE = Path(__file__).resolve().parents[1]
SEGMENT_HANDLER = (f"{PACKAGE.name}.worker.segment_handler", "SegmentHandler")
INSTALL_HANDLER = (f"{PACKAGE.name}.worker.install_handler", "InstallHandler")
T = TypeVar("T")


class Worker:
    """Runs jobs in one process, which is started at the first job and stays, with the model loaded, for the next.

    Args:
        python: the interpreter.
        idle_seconds: after so long without a job the process ends by itself.
        handler: the class, by its module and its name, whose one object does the jobs there (see `server.main`).
    """

    def __init__(
        self,
        python: str = sys.executable,
        idle_seconds: float = IDLE_SECONDS,
        handler: tuple[str, str] = SEGMENT_HANDLER,
    ) -> None:
        self._python = python
        self._idle_seconds = idle_seconds
        self._handler = handler
        self._process: subprocess.Popen[str] | None = None
        self._session: Path | None = None  # the folder of all files of the process
        self._ready = False  # whether the process has begun to wait for jobs
        self._changing = threading.Lock()  # a stop comes from another thread than the job
        self.log = ""

    @property
    def pid(self) -> int | None:
        """Process ID of the worker, or None if it is not running."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def segment(
        self,
        model: str,
        volumes: Sequence[Volume],
        roi: RegionOfInterest | None = None,
        options: InferenceOptions | None = None,
        progress: ProgressCallback | None = None,
        canceled: CancelCallback | None = None,
    ) -> Segmentation:
        """Segment like `Segmenter(find_card(model), options).segment(volumes, roi, progress, canceled)`.

        Raises what `ask` raises, too.
        """

        def job(folder: Path) -> dict[str, Any]:
            return _job(folder, model, volumes, roi, options or InferenceOptions())

        def read(answer: dict[str, Any]) -> Segmentation:
            return messages.segmentation_of(answer["segmentation"])

        return self.request(job, read, progress, canceled)

    def request(
        self,
        job: Callable[[Path], dict[str, Any]],
        read: Callable[[dict[str, Any]], T],
        progress: ProgressCallback | None = None,
        canceled: CancelCallback | None = None,
    ) -> T:
        """Send a job and return what `read` makes of the answer.

        `job` makes its message; both may use files in a folder until then.

        `canceled` is called in another thread, ten times a second; when it returns True the process ends at once.
        Raises the errors of the work as they were raised there, DeviceError where the process did not start or ended
        by itself, OutputError where the disk is full; `log` then has the end of what the process has written. One job
        at a time.
        """
        try:
            process, session = self._running()
        except OSError as error:
            raise output_error(Path(tempfile.gettempdir()) / LOG, error) from error
        answered, begun = False, _size(session / LOG)
        try:
            with _folder(session) as folder, self._watching(process, canceled):
                for message in _conversation(process, job(folder)):
                    if message == messages.READY:
                        self._ready = True
                        continue
                    answered = "progress" not in message
                    if "error" in message:
                        raise messages.error_of(message)
                    if answered:
                        return read(message)
                    if progress is not None:
                        progress(Progress(**message["progress"]))
                raise ending.ended(process.wait(), self._ready, _end_of(session / LOG, begun if self._ready else 0))
        except Exception:
            if process is not self._process:  # stopped: whatever failed, failed for that
                raise Canceled from None
            raise
        finally:
            self.log = _end_of(session / LOG)
            if not answered:  # no one waits for its result
                self._end(process)
                shutil.rmtree(session, ignore_errors=True)  # what was written while it was stopped

    def stop(self) -> None:
        """End the process with all it has started, and remove its files; a job that runs raises Canceled."""
        if self._process is not None:
            self._end(self._process)

    def _end(self, process: subprocess.Popen[str]) -> None:
        """End a process and remove its files, unless it has been replaced."""
        with self._changing:
            if process is not self._process or self._session is None:
                return
            session, self._process, self._session = self._session, None, None
        processes.end(process)
        shutil.rmtree(session, ignore_errors=True)

    def _running(self) -> tuple[subprocess.Popen[str], Path]:
        """Return the process and its folder; start it if there is none."""
        process, session = self._process, self._session
        if process is not None and session is not None and (process.poll() is not None or not session.is_dir()):
            self._end(process)  # it has ended, or is about to: it removes its folder first
        with self._changing:
            if self._process is None or self._session is None:
                session, self._ready = new_folder(), False
                try:
                    self._process = _start(self._python, session, self._idle_seconds, self._handler)
                except BaseException:
                    shutil.rmtree(session, ignore_errors=True)
                    raise
                self._session = session
            return self._process, self._session

    @contextmanager
    def _watching(self, process: subprocess.Popen[str], canceled: CancelCallback | None) -> Iterator[None]:
        """End the process as soon as `canceled` returns True."""
        done = threading.Event()

        def watch() -> None:
            while canceled is not None and not done.wait(0.1):
                if canceled():
                    self._end(process)
                    return

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            done.set()


def _job(
    folder: Path, model: str, volumes: Sequence[Volume], roi: RegionOfInterest | None, options: InferenceOptions
) -> dict[str, Any]:
    """Return the message that asks for a segmentation; the voxels are written to `folder`."""
    return {
        "model": resolve_model(model),
        "volumes": [messages.volume_message(volume, folder, number) for number, volume in enumerate(volumes)],
        "roi": None if roi is None else roi.corners.tolist(),
        "options": options.to_json(),
        "folder": str(folder),
    }


def _conversation(process: subprocess.Popen[str], job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the answers to a job, until one ends it or the process is gone."""
    assert process.stdin is not None and process.stdout is not None
    with suppress(OSError):  # of a process that is gone: Windows reports no broken pipe
        process.stdin.write(i18n.dumps(job) + "\n")
        process.stdin.flush()
    for line in process.stdout:
        with suppress(ValueError):  # a line that is cut off, or a launcher's own output
            yield i18n.loads(line)


def _start(python: str, session: Path, idle_seconds: float, handler: tuple[str, str]) -> subprocess.Popen[str]:
    """Start the process in a group of its own, so that a launcher in between is ended with it."""
    # First of all, for Python runs a file of the current folder in place of its own modules of that name. Its own
    # switches for that are no way out: -I ignores the variables by which Slicer's Python finds its modules, -P and
    # PYTHONSAFEPATH came with Python 3.11.
    script = (
        "import sys; sys.path[:] = [place for place in sys.path if place]; "
        f"sys.path.insert(0, {str(PACKAGE.parent)!r}); "
        f"from {PACKAGE.name}.worker.server import main; from {handler[0]} import {handler[1]}; "
        f"main({str(session)!r}, {idle_seconds!r}, {handler[1]}())"
    )
    # Its temporary files are in the session's folder, too, and are removed with it.
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(session))
    with (session / LOG).open("wb") as log:
        try:
            return subprocess.Popen(
                [python, "-u", "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                env=os.environ | places | {"PYTHONUTF8": "1"} | processes.safe_path(),
                **processes.own_group(),
            )
        except OSError as error:
            raise ending.not_started(python, error) from error


@contextmanager
def _folder(session: Path) -> Iterator[Path]:
    """Create a folder for the files of one job."""
    folder = session / uuid.uuid4().hex
    try:
        folder.mkdir()
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _size(log: Path) -> int:
    """Return how many bytes a log has."""
    with suppress(OSError):  # the folder is gone with a process that has ended just now
        return log.stat().st_size
    return 0


def _end_of(log: Path, begun: int = 0) -> str:
    """Return the end of the log, as far as it was written after its byte `begun`."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(begun, log.stat().st_size - LOG_BYTES))
            return stream.read().decode("utf-8", "replace")
    except OSError:  # the folder is gone with a stopped process
        return ""
