"""How far something is, what came of it, and what a report of an error needs: the lines below Apply."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import qt
import slicer

from ...core.errors import LightSegError
from ...core.progress import Progress
from ..translation import errorDisplay, translated
from .details import details
from .fitting import breakable
from .formatting import fraction, letterByLetter, progressText

LETTERS = 240  # of a message that are shown below Apply, five lines; a dialog or the tool tip has all of it


class Status:
    """The bar, the line of text below it, and Copy Details after an error."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._text = ""
        self._details = ""
        ui.copyDetailsButton.clicked.connect(self._onCopy)
        ui.copyDetailsButton.setVisible(False)
        ui.progressBar.setVisible(False)

    @property
    def text(self) -> str:
        """The message that is shown now."""
        return self._text

    def say(self, text: str) -> None:
        """One sentence, until the next one."""
        self._text = text
        short = text if len(text) <= LETTERS else text[:LETTERS].rpartition(" ")[0] + " ..."
        self._ui.statusLabel.setText(breakable(short))
        self._ui.statusLabel.setToolTip(letterByLetter(text) if short != text else "")
        self._ui.statusLabel.setVisible(bool(text))

    def begin(self, text: str) -> None:
        """Something begins, of which it is not known yet how long it takes."""
        self._ui.copyDetailsButton.setVisible(False)
        self._ui.progressBar.setRange(0, 0)
        self._ui.progressBar.setVisible(True)
        self.say(text)

    def show(self, progress: Progress) -> None:
        """How far it is."""
        done = fraction(progress)
        self._ui.progressBar.setRange(0, 0 if done is None else 1000)
        if done is not None:
            self._ui.progressBar.setValue(round(1000 * done))
        self._ui.progressBar.setVisible(True)  # what ended beside this has hidden it
        self.say(progressText(progress))

    def end(self, text: str = "") -> None:
        """It is over, and this came of it."""
        self._ui.progressBar.setVisible(False)
        self.say(text)

    def fail(self, error: BaseException, log: str = "") -> None:
        """It went wrong: a message, and the details of it to be copied."""
        message = translated(error)
        self.keep(message, log)
        detailed = {"detailedText": log} if log else {}
        slicer.util.errorDisplay(letterByLetter(message), **detailed)

    def keep(self, message: str, log: str = "") -> None:
        """Offer the details of an error that is shown already."""
        self._details = details(message, log)
        self._ui.copyDetailsButton.setVisible(True)
        self.end(message)

    @contextmanager
    def trying(self, message: str, waitCursor: bool = False) -> Iterator[None]:
        """Show what goes wrong in here in a dialog that begins with `message`, as `slicer.util` does."""
        with errorDisplay(message, waitCursor=waitCursor):
            try:
                yield
            except Exception as error:
                known = isinstance(error, LightSegError)
                self.keep(f"{message} {translated(error)}", "" if known else traceback.format_exc())
                raise

    def _onCopy(self) -> None:
        """Copy the details of the last error to the clipboard."""
        qt.QApplication.clipboard().setText(self._details)
