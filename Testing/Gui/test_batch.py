"""Many files from the Python console, while the application stays usable."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import qt
from batch_cases import PLAIN, write_volume
from LightSegLib.batch.engine import Engine
from LightSegLib.core.errors import Canceled
from user_actions import close_application_during

import LightSeg

ENGINE = Engine(workers=1)


def test_slicer_that_is_closed_meanwhile_ends_the_batch(scene: Any, tmp_path: Path) -> None:
    """Else it would compute on without a window, and start again beside it would find its folder in use."""
    for number in range(3):
        write_volume(tmp_path / "in" / f"{number}.nii.gz", number)
    given = (str(tmp_path / "in"), "hippocampus-mr-unet", str(tmp_path / "out"))
    with pytest.raises(Canceled):
        close_application_during(lambda: LightSeg.LightSegLogic().segmentFiles(*given, PLAIN, ENGINE))
    assert not [*(tmp_path / "out").glob("*.nrrd")]


@pytest.mark.slow
def test_a_folder_is_segmented_while_the_application_goes_on(scene: Any, tmp_path: Path) -> None:
    """A timer ticks meanwhile; the batch is canceled after its first case, and then goes on."""
    names = [f"ä {number:02d}" for number in range(8)]
    for number, name in enumerate(names):
        write_volume(tmp_path / "in" / f"{name}.nii.gz", number)
    logic, ticks, states = LightSeg.LightSegLogic(), [], []
    given = (str(tmp_path / "in"), "hippocampus-mr-unet", str(tmp_path / "out"))
    timer = qt.QTimer()
    timer.timeout.connect(lambda: ticks.append(1))
    timer.start(20)

    logic.progressCallback, logic.cancelCallback = states.append, lambda: bool(states and states[-1].done)
    with pytest.raises(Canceled):
        logic.segmentFiles(*given, PLAIN, ENGINE)
    assert len(ticks) > 10
    done = states[-1].done
    assert 1 <= done < len(names)

    logic.cancelCallback = None
    outcome = logic.segmentFiles(*given, PLAIN, ENGINE)
    timer.stop()
    assert outcome.state.skipped >= done, "one more may have been recorded than was told"
    assert (outcome.state.finished, outcome.state.failed) == (len(names), 0)
    with outcome.table.open(newline="", encoding="utf-8") as stream:
        assert [line["case"] for line in csv.DictReader(stream)] == names
    assert not scene.GetNodesByClass("vtkMRMLSegmentationNode").GetNumberOfItems(), "the scene is not touched"
