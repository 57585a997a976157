"""The process that computes: reads jobs from its input, answers on its output; what it does is its owner's choice.

It ends when it has had nothing to do for a while and at once when its input is closed, as it is when the client is
gone, however that ended; the session's folder is removed then. What libraries print goes to the log.
"""

from __future__ import annotations

import os
import queue
import shutil
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TextIO

from ..core import i18n
from ..core.plain_text import without_secrets
from ..core.progress import Progress, ProgressCallback
from . import messages

Handler = Callable[[dict[str, Any], ProgressCallback], dict[str, Any]]


def main(session: str, idle_seconds: float, handler: Handler) -> None:
    """Serve until there is nothing to do.

    Args:
        session: folder of this process's files; removed at the end.
        handler: from a job's message and a progress callback to the message that answers it.
    """
    answers = _private_output()
    _say(answers, messages.READY, session)  # whatever ends the process from now on, all that it needs is there
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read, args=(jobs, session), daemon=True).start()
    while True:
        try:
            job = jobs.get(timeout=idle_seconds)
        except queue.Empty:
            _end(session)
        _say(answers, _answer(job, handler, answers, session), session)


def _private_output() -> TextIO:
    """Return the original standard output; from now on, prints go to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


def _read(jobs: queue.Queue[dict[str, Any]], session: str) -> None:
    """Queue the jobs that come on standard input; end the process when it closes."""
    for line in sys.stdin:
        jobs.put(i18n.loads(line))
    _end(session)


def _end(session: str) -> None:
    """End the process, whatever else it is doing: its owner does not wait."""
    shutil.rmtree(session, ignore_errors=True)
    os._exit(0)


def _answer(job: dict[str, Any], handler: Handler, answers: TextIO, session: str) -> dict[str, Any]:
    """Return the answer to a job, or the error it raised, as a message."""

    def report(progress: Progress) -> None:
        _say(answers, {"progress": asdict(progress)}, session)

    try:
        return handler(job, report)
    except Exception as error:
        with suppress(OSError):  # the log may be on the full disk
            print(without_secrets(traceback.format_exc()), file=sys.stderr)
        return messages.error_message(error)


def _say(answers: TextIO, message: dict[str, Any], session: str) -> None:
    """Write a message; end the process if its owner is gone."""
    try:
        answers.write(i18n.dumps(message) + "\n")
        answers.flush()
    except OSError:  # the owner is gone; to the handler it would look like a fault of its own, and be recorded
        _end(session)
