"""Draws the pictures of the window and of the views in README and documentation: `make pictures`.

It does by clicks what the tutorial does, in real Qt without a screen and on a real scene, and writes PNG files into
Resources/ (or into the folder that is named).
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULT = (400, 720)  # pixels: a panel as it is beside the views
CATALOG = (400, 640)
OF_PARTS = "total-ct"


def main(folder: Path) -> None:
    """Draw all pictures into this folder."""
    sys.path[:0] = [str(HERE), str(HERE / "Gui")]
    import fakes

    fakes.install()
    import slicer
    from fakes import dialogs
    from user_actions import close_module, grab_panel, open_module

    slicer.app.testing = False
    dialogs.start()
    window = open_module()
    window.ui.openvinoBox.setChecked(False)
    window.logic.getParameterNode().modelId = "hippocampus-mr-unet"
    window.ui.changeButton.click()
    window.ui.modelSearch.setText("hippo")
    window.ui.moreButton.click()
    _save(grab_panel((400, 640)), folder / "window-models.png")
    window.ui.moreButton.click()
    window.ui.changeButton.click()
    _show_catalog(window, folder)
    _segment(window)
    _save(grab_panel(RESULT), folder / "window-result.png")
    window.ui.show3DButton.click()
    _draw_views(window, folder / "views.png")
    close_module()


def _show_catalog(window: object, folder: Path) -> None:
    """The full list, and what a structure has found; structures to tick, and a model of several parts."""
    from user_actions import grab_panel

    ui, chosen = window.ui, window.logic.getParameterNode().modelId
    ui.changeButton.click()
    ui.modelTree.topLevelItem(0).setExpanded(False)
    ui.modelTree.scrollToBottom()
    everything = grab_panel(CATALOG)
    ui.modelSearch.setText("iliopsoas")
    _save(_beside(everything, grab_panel(CATALOG)), folder / "window-catalog.png")
    ui.changeButton.click()
    window.logic.getParameterNode().modelId = OF_PARTS
    ui.structuresButton.click()
    ui.noStructuresButton.click()
    ui.structureSearch.setText("kidney")
    ui.allStructuresButton.click()
    ui.modelSection.collapsed = ui.inputsSection.collapsed = True
    ticked = grab_panel(CATALOG)
    ui.modelSection.collapsed = ui.inputsSection.collapsed = False
    ui.allStructuresButton.click()
    ui.structuresButton.click()
    ui.moreButton.click()
    ui.modelDetails.find("Parts")
    _save(_beside(ticked, grab_panel(CATALOG)), folder / "window-structures.png")
    ui.moreButton.click()
    window.logic.getParameterNode().modelId = chosen


def _beside(left: object, right: object) -> object:
    """Two pictures as one."""
    import qt

    both = qt.QPixmap(left.width() + right.width(), max(left.height(), right.height()))
    painter = qt.QPainter(both)
    painter.drawPixmap(0, 0, left)
    painter.drawPixmap(left.width(), 0, right)
    painter.end()
    return both


def _segment(window: object) -> None:
    """Sample, region, Apply."""
    from user_actions import wait_until

    window.ui.sampleButton.click()
    window.ui.roiSliceButton.click()
    window.ui.confidenceBox.click()
    window.ui.applyButton.click()
    wait_until(lambda: not window.run.running)


def _draw_views(window: object, path: Path) -> None:
    from views import draw_views

    parameters = window.logic.getParameterNode()
    draw_views(parameters.input1, parameters.result, path)
    print(path)


def _save(picture: object, path: Path) -> None:
    if not picture.save(str(path)):
        raise SystemExit(f"{path} cannot be written. Name a folder that is there.")
    print(path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as own:
        os.environ["LIGHTSEG_WEIGHTS"] = os.environ["LIGHTSEG_MODELS"] = own  # none of the user's models
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "Resources")
