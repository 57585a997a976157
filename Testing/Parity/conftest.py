"""nnU-Net's own environment, the images that models are trained and compared on, and the table at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(Path(__file__).parent))

from comparison import HEADINGS, Comparison, NnUnet, lightseg_answer  # noqa: E402 (the path must be set first)

ROWS = pytest.StashKey[list[tuple[str, ...]]]()


@pytest.fixture(scope="session")
def nnunet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NnUnet]:
    """nnU-Net, run by the Python that LIGHTSEG_PEERS names, which then must be there."""
    named = os.environ.get("LIGHTSEG_PEERS")
    python = Path(named or REPOSITORY / ".venv-peers" / "bin" / "python")
    if not python.is_file():
        complaint = f"there is no Python with nnU-Net in {python}; 'make parity' installs it"
        pytest.fail(complaint) if named else pytest.skip(complaint)
    with (tmp_path_factory.mktemp("nnunet") / "log.txt").open("w", encoding="utf-8") as log:
        process = NnUnet(python, log)
        yield process
        process.stop()


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


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("LightSeg beside nnU-Net")
    for number, heading in enumerate(HEADINGS, start=1):
        terminalreporter.write_line(f"{number} {heading}")
    numbers = tuple(map(str, range(1, len(HEADINGS) + 1)))
    widths = [max(map(len, column)) for column in zip(numbers, *rows, strict=True)]
    for first, *others in (numbers, *rows):
        cells = [entry.rjust(width) for entry, width in zip(others, widths[1:], strict=True)]
        terminalreporter.write_line("  ".join((first.ljust(widths[0]), *cells)))
