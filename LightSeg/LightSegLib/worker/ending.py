"""Why a worker process could not start, or ended although it had a job: by its exit code and the end of its log."""

from __future__ import annotations

import errno
import signal
from contextlib import suppress

from ..core.errors import DeviceError, LightSegError
from ..core.i18n import tr as _
from . import messages

KILLED = -9  # by SIGKILL, a name that Windows lacks: so Linux ends what takes too much memory
LAUNCHER = 1  # Slicer's launcher ends with it, whatever ended the program behind it; Python does, too, after an error
NO_MEMORY = (0xC0000017, 0xC000012D)  # STATUS_NO_MEMORY, STATUS_COMMITMENT_LIMIT of Windows (ntstatus.h)
NO_LIBRARY = (0xC0000135, 0xC0000139, 0xC0000142)  # STATUS_DLL_NOT_FOUND, _ENTRYPOINT_NOT_FOUND, _DLL_INIT_FAILED
NAMES = {0xC0000005: "access violation", 0xC000001D: "illegal instruction", 0xC0000409: "stack buffer overrun"}
TRACEBACK = "Traceback (most recent call last):"  # of Python, as it ends


def not_started(program: str, error: OSError) -> DeviceError:
    """Return the error of an interpreter that the system does not run."""
    if error.errno in (errno.ENOMEM, errno.EAGAIN):
        return _no_memory(str(error.strerror))
    return DeviceError(
        _(
            "The computation could not start because the program {program} cannot be run ({reason}). "
            "Check that it exists and may be run, or install it again."
        ).format(program=program, reason=error.strerror or error)
    )


def ended(code: int, ready: bool, log: str) -> LightSegError:
    """Return why a process is gone.

    Args:
        code: its exit code, negative for a signal.
        ready: whether it had begun to wait for jobs.
        log: what it has written during the job, or since its start where it was not ready.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    status = code & 0xFFFFFFFF  # of Windows
    if code == KILLED or status in NO_MEMORY:
        return _no_memory(_reason(code))
    if status in NO_LIBRARY:
        return DeviceError(
            _(
                "The computation could not start because a library of Windows or PyTorch is missing or does not fit "
                "({reason}). Install the Microsoft Visual C++ Redistributable, or install PyTorch again."
            ).format(reason=_reason(code))
        )
    if not ready:
        return DeviceError(
            _(
                "The computation could not start ({reason}). Install LightSeg and PyTorch again, "
                "or report this together with the log."
            ).format(reason=": ".join([_reason(code), *lines[-1:]]))
        )
    if TRACEBACK in lines:
        return messages.error_of({"error": None, "message": lines[-1]})
    if code == LAUNCHER:
        return _no_memory(_reason(code))
    return DeviceError(
        _(
            "The computation ended unexpectedly ({reason}). Try again, "
            "with the device CPU if a graphics card was used; the log has details."
        ).format(reason=_reason(code))
    )


def _no_memory(reason: str) -> DeviceError:
    """Return the error of a process that the system ended, or did not start, for it took too much memory."""
    return DeviceError(
        _(
            "The system ended the computation ({reason}), most likely because memory ran out. "
            "Close other programs or choose a smaller region of interest."
        ).format(reason=reason)
    )


def _reason(code: int) -> str:
    """Return an exit code as text, by its name if there is one."""
    with suppress(ValueError):
        if code < 0:
            return signal.Signals(-code).name
    if (status := code & 0xFFFFFFFF) < 0xC0000000:
        return f"exit code {code}"
    return f"{NAMES[status]}, 0x{status:08X}" if status in NAMES else f"exit code 0x{status:08X}"
