"""report.html: one page on a batch, for any browser, from the file system, without a network.

Style, script and drawings are in the page. So are the pictures where they are few, for such a page can be sent to a
colleague; of a large cohort they stay files that are loaded when a case is opened, which keeps the page light. The
content security policy forbids the page to ask anything of the network, and to run any script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape
from itertools import accumulate
from pathlib import Path
from urllib.parse import quote

import numpy as np

from .. import __version__
from ..catalog.card import Card
from ..catalog.sides import possible_labels
from ..core.moment import ms_text
from ..core.plain_text import for_page
from ..inference.options import AS_MODEL
from . import volume_statistics
from .case import SkippedInput
from .records import DONE, PICTURES, TABLE, Row, picture_path
from .results_table import format_libraries
from .settings import Batch, Settings
from .tables import replace_table
from .time_courses import TimeCourse, course_section

PAGE = "report.html"
EMBEDDED = 20_000_000  # bytes of pictures, as files, that a page takes in: with more no mail takes the page
LARGEST = 20_000  # rows: what a browser opens in seconds; results.csv has all
MOST_COURSES = 200  # series over time
NAMED = 12  # outliers named below a histogram
OTHER_COLOR = (110, 120, 130)
RESEARCH = "LightSeg and its models are not medical devices and must not be used for diagnosis or treatment."


def write_report(
    card: Card,
    weights_sha256: str | None,
    batch: Batch,
    rows: Callable[[], Iterable[Row]],
    skipped_inputs: Sequence[SkippedInput] = (),
    courses: Sequence[TimeCourse] = (),
) -> Path:
    """Write OUT/report.html, whole or not at all.

    Args:
        rows: called twice, for what is usual must be known before the first row is written; only those
            shown are kept.
        skipped_inputs: what was left out, with the reasons.
        courses: series over time with all their frames, whichever the table shows.

    Raises:
        OutputError: if the file or folder cannot be written, or the page was changed since it was written.
    """
    cohort, shown = _survey(card, rows(), courses), _shown(rows())
    path = batch.out / PAGE
    with replace_table(path) as part, part.open("w", encoding="utf-8", errors="replace", newline="\n") as page:
        for text in _page(card, weights_sha256, batch, cohort, shown, skipped_inputs):
            page.write(text + "\n")
    return path


@dataclass(frozen=True)
class _Cohort:
    """What the page shows about all rows together.

    Attributes:
        ml: volumes of every label [cases].
        ways: what computed them.
        courses: series over time with all their frames, whichever the table shows.
    """

    colors: dict[str, Sequence[int]]
    ml: dict[str, np.ndarray]
    usual_ranges: dict[str, volume_statistics.UsualRange]
    outliers: dict[str, list[tuple[float, str]]]
    unusual_cases: int
    ways: set[str]
    done: int
    failed: int
    courses: Sequence[TimeCourse]

    @property
    def cases(self) -> int:
        """Number of cases on the page."""
        return self.done + self.failed

    def unusual(self, row: Row) -> dict[str, str]:
        """Return the labels of a case whose volume is "low" or "high"."""
        found = {name: self.usual_ranges[name].unusual(ml) for name, ml in (row.ml or {}).items()}
        return {name: side for name, side in found.items() if side}


def _survey(card: Card, rows: Iterable[Row], courses: Sequence[TimeCourse]) -> _Cohort:
    """Collect what the page shows about all rows together."""
    colors: dict[str, Sequence[int]] = {label.name: label.color for label in possible_labels(card)}
    found: dict[str, array[float]] = {}
    names: dict[str, list[str]] = {}
    ways: set[str] = set()
    done = failed = 0
    for row in rows:
        if row.computed_in:
            ways.add(f"{row.computed_in} on {row.device}, {row.processor} ({format_libraries(row.libraries)})")
        done, failed = done + (row.status == DONE), failed + (row.status != DONE)
        for name, value in (row.ml or {}).items():
            found.setdefault(name, array("d")).append(value)
            names.setdefault(name, []).append(row.case)
    ml = {name: np.array(found[name]) for name in dict.fromkeys([*colors, *found]) if name in found}
    usual_ranges = {name: volume_statistics.usual_range(values) for name, values in ml.items()}
    outliers = {
        name: [
            (value, case) for value, case in zip(ml[name].tolist(), names[name], strict=True) if usual.unusual(value)
        ]
        for name, usual in usual_ranges.items()
    }
    unusual_cases = len({case for entries in outliers.values() for _, case in entries})
    return _Cohort(colors, ml, usual_ranges, outliers, unusual_cases, ways, done, failed, courses)


def _shown(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that the page shows: failed cases first, as many as it holds."""
    failed: list[Row] = []
    done: list[Row] = []
    for row in rows:
        kept = done if row.status == DONE else failed
        if len(kept) < LARGEST:
            kept.append(row)
    return (failed + done)[:LARGEST]


def _page(
    card: Card,
    weights_sha256: str | None,
    batch: Batch,
    cohort: _Cohort,
    shown: Sequence[Row],
    skipped_inputs: Sequence[SkippedInput],
) -> Iterator[str]:
    """Yield the page, piece by piece."""
    here = Path(__file__).parent
    style, script = ((here / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    mark = 'document.documentElement.classList.add("js")'
    title = for_page(f"{card.title}: {cohort.cases} {'case' if cohort.cases == 1 else 'cases'}")
    policy = "; ".join(
        (
            "default-src 'none'",
            "img-src 'self' file: data:",
            f"style-src {_source(style)}",
            f"script-src {_source(script)} {_source(mark)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{style}</style><script>{mark}</script></head><body>"
    yield f"<header><h1>{title}</h1>"
    yield f'<p class="soft">Segmented with LightSeg {__version__}, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC</p>'
    yield f'<p class="research"><strong>Research software.</strong> {for_page(RESEARCH)}</p>'
    yield '<ul class="sums">'
    sums = [("done", cohort.done, "done"), ("failed", cohort.failed, "failed")]
    sums += [("outlier", cohort.unusual_cases, "with an outlier")]
    yield from (f'<li class="{css if number else "none"}"><b>{number}</b>{text}</li>' for css, number, text in sums)
    yield "</ul></header><main>"
    yield from _charts(cohort, batch)
    yield from _courses(card, cohort)
    yield from _table(cohort, batch, shown)
    yield from _left_out(skipped_inputs)
    yield from _facts(card, weights_sha256, batch.settings, cohort.ways)
    yield "</main>"
    yield f'<footer class="soft"><p>All numbers: <a href="{TABLE}">{TABLE}</a></p></footer>'
    yield DIALOG
    yield '<script type="application/json" id="pictures">'
    yield from _embedded(batch, shown)
    yield f"</script><script>{script}</script></body></html>"


DIALOG = """<dialog id="case" aria-labelledby="name"><div class="bar"><h2 id="name"></h2>
<button type="button" id="previous">Previous</button><button type="button" id="next">Next</button>
<button type="button" id="close">Close</button></div>
<img id="picture" alt=""><p id="missing" class="bar" hidden>The picture is not beside this page any more.</p>
<dl class="facts" id="facts"></dl></dialog>"""

TOOLS = """<div class="tools scripted"><label>Filter <input id="text" type="search" autocomplete="off"></label>
<label>Status <select id="status"><option value="">All</option><option value="done">Done</option>
<option value="failed">Failed</option><option value="outlier">With an outlier</option></select></label>
<p id="count" role="status"></p>
<p class="pages"><button type="button" id="before">Previous page</button>
<button type="button" id="after">Next page</button></p></div>"""


def _charts(cohort: _Cohort, batch: Batch) -> Iterator[str]:
    """Yield a histogram for each label, with the outliers' names."""
    if not cohort.ml:
        return
    yield f'<h2>Volumes</h2><p class="soft">Outliers (○) lie {for_page(volume_statistics.RULE)}; '
    yield "an outlier need not be wrong, but is worth a look. "
    yield f"With fewer than {volume_statistics.FEWEST} cases none is marked.</p>"
    yield '<div class="charts">'
    for name, ml in cohort.ml.items():
        usual, outliers = cohort.usual_ranges[name], sorted(cohort.outliers[name])
        color = cohort.colors.get(name, OTHER_COLOR)
        histogram = volume_statistics.draw_histogram(name, ml, usual, color)
        yield f"<section><h3>{_swatch(color)}{for_page(name)}</h3>{histogram}"
        if outliers:
            half = NAMED // 2
            chosen = outliers if len(outliers) <= NAMED else outliers[:half] + outliers[-half:]
            names = ", ".join(f"{_case(case, batch)} ({_number(value)})" for value, case in chosen)
            more = f" and {len(outliers) - len(chosen)} between them" if len(chosen) < len(outliers) else ""
            yield f"<p>{len(outliers)} {'outlier' if len(outliers) == 1 else 'outliers'}: {names}{more}</p>"
        yield "</section>"
    yield "</div>"


def _courses(card: Card, cohort: _Cohort) -> Iterator[str]:
    """Yield the curve of each series over time."""
    if courses := cohort.courses:
        yield f"<h2>Volumes {'over time' if any(course.has_times for course in courses) else 'by frame'}</h2>"
        if len(courses) > MOST_COURSES:
            yield f"<p>The first {MOST_COURSES} of {len(courses)} series are shown; {TABLE} has all.</p>"
        yield '<div class="charts">'
        for course in courses[:MOST_COURSES]:
            yield from course_section(card, course, {name: cohort.colors.get(name, OTHER_COLOR) for name in cohort.ml})
        yield "</div>"


def _table(cohort: _Cohort, batch: Batch, shown: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each case."""
    yield f"<h2>Cases</h2>{TOOLS}"
    yield '<div class="wide" tabindex="0" role="region" aria-label="Cases"><table id="cases"><thead><tr>'
    heads = [("", "Case"), ("", "Status"), ("", "Error, notices, outliers")]
    if cohort.courses:
        heads.append(("n", "Time (ms)"))
    sure = set().union(*(row.expected_dice or {} for row in shown))
    for name in cohort.ml:
        what = "ml, expected Dice" if name in sure else "ml"
        heads.append(("n", f"{_swatch(cohort.colors.get(name, OTHER_COLOR))}{for_page(name)} ({what})"))
    heads += [("n", "Confidence"), ("n", "Seconds"), ("n", "Memory (MB)")]
    yield "".join(f'<th scope="col" class="{css}">{text}</th>' for css, text in heads)
    yield '</tr></thead><tbody class="waiting">'
    yield from (_line(row, cohort, batch, bool(cohort.courses)) for row in shown)
    yield "</tbody></table></div>"
    if cohort.cases > len(shown):
        yield f"<p>The first {len(shown)} of {cohort.cases} cases are shown; {TABLE} has all.</p>"


def _line(row: Row, cohort: _Cohort, batch: Batch, over_time: bool) -> str:
    """Return the table row of a case as HTML.

    Args:
        over_time: whether there is a column for its time.
    """
    unusual, ml = cohort.unusual(row), row.ml or {}
    cells = [f'<th scope="row">{_case(row.case, batch) if row.status == DONE else escape(row.case)}</th>']
    remark = row.error or " ".join(
        filter(None, (*(row.notices or []), ", ".join(f"{name} {side}" for name, side in unusual.items())))
    )
    cells += [
        f"<td>{for_page(row.status)}</td>",
        f'<td class="text">{for_page(remark)}</td>' if remark else "<td></td>",
    ]
    cells += [_value(row.time_ms, ms_text)] if over_time else []
    for name in cohort.ml:
        cell = _value(ml.get(name), _number, unusual.get(name, ""))
        if (dice := (row.expected_dice or {}).get(name)) is not None:
            cell = cell.replace("</td>", f" <small>({dice:.2f})</small></td>")
        cells.append(cell)
    cells += [_value(row.confidence, "{:.3f}".format), _value(row.seconds, "{:.1f}".format)]
    cells += [_value(row.peak_mb, "{:.0f}".format)]
    css = f"{for_page(row.status)}{' outlier' if unusual else ''}"
    return f'<tr class="{css}">{"".join(cells)}</tr>'


def _value(value: float | None, text: Callable[[float], str], css: str = "") -> str:
    """Return a table cell with a number that the page can sort by, or an empty one."""
    if value is None:
        return "<td></td>"
    return f'<td class="n{" " + css if css else ""}" data-v="{value!r}">{text(value)}</td>'


def _number(ml: float) -> str:
    """Two decimals, more where these would hide a small volume."""
    return f"{ml:.2f}" if ml == 0 or ml >= 0.1 else f"{ml:.2g}"


def _case(case: str, batch: Batch) -> str:
    """Return the name of a case as HTML, with a link to its picture if there are pictures."""
    if not batch.settings.picture:
        return escape(case)
    return f'<a href="{PICTURES}/{quote(case)}.png" data-case="{escape(case)}">{escape(case)}</a>'


def _swatch(color: Sequence[int]) -> str:
    """Return a little square; a drawing, since the page's policy forbids styles of single elements."""
    square = f'<path fill="rgb{tuple(color)}" d="M0 0H1V1H0"/>'
    return f'<svg class="swatch" viewBox="0 0 1 1" aria-hidden="true">{square}</svg>'


def _left_out(skipped_inputs: Sequence[SkippedInput]) -> Iterator[str]:
    """Yield the section on skipped inputs."""
    if skipped_inputs:
        yield f"<h2>Left out</h2><details><summary>Not fit for the model: {len(skipped_inputs)}</summary>"
        yield '<div class="wide"><table><thead><tr><th scope="col">Input</th><th scope="col">Reason</th></tr></thead>'
        yield "<tbody>"
        for one in skipped_inputs:
            yield f'<tr><th scope="row">{for_page(one.what)}</th><td class="text">{for_page(one.reason)}</td></tr>'
        yield "</tbody></table></div></details>"


def _facts(card: Card, weights_sha256: str | None, settings: Settings, ways: Collection[str]) -> Iterator[str]:
    """Yield how the results were computed.

    Args:
        ways: what computed the cases, each that there is.
    """
    largest = settings.options.largest_component
    facts = [
        ("Model", f"{card.title} ({card.id})"),
        ("Version", card.version),
        ("Weights (SHA-256)", weights_sha256 or "not known"),
        ("License", card.license),
        ("Citation", card.citation),
        ("Limitations", card.limitations),
        ("Precision", settings.options.precision),
        ("Computed in", "; ".join(sorted(ways))),
        ("Mirror images", "averaged over" if settings.options.rules(card).mirror_axes else "not used"),
        ("Tile overlap", "" if settings.options.tile_overlap is None else str(settings.options.tile_overlap)),
        ("Orientation", settings.options.orientation or ""),
        ("Structures", ", ".join(settings.options.structures)),
        ("Largest component", "as the model's card specifies" if largest == AS_MODEL else largest),
        ("Device", settings.options.device),
        ("OpenVINO", "used where it is installed" if settings.options.openvino else "not used"),
        ("Format", settings.format),
        ("Software", f"LightSeg {__version__}"),
    ]
    yield '<h2>How these results came about</h2><dl class="facts">'
    yield from (f"<dt>{name}</dt><dd>{for_page(text)}</dd>" for name, text in facts if text)
    yield "</dl>"


def _embedded(batch: Batch, shown: Sequence[Row]) -> Iterator[str]:
    """JSON of the pictures by case, empty where they are too large together."""
    paths = {row.case: picture_path(batch, row.case) for row in shown if batch.settings.picture and row.status == DONE}
    sizes = (path.stat().st_size for path in paths.values() if path.is_file())
    if any(total > EMBEDDED for total in accumulate(sizes)):
        paths = {}
    pictures = {case: base64.b64encode(path.read_bytes()).decode() for case, path in paths.items() if path.is_file()}
    yield json.dumps(pictures, indent=0).replace("<", "\\u003c")  # a name must not end the script


def _source(text: str) -> str:
    """Return the content security policy's hash of a style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
