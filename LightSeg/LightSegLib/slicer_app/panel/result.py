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

REFRESH_MS = 300  # after an edit, so that a stroke of the brush is not held up


class Result(VTKObservationMixin):  # type: ignore[misc]
    """The section of the window that shows a result.

    Everything is read from the segmentation node, so a saved scene shows it again.
    """

    def __init__(self, ui: Any) -> None:
        VTKObservationMixin.__init__(self)
        self._ui = ui
        self._node: Any = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._fill)
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
        table.setRowCount(len(rows) + len(totals))
        for number, (name, color, volume) in enumerate(rows):
            square = qt.QPixmap(12, 12)
            square.fill(qt.QColor(*(round(255 * part) for part in color)))
            item = qt.QTableWidgetItem(name)
            item.setIcon(qt.QIcon(square))
            table.setItem(number, 0, item)
            table.setItem(number, 1, qt.QTableWidgetItem(f"{volume:.2f}"))
        for number, (name, volume) in enumerate(totals, start=len(rows)):
            table.setItem(number, 0, qt.QTableWidgetItem(name))
            table.setItem(number, 1, qt.QTableWidgetItem(f"{volume:.2f}"))
        table.resizeColumnToContents(0)
        self._ui.resultSection.setVisible(node is not None)
        provenance = scene.provenance_of(node) if node is not None else {}
        names = scene.names_of_last_run(node) if node is not None else []
        self._ui.methodsLabel.setText(methods_sentence(provenance, names) if provenance else "")
        self._ui.noticesLabel.setText(" ".join(map(translated, provenance.get("notices", []))))
        for button in (self._ui.copyTableButton, self._ui.editButton):
            button.setEnabled(bool(rows))
        self._ui.copyMethodsButton.setEnabled(bool(provenance))
        self._ui.show3DButton.setSegmentationNode(node)
        self._showLowConfidence(self._lowConfidencePositions())

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
        self._ui.lowConfidenceLabel.setVisible(bool(places))
        self._ui.lowConfidenceList.setVisible(bool(places))

    def _onLowConfidence(self, _item: object) -> None:
        """Show the clicked position in all slice views."""
        (r, a, s), _sure = self._lowConfidencePositions()[self._ui.lowConfidenceList.currentRow]
        slicer.modules.markups.logic().JumpSlicesToLocation(r, a, s, True)

    def _onCopyTable(self) -> None:
        """Copy the table of volumes to the clipboard."""
        rows = [(name, f"{volume:.3f}") for name, _color, volume in scene.segment_volumes(self._node)]
        rows += [(name, f"{volume:.3f}") for name, volume in scene.total_volumes(self._node)]
        text = "\n".join("\t".join(row) for row in [(_("Segment"), _("Volume, ml")), *rows])
        qt.QApplication.clipboard().setText(text)

    def _onCopyMethods(self) -> None:
        """Copy the sentence for a paper to the clipboard."""
        qt.QApplication.clipboard().setText(self._ui.methodsLabel.text)

    def _onEdit(self) -> None:
        """Open the segmentation in the Segment Editor."""
        node, volume = self._node, scene.input_volume(self._node)  # the window is left before the other one opens
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.SegmentEditorWidget.editor
        editor.setSegmentationNode(node)
        editor.setSourceVolumeNode(volume)
