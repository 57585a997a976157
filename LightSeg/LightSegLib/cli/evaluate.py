"""The command `lightseg evaluate`: segmentations beside expert labels, as a table."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from ..catalog.lookup import find_card
from ..catalog.sides import possible_labels
from ..core.errors import InputError
from ..core.i18n import tr as _
from .outputs import check_free
from .printing import say, silence_itk, table


def _evaluate(arguments: argparse.Namespace) -> None:
    """Run `lightseg evaluate`."""
    from ..core.atomic_io import write_table
    from ..evaluation.case_files import without_prediction
    from ..evaluation.comparison import MEASURES, Row, evaluate_folders, nothing_in_common, summarize
    from ..imaging.writers import check_output

    silence_itk()
    out = Path(arguments.out) if arguments.out else None
    if out:
        check_output(out, (".csv",))
        check_free(out, arguments.overwrite)
    elif arguments.overwrite:
        raise InputError(_("--overwrite is for the table of --out, which was not given. Add --out CSV, or omit it."))
    card = find_card(arguments.model) if arguments.model else None
    names = None if card is None else {label.value: label.name for label in (*card.labels, *possible_labels(card))}
    notices: dict[str, list[str]] = {}  # with the cases that they are about
    rows = evaluate_folders(
        arguments.predictions,
        arguments.labels,
        names,
        lambda case, notice: notices.setdefault(str(notice), []).append(case),
        arguments.structure.strip(),
    )
    if not rows:
        raise InputError(
            _("None of the files contains a label, so there is nothing to compare. Check that these are label maps.")
        )
    if out:
        header = Row.__annotations__
        check_free(out, arguments.overwrite)  # again: the comparison took its time
        write_table([header, *([_rounded(getattr(row, name)) for name in header] for row in rows)], out)
    lines: list[Sequence[str]] = [("CASE", "LABEL", "DICE", "SURFACE DICE 1 MM", "HD95 MM", "DIFFERENCE ML")]
    lines += [(row.case, row.name, *(f"{getattr(row, name):.3f}" for name in MEASURES)) for row in rows if row.is_drawn]
    for summary in summarize(rows) if len({row.case for row in rows}) > 1 else ():
        spread = (f"{summary.mean[name]:.3f} +- {summary.std[name]:.3f}" for name in MEASURES)
        missed = f", {summary.missed} missed" if summary.missed else ""
        lines.append((f"mean of {summary.cases}{missed}", summary.name, *spread))
    say(table(lines))
    for notice, cases in notices.items():
        more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        say(f"lightseg: {cases[0]}{more}: {notice}", file=sys.stderr)
    if left_out := without_prediction(arguments.predictions, arguments.labels):
        some = ", ".join([left_out[0], *(["..."] if len(left_out) > 1 else [])])
        say(f"lightseg: label files without a prediction: {len(left_out)} ({some}).", file=sys.stderr)
    if nothing_in_common(rows):
        say("lightseg: the files have no label in common; they may be of different models.", file=sys.stderr)
    if out:
        say(f"{out} written")


def _rounded(value: object) -> object:
    """Return a number with seven digits, more than any of them means, nothing for none, and anything else as it is."""
    if isinstance(value, float):
        return "" if math.isnan(value) else float(f"{value:.7g}")
    return value


EVALUATE_COMMANDS = {"evaluate": _evaluate}
