"""The list of models: by family, each task in one row, and with the structures that a search has found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import qt
from slicer.i18n import tr as _

from ...catalog.card import Card
from ...catalog.condensed import condensed
from ...catalog.families import NotOffered, not_offered
from ...catalog.offers import by_task, proposed, without_parts
from ...catalog.search import found_structures, search, search_not_offered
from ...core.system import may_have_gpu
from .facts import stateText
from .formatting import letterByLetter
from .listed import Listed


@dataclass(frozen=True)
class Row:
    """A task in the list.

    Attributes:
        task: its models, the best first.
        item: of the tree.
    """

    task: tuple[Card, ...]
    item: Any

    @property
    def title(self) -> str:
        """What the list calls it: as its best model."""
        return self.task[0].title


class ModelList:
    """A tree with models of their own by modality, then those of each family, which are folded at first.

    Args:
        ui: widgets of the form.
        chosen: called with the id of a model when the user selects its row.
        searching: called when the user searches.
    """

    def __init__(self, ui: Any, chosen: Callable[[str], None], searching: Callable[[], None]) -> None:
        self._ui = ui
        self._tree = ui.modelTree
        self._chosen = chosen
        self._searching = searching
        self._models: Mapping[str, Listed] = {}
        self._rows: dict[str, Row] = {}  # by the ids of their models
        self._others: dict[NotOffered, Any] = {}  # with their items
        self._toggled: set[str] = set()  # groups that the user has unfolded, or folded if they are of no family
        self._found: set[str] = set()  # ids of the models that fit the search
        self._current = ""
        self._gpu = may_have_gpu()
        self._tree.header().setStretchLastSection(False)
        self._tree.header().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        self._tree.header().setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        self._tree.itemSelectionChanged.connect(self._onSelection)
        self._tree.itemExpanded.connect(self._onFold)
        self._tree.itemCollapsed.connect(self._onFold)
        ui.modelSearch.textChanged.connect(self._onSearch)

    def fill(self, models: Mapping[str, Listed]) -> None:
        """Show these models, given by id, and where the weights of each are."""
        if models == self._models:
            return
        self._models = models
        cards = [model.card for model in models.values()]
        blocked = self._tree.blockSignals(True)
        self._tree.clear()
        self._rows = {}
        groups: dict[str, list[tuple[Card, ...]]] = {}
        for task in sorted(by_task(without_parts(cards)), key=lambda task: (bool(task[0].family), task[0].title)):
            groups.setdefault(task[0].family or task[0].modality, []).append(task)
        own = sorted(name for name in groups if not groups[name][0][0].family)
        for name in (*own, *sorted(groups.keys() - set(own), key=str.casefold)):
            group = self._group(name, groups[name])
            for task in groups[name]:
                row = Row(task, qt.QTreeWidgetItem(["", ""]))
                group.addChild(row.item)
                self._rows |= {card.id: row for card in task}
        self._addOthers()
        self._tree.blockSignals(blocked)
        self._onSearch()

    def show(self, model: str) -> None:
        """Select the row of this model, or none."""
        blocked = self._tree.blockSignals(True)
        before, self._current = self._rows.get(self._current), model
        row = self._rows.get(model)
        for changed in (before, row):
            if changed is not None:
                self._describe(changed)
        self._tree.setCurrentItem(row.item if row is not None else None)
        self._tree.blockSignals(blocked)

    def task(self, model: str) -> tuple[Card, ...]:
        """Return the models of the task that a model is of, the best first; none for a model that is not listed."""
        row = self._rows.get(model)
        return row.task if row is not None else ()

    def scrollToChosen(self) -> None:
        """Let the chosen model be in view, and its group unfolded."""
        item = self._tree.currentItem()
        if item is not None:
            self._tree.scrollToItem(item)

    def _group(self, name: str, tasks: Sequence[tuple[Card, ...]]) -> Any:
        """Return the item above the tasks of a family, or of a modality."""
        card = tasks[0][0]
        group = qt.QTreeWidgetItem([name, str(len(tasks)) if card.family else ""])
        self._tree.addTopLevelItem(group)
        group.setFlags(qt.Qt.ItemIsEnabled)
        if card.family:
            group.setToolTip(0, letterByLetter(_aboutFamily([card for task in tasks for card in task])))
        return group

    def _addOthers(self) -> None:
        """Add what the families have but LightSeg does not, with the reason, for those who search for it."""
        group = qt.QTreeWidgetItem([_("Not offered"), ""])
        self._tree.addTopLevelItem(group)
        group.setFlags(qt.Qt.ItemIsEnabled)
        self._others = {}
        for model in not_offered():
            name = _("{name} ({family}, {modality})").format(
                name=model.name, family=model.family, modality=model.modality
            )
            item = qt.QTreeWidgetItem([f"{name}\n{model.reason}", ""])
            group.addChild(item)
            item.setFlags(qt.Qt.ItemIsEnabled)
            item.setFirstColumnSpanned(True)
            item.setToolTip(0, letterByLetter(f"{name}\n{model.reason}"))
            self._others[model] = item

    def _describe(self, row: Row) -> None:
        """Show in a row which of its models a click would choose, and where its weights are."""
        card = self._of_click(row)
        model = self._models[card.id]
        row.item.setText(0, self._title(row))
        row.item.setText(1, stateText(model, short=True))
        row.item.setData(0, qt.Qt.UserRole, card.id)
        row.item.setToolTip(0, letterByLetter(f"{card.title}\n{card.description}"))  # the list may have no room
        mark = _("* Unverified: some properties on which the result depends are not known.")
        row.item.setToolTip(1, f"{stateText(model)}\n{mark}" if model.unverified else stateText(model))

    def _of_click(self, row: Row) -> Card:
        """Return the model that a click on a row chooses: the chosen one, else one to propose of those found."""
        current = (card for card in row.task if card.id == self._current)
        found = [card for card in row.task if card.id in self._found]
        return next(current, None) or proposed(found or row.task, self._gpu)

    def _title(self, row: Row) -> str:
        """Return the title of a row, and in a second line the structures for which the search has found it."""
        found = found_structures(row.task[0], self._ui.modelSearch.text) if self._ui.modelSearch.text else []
        if not found:
            return row.title
        return f"{row.title}\n{', '.join(condensed(found))}"

    def _onSearch(self, *_arguments: object) -> None:
        """Show the tasks that fit the search, all families unfolded; without a search, as the user had them."""
        words = self._ui.modelSearch.text
        if words:
            self._searching()
        self._found = {card.id for card in search([model.card for model in self._models.values()], words)}
        blocked = self._tree.blockSignals(True)
        for row in {id(row): row for row in self._rows.values()}.values():
            row.item.setHidden(self._found.isdisjoint(card.id for card in row.task))
            if not row.item.isHidden():
                self._describe(row)
        others = set(search_not_offered(words))
        for model, item in self._others.items():
            item.setHidden(model not in others)
        for number in range(self._tree.topLevelItemCount):
            group = self._tree.topLevelItem(number)
            count = sum(not group.child(n).isHidden() for n in range(group.childCount()))
            group.setHidden(not count)
            if _isFamily(group):
                group.setText(1, str(count))
            group.setExpanded(bool(words) or _isFamily(group) == (group.text(0) in self._toggled))
        self._tree.blockSignals(blocked)

    def _onFold(self, group: Any) -> None:
        """Remember which groups the user has unfolded or folded."""
        if not self._ui.modelSearch.text:
            toggled = group.isExpanded() == _isFamily(group)
            (self._toggled.add if toggled else self._toggled.discard)(group.text(0))

    def _onSelection(self) -> None:
        """Report the choice of the user."""
        item = self._tree.currentItem()
        model = item.data(0, qt.Qt.UserRole) if item is not None else None
        if model:
            self._chosen(model)


def _isFamily(group: Any) -> bool:
    """Return whether a group of the tree has a number, as families have."""
    return bool(group.text(1))


def _aboutFamily(cards: Sequence[Card]) -> str:
    """Return the license and the citation of most models of a family, and of which ones the license is another."""
    license_ = Counter(card.license for card in cards).most_common(1)[0][0]
    citation = Counter(card.citation for card in cards).most_common(1)[0][0]
    licenses = "\n".join([license_, *(f"{card.title}: {card.license}" for card in cards if card.license != license_)])
    return _("License: {license}\n\nCite: {citation}").format(license=licenses, citation=citation)
