"""Another program in a process of its own Python, which stays for all cases."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


class Peer:
    """Asks by a line of JSON on its stdin, and reads the answer from its stdout.

    Args:
        command: Python, a script of this folder, and its arguments.
        log: takes what it says besides.
    """

    def __init__(self, command: Sequence[str | Path], log: IO[str]) -> None:
        self._log = log
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, encoding="utf-8"
        )

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return its answer; raises RuntimeError with its own words if it fails."""
        reply = self._reply(json.dumps(job))
        if "error" in reply:
            raise RuntimeError(f"{reply['error']}\n{Path(self._log.name).read_text(encoding='utf-8')[-2000:]}")
        return reply

    def _reply(self, job: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(job + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):
            return {"error": f"its process ended with exit code {self._process.wait(60)}"}

    def stop(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it may have ended before
            self._process.stdin.close()
        self._process.wait(60)


@contextmanager
def running(command: Sequence[str | Path], folder: Path) -> Iterator[Peer]:
    """Start a program whose log goes to a folder."""
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        peer = Peer(command, log)
        try:
            yield peer
        finally:
            peer.stop()
