"""The process that computes: reads jobs from its input, answers on its output, and keeps the last model loaded.

It ends when it has had nothing to do for a while and at once when its input is closed, as it is when the client is
gone, however that ended; the session's folder is removed then. What libraries print goes to the log.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import sys
import threading
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from . import messages

if TYPE_CHECKING:
    from ..segmenter import Segmenter


def main(session: str, idle_seconds: float) -> None:
    """Serve until there is nothing to do. session: folder of this process's files; removed at the end."""
    answers = _private_output()
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read, args=(jobs, session), daemon=True).start()
    server = _Server(answers)
    while True:
        try:
            job = jobs.get(timeout=idle_seconds)
        except queue.Empty:
            _end(session)
        server.work(job)


def _private_output() -> TextIO:
    """What was the standard output; from now on all that is printed goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


def _read(jobs: queue.Queue[dict[str, Any]], session: str) -> None:
    for line in sys.stdin:
        jobs.put(json.loads(line))
    _end(session)


def _end(session: str) -> None:
    """Whatever else is running: nobody waits for it."""
    shutil.rmtree(session, ignore_errors=True)
    os._exit(0)


class _Server:
    """Works one job at a time and keeps the last model for the next."""

    def __init__(self, answers: TextIO) -> None:
        self._answers = answers
        self._segmenter: Segmenter | None = None
        self._made_for: tuple[Any, ...] = ()

    def work(self, job: dict[str, Any]) -> None:
        try:
            answer = {"segmentation": self._segment(job)}
        except Exception as error:
            traceback.print_exc()
            answer = messages.error_message(error)
        self._say(answer)

    def _segment(self, job: dict[str, Any]) -> dict[str, Any]:
        from ..catalog.store import find_card
        from ..pipeline.region import Region

        card = find_card(job["model"])
        options = dict(job["options"])
        confidence = options.pop("confidence", False)
        segmenter = self._loaded((card, tuple(sorted(options.items()))), card, options)
        segmentation = segmenter.segment(
            [messages.volume_of(volume) for volume in job["volumes"]],
            None if job["region"] is None else Region(np.array(job["region"])),
            lambda progress: self._say({"progress": asdict(progress)}),
            confidence=confidence,
        )
        return messages.segmentation_message(segmentation, Path(job["folder"]))

    def _loaded(self, key: tuple[Any, ...], card: Any, options: dict[str, Any]) -> Segmenter:
        from ..segmenter import Segmenter

        if self._segmenter is None or self._made_for != key:
            self._segmenter = None  # two models do not lie in memory at a time
            self._segmenter, self._made_for = Segmenter(card, **options), key
        return self._segmenter

    def _say(self, message: dict[str, Any]) -> None:
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()
