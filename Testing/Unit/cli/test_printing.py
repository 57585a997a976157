"""What a long run prints where its output goes to a file."""

from __future__ import annotations

import pytest
from LightSegLib.cli import printing
from LightSegLib.cli.printing import ProgressLine
from LightSegLib.core.i18n import Message
from LightSegLib.core.progress import Progress


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(printing, "time", made)
    return made


def run(clock: Clock, seconds: float, tiles: int = 240, quiet: bool = False) -> None:
    """A model that is downloaded, and then runs tile by tile, for so long altogether."""
    progress = ProgressLine(quiet)
    progress(Progress(Message("Preparing")))
    for part in range(1, tiles + 1):
        clock.now += seconds / 2 / tiles
        progress(Progress(Message("Downloading"), received=part, size=tiles, bytes_per_second=1.0))
    for tile in range(tiles + 1):
        clock.now += seconds / 2 / tiles
        progress(Progress(Message("Segmenting"), tile, tiles))
    progress.clear()


def test_a_long_run_writes_a_line_for_each_tenth_of_its_work(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    run(clock, 600)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"lightseg: {n}0 %" for n in range(1, 11)] * 2
    assert lines[0].startswith("lightseg: 10 %, Downloading, ") and lines[10] == "lightseg: 10 %, Segmenting 24/240"
    assert lines[-1] == "lightseg: 100 %, Segmenting 240/240"


def test_a_shorter_run_writes_fewer_lines_and_a_short_or_quiet_one_none(
    clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    run(clock, 33)  # lines are five seconds apart
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"lightseg: {n} %" for n in (30, 60, 90)] * 2
    run(clock, 4)
    run(clock, 600, quiet=True)
    assert capfd.readouterr() == ("", "")
