"""Line charts on a canvas, with round tick values, a grid and a legend, and the training log that they show."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from .canvas import Canvas, Color

FRAME: Color = (120, 126, 136)
GRID: Color = (48, 52, 60)
WORDS: Color = (205, 210, 217)
TITLE: Color = (240, 242, 245)
AREA: Color = (18, 20, 24)
LOSS_COLOR: Color = (96, 165, 250)
LABEL_COLORS: tuple[Color, ...] = ((244, 162, 97), (52, 190, 160), (190, 130, 235), (235, 105, 130))


@dataclass(frozen=True)
class Series:
    """One curve: `points` [n, 2] of (x, y) in the order of x."""

    name: str
    color: Color
    points: np.ndarray
    width: float = 2.0


@dataclass(frozen=True)
class Axes:
    """Where a chart lies on the canvas, `box` as (left, top, width, height), and what it is about.

    high: upper end of the y axis where it is known; mark_best: put a dot on the first series' maximum.
    """

    title: str
    x_label: str
    box: tuple[int, int, int, int]
    high: float | None = None
    mark_best: bool = False


def draw_axes(canvas: Canvas, axes: Axes, series: Sequence[Series]) -> None:
    """Draw one chart. Without any point it shows empty axes and says so."""
    left, top, width, height = axes.box
    points = np.concatenate([one.points for one in series])
    empty = not len(points)
    if empty:
        points = np.array([[0.0, 0.0], [1.0, 1.0]])
    x_ticks = ticks(float(points[:, 0].min()), float(points[:, 0].max()), whole=True)
    y_ticks = ticks(float(points[:, 1].min()), axes.high if axes.high is not None else float(points[:, 1].max()))
    x_low, x_high = float(points[:, 0].min()), max(float(points[:, 0].max()), float(points[:, 0].min()) + 1)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - x_low) / (x_high - x_low) * width, top + (y_high - y) / (y_high - y_low) * height

    canvas.text(axes.title, left, top - 30, 24, TITLE, bold=True)
    canvas.rectangle(left, top, width, height, AREA)
    for value in y_ticks:
        _, y = place(x_low, value)
        canvas.rectangle(left, y, width, 1, GRID)
        canvas.text(_number(value, y_ticks), left - 12, y, 18, WORDS, align="right")
    for value in x_ticks:
        if x_low <= value <= x_high:
            x, _ = place(value, y_low)
            canvas.rectangle(x, top, 1, height, GRID)
            canvas.text(_number(value, x_ticks), x, top + height + 22, 18, WORDS, align="center")
    canvas.rectangle(left, top, 1, height, FRAME)
    canvas.rectangle(left, top + height, width, 1, FRAME)
    canvas.text(axes.x_label, left + width / 2, top + height + 56, 20, WORDS, align="center")
    if empty:
        canvas.text("nothing recorded yet", left + width / 2, top + height / 2, 20, WORDS, align="center")
        return

    for one in reversed(series):  # the first series is the most important and lies on top
        line = [place(float(x), float(y)) for x, y in one.points]
        if len(line) == 1:
            canvas.dot(*line[0], one.color, 4)
        else:
            canvas.polyline(line, one.color, one.width)
    if axes.mark_best and len(series[0].points):
        x, y = series[0].points[int(series[0].points[:, 1].argmax())]
        canvas.dot(*place(float(x), float(y)), series[0].color, 7)
        canvas.text(f"best {y:.3f} at epoch {x:.0f}", left + width, top - 30, 18, WORDS, align="right")
    if len(series) > 1:
        _draw_names(canvas, series, left + width - 20, top + height - 20)


def ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Four to nine round values that enclose low..high; `whole` keeps them integers."""
    if high <= low:
        low, high = low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1)
    rough = (high - low) / 6
    scale = 10.0 ** math.floor(math.log10(rough))
    step = min((part * scale for part in (1, 2, 5, 10)), key=lambda candidate: abs(candidate - rough))
    if whole:
        step = max(1.0, round(step))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _number(value: float, among: Sequence[float]) -> str:
    """`value` with as many decimals as the distance of the ticks needs."""
    step = among[1] - among[0]
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _draw_names(canvas: Canvas, series: Sequence[Series], right: int, bottom: int) -> None:
    """The legend, ending in the corner (right, bottom)."""
    width = max(canvas.text_width(one.name, 18) for one in series)
    canvas.rectangle(right - width - 56, bottom - 26 * len(series) + 6, width + 70, 26 * len(series) + 12, AREA)
    for number, one in enumerate(reversed(series)):
        y = bottom - 26 * number
        canvas.polyline([(right - width - 44, y), (right - width - 14, y)], one.color, 3)
        canvas.text(one.name, right - width, y, 18, WORDS)


# --- the training log --------------------------------------------------------------------------


def read_log(log: Path) -> tuple[list[Series], list[Series]]:
    """Curves of a training log: the loss, and Dice with the mean first and then every label.

    Raises InputError for a file that cannot be read or is no training log.
    """
    try:
        with log.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The training log {log} cannot be read. Check the path.") from error
    if not rows or not {"epoch", "train_loss", "validation_dice"} <= set(rows[0]):
        raise InputError(f"{log} is not a training log. Choose the CSV file that 'lightseg train' wrote.")
    dice = [Series("mean", TITLE, _column(rows, "validation_dice"), width=3.0)]
    labels = [name for name in rows[0] if name and name.startswith("validation_dice_")]
    for number, column in enumerate(labels):
        name = column.removeprefix("validation_dice_").replace("_", " ")
        dice.append(Series(name, LABEL_COLORS[number % len(LABEL_COLORS)], _column(rows, column)))
    return [Series("training loss", LOSS_COLOR, _column(rows, "train_loss"))], dice


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
