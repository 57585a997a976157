"""nnU-Net's own environment, the images that models are trained and compared on, and the table at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
sys.path.insert(0, str(HERE))

# ruff: noqa: E402 (the path must be set first)
import comparison
import totalsegmentator_comparison
from comparison import Comparison, NnUnet, lightseg_answer
from peer import running
from totalsegmentator_comparison import Case, SideBySide, TotalSegmentator

ROWS = pytest.StashKey[list[tuple[str, ...]]]()
WHOLE_ROWS = pytest.StashKey[list[tuple[str, ...]]]()
NOT_INSTALLED = "this machine has no room or no network for TotalSegmentator"


@pytest.fixture(scope="session")
def nnunet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NnUnet]:
    """nnU-Net, run by the Python that LIGHTSEG_PEERS names, which then must be there."""
    named = os.environ.get("LIGHTSEG_PEERS")
    python = Path(named or REPOSITORY / ".venv-peers" / "bin" / "python")
    if not python.is_file():
        complaint = f"there is no Python with nnU-Net in {python}; 'make parity' installs it"
        pytest.fail(complaint) if named else pytest.skip(complaint)
    with running([python, HERE / "run_nnunet.py"], tmp_path_factory.mktemp("nnunet")) as peer:
        yield NnUnet(peer)


@pytest.fixture(scope="session")
def totalsegmentator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TotalSegmentator]:
    """TotalSegmentator with a folder of weights of its own, where 'make parity' could install it."""
    environment = REPOSITORY / ".venv-totalsegmentator"
    if not (environment / ".requirements").is_file():
        pytest.skip(NOT_INSTALLED)
    folder = tmp_path_factory.mktemp("totalsegmentator")
    weights = folder / "weights"
    command = [environment / "bin" / "python", HERE / "run_totalsegmentator.py", weights, folder / "home", "1"]
    with running(command, folder) as peer:
        yield TotalSegmentator(peer, weights, folder / "models")


@pytest.fixture
def compare(
    nnunet: NnUnet,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Callable[..., Comparison]:
    """Asks both programs for their answer; the figures join the table."""

    def compare(
        case: str, model: Path, images: Sequence[Path], folds: Sequence[int] = (0,), mirror: bool = False
    ) -> Comparison:
        out = tmp_path_factory.mktemp("answers")
        ours = lightseg_answer(model, folds, images, out / "lightseg", mirror)
        shipped = nnunet.answer(model, folds, images, out / "as shipped", mirror, float32=False)
        exact = nnunet.answer(model, folds, images, out / "float32", mirror, float32=True)
        comparison = Comparison(case, ours, shipped, exact)
        pytestconfig.stash.setdefault(ROWS, []).append(comparison.row())
        return comparison

    return compare


@pytest.fixture
def compare_whole(
    totalsegmentator: TotalSegmentator, tmp_path: Path, pytestconfig: pytest.Config
) -> Callable[..., SideBySide]:
    """Takes the fields of a `Case`, which both programs segment; the figures join a table."""

    def compare(*facts: Any, **options: Any) -> SideBySide:
        result = totalsegmentator.compare(Case(*facts, **options), tmp_path / "labels")
        pytestconfig.stash.setdefault(WHOLE_ROWS, []).append(result.row())
        return result

    return compare


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for title, headings, key in (
        ("nnU-Net", comparison.HEADINGS, ROWS),
        ("TotalSegmentator", totalsegmentator_comparison.HEADINGS, WHOLE_ROWS),
    ):
        if rows := config.stash.get(key, []):
            terminalreporter.section(f"LightSeg beside {title}")
            _write_table(terminalreporter, headings, rows)


def _write_table(terminalreporter: Any, headings: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    for number, heading in enumerate(headings, start=1):
        terminalreporter.write_line(f"{number} {heading}")
    numbers = tuple(map(str, range(1, len(headings) + 1)))
    widths = [max(map(len, column)) for column in zip(numbers, *rows, strict=True)]
    for first, *others in (numbers, *rows):
        cells = [entry.rjust(width) for entry, width in zip(others, widths[1:], strict=True)]
        terminalreporter.write_line("  ".join((first.ljust(widths[0]), *cells)))
