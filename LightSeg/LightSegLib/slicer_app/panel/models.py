"""Which model: a list that can be searched, what each model is, and where its weights are."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ...catalog.card import Card
from ...catalog.lookup import all_cards, remove_model
from ...catalog.search import search
from ...core.progress import Progress
from ...models.importing import import_model
from ...weights.sources import origin
from ...weights.store import State, WeightStore
from ..jobs import Task
from ..translation import errorDisplay, translated
from . import pytorch
from .formatting import letterByLetter, megabytes, progressText


class Models:
    """The section of the window with the list of models and their weights.

    Args:
        chosen: called with the id when the user chooses a model.
        changed: called when models came, went or moved.
    """

    def __init__(self, ui: Any, chosen: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._ui = ui
        self._chosen = chosen
        self._changed = changed
        self._cards: dict[str, Card] = {}
        self._states: dict[str, State] = {}
        self._items: dict[str, Any] = {}
        self._task: Task | None = None
        self._cancellable = False
        self._page: Card | None = None
        self.card: Card | None = None
        ui.modelTree.header().setStretchLastSection(False)
        ui.modelTree.header().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        ui.modelTree.header().setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        ui.modelSearch.textChanged.connect(self._onSearch)
        ui.modelTree.itemSelectionChanged.connect(self._onSelection)
        ui.downloadButton.clicked.connect(self._onDownload)
        ui.useFileButton.clicked.connect(self._onUseFile)
        ui.deleteButton.clicked.connect(self._onDelete)

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
            item.setToolTip(1, _("* Unverified: not everything that the result depends on is known."))
        return item

    def show(self, model: str) -> None:
        """Show this model as chosen; one that is not here, as none."""
        self.card = self._cards.get(model)
        blocked = self._ui.modelTree.blockSignals(True)
        self._ui.modelTree.setCurrentItem(self._items.get(model))
        self._ui.modelTree.blockSignals(blocked)
        if self.card is None or self.card is not self._page:  # else the reader keeps the place
            self._ui.modelDetails.setHtml(details(self.card) if self.card else _("Choose a model."))
            self._page = self.card
        state = self.state(self.card) if self.card else "missing"
        busy = self._task is not None and self._task.state == "running"
        cancel = busy and self._cancellable
        self._ui.downloadButton.text = _("Cancel Download") if cancel else _("Download")
        self._ui.downloadButton.setEnabled(cancel or (not busy and state == "available"))
        for button in (self._ui.importFolderButton, self._ui.importFileButton):
            button.setEnabled(not busy)
        self._ui.useFileButton.setEnabled(
            not busy and self.card is not None and state in ("available", "manual", "missing")
        )
        self._ui.deleteButton.setEnabled(not busy and state in ("downloaded", "user"))
        self._ui.deleteStoredButton.setEnabled(not busy and self._ui.storedTable.currentRow() >= 0)

    def _onSearch(self, *_arguments: object) -> None:
        """Show the models that match the search."""
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
                        size=megabytes(card.weights.size),
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
                lambda progress, canceled: WeightStore().ensure(card, progress, canceled, accept_license=True),
                cancellable=True,
            )

    def _onUseFile(self) -> None:
        """Let the user choose a weights file."""
        card = self.card
        path = qt.QFileDialog.getOpenFileName(self._ui.modelTree, _("Weights of the model"))
        if card is None or not path or not self._agreedToLicense(card):
            return
        self._start(
            lambda progress, canceled: WeightStore().add_file(card, path, progress, canceled, accept_license=True)
        )

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
        with errorDisplay(_("It could not be deleted.")):
            if card is not None and self._states[model] == "user":
                remove_model(card)
            else:
                WeightStore().remove(model)
        self._changed()

    def add(self, path: str) -> None:
        """Import a model from a folder, a zip file or a checkpoint, which needs PyTorch."""
        if pytorch.ensured(self._ui.statusLabel.setText):
            self._start(lambda progress, canceled: import_model(path))

    def _start(self, work: Callable[..., Any], cancellable: bool = False) -> None:
        """Run work beside the application, with progress in the window."""
        self._task, self._cancellable = Task(work), cancellable
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
        if self._task is None:
            return
        self._ui.statusLabel.setText(progressText(progress))

    def _onFinished(self, task: Task) -> None:
        """Show the outcome of a download or import."""
        if task is not self._task:
            return
        self._ui.statusLabel.setText("")
        self._changed()
        if isinstance(task.result, Card):
            self._chosen(task.result.id)
        if task.error is not None:
            slicer.util.errorDisplay(letterByLetter(translated(task.error)))


def storedBytes(model: str, card: Card | None) -> int:
    """Return the size on disk of a downloaded or imported model."""
    size = sum(entry.size for entry in WeightStore().entries() if entry.model == model)
    if card is not None and WeightStore().state(card) == "user" and card.folder is not None:
        size += sum(path.stat().st_size for path in card.folder.rglob("*") if path.is_file())
    return size


def stateText(card: Card, state: State) -> str:
    """Return the state of a card's weights as text; a star marks an unverified model."""
    text = {
        "bundled": _("bundled"),
        "user": _("imported"),
        "downloaded": _("downloaded"),
        "available": _("{size} to download").format(size=megabytes(card.weights.size))
        if card.weights.size
        else _("to download"),
        "manual": _("file needed"),
        "missing": _("missing"),
    }
    return _("{state} *").format(state=text[state]) if card.unverified else text[state]


def details(card: Card) -> str:
    """Return a model as a small page."""
    labels = " ".join(
        f'<span style="color: rgb{tuple(label.color)}">&#9632;</span>&nbsp;{html.escape(label.name)}'
        for label in card.labels
    )
    channels = f"{card.modality}: {', '.join(card.channels)}"
    rows = {
        _("Segments"): labels,
        _("Input"): html.escape(card.modality if card.channels == (card.modality,) else channels),
        _("Accuracy"): html.escape(accuracy(card)),
        _("Weights"): html.escape(megabytes(card.weights.size)) if card.weights.size else "",
        _("Limits"): html.escape(card.limitations),
        _("* Unverified, since not known"): html.escape(" ".join(card.assumptions)),
        _("License"): html.escape(card.license),
        _("Cite"): html.escape(card.citation),
    }
    link = f' <a href="{html.escape(card.homepage)}">{_("Homepage")}</a>' if card.homepage else ""
    body = "".join(f"<p><b>{name}:</b> {text}</p>" for name, text in rows.items() if text)
    return f"<p><b>{html.escape(card.title)}</b></p><p>{html.escape(card.description)}{link}</p>{body}"


def accuracy(card: Card) -> str:
    """Return the measured accuracy in one line, or an empty text."""
    measured = card.performance
    if "mean_dice" in measured:
        parts = [
            _("{label} {dice:.2f}").format(label=name, dice=entry["dice"]["mean"])
            for name, entry in measured.get("labels", {}).items()
        ]
        return _("Dice {mean:.2f} on {cases} cases ({parts})").format(
            mean=measured["mean_dice"], cases=measured["cases"], parts=", ".join(parts)
        )
    percent = measured.get("dice_percent", measured.get("dsc_percent"))
    if percent is None:
        return ""
    mean = percent["mean"] if isinstance(percent, dict) else percent
    return _("Dice {mean:.2f} on {data}, as reported by {who}").format(
        mean=mean / 100, data=measured.get("data", _("data not named")), who=measured.get("reported_by", _("somebody"))
    )
