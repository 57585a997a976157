"""The widgets of CTK that LightSeg uses: their properties, signals and slots, and about their looks."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import qt_application  # noqa: F401  widgets need the application

Property, Signal, Slot = QtCore.Property, QtCore.Signal, QtCore.Slot


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A header to click on, above what it shows or hides."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        parent = next((a for a in arguments if isinstance(a, QtWidgets.QWidget)), None)
        super().__init__(parent)
        self._collapsed, self._hidden = False, []
        self.text = next((a for a in arguments if isinstance(a, str)), "")
        self.checkable = self.checked = True
        policy = QtWidgets.QSizePolicy.Policy.Preferred
        self.sizePolicy = QtWidgets.QSizePolicy(policy, policy)
        self.setContentsMargins(0, self._header_height(), 0, 0)
        self.toggled.connect(lambda checked: self._collapse(not checked))

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def _collapse(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self.setChecked(not collapsed)
        widgets = [child for child in self.children() if isinstance(child, QtWidgets.QWidget)]
        if collapsed:
            self._hidden = [child for child in widgets if not child.isHidden()]
            for child in self._hidden:
                child.hide()
        else:
            for child in self._hidden:
                child.show()
        self.maximumHeight = self._header_height() if collapsed else 16777215
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    collapsed = Property(bool, _get_collapsed, _collapse, notify=contentsCollapsed)

    def _header_height(self) -> int:
        return self.fontMetrics().height() + 8

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._header_height()

    def minimumSizeHint(self) -> QtCore.QSize:
        return super().minimumSizeHint.expandedTo(QtCore.QSize(80, self._header_height()))

    def sizeHint(self) -> QtCore.QSize:
        return super().sizeHint.expandedTo(QtCore.QSize(80, self._header_height()))

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width, self._header_height())
        option.state |= QtWidgets.QStyle.StateFlag.State_Raised
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        element = QtWidgets.QStyle.PrimitiveElement
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, (self._header_height() - 12) // 2, 12, 12)
        painter.drawPrimitive(
            element.PE_IndicatorArrowRight if self._collapsed else element.PE_IndicatorArrowDown, arrow
        )
        painter.drawText(option.rect.adjusted(24, 0, 0, 0), QtCore.Qt.AlignmentFlag.AlignVCenter.value, self.text)


class ctkSearchBox(QtWidgets.QLineEdit):
    """A line with a magnifying glass and a button that clears it."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.placeholderText = "Search..."
        self.clearButtonEnabled = True
        self._icon = True

    def _get_icon(self) -> bool:
        return self._icon

    def _set_icon(self, shown: bool) -> None:
        self._icon = shown

    showSearchIcon = Property(bool, _get_icon, _set_icon)


class ctkMenuButton(QtWidgets.QPushButton):
    """A button with a menu of its own beside it."""


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """Text that is as high as its contents, without a scroll bar."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._collapsed = True
        self.verticalScrollBarPolicy = QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        policy = QtWidgets.QSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.sizePolicy = policy
        self.textChanged.connect(self.updateGeometry)

    def heightForWidth(self, width: int) -> int:
        document = self.document.clone()
        document.textWidth = width - 2 * self.frameWidth
        return int(document.size.height()) + 2 * self.frameWidth

    def sizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(self.width, self.heightForWidth(self.width))

    def minimumSizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(0, self.heightForWidth(self.width))

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        super().resizeEvent(event)
        self.updateGeometry()

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def _set_collapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed

    collapsed = Property(bool, _get_collapsed, _set_collapsed)


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path to type or to browse for."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._line, self._button, self._names = QtWidgets.QLineEdit(), QtWidgets.QToolButton(), []
        self._filters, self._key, self._label = 0, "", ""
        self._button.text = "..."
        self._button.clicked.connect(self.browse)
        self._line.textChanged.connect(self.currentPathChanged)
        row = QtWidgets.QHBoxLayout(self)
        row.contentsMargins = QtCore.QMargins()
        row.addWidget(self._line)
        row.addWidget(self._button)

    def _get_path(self) -> str:
        return self._line.text

    @Slot(str)
    def setCurrentPath(self, path: str) -> None:
        self._line.setText(path)

    currentPath = Property(str, _get_path, setCurrentPath, user=True)

    def _get_names(self) -> list[str]:
        return self._names

    def _set_names(self, names: list[str]) -> None:
        self._names = list(names)

    nameFilters = Property("QStringList", _get_names, _set_names)

    @Slot()
    def browse(self) -> None:
        from .dialogs import CURRENT

        if path := CURRENT.next_path("a path"):
            self.setCurrentPath(path)

    @Slot()
    def addCurrentPathToHistory(self) -> None:
        pass


NAMES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (ctkCollapsibleButton, ctkSearchBox, ctkMenuButton, ctkFittedTextBrowser, ctkPathLineEdit)
}
