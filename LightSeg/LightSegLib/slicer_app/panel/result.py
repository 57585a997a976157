"""What came out: segments with their volumes, words for a paper, and where to look first."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ...inference.methods import methods_sentence
from .. import scene
from ..translation import translated
from .fitting import BESIDE_HELP, breakable, fitList, fitTable, stack
from .formatting import colorIcon

SUMMARY_LINES = 3  # of the result, always in view
REFRESH_MS = 300  # after an edit, so that a stroke of the brush is not held up


class Result(VTKObservationMixin):  # type: ignore[misc]
    """The section of the window that shows a result.

    Everything is read from the segmentation node, so a saved scene shows it again.
    """

    def __init__(self, ui: Any) -> None:
        VTKObservationMixin.__init__(self)
        self._ui = ui
        self._node: Any = None
        self._methods = ""
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._fill)
        header = ui.resultTable.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(2, qt.QHeaderView.ResizeToContents)
        ui.summaryList.itemClicked.connect(self._onSummary)
        ui.summaryList.itemActivated.connect(self._onSummary)
        ui.copyTableButton.clicked.connect(self._onCopyTable)
        ui.copyMethodsButton.clicked.connect(self._onCopyMethods)
        ui.lowConfidenceList.itemClicked.connect(self._onLowConfidence)
        ui.lowConfidenceList.itemActivated.connect(self._onLowConfidence)  # the keyboard's click
        ui.editButton.clicked.connect(self._onEdit)
        self.show(None)

    def show(self, segmentationNode: Any) -> None:
        """Show this segmentation, or nothing; follow its changes."""
        if segmentationNode is not self._node or segmentationNode is None:
            self._timer.stop()
            self.removeObservers()
            self._node = segmentationNode
            if segmentationNode is not None:
                self.addObserver(segmentationNode, vtk.vtkCommand.ModifiedEvent, self._onChanged)
                segments = segmentationNode.GetSegmentation()
                for event in (
                    slicer.vtkSegmentation.SegmentAdded,
                    slicer.vtkSegmentation.SegmentRemoved,
                    slicer.vtkSegmentation.SegmentModified,
                    slicer.vtkSegmentation.SourceRepresentationModified,
                ):
                    self.addObserver(segments, event, self._onChanged)
            self._fill()

    def _onChanged(self, *_arguments: object) -> None:
        """Refresh the table soon."""
        self._timer.start()

    def _fill(self) -> None:
        """Show volumes, provenance and slices with low confidence."""
        node, table = self._node, self._ui.resultTable
        rows = scene.segment_volumes(node) if node is not None else []
        totals = scene.total_volumes(node) if node is not None else []
        expected = scene.expected_dice(node) if node is not None else {}
        table.setRowCount(len(rows) + len(totals))
        table.setColumnHidden(2, not expected)
        squares = [colorIcon(color) for _name, color, _volume in rows]
        for number, (name, volume) in enumerate([(name, volume) for name, _color, volume in rows] + totals):
            item = qt.QTableWidgetItem(name)
            item.setToolTip(name)  # the column may have no room for all of it
            if number < len(squares):
                item.setIcon(squares[number])
            table.setItem(number, 0, item)
            table.setItem(number, 1, qt.QTableWidgetItem(f"{volume:.2f}"))
            table.setItem(number, 2, qt.QTableWidgetItem(f"{expected[name]:.2f}" if name in expected else ""))
        fitTable(table)
        self._ui.resultSection.setVisible(node is not None)
        self._summarize(rows, squares)
        provenance = scene.provenance_of(node) if node is not None else {}
        names = scene.names_of_last_run(node) if node is not None else []
        self._methods = methods_sentence(provenance, names) if provenance else ""
        self._ui.methodsLabel.setText(breakable(self._methods))
        notices = scene.notices_of(node) if node is not None else []
        self._ui.noticesLabel.setText(breakable(" ".join(map(translated, notices))))
        self._ui.noticesLabel.setVisible(bool(self._ui.noticesLabel.text))
        for button in (self._ui.copyTableButton, self._ui.editButton):
            button.setEnabled(bool(rows))
        self._ui.copyMethodsButton.setEnabled(bool(provenance))
        self._ui.show3DButton.setSegmentationNode(node)
        self._showLowConfidence(self._lowConfidencePositions())
        stack(self._ui.resultButtons, BESIDE_HELP)
        stack(self._ui.summaryButtons)

    def _summarize(self, rows: list[Any], squares: list[Any]) -> None:
        """The first lines, which stay in view beside Apply; if there are more, the last line counts them."""
        view, shown = self._ui.summaryList, len(rows) if len(rows) <= SUMMARY_LINES else SUMMARY_LINES - 1
        view.clear()
        for (name, _color, volume), square in zip(rows[:shown], squares, strict=False):
            view.addItem(_("{volume:.2f} ml  {segment}").format(volume=volume, segment=name))
            view.item(view.count - 1).setIcon(square)
            view.item(view.count - 1).setToolTip(name)
        if shown < len(rows):
            view.addItem(_("and {count} more").format(count=len(rows) - shown))
        if self._node is not None and not rows:
            view.addItem(_("No segments"))
        fitList(view, SUMMARY_LINES)
        self._ui.summaryPart.setVisible(self._node is not None)

    def _onSummary(self, _item: object) -> None:
        """Show all of the result."""
        self._ui.resultSection.collapsed = False
        qt.QTimer.singleShot(0, self._scrollToSection)  # when the section has its place

    def _scrollToSection(self) -> None:
        """Scroll until the section begins at the top."""
        self._ui.scrollArea.verticalScrollBar().setValue(self._ui.resultSection.y)

    def _lowConfidencePositions(self) -> list[tuple[tuple[float, float, float], float]]:
        """Return the positions with the lowest confidence, in RAS mm as the volume is now, with their confidence."""
        volume = scene.input_volume(self._node) if self._node is not None else None
        if volume is None:
            return []
        found = scene.provenance_of(self._node).get("low_confidence_slices", [])
        return [(scene.world_position(volume, index), confidence) for *index, confidence in found]

    def _showLowConfidence(self, places: list[tuple[tuple[float, float, float], float]]) -> None:
        """List positions in RAS mm with their confidence."""
        self._ui.lowConfidenceList.clear()
        for (r, a, s), sure in places:
            self._ui.lowConfidenceList.addItem(
                _("{percent:.0f} % certain at {r:.0f}, {a:.0f}, {s:.0f} mm (R, A, S)").format(
                    percent=100 * sure, r=r, a=a, s=s
                )
            )
        fitList(self._ui.lowConfidenceList, len(places))
        self._ui.lowConfidenceLabel.setVisible(bool(places))
        self._ui.lowConfidenceList.setVisible(bool(places))

    def _onLowConfidence(self, _item: object) -> None:
        """Show the clicked position in all slice views."""
        (r, a, s), _sure = self._lowConfidencePositions()[self._ui.lowConfidenceList.currentRow]
        slicer.modules.markups.logic().JumpSlicesToLocation(r, a, s, True)

    def _onCopyTable(self) -> None:
        """Copy the table of volumes to the clipboard."""
        expected = scene.expected_dice(self._node)
        volumes = [(name, volume) for name, _color, volume in scene.segment_volumes(self._node)]
        rows = [(_("Segment"), _("Volume, ml"), _("Expected Dice"))]
        for name, volume in volumes + scene.total_volumes(self._node):
            rows.append((name, f"{volume:.3f}", f"{expected[name]:.2f}" if name in expected else ""))
        text = "\n".join("\t".join(row if expected else row[:2]) for row in rows)
        qt.QApplication.clipboard().setText(text)

    def _onCopyMethods(self) -> None:
        """Copy the sentence for a paper to the clipboard."""
        qt.QApplication.clipboard().setText(self._methods)

    def _onEdit(self) -> None:
        """Open the segmentation in the Segment Editor."""
        node, volume = self._node, scene.input_volume(self._node)  # the window is left before the other one opens
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.SegmentEditorWidget.editor
        editor.setSegmentationNode(node)
        editor.setSourceVolumeNode(volume)
