"""Cores are used by computing several tiles at a time, each in one thread: so no voxel depends on how many there are.

Within one operation the number of threads decides how a sum is split, and with it the rounding; several kernels of
torch, oneDNN and MKL differ for that reason alone. An operation in one thread always adds in the same order. It also
keeps a busy computer fast, where the threads of one operation would wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from ..core.system import cores

_running = threading.RLock()  # one run uses all cores; the number of threads is one for the whole process


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Let torch compute every operation in one thread; gives the number of threads that it may use in all.

    That number is torch's own (`torch.set_num_threads`, OMP_NUM_THREADS), which is back afterwards, but no more than a
    container's share of the processor. A second thread of the program waits until the first has left.
    """
    with _running:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield min(threads, cores())
        finally:
            torch.set_num_threads(threads)


def pool(count: int) -> Executor:
    """Runs `count` pieces of work at a time, each in one thread; left early, it drops what has not begun."""
    return _Pool(count, "lightseg", initializer=lambda: torch.set_num_threads(1))


class InlineExecutor(Executor):
    """Does the work when it is submitted, in the same thread."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Run the work at once and return it as a finished future."""
        done: Future[Any] = Future()
        done.set_result(work(*arguments, **options))
        return done


class _Pool(ThreadPoolExecutor):
    """Threads that drop work which was not begun when an error leaves the block."""

    def __exit__(self, kind: object, *_: object) -> None:
        self.shutdown(wait=True, cancel_futures=kind is not None)
