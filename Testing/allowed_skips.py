"""Which tests may be skipped: those that a machine cannot run, never those for which something was not installed.

With `--only-allowed-skips` (as `.ci/run` gives it) any other skip fails the run, so that a missing library or browser
cannot hide a suite. A reason is allowed that begins with one of these.
"""

from __future__ import annotations

from typing import Any

import pytest

ALLOWED = (
    "the real volumes are not on this machine",  # shared/ beside the checkout
    "the published weights are not on this machine",
    "dciodvfy is not on this machine",  # a program of Debian, not a library
    "slicer-core has no wheel for this Python",
    "this machine has no GPU",
    "this processor has no native bfloat16",
    "this machine has no room or no network for TotalSegmentator",
    "this PyTorch has no oneDNN",
    # tests of one operating system
    "Windows has no signals",
    "only Linux tells the memory of a process and of a container",
    "names are text on other systems",
    "needs a folder that even root cannot write to",
    "needs a limit on file sizes",
    "only Linux makes a locale at will",
    "only Linux has ",
    "needs SIGKILL",
    "needs the names of open files",
    "only Linux limits another process",
    "reads the peak memory from /proc",
)


class OnlyAllowedSkips:
    """Collects the skips of a run, those of parallel runs and of whole files too, and judges them at its end."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}  # reason by test or file

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._note(report)

    def pytest_collectreport(self, report: Any) -> None:
        self._note(report)

    def _note(self, report: Any) -> None:
        if report.outcome != "skipped" or hasattr(report, "wasxfail"):
            return
        reason = reason_of(report.longrepr)
        if not reason.startswith(ALLOWED):
            self.refused[report.nodeid] = reason

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: Any) -> None:
        if self.refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.refused:
            return
        terminalreporter.section("skipped although this machine should run them")
        for test, reason in self.refused.items():
            terminalreporter.write_line(f"{test}: {reason}", red=True)


def reason_of(longrepr: Any) -> str:
    """Of a skip, as pytest reports it: a file, a line and "Skipped: reason"."""
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")
