"""What keeps the panel narrow: rows that stack, lists as high as their lines, words that may break."""

from __future__ import annotations

import re
from typing import Any

import qt

ROW_WIDTH = 290  # pixels of a row in a panel of 340, without margins and the scroll bar
BESIDE_HELP = 250  # pixels of one that has the button "?" beside it
MOST_ROWS = 12  # of a table before it scrolls
PARTS = re.compile(r"[_/\\](?=\w)|\.(?=[^\W\d_])")  # of a path or a file's name
LONG_WORD = re.compile(r"\w{24,}")
WORD_PART = 12
SOFT_HYPHEN, BREAK = "\u00ad", "\u200b"


def stack(row: Any, room: int = ROW_WIDTH) -> None:
    """Let a row's widgets are side by side where there is room for the words on them, else one below the other."""
    widgets = [item.widget() for item in (row.itemAt(number) for number in range(row.count()))]
    shown = [widget for widget in widgets if widget is not None and not widget.isHidden()]
    gaps = max(0, len(shown) - 1) * max(0, row.spacing)
    width = gaps + sum(widget.minimumSizeHint.width() for widget in shown)
    row.setDirection(qt.QBoxLayout.TopToBottom if width > room else qt.QBoxLayout.LeftToRight)


def fitTable(table: Any) -> None:
    """Make a table as high as its rows; a name that is too long for it ends in dots."""
    table.resizeRowsToContents()
    rows = [table.rowHeight(number) for number in range(min(table.rowCount, MOST_ROWS))]
    table.setFixedHeight(table.horizontalHeader().sizeHint.height() + sum(rows) + 2 * table.frameWidth)


def fitList(view: Any, most: int) -> None:
    """Make a list as high as its lines, of which it shows that many at most."""
    lines = min(view.count, most)
    view.setFixedHeight(sum(max(0, view.sizeHintForRow(number)) for number in range(lines)) + 2 * view.frameWidth)


def breakable(text: str) -> str:
    """Text for a label that wraps: names of files and very long words may break, too."""
    text = PARTS.sub(rf"\g<0>{BREAK}", text)
    return LONG_WORD.sub(lambda found: _parted(found[0]), text)


def _parted(word: str) -> str:
    """Return a word that may be hyphenated."""
    return SOFT_HYPHEN.join(word[start : start + WORD_PART] for start in range(0, len(word), WORD_PART))
