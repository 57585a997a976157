"""The page on a batch: its numbers are those of the rows, names stay names, and a browser sorts, filters and shows."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from balls import make_balls
from browsing import browser
from LightSegLib.batch import report, volume_statistics
from LightSegLib.batch.case import SkippedInput
from LightSegLib.batch.records import DONE, FAILED, Row
from LightSegLib.batch.settings import Batch, Settings
from LightSegLib.catalog.card import Card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import OutputError
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.rendering.case import GAP, SIDE, draw_case

MODEL = "hippocampus-mr-lightmedseg"


@pytest.fixture
def card() -> Card:
    return find_card(MODEL)


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Results in a folder whose name is hard on addresses."""
    out = tmp_path / "Kohorte #1 50% ä"
    (out / "pictures").mkdir(parents=True)
    return Batch(MODEL, "a" * 64, out, Settings())


def make_rows(card: Card, number: int = 30) -> list[Row]:
    """Volumes that vary a little, one case far too large and one far too small; the last one failed."""
    random = np.random.default_rng(0)
    rows = []
    for n in range(number):
        ml = {label.name: float(random.normal(2, 0.1)) for label in card.labels}
        rows.append(
            Row(f"case {n:03d}", DONE, MODEL, "a" * 64, "b" * 64, "/data/a.nii", "c" * 64, ml, 0.9, 1.5 + n, 700.0)
        )
    first = card.labels[0].name
    rows[3].ml[first], rows[4].ml[first] = 9.25, 0.0123
    error = "The image is constant: <b>every</b> voxel is 0 & nothing else. Check it."
    return [*rows, Row("broken", FAILED, MODEL, "a" * 64, "b" * 64, error=error)]


def write(card: Card, batch: Batch, rows: list[Row], skipped_inputs: tuple[SkippedInput, ...] = ()) -> str:
    return report.write_report(card, "f" * 64, batch, lambda: rows, skipped_inputs).read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a browser would see: cells of the table of cases, tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.table: list[list[str]] = []
        self.exact: list[list[str | None]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside, self._cell, self._script = False, False, ""
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside |= dict(attrs).get("id") == "cases"
        if self._inside and tag == "tr":
            self.table.append([])
            self.exact.append([])
        if self._inside and tag in ("th", "td"):
            self.table[-1].append("")
            self.exact[-1].append(dict(attrs).get("data-v"))
            self._cell = True
        if tag in ("script", "style"):
            self._script = tag
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside &= tag != "table"
        self._cell &= tag not in ("th", "td")
        self._script = "" if tag == self._script else self._script

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[-1] += data
            return
        self.text += data
        if self._cell:
            self.table[-1][-1] += data

    def attributes(self, name: str) -> list[str]:
        return [value for _, found in self.tags if (value := found.get(name)) is not None]


def test_every_case_is_in_the_table_with_its_numbers(card: Card, batch: Batch) -> None:
    rows = make_rows(card)
    page = Page(write(card, batch, rows))
    heads, *lines = page.table
    assert heads[:3] == ["Case", "Status", "Error, notices, outliers"]
    assert heads[3:5] == [f"{label.name} (ml)" for label in card.labels]
    assert [line[0] for line in lines] == ["broken", *(row.case for row in rows[:-1])]
    assert all(len(line) == len(heads) for line in lines)
    for exact, row in zip(page.exact[2:], rows[:-1], strict=True):
        found = [float(value) for value in exact if value is not None]
        assert found == [*row.ml.values(), row.confidence, row.seconds, row.peak_mb]
    assert lines[0][1:3] == [FAILED, rows[-1].error] and set(lines[0][3:5]) == {""}
    assert lines[4][2] == f"{card.labels[0].name} high" and lines[4][3] == "9.25"
    assert lines[5][2] == f"{card.labels[0].name} low" and lines[5][3] == "0.012"


def test_totals_come_after_the_labels_in_the_order_of_the_results(card: Card, batch: Batch) -> None:
    rows = make_rows(card)
    totals = ["Whole", "Both", "Left", "Right", "Head", "Tail"]
    for row in rows[:-1]:
        row.ml.update(dict.fromkeys(totals, 3.0))
    heads = Page(write(card, batch, rows)).table[0]
    assert heads[3:11] == [f"{name} (ml)" for name in [*(label.name for label in card.labels), *totals]]


def test_it_states_what_the_results_depend_on(card: Card, batch: Batch) -> None:
    batch = dataclasses.replace(batch, settings=Settings(InferenceOptions(mirror=True, precision="float32")))
    words = Page(write(card, batch, make_rows(card), (SkippedInput("scout.dcm", "It has one slice."),))).text
    for fact in (card.title, card.version, "f" * 64, card.license, card.citation, "float32", "averaged over"):
        assert fact in words
    assert "must not be used for diagnosis or treatment" in words
    assert "scout.dcm" in words and "It has one slice." in words
    assert "30done" in words.replace("\n", "") and "2with an outlier" in words.replace("\n", "")


def test_names_and_messages_stay_text(card: Card, batch: Batch) -> None:
    """Names come from the users' files, and the maker of a file must not command the reader's browser."""
    evil = '</script><script>alert("1")</script><img src=x onerror=alert(2)>\' & "quoted"'
    label = dataclasses.replace(card.labels[0], name=evil)
    card = dataclasses.replace(card, title=evil, citation=evil, license=evil, labels=(label,))
    rows = [Row(evil, DONE, MODEL, "", "", ml={evil: 1.0 + n}) for n in range(8)]
    rows += [Row(evil, DONE, MODEL, "", "", ml={evil: 99.0}), Row("x", FAILED, evil, "", "", error=evil)]
    page = Page(write(card, batch, rows, (SkippedInput(evil, evil),)))
    assert sum(tag == "script" for tag, _ in page.tags) == 3 and not any(
        tag == "img" and a.get("src") for tag, a in page.tags
    )
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.table[1][2] == evil and page.table[2][0] == evil
    assert page.text.count(evil) > 20


def test_no_character_of_a_page_acts_in_a_terminal(card: Card, batch: Batch) -> None:
    """A series description of a file, an error or a name of a structure may hold what a terminal obeys."""
    evil = "\x1b]0;window\x07 \u202egnp"
    label = dataclasses.replace(card.labels[0], name=evil)
    card = dataclasses.replace(card, title=evil, citation=evil, labels=(label,))
    rows = [Row("a", DONE, MODEL, "", "", ml={evil: 1.0 + n}, notices=[evil]) for n in range(8)]
    rows.append(Row("b", FAILED, MODEL, "", "", error=evil))
    text = write(card, batch, rows, (SkippedInput(evil, evil),))
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert Page(text).text.count(r"\u001b]0;window\u0007 \u202egnp") > 10


def test_nothing_is_asked_of_the_network(card: Card, batch: Batch) -> None:
    text = write(card, batch, make_rows(card))
    page = Page(text)
    addresses = page.attributes("href") + page.attributes("src")
    assert len(addresses) > 30 and not [one for one in addresses if re.match(r"[a-z]+:|//", one)]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|https?:", "".join(page.scripts))
    (policy,) = (found["content"] for _, found in page.tags if found.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy


def test_few_pictures_are_in_the_page_and_many_stay_files(
    card: Card, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(card)
    for row in rows[:2]:
        (batch.out / "pictures" / f"{row.case}.png").write_bytes(b"\x89PNG" + row.case.encode())
    embedded = json.loads(Page(write(card, batch, rows)).scripts[-2])
    assert sorted(embedded) == ["case 000", "case 001"]
    monkeypatch.setattr(report, "EMBEDDED", 20)  # 24 bytes in all
    page = Page(write(card, batch, rows))
    assert json.loads(page.scripts[-2]) == {}
    assert "pictures/case%20001.png" in page.attributes("href")


def test_a_histogram_counts_as_numpy_does() -> None:
    ml = np.concatenate([np.random.default_rng(1).gamma(4, 3, 150), [90.0]])
    usual = volume_statistics.usual_range(ml)
    page = Page(volume_statistics.draw_histogram("Liver & more", ml, usual, (1, 2, 3)))
    counts = [int(count) for count in page.attributes("data-count")]
    heights = [float(found["height"] or 0) for tag, found in page.tags if tag == "rect"]
    expected = np.histogram(ml, len(counts))[0]
    assert counts == expected.tolist() and sum(counts) == 151
    assert np.array(heights) / max(heights) == pytest.approx(expected / expected.max(), abs=0.01)
    assert sum(tag == "circle" for tag, _ in page.tags) == sum(usual.unusual(value) != "" for value in ml)
    assert "Liver & more: 151 cases" in page.attributes("aria-label")[0]


def test_outliers_are_beyond_the_fences_of_a_box_plot() -> None:
    """Quartiles of 1 to 9 are 3 and 7, so that the fences are at -3 and 13."""
    usual = volume_statistics.usual_range(np.arange(1.0, 10.0))
    assert (usual.median, usual.low, usual.high) == (5, -3, 13)
    assert [usual.unusual(ml) for ml in (-3, 13, 13.01, -3.01)] == ["", "", "high", "low"]
    assert volume_statistics.usual_range(np.array([1.0, 1, 1, 50])).unusual(50) == ""  # of four cases no one knows


@pytest.mark.parametrize("rows", [[], [Row("one", FAILED, MODEL, "", "", error="Bad.")]], ids=["none", "all failed"])
def test_a_batch_without_a_result_has_a_page_too(card: Card, batch: Batch, rows: list[Row]) -> None:
    assert len(Page(write(card, batch, rows)).table) == 1 + len(rows)


def test_a_single_case_with_an_empty_segment_is_drawn(card: Card, batch: Batch) -> None:
    page = Page(write(card, batch, [Row("one", DONE, MODEL, "", "", ml={label.name: 0.0 for label in card.labels})]))
    assert page.table[1][3:5] == ["0.00", "0.00"] and "nan" not in "".join(page.attributes("d"))


def test_a_very_large_cohort_is_cut_and_reports_it(card: Card, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "LARGEST", 10)
    page = Page(write(card, batch, make_rows(card)))
    assert [line[0] for line in page.table[1:3]] == ["broken", "case 000"] and len(page.table) == 11
    assert "The first 10 of 31 cases are shown; results.csv has all." in page.text


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    card: Card, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(card, batch, make_rows(card))
    before = (batch.out / report.PAGE).read_bytes()

    def full(skipped_inputs: object) -> Iterator[str]:
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    monkeypatch.setattr(report, "_left_out", full)  # half of the page is written then
    with pytest.raises(OutputError, match="the disk is full"):
        write(card, batch, make_rows(card, 5))
    assert (batch.out / report.PAGE).read_bytes() == before
    assert sorted(path.name for path in batch.out.iterdir()) == [".records", "pictures", report.PAGE]


# --- in a browser ------------------------------------------------------------------------------


@pytest.fixture
def open_page(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page from the file system in Chromium; whatever it asks of the network fails the test."""
    complaints: list[str] = []
    with browser(tmp_path / "profile", 1280) as context:

        def opened(path: Path) -> Any:
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url)
            )
            page.goto(path.as_uri())
            return page

        yield opened
    assert complaints == []


def names(page: Any) -> list[str]:
    return page.locator("#cases tbody th").all_text_contents()


def keep(page: Any, name: str) -> None:
    if folder := os.environ.get("LIGHTSEG_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.mark.slow
def test_a_reader_sorts_filters_and_looks_at_cases(
    card: Card, batch: Batch, open_page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "EMBEDDED", 0)  # as of a large cohort: the pictures are files
    rows = make_rows(card)
    rows[5] = dataclasses.replace(rows[5], case="50% #5 ä's")
    volume, segmentation = make_balls(np.eye(3), (-8, 0, 0), (8, 0, 0))
    for row in rows[3:8]:
        path = batch.out / "pictures" / f"{row.case}.png"
        draw_case(volume, segmentation, path)
    write(card, batch, rows)
    page = open_page(batch.out / report.PAGE)
    assert len(names(page)) == 31
    keep(page, "report")

    sizes = {row.case: row.ml[card.labels[0].name] for row in rows if row.ml}
    page.get_by_role("button", name=f"{card.labels[0].name} (ml)").click()
    assert names(page) == [*sorted(sizes, key=sizes.__getitem__), "broken"]  # without a volume: last
    page.keyboard.press("Enter")
    assert names(page) == [*sorted(sizes, key=sizes.__getitem__, reverse=True), "broken"]
    assert page.locator("th[aria-sort=descending]").count() == 1

    page.get_by_label("Status").select_option("failed")
    assert names(page) == ["broken"] and page.locator("#count").text_content() == "1 case (of 31)"
    assert rows[-1].error in page.locator("#cases").text_content()
    page.get_by_label("Status").select_option("outlier")
    assert names(page) == ["case 003", "case 004"]
    page.get_by_label("Status").select_option("")
    page.get_by_label("Filter").fill(" CASE 02")
    assert sorted(names(page)) == [f"case {n:03d}" for n in range(20, 30)]
    page.get_by_label("Filter").fill("")

    page.get_by_role("button", name="Case").click()
    page.locator("#cases").get_by_role("link", name="50% #5 ä's").click()
    dialog = page.get_by_role("dialog", name="50% #5 ä's")
    dialog.wait_for()
    page.wait_for_function(f"document.getElementById('picture').naturalWidth === {3 * SIDE + 2 * GAP}")
    assert dialog.get_by_role("img", name="Axial, coronal and sagittal slices of 50% #5 ä's").is_visible()
    assert f"{rows[5].ml[card.labels[1].name]:.2f}" in dialog.text_content()
    keep(page, "report-case")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()

    page.locator("#cases").get_by_role("link", name="case 003").focus()  # the same without a mouse
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="case 003").wait_for()
    page.keyboard.press("ArrowRight")
    page.get_by_role("dialog", name="case 004").wait_for()
    page.keyboard.press("ArrowRight")
    page.get_by_role("dialog", name="case 006").wait_for()


@pytest.mark.slow
def test_a_page_that_was_sent_alone_still_shows_the_pictures(
    card: Card, batch: Batch, open_page: Callable[..., Any], tmp_path: Path
) -> None:
    volume, segmentation = make_balls(np.eye(3), (-8, 0, 0), (8, 0, 0))
    path = batch.out / "pictures" / "case 003.png"
    draw_case(volume, segmentation, path)
    write(card, batch, make_rows(card))
    sent = shutil.copy(batch.out / report.PAGE, tmp_path / "sent.html")
    page = open_page(sent)
    page.get_by_text("case 003").first.click()  # below the histogram
    page.wait_for_function(f"document.getElementById('picture').naturalWidth === {3 * SIDE + 2 * GAP}")


def test_what_a_user_should_know_of_a_result_is_beside_it(card: Card, batch: Batch) -> None:
    rows = [dataclasses.replace(row, notices=["Expect a wrong <result>."]) for row in make_rows(card)[:1]]
    assert "Expect a wrong &lt;result&gt;." in write(card, batch, rows)


def test_thousands_of_cases_are_shown_page_by_page(card: Card, batch: Batch, open_page: Callable[..., Any]) -> None:
    batch = dataclasses.replace(batch, settings=Settings(picture=False))
    write(card, batch, make_rows(card, 3000))
    page = open_page(batch.out / report.PAGE)
    assert len(names(page)) == 200 and page.locator("#count").text_content() == "1 to 200 of 3001 cases"
    page.get_by_role("button", name="Next page").click()
    assert names(page)[0] == "case 199" and len(names(page)) == 200
    page.get_by_label("Filter").fill("case 2999")
    assert names(page) == ["case 2999"]
