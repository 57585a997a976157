"""What this computer has for a job: cores, memory that is left, and the most that this process has held."""

from __future__ import annotations

import math
import os
import platform
import re
import sys
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # where containers and services on Linux have their limits, in version 1 or 2
PROCESS = Path("/proc/self")
GPU_TRACES = (  # of NVIDIA's driver, AMD's, and NVIDIA's in the Linux of Windows
    Path("/dev/nvidia0"),
    Path("/dev/kfd"),
    Path("/usr/lib/wsl/lib/libcuda.so.1"),
)


def cores() -> int:
    """Return the number of cores that this process may use, or that its container's share of time keeps busy."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *map(math.ceil, _cpu_quotas())])) if sys.platform == "linux" else count


def lower_priority(nice: int) -> None:
    """Lower this process's priority to `nice` (0 to 19), if the system can, so that other programs go first."""
    if hasattr(os, "setpriority"):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), nice))


def processor_name() -> str:
    """Return the processor's name as its maker gives it, or an empty text if the system does not report it."""
    with suppress(OSError):
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor()


def may_have_gpu() -> bool:
    """Return whether the system shows a GPU on which PyTorch could compute; only PyTorch knows whether it can.

    It is quick and needs no PyTorch: drivers leave devices or a library, and Apple's own processors have a GPU.
    """
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", "C:/Windows"), "System32", "nvcuda.dll").is_file()
    return any(trace.exists() for trace in GPU_TRACES)


def free_memory() -> int | None:
    """Return the bytes that a process may still take, or None if the system does not report them."""
    if sys.platform == "win32":
        return _windows()
    if sys.platform == "darwin":
        return None
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    return max(0, min([free, *_memory_left()]))


def _cpu_quotas() -> list[float]:
    """Return the seconds of processor time in a second that each group of this process may take (cgroup 2, then 1).

    Source: the kernel's documentation, admin-guide/cgroup-v2 (cpu.max) and scheduler/sched-bwc.
    """
    found = []
    for group in _groups(""):
        with suppress(OSError, ValueError, ZeroDivisionError):  # "max" for no quota
            quota, period = map(int, (group / "cpu.max").read_text(encoding="ascii").split())
            found.append(quota / period)
    for group in _groups("cpu"):
        with suppress(OSError, ValueError, ZeroDivisionError):
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = (int((group / name).read_text(encoding="ascii")) for name in names)
            if quota > 0:  # -1 for none
                found.append(quota / period)
    return found


def _memory_left() -> list[int]:
    """Return the bytes that each group of this process may still take; files that were read may be dropped again.

    Source: the kernel's documentation, admin-guide/cgroup-v2 and cgroup-v1/memory.
    """
    found = []
    for controller, limit, usage, droppable in (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        for group in _groups(controller):
            with suppress(OSError, ValueError, KeyError):  # no group, or "max" for no limit
                most, used = (int((group / name).read_text(encoding="ascii")) for name in (limit, usage))
                stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
                found.append(most - used + int(stat[droppable]))
    return found


def _groups(controller: str) -> list[Path]:
    """Return the folders of this process's control group and of those above it; empty for version 2.

    Within a container the topmost is its own, and what the system calls the group may not be there.
    """
    top = CGROUP / controller
    lines = []
    with suppress(OSError):
        lines = (PROCESS / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            own = top / path.lstrip("/")
            return [own, *(parent for parent in own.parents if parent.is_relative_to(top))]
    return [top]


def reset_peak_memory() -> None:
    """Let `peak_memory` start anew, where the system can (Linux: proc_pid_clear_refs(5), value 5)."""
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int | None:
    """Return the most bytes that this process has held, or None if the system does not report them."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+)", (PROCESS / "status").read_text(encoding="utf-8", errors="replace"))
        if found:
            return int(found[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _windows() -> int:
    """Return the free memory in bytes, by the Windows API."""
    import ctypes

    class Status(ctypes.Structure):
        """MEMORYSTATUSEX of the Windows API."""

        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "page_total", "page_free", "v", "vf", "e")),
        ]

    status = Status()
    status.length = ctypes.sizeof(status)
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.free)
