"""Which structures of the model are wanted: a list to tick, with a search, remembered for each model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from ...catalog.anatomy import split_words
from ...catalog.card import Card
from ..parameters import chooseStructures, chosenStructures
from .fitting import stack
from .formatting import colorIcon

FEWEST = 2  # structures of a model, so that there is something to choose


class Structures:
    """The row that shows how many structures are wanted, and the list that it opens.

    Args:
        ui: widgets of the form.
        parameters: as in `Inputs`.
    """

    def __init__(self, ui: Any, parameters: Callable[[], Any]) -> None:
        self._ui = ui
        self._parameters = parameters
        self._card: Card | None = None
        ui.structuresButton.toggled.connect(self._onOpen)
        ui.structureSearch.textChanged.connect(self._onSearch)
        ui.structureList.itemChanged.connect(self._onTick)
        ui.allStructuresButton.clicked.connect(lambda: self._tickShown(True))
        ui.noStructuresButton.clicked.connect(lambda: self._tickShown(False))
        self._onOpen(False)

    @property
    def names(self) -> tuple[str, ...]:
        """The structures that a run would give, by their names; empty for all."""
        ticked, every = self._ticked(), self._every()
        return () if len(ticked) == len(every) else tuple(name for name in every if name in ticked)

    def reason(self) -> str:
        """Return why Apply cannot be pressed, or nothing."""
        return "" if self._ticked() or not self._every() else _("Tick a structure to segment")

    def show(self, card: Card | None) -> None:
        """Show the structures of this model, and which of them are wanted."""
        has = card is not None and len(card.result_labels) >= FEWEST
        self._ui.structuresLabel.setVisible(has)
        self._ui.structuresButton.setVisible(has)
        if not has:
            self._ui.structuresButton.setChecked(False)
        if card is not self._card:
            self._card = card
            self._ui.structureSearch.setText("")
            self._fill()
        self._showTicks()

    def _every(self) -> list[str]:
        """Return the names of all structures of the model, each once."""
        return list(dict.fromkeys(label.name for label in self._card.result_labels)) if self._card else []

    def _ticked(self) -> set[str]:
        """Return the names of those that are ticked: all, before the user has chosen."""
        parameters = self._parameters()
        every = set(self._every())
        if parameters is None or self._card is None:
            return every
        chosen = chosenStructures(parameters, self._card.id)
        return every if chosen is None else every & set(chosen)

    def _fill(self) -> None:
        """List the structures of the model."""
        view = self._ui.structureList
        blocked = view.blockSignals(True)
        view.clear()
        colors = {label.name: label.color for label in self._card.result_labels} if self._card else {}
        for name in self._every():
            item = qt.QListWidgetItem(colorIcon([part / 255 for part in colors[name]]), name)
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | qt.Qt.ItemIsUserCheckable)
            item.setToolTip(name)
            view.addItem(item)
        view.blockSignals(blocked)

    def _items(self) -> list[Any]:
        """Return the lines of the list."""
        return [self._ui.structureList.item(number) for number in range(self._ui.structureList.count)]

    def _showTicks(self) -> None:
        """Show which structures are ticked, and how many."""
        ticked, every = self._ticked(), self._every()
        blocked = self._ui.structureList.blockSignals(True)
        for item in self._items():
            state = qt.Qt.Checked if item.text() in ticked else qt.Qt.Unchecked
            if item.checkState() != state:
                item.setCheckState(state)
        self._ui.structureList.blockSignals(blocked)
        all_ = len(ticked) == len(every)
        self._ui.structuresButton.text = (
            _("all {count}").format(count=len(every))
            if all_
            else _("{count} of {all}").format(count=len(ticked), all=len(every))
        )

    def _onOpen(self, opened: bool) -> None:
        """Show the list, ready to be searched, or hide it."""
        self._ui.structuresPart.setVisible(opened)
        if opened:
            stack(self._ui.structureButtons)
            self._ui.structureSearch.setFocus()
        else:
            self._ui.structureSearch.setText("")

    def _onSearch(self, *_arguments: object) -> None:
        """Show the structures that have words which begin with those of the search."""
        wanted = split_words(self._ui.structureSearch.text)
        for item in self._items():
            words = split_words(item.text())
            item.setHidden(not all(any(own.startswith(word) for own in words) for word in wanted))

    def _onTick(self, item: Any) -> None:
        """The user ticks a structure, or takes its tick away."""
        self._choose([item], item.checkState() == qt.Qt.Checked)

    def _tickShown(self, tick: bool) -> None:
        """Tick all structures that the search shows, or none of them."""
        self._choose([item for item in self._items() if not item.isHidden()], tick)

    def _choose(self, items: list[Any], tick: bool) -> None:
        """Keep the choice in the parameter node."""
        parameters, names = self._parameters(), {item.text() for item in items}
        if parameters is None or self._card is None:
            return
        ticked = self._ticked() | names if tick else self._ticked() - names
        every = self._every()
        chosen = None if len(ticked) == len(every) else [name for name in every if name in ticked]
        chooseStructures(parameters, self._card.id, chosen)
