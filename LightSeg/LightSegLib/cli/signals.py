"""A command that receives a signal to end cleans up first, as after Ctrl-C.

The signal may come from a scheduler, or because the terminal closes.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP


@contextmanager
def ends_as_by_ctrl_c() -> Iterator[None]:
    """The first of these signals raises KeyboardInterrupt, further ones are ignored, so that cleaning up ends.

    What is ignored already, as `nohup` does with SIGHUP, stays so; so does all outside the main thread.
    """
    known = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    mine = [one for one in known if signal.getsignal(one) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        mine = []

    def stop(number: int, frame: object) -> None:
        for one in mine:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    for one in mine:
        signal.signal(one, stop)
    try:
        yield
    finally:
        for one in mine:
            signal.signal(one, signal.SIG_DFL)
