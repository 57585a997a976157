"""Where to look: a box of the scene, how it gets its place, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ...catalog.card import Card
from .. import scene
from .facts import millimeters
from .fitting import stack

SLICE_VIEWS = ("Red", "Yellow", "Green")  # which cross; those of comparing layouts may be side by side
REGION_MM = (100.0, 100.0, 100.0)  # of models that say nothing about it


class Region:
    """The region's selector and buttons.

    Args:
        ui: widgets of the form.
        parameters: as in `Inputs`.
        volume: gives the first chosen volume, or None.
        placed: called when the region has got a place by a button.
    """

    def __init__(
        self, ui: Any, parameters: Callable[[], Any], volume: Callable[[], Any], placed: Callable[[], None]
    ) -> None:
        self._ui = ui
        self._parameters = parameters
        self._volume = volume
        self._placed = placed
        self._card: Card | None = None
        ui.roiSelector.nodeAddedByUser.connect(self._fit)
        ui.roiVolumeButton.clicked.connect(self._onFitToVolume)
        ui.roiSliceButton.clicked.connect(self.placeAroundSlices)
        ui.roiVisibleBox.toggled.connect(self._onVisible)

    @property
    def node(self) -> Any:
        """The chosen region, or None."""
        parameters = self._parameters()
        return parameters.roi if parameters is not None else None

    def show(self, card: Card | None) -> None:
        """Show whether there is a region, and whether it is to be seen."""
        self._card = card
        box, roi = self._ui.roiVisibleBox, self.node
        box.setEnabled(roi is not None)
        blocked = box.blockSignals(True)
        box.setChecked(roi is not None and bool(roi.GetDisplayVisibility()))
        box.blockSignals(blocked)
        self._ui.roiVolumeButton.setEnabled(self._volume() is not None)
        finds = card is not None and card.region_from is not None
        none = _("Found automatically") if finds else _("Whole volume")
        if self._ui.roiSelector.noneDisplay != none:
            self._ui.roiSelector.noneDisplay = none
        stack(self._ui.roiButtons)

    def missing(self) -> str:
        """Return why a region is needed, where the model cannot find its place in a larger volume; else nothing."""
        card, volume = self._card, self._volume()
        if card is None or card.roi_mm is None or card.region_from is not None:
            return ""
        if self.node is not None or volume is None or not scene.is_too_large(volume, card):
            return ""
        return _("This model was made for a region of {size} mm, not for a whole volume.").format(
            size=millimeters(card.roi_mm)
        )

    def placeAroundSlices(self) -> None:
        """Put the region, a new one where none is chosen, around the point where the slices cross."""
        self.place(whereSlicesCross())

    def place(self, center: Any) -> None:
        """Put the region, a new one where none is chosen, around a point, as large as the model was made for.

        Args:
            center: position (r, a, s) in mm of the world.
        """
        roi = self._chosenOrNew()
        if roi is not None:
            roi.SetAndObserveTransformNodeID(None)  # a box of its own, along the axes of the world
            roi.SetCenterWorld(center)
            roi.SetSize((self._card.roi_mm if self._card else None) or REGION_MM)
            prepare(roi)
            self._placed()

    def _onFitToVolume(self) -> None:
        """Make the region as large as the volume."""
        roi = self._chosenOrNew()
        if roi is not None:
            self._fit(roi)

    def _onVisible(self, visible: bool) -> None:
        """Show or hide the region."""
        if self.node is not None:
            self.node.SetDisplayVisibility(visible)

    def _chosenOrNew(self) -> Any:
        """Return the chosen region, or a new one that is chosen now."""
        parameters = self._parameters()
        if parameters is None:
            return None
        if parameters.roi is None:
            name = slicer.mrmlScene.GenerateUniqueName(_("Region"))
            parameters.roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
        return parameters.roi

    def _fit(self, roi: Any) -> None:
        """As large as the volume, ready to be dragged."""
        volume, bounds = self._volume(), [0.0] * 6
        if volume is not None:
            volume.GetRASBounds(bounds)
        if volume is not None and vtk.vtkMath.AreBoundsInitialized(bounds):  # without voxels it has none
            roi.SetAndObserveTransformNodeID(None)
            roi.SetCenterWorld([(bounds[axis] + bounds[axis + 1]) / 2 for axis in (0, 2, 4)])
            roi.SetSize([bounds[axis + 1] - bounds[axis] for axis in (0, 2, 4)])
        prepare(roi)
        self._placed()


def prepare(roi: Any) -> None:
    """Show a region as an outline with handles to drag: a fill and a label would cover what it is placed around."""
    roi.CreateDefaultDisplayNodes()
    display = roi.GetDisplayNode()
    display.SetHandlesInteractive(True)
    display.SetFillVisibility(False)
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(False)
    roi.SetDisplayVisibility(True)


def whereSlicesCross() -> list[float]:
    """Return the point that red, yellow and green slices share, in RAS mm; of several, that next to the red middle."""
    widgets = [slicer.app.layoutManager().sliceWidget(name) for name in SLICE_VIEWS]
    nodes = [widget.mrmlSliceNode() for widget in widgets if widget is not None]
    planes = np.array([slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()) for node in nodes]).reshape(-1, 4, 4)
    if not len(planes):
        return [0.0, 0.0, 0.0]
    normals, origins = planes[:, :3, 2], planes[:, :3, 3]
    distances = ((origins - origins[0]) * normals).sum(axis=1)
    point: list[float] = (origins[0] + np.linalg.lstsq(normals, distances, rcond=None)[0]).tolist()
    return point
