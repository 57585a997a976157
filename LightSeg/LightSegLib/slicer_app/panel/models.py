"""Which model: its row of the list, its quality, what it is, and where its weights are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import qt
import slicer
from slicer.i18n import tr as _

from ...catalog.card import Card
from ...catalog.lookup import remove_model
from ...catalog.needed import all_models, needed_models, own_models
from ...core.errors import ModelError
from ...core.progress import CancelCallback, Progress, ProgressCallback
from ...models.archived import add_weights, ensure_all
from ...models.importing import import_model
from ...weights.sources import origin
from ...weights.store import State, WeightStore
from ..jobs import Task
from .facts import details, downloadSize, qualityText, shortFacts, storedBytes
from .fitting import breakable, fitList, stack
from .formatting import letterByLetter, megabytes
from .listed import Listed, listedModels
from .model_list import ModelList
from .pytorch import PyTorch
from .status import Status

FACTS = 3  # lines, while they are folded


class Models:
    """The chosen model in one line, with what is known of it in three; the list of all, while it is open.

    Args:
        ui: widgets of the form.
        status: the lines below Apply.
        pytorch: its installation, which an import needs.
        chosen: called with the id when the user chooses a model.
        changed: called when models came, went or moved.
    """

    def __init__(
        self,
        ui: Any,
        status: Status,
        pytorch: PyTorch,
        chosen: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._ui = ui
        self._status = status
        self._pytorch = pytorch
        self._chosen = chosen
        self._changed = changed
        self.listed: dict[str, Listed] = {}
        self._task: Task | None = None
        self._cancelable = False
        self._page: tuple[Listed | None, dict[str, Listed]] = (None, {})
        self.card: Card | None = None
        self._list = ModelList(ui, chosen, lambda: self._ui.changeButton.setChecked(True))
        ui.modelTree.itemClicked.connect(self._onTaken)
        ui.modelTree.itemActivated.connect(self._onTaken)  # the keyboard's click
        ui.changeButton.toggled.connect(self._onOpen)
        ui.qualityBox.activated.connect(self._onQuality)
        ui.moreButton.toggled.connect(self._onMore)
        ui.downloadButton.clicked.connect(self._onDownload)
        ui.useFileButton.clicked.connect(self._onUseFile)
        ui.deleteButton.clicked.connect(self._onDelete)
        ui.modelFacts.viewport().setAutoFillBackground(False)  # they are text of the panel, not a list to choose from
        self._onOpen(False)
        self._onMore(False)

    def state(self, card: Card) -> State:
        """Return the state of a card's weights, as of the last `refresh`."""
        return self.listed[card.id].state

    def refresh(self) -> None:
        """Read the cards and what is on the disk, and show them; the chosen model stays chosen."""
        self.listed = listedModels()
        self._list.fill(self.listed)
        self.show(self.card.id if self.card else "")

    def show(self, model: str) -> None:
        """Show this model as chosen; one that is not here, as none."""
        listed = self.listed.get(model)
        self.card = listed.card if listed else None
        self._list.show(model)
        self._showQualities()
        state = listed.state if listed else "missing"
        self._ui.chosenLabel.setText(breakable(self.card.title) if self.card else _("Choose a model."))
        if self.card is None and model:  # one that is not here: there is none until the user chooses
            self._ui.changeButton.setChecked(True)
        if (listed, self.listed) != self._page:  # else the reader keeps the place
            self._ui.modelDetails.setHtml(details(listed, self.listed) if listed else "")
            self._page = (listed, self.listed)
        self._showFacts(listed)
        busy = self._task is not None and self._task.state == "running"
        cancel = busy and self._cancelable
        self._ui.downloadButton.text = _("Cancel Download") if cancel else _("Download")
        self._ui.downloadButton.setEnabled(cancel or (not busy and bool(self._toDownload())))
        for button in (self._ui.importFolderButton, self._ui.importFileButton):
            button.setEnabled(not busy)
        self._ui.useFileButton.setEnabled(
            not busy and self.card is not None and not self.card.parts and state in ("available", "manual", "missing")
        )
        self._ui.deleteButton.setEnabled(not busy and (state in ("downloaded", "user") or self._heldToFirst(self.card)))
        self._ui.deleteStoredButton.setEnabled(not busy and self._ui.storedTable.currentRow() >= 0)
        buttons = (self._ui.downloadButton, self._ui.useFileButton, self._ui.deleteButton)
        usable = [button.enabled for button in buttons]
        for button in buttons:  # none of them for a model that comes with the extension
            button.setVisible(any(usable))
        stack(self._ui.modelButtons)

    def _showFacts(self, listed: Listed | None) -> None:
        """Show the three lines on the chosen model."""
        view = self._ui.modelFacts
        view.clear()
        for line in shortFacts(listed) if listed else []:
            view.addItem(line)
            view.item(view.count - 1).setToolTip(letterByLetter(line))  # the line may have no room for all of it
        fitList(view, FACTS)
        self._ui.moreButton.setVisible(self.card is not None)
        if self.card is None:
            self._ui.moreButton.setChecked(False)

    def _showQualities(self) -> None:
        """Offer the models of the chosen one's task, where there are several."""
        box = self._ui.qualityBox
        task = self._list.task(self.card.id) if self.card else ()
        box.clear()
        for card in task:
            box.addItem(qualityText(self.listed[card.id]), card.id)
        box.setCurrentIndex(task.index(self.card) if self.card in task else -1)
        for widget in (self._ui.qualityLabel, box):
            widget.setVisible(len(task) > 1)

    def _onQuality(self, *_arguments: object) -> None:
        """The user chooses another model of the same task."""
        self._chosen(self._ui.qualityBox.itemData(self._ui.qualityBox.currentIndex))

    def _onMore(self, more: bool) -> None:
        """Show the whole page, or the three lines."""
        self._ui.modelFacts.setVisible(not more)
        self._ui.modelDetails.setVisible(more)
        self._ui.moreButton.text = _("Less") if more else _("More")

    def _onOpen(self, opened: bool) -> None:
        """Show the list, ready to be searched; or fold it into the line of the chosen model."""
        self._ui.modelChooser.setVisible(opened)
        self._ui.changeButton.setChecked(opened)
        self._ui.changeButton.text = _("Close") if opened else _("Change")
        if opened:
            self._ui.modelSearch.setFocus()
            self._list.scrollToChosen()
        else:
            self._ui.modelSearch.setText("")

    def _onTaken(self, item: Any, _column: int) -> None:
        """A click on a model has chosen it, which is why the list was open."""
        if item.data(0, qt.Qt.UserRole):
            self._onOpen(False)

    # --- weights ---

    def agreed(self, structures: Iterable[str] = ()) -> bool:
        """Return whether all weights of a run are here, or the user agrees to their licenses and their size.

        Raises:
            ModelError: if a model that the chosen one needs is not here.
        """
        assert self.card is not None
        needed = needed_models(self.card, structures, self._cards)
        # the question before a download shows the license; a file that was put into its place by hand had none
        if not all(self._agreedToLicense(card) for card in needed if self.state(card) == "downloaded"):
            return False
        cards = self._available(needed)
        return not cards or bool(slicer.util.confirmOkCancelDisplay(letterByLetter(self._question(cards))))

    def _question(self, cards: Sequence[Card]) -> str:
        """Return what the user is asked before the weights of these models are downloaded."""
        assert self.card is not None
        sources = {origin(source) for card in cards for source in card.weights.sources}
        licenses = "\n".join(dict.fromkeys(card.license for card in cards))
        if len(cards) == 1:
            question = _("The weights of '{title}' ({size}, from {source}) are downloaded once.\n\nLicense: {license}")
            return question.format(
                title=cards[0].title, size=downloadSize(cards), source=_(" or ").join(sorted(sources)), license=licenses
            )
        question = _(
            "'{title}' needs the weights of {count} models ({size}, from {source}), which are downloaded once:\n"
            "{models}\n\nLicense: {license}"
        )
        return question.format(
            title=self.card.title,
            count=len(cards),
            size=downloadSize(cards),
            source=", ".join(sorted({urlsplit(source).netloc or source for source in sources})),
            models="\n".join(f"{card.title}: {megabytes(card.weights.size)}" for card in cards),
            license=licenses,
        )

    @property
    def _cards(self) -> dict[str, Card]:
        """The cards of all models by id."""
        return {model: listed.card for model, listed in self.listed.items()}

    def _available(self, cards: Iterable[Card]) -> list[Card]:
        """Return those of the models whose weights are not here but can be downloaded."""
        return [card for card in cards if self.state(card) == "available"]

    def _toDownload(self) -> list[Card]:
        """Return the models whose weights a download for the chosen one would bring."""
        try:
            return self._available(all_models(self.card, self._cards)) if self.card else []
        except ModelError:  # one is missing, which is reported when it is needed
            return []

    def _onDownload(self) -> None:
        """Start the download of all weights that the model may need, or cancel it."""
        if self._task is not None and self._task.state == "running":
            self._task.cancel()
            return
        cards = self._toDownload()
        if cards and slicer.util.confirmOkCancelDisplay(letterByLetter(self._question(cards))):
            self._start(partial(_download, cards), cancelable=True)

    def _onUseFile(self) -> None:
        """Let the user choose a weights file, or the folder of a model that is published as several files."""
        card = self.card
        if card is None:
            return
        if card.weights.parts:
            caption = _("Folder with {files}").format(files=", ".join(part.file for part in card.weights.parts))
            path = qt.QFileDialog.getExistingDirectory(self._ui.modelTree, caption)
        else:
            path = qt.QFileDialog.getOpenFileName(self._ui.modelTree, _("Weights of the model"))
        if not path or not self._agreedToLicense(card):
            return
        self._start(lambda progress, canceled: add_weights(card, path, progress, canceled, accept_license=True))

    def _agreedToLicense(self, card: Card) -> bool:
        """Return whether the user accepts the license, now or earlier."""
        if WeightStore().license_accepted(card):
            return True
        question = _("The license of '{title}' forbids commercial use:\n\n{license}\n\nDo you agree?")
        text = letterByLetter(question.format(title=card.title, license=card.license))
        return bool(slicer.util.confirmYesNoDisplay(text))

    def _onDelete(self) -> None:
        """Delete the weights or the model after a confirmation."""
        if self.card is not None:
            self.delete(self.card.id)

    def delete(self, model: str) -> None:
        """Delete what a model has on the disk, after a question; an imported model goes altogether."""
        listed = self.listed.get(model)
        size = storedBytes(model, self.listed)
        question = _("Delete '{title}' ({size}) from this computer?")
        if listed is None or listed.state != "user":
            question = _(
                "Delete '{title}' ({size}) from this computer? LightSeg then forgets that its license was accepted, "
                "and takes another file if its authors have replaced theirs."
            )
        title = listed.card.title if listed else model
        text = question.format(title=title, size=megabytes(size) if size else _("no file"))
        if not slicer.util.confirmYesNoDisplay(letterByLetter(text)):
            return
        with self._status.trying(_("The model could not be deleted.")):
            if listed is not None and listed.state == "user":
                remove_model(listed.card)
            else:
                for own in [card.id for card in own_models(listed.card, self._cards)] if listed else [model]:
                    WeightStore().remove(own, forget=True)
        self._changed()

    def _heldToFirst(self, card: Card | None) -> bool:
        """Return whether an earlier download of a model keeps a file from being used that its authors have replaced."""
        try:
            own = own_models(card, self._cards) if card is not None else []
        except ModelError:  # one is missing, which is reported when it is needed
            own = []
        return any(WeightStore().held_to_first(one) for one in own)

    def add(self, path: str) -> None:
        """Import a model from a folder, a zip file or a checkpoint, which needs PyTorch."""
        self._pytorch.ensure(lambda: self._start(lambda progress, canceled: import_model(path)))

    def _start(self, work: Callable[..., Any], cancelable: bool = False) -> None:
        """Run work beside the application, with progress in the window."""
        self._task, self._cancelable = Task(work), cancelable
        self._status.begin("")
        self._task.progress.connect(self._onProgress)
        self._task.finished.connect(self._onFinished)
        self.show(self.card.id if self.card else "")

    def close(self) -> None:
        """The window is closed: end a download, of which what has arrived is kept."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _onProgress(self, progress: Progress) -> None:
        """Show the progress of a download or import."""
        if self._task is not None:
            self._status.show(progress)

    def _onFinished(self, task: Task) -> None:
        """Show the outcome of a download or import."""
        if task is not self._task:
            return
        self._status.end()
        self._changed()
        if isinstance(task.result, Card):
            self._chosen(task.result.id)
        if task.error is not None:
            self._status.fail(task.error)


def _download(cards: Iterable[Card], progress: ProgressCallback, canceled: CancelCallback) -> None:
    """Download the weights of models whose license the user has agreed to; those that are complete stay."""
    ensure_all(cards, progress, canceled, accept_license=True)
