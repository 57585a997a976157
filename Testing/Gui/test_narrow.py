"""The panel in a small window: what matters is in view, and no state needs more width than it has."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import slicer
from fakes.qt_application import APPLICATION
from languages import LANGUAGES, spoken
from panel_states import STATES
from user_actions import close_module, grab_panel, in_view, open_module, panel, resize_panel

import LightSeg

SMALL, LARGE = (360, 560), (500, 900)
NARROWEST = 340
ONE_LINE = ("QPushButton", "QCheckBox", "QToolButton", "ctkCollapsibleButton", "QLabel")


@pytest.fixture(params=STATES)
def state(request):
    return request.param


@pytest.fixture
def stored(models_folder, make_model, tmp_path, monkeypatch):
    """A model of the user's with a long name, so that the table of what is stored has a row."""
    import shutil

    shutil.copytree(make_model(), tmp_path / "users models" / "tiny-1")
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "users models"))


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["360", "500"])
def test_apply_its_progress_and_the_first_lines_of_the_result_are_always_in_view(window, state, size, pictures):
    STATES[state](window)
    resize_panel(*size)
    assert panel().width == size[0]
    assert grab_panel(size).save(str(pictures / f"{size[0]} {state}.png"))
    for place in (0, window.ui.scrollArea.verticalScrollBar().maximum):
        window.ui.scrollArea.verticalScrollBar().setValue(place)
        slicer.app.processEvents()
        assert in_view(window.ui.applyButton)
        for shown in (window.ui.progressBar, window.ui.statusLabel, window.ui.summaryList, window.ui.copyDetailsButton):
            assert not shown.visible or in_view(shown), shown.objectName
        assert not panel().scrollArea().verticalScrollBar().maximum, "the panel itself has nothing to scroll"


def needed_width(window):
    """Of the whole form: what is fixed, and what scrolls with its scroll bar."""
    area = window.ui.scrollArea
    scrolled = area.widget().minimumSizeHint.width() + area.verticalScrollBar().sizeHint.width() + 2 * area.frameWidth
    margins = window.ui.runPart.parent().layout().contentsMargins
    return max(scrolled, window.ui.runPart.minimumSizeHint.width()) + margins.left() + margins.right()


@pytest.mark.parametrize(
    ("language", "size"),
    [
        ("en", 100),
        pytest.param("de", 150, marks=pytest.mark.slow),
        pytest.param("en", 150, marks=pytest.mark.slow),
        pytest.param("de", 100, marks=pytest.mark.slow),
        pytest.param("zh", 100, marks=pytest.mark.slow),
        pytest.param("zh", 150, marks=pytest.mark.slow),
    ],
)
def test_no_state_needs_more_than_a_narrow_panel(scene, raised, stored, language, size, warm_worker, pictures):
    font = APPLICATION.font()
    large = APPLICATION.font()
    large.setPointSizeF(font.pointSizeF() * size / 100)
    widths = {}
    try:
        APPLICATION.setFont(large)
        for state, change in STATES.items():
            scene.Clear(0)
            with spoken(language):
                window = open_module()
                window.ui.advancedSection.collapsed = False
                window.refresh()
                change(window)
                resize_panel(NARROWEST, 700)
                widths[state] = needed_width(window)
                grab_panel((NARROWEST, 700)).save(str(pictures / f"narrow {language} {size} {state}.png"))
                close_module()
    finally:
        APPLICATION.setFont(font)
    assert max(widths.values()) <= NARROWEST, widths


def test_the_other_languages_have_every_word_that_asks_for_room():
    form = ElementTree.parse(Path(LightSeg.__file__).parent / "Resources" / "UI" / "LightSeg.ui").getroot()
    words = set()
    for widget in form.iter("widget"):
        if widget.attrib["class"] in ONE_LINE:
            texts = [p.findtext("string") for p in widget.findall("property") if p.attrib["name"] == "text"]
            words |= {text for text in texts if text and text != "?"}
    for language in ("de", "zh"):
        assert not words - LANGUAGES[language].keys()
