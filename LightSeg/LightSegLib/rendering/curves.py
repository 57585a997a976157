"""Training curves as a picture, from the log of a training."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.atomic_io import atomic_write
from ..core.errors import InputError
from ..core.i18n import tr as _
from ..imaging.writers import check_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NO_MATPLOTLIB = "The training curves are not drawn without the package matplotlib; pip install matplotlib adds it."
LISTED = 48  # with more labels their curves are gray and without names, which the log has
IN_A_COLUMN = 24

Curve = tuple[str, np.ndarray]  # a name and pairs [n, 2] of epoch and value


def draw_curves(log: str | Path, path: str | Path) -> str | None:
    """Write a PNG with training loss and validation Dice against the epoch.

    Args:
        log: CSV with the columns epoch, train_loss, validation_dice and one validation_dice_<label> per label;
            validation columns may be empty in epochs without validation. Returns None, or where matplotlib is
            missing, a sentence on that.

    Raises:
        InputError: for a file that has none of this.
        OutputError: if the picture cannot be written.
    """
    loss, mean, labels = _read_log(Path(log))
    check_output(path, (".png",))
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        return NO_MATPLOTLIB
    # the style of the user's other charts does not count
    with style.context(["default", {"font.size": 13}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a letter that the font lacks is drawn as a box
        layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)  # inches
        figure = Figure(figsize=(16, 8), layout=layout)  # without pyplot: drawn by Agg, never in a window
        left, right = figure.subplots(1, 2, sharex=True)
        _draw_chart(left, "Training loss", [loss])
        _draw_chart(right, "Validation Dice", [mean, *labels], highest=1.0)
        if len(epochs := np.concatenate([loss[1], mean[1]])[:, 0]):
            left.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
        with atomic_write(path) as part:
            figure.savefig(part, format="png")
    return None


def _draw_chart(axes: Axes, title: str, curves: Sequence[Curve], highest: float | None = None) -> None:
    """The first curve strong, with its best value where the highest possible one is known, the others as its parts."""
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    (name, main), *parts = curves
    axes.set_title(title, loc="left", fontsize=16)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if not len(main):
        axes.text(0.5, 0.5, "nothing recorded yet", transform=axes.transAxes, ha="center", va="center")
        return
    marker = "o" if len(main) == 1 else None  # a single value would be no line
    colors = [colormaps["tab20"](number) for number in (*range(0, 20, 2), *range(1, 20, 2))]  # dark ones first
    listed = len(parts) <= LISTED
    lines = [
        axes.plot(*values.T, color=colors[n % 20], ls=("-", "--", ":")[n // 20], lw=1.2, marker=marker)[0]
        if listed
        else axes.plot(*values.T, color="0.7", lw=0.6, marker=marker)[0]
        for n, (_, values) in enumerate(parts)
    ]
    strong = axes.plot(*main.T, color="black" if parts else "tab:blue", lw=2.2, marker=marker)[0]
    if highest is not None:
        axes.set_ylim(top=1.01 * highest)  # a line at the highest value is seen whole
        epoch, best = main[int(main[:, 1].argmax())]
        axes.plot(epoch, best, "o", color="black", ms=8)
        axes.set_title(f"best {best:.3f} at epoch {epoch:.0f}", loc="right")
    if parts:
        names = [name, *(name for name, _ in parts)] if listed else [name, f"each of {len(parts)} labels"]
        legend = axes.legend(
            [strong, *lines][: len(names)],
            names,
            loc="upper left",
            bbox_to_anchor=(1, 1),
            ncols=-(-len(names) // IN_A_COLUMN),
            frameon=False,
            fontsize=11,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # a dollar sign in a name begins no formula


def _read_log(log: Path) -> tuple[Curve, Curve, list[Curve]]:
    """Return the curves of a training log: loss, mean Dice, and the Dice of every label.

    Raises:
        InputError: for a file that cannot be read or is not a training log.
    """
    try:
        with log.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(_("The training log {file} cannot be read. Check the path.").format(file=log)) from error
    if not rows or not {"epoch", "train_loss", "validation_dice"} <= set(rows[0]):
        raise InputError(
            _("{file} is not a training log. Choose the CSV file written by 'lightseg train'.").format(file=log)
        )
    columns = [column for column in rows[0] if column and column.startswith("validation_dice_")]
    labels = [(name.removeprefix("validation_dice_").replace("_", " "), _column(rows, name)) for name in columns]
    return ("loss", _column(rows, "train_loss")), ("mean", _column(rows, "validation_dice")), labels


def _column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    """(epoch, value) pairs [n, 2] of the rows that have both as finite numbers."""
    pairs = []
    for row in rows:
        try:
            pair = (float(row["epoch"]), float(row[name]))
        except (TypeError, ValueError):
            continue  # no validation in this epoch, or a line cut off by an interruption
        if np.isfinite(pair).all():
            pairs.append(pair)
    return np.array(pairs, float).reshape(-1, 2)
