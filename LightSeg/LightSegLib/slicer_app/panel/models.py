"""Which model: a list that can be searched, what each model is, and where its weights are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ...catalog.card import Card
from ...catalog.lookup import all_cards, remove_model
from ...catalog.search import search
from ...core.progress import Progress
from ...models.archived import add_weights, ensure_weights
from ...models.importing import import_model
from ...weights.sources import origin
from ...weights.store import State, WeightStore
from ..jobs import Task
from .facts import details, downloadSize, shortFacts, stateText, storedBytes
from .fitting import breakable, fitList, stack
from .formatting import letterByLetter, megabytes
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
        self._cards: dict[str, Card] = {}
        self._states: dict[str, State] = {}
        self._items: dict[str, Any] = {}
        self._task: Task | None = None
        self._cancelable = False
        self._page: Card | None = None
        self.card: Card | None = None
        ui.modelTree.header().setStretchLastSection(False)
        ui.modelTree.header().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        ui.modelTree.header().setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        ui.modelSearch.textChanged.connect(self._onSearch)
        ui.modelTree.itemSelectionChanged.connect(self._onSelection)
        ui.modelTree.itemClicked.connect(self._onTaken)
        ui.modelTree.itemActivated.connect(self._onTaken)  # the keyboard's click
        ui.changeButton.toggled.connect(self._onOpen)
        ui.moreButton.toggled.connect(self._onMore)
        ui.downloadButton.clicked.connect(self._onDownload)
        ui.useFileButton.clicked.connect(self._onUseFile)
        ui.deleteButton.clicked.connect(self._onDelete)
        ui.modelFacts.viewport().setAutoFillBackground(False)  # they are text of the panel, not a list to choose from
        self._onOpen(False)
        self._onMore(False)

    @property
    def cards(self) -> list[Card]:
        """Cards of all models in the list."""
        return list(self._cards.values())

    def state(self, card: Card) -> State:
        """Return the state of a card's weights, as of the last `refresh`."""
        return self._states[card.id]

    def refresh(self) -> None:
        """Read the cards and what is on the disk, and show them; the chosen model stays chosen."""
        store, tree = WeightStore(), self._ui.modelTree
        self._cards = {card.id: card for card in all_cards()}
        self._states = {card.id: store.state(card) for card in self.cards}
        blocked = tree.blockSignals(True)
        tree.clear()
        self._items = {}
        for modality in sorted({card.modality for card in self.cards}):
            group = qt.QTreeWidgetItem([modality, ""])
            tree.addTopLevelItem(group)
            group.setFlags(qt.Qt.ItemIsEnabled)
            group.setExpanded(True)
            for card in sorted(self.cards, key=lambda card: card.title):
                if card.modality == modality:
                    self._items[card.id] = self._item(card, group)
        tree.blockSignals(blocked)
        self._onSearch()
        self.show(self.card.id if self.card else "")

    def _item(self, card: Card, group: Any) -> Any:
        """Return the tree item of a card."""
        item = qt.QTreeWidgetItem([card.title, stateText(card, self.state(card))])
        group.addChild(item)
        item.setData(0, qt.Qt.UserRole, card.id)
        item.setToolTip(
            0, letterByLetter(f"{card.title}\n{card.description}")
        )  # the list may have no room for the title
        if card.unverified:
            item.setToolTip(1, _("* Unverified: some properties on which the result depends are not known."))
        return item

    def show(self, model: str) -> None:
        """Show this model as chosen; one that is not here, as none."""
        self.card = self._cards.get(model)
        blocked = self._ui.modelTree.blockSignals(True)
        self._ui.modelTree.setCurrentItem(self._items.get(model))
        self._ui.modelTree.blockSignals(blocked)
        state = self.state(self.card) if self.card else "missing"
        self._ui.chosenLabel.setText(breakable(self.card.title) if self.card else _("Choose a model."))
        if self.card is None and model:  # one that is not here: there is none until the user chooses
            self._ui.changeButton.setChecked(True)
        if self.card is None or self.card is not self._page:  # else the reader keeps the place
            self._ui.modelDetails.setHtml(details(self.card) if self.card else "")
            self._page = self.card
        self._showFacts(state)
        busy = self._task is not None and self._task.state == "running"
        cancel = busy and self._cancelable
        self._ui.downloadButton.text = _("Cancel Download") if cancel else _("Download")
        self._ui.downloadButton.setEnabled(cancel or (not busy and state == "available"))
        for button in (self._ui.importFolderButton, self._ui.importFileButton):
            button.setEnabled(not busy)
        self._ui.useFileButton.setEnabled(
            not busy and self.card is not None and state in ("available", "manual", "missing")
        )
        self._ui.deleteButton.setEnabled(not busy and state in ("downloaded", "user"))
        self._ui.deleteStoredButton.setEnabled(not busy and self._ui.storedTable.currentRow() >= 0)
        buttons = (self._ui.downloadButton, self._ui.useFileButton, self._ui.deleteButton)
        usable = [button.enabled for button in buttons]
        for button in buttons:  # none of them for a model that comes with the extension
            button.setVisible(any(usable))
        stack(self._ui.modelButtons)

    def _showFacts(self, state: State) -> None:
        """Show the three lines on the chosen model."""
        view = self._ui.modelFacts
        view.clear()
        for line in shortFacts(self.card, state) if self.card else []:
            view.addItem(line)
            view.item(view.count - 1).setToolTip(letterByLetter(line))  # the line may have no room for all of it
        fitList(view, FACTS)
        self._ui.moreButton.setVisible(self.card is not None)
        if self.card is None:
            self._ui.moreButton.setChecked(False)

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
            item = self._ui.modelTree.currentItem()
            if item is not None:
                self._ui.modelTree.scrollToItem(item)
        else:
            self._ui.modelSearch.setText("")

    def _onTaken(self, item: Any, _column: int) -> None:
        """A click on a model has chosen it, which is why the list was open."""
        if item.data(0, qt.Qt.UserRole):
            self._onOpen(False)

    def _onSearch(self, *_arguments: object) -> None:
        """Show the models that match the search."""
        if self._ui.modelSearch.text:
            self._ui.changeButton.setChecked(True)
        found = {card.id for card in search(self.cards, self._ui.modelSearch.text)}
        for model, item in self._items.items():
            item.setHidden(model not in found)
        for number in range(self._ui.modelTree.topLevelItemCount):
            group = self._ui.modelTree.topLevelItem(number)
            group.setHidden(all(group.child(n).isHidden() for n in range(group.childCount())))

    def _onSelection(self) -> None:
        """Show the details of the selected model and report the choice."""
        item = self._ui.modelTree.currentItem()
        model = item.data(0, qt.Qt.UserRole) if item is not None else None
        if model:
            self._chosen(model)

    # --- weights ---

    def agreed(self, card: Card) -> bool:
        """Return whether the weights are here, or the user agrees to their license and their size."""
        if self.state(card) != "available":
            return True
        question = _("The weights of '{title}' ({size}, from {source}) are downloaded once.\n\nLicense: {license}")
        return bool(
            slicer.util.confirmOkCancelDisplay(
                letterByLetter(
                    question.format(
                        title=card.title,
                        size=downloadSize(card),
                        source=_(" or ").join(sorted({origin(source) for source in card.weights.sources})),
                        license=card.license,
                    )
                )
            )
        )

    def _onDownload(self) -> None:
        """Start the download of the weights, or cancel it."""
        if self._task is not None and self._task.state == "running":
            self._task.cancel()
        elif self.card is not None and self.agreed(self.card):
            card = self.card
            self._start(
                lambda progress, canceled: ensure_weights(card, progress, canceled, accept_license=True),
                cancelable=True,
            )

    def _onUseFile(self) -> None:
        """Let the user choose a weights file."""
        card = self.card
        path = qt.QFileDialog.getOpenFileName(self._ui.modelTree, _("Weights of the model"))
        if card is None or not path or not self._agreedToLicense(card):
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
        card = self._cards.get(model)
        size = storedBytes(model, card)
        question = _("Delete '{title}' ({size}) from this computer?")
        title = card.title if card else model
        if not slicer.util.confirmYesNoDisplay(letterByLetter(question.format(title=title, size=megabytes(size)))):
            return
        with self._status.trying(_("The model could not be deleted.")):
            if card is not None and self._states[model] == "user":
                remove_model(card)
            else:
                WeightStore().remove(model)
        self._changed()

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
