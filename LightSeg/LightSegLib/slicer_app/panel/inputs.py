"""Which volumes, one for each channel of the model, and which region of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ...catalog.card import Card
from ...catalog.channels import matched
from ...core.errors import InputError
from ...core.paths import resources_folder
from .. import scene
from ..translation import translated
from .fitting import breakable
from .region import Region

SELECTORS = 4
DRAG_MS = 100  # after a region was moved, so that dragging it is not held up


class Inputs(VTKObservationMixin):  # type: ignore[misc]
    """The section of the window in which volumes and the region of interest are chosen.

    Args:
        ui: widgets of the form.
        parameters: gives the window's parameter node, or None while there is none.
        changed: called when a chosen volume or the region changes elsewhere.
    """

    def __init__(self, ui: Any, parameters: Callable[[], Any], changed: Callable[[], None]) -> None:
        VTKObservationMixin.__init__(self)
        self._ui = ui
        self._changed = changed
        self._followed: list[Any] = []
        self._parameters = parameters
        self._card: Card | None = None
        numbers = range(1, SELECTORS + 1)
        self._rows = [(getattr(ui, f"inputLabel{n}"), getattr(ui, f"inputSelector{n}")) for n in numbers]
        self.region = Region(ui, parameters, self.firstVolume, changed)
        self._dragged = qt.QTimer()
        self._dragged.setSingleShot(True)
        self._dragged.setInterval(DRAG_MS)
        self._dragged.timeout.connect(changed)

    # --- volumes ---

    def show(self, card: Card | None) -> None:
        """Offer one selector for each channel, and the model's sample."""
        self._card = card
        channels = card.channels if card else ("",)
        for number, (label, selector) in enumerate(self._rows):
            used = number < len(channels)
            label.setVisible(used)
            selector.setVisible(used)
            if used:
                label.setText(breakable(_("{channel}:").format(channel=channels[number] or _("Volume"))))
        self._ui.sampleButton.setVisible(card is not None and sampleFile(card) is not None)
        roi = self.region.node
        self.region.show(card)
        self.follow([*self.volumes(), roi.GetDisplayNode() if roi is not None else None, roi])
        hints = self._hints()
        self._ui.inputHint.setText(breakable("\n".join(hints)))
        self._ui.inputHint.setVisible(bool(hints))

    def follow(self, nodes: Sequence[Any]) -> None:
        """Notice what happens to these nodes, and to no others."""
        wanted = [node for node in nodes if node is not None]
        if wanted != self._followed:
            self.removeObservers()
            self._followed = wanted
            for node in wanted:
                events = [vtk.vtkCommand.ModifiedEvent]
                if node.IsA("vtkMRMLVolumeNode"):
                    events += [node.ImageDataModifiedEvent, node.TransformModifiedEvent]
                notice = self._changed
                if node.IsA("vtkMRMLMarkupsNode"):
                    events += [node.PointModifiedEvent, node.TransformModifiedEvent]
                    notice = self._dragged.start
                for event in events:
                    self.addObserver(node, event, lambda *_arguments, notice=notice: notice())

    def volumes(self) -> list[Any]:
        """Return the chosen nodes, None where none is chosen, in the order of the channels."""
        parameters = self._parameters()
        if parameters is None or self._card is None:
            return []
        return [getattr(parameters, f"input{n + 1}") for n in range(min(len(self._card.channels), SELECTORS))]

    def firstVolume(self) -> Any:
        """Return the first node that is chosen, or None."""
        return next((node for node in self.volumes() if node is not None), None)

    def guess(self) -> None:
        """Fill selectors that are empty: by names where these are clear, a lone channel with the first volume.

        What could not be segmented is left to the user, who gets to know why.
        """
        parameters, card = self._parameters(), self._card
        if parameters is None or card is None:
            return
        nodes = [
            node
            for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            if node.GetClassName() == "vtkMRMLScalarVolumeNode"
            and not node.GetHideFromEditors()
            and not node.GetAttribute(scene.CONFIDENCE_ROLE)
            and not unsuitable(node)
        ]
        matches = matched(card.channels, [node.GetName() or "" for node in nodes])
        if len(card.channels) == 1 and matches[0] is None and nodes:
            matches = [0]
        for number, (given, match) in enumerate(zip(self.volumes(), matches, strict=False), start=1):
            if given is None and match is not None and nodes[match] not in self.volumes():
                setattr(parameters, f"input{number}", nodes[match])

    def reason(self) -> str:
        """Return why these volumes cannot be segmented, or nothing."""
        assert self._card is not None
        volumes = self.volumes()
        if len(self._card.channels) > SELECTORS:
            return _("This model needs {count} volumes: call LightSegLogic().start in the Python console").format(
                count=len(self._card.channels)
            )
        for number, (channel, node) in enumerate(zip(self._card.channels, volumes, strict=True)):
            if node is None:
                return _("Choose the volume for {channel}").format(channel=channel)
            problem = unsuitable(node)
            if problem:
                return _("{channel}: {problem}").format(channel=channel, problem=problem)
            if node in volumes[:number]:
                return _("{name} is chosen twice: choose a different volume for each channel").format(
                    name=node.GetName()
                )
            if not scene.same_grid(node, volumes[0]):
                return _("{name} and {other} do not have the same grid: resample one of them").format(
                    name=node.GetName(), other=volumes[0].GetName()
                )
        return ""

    def _hints(self) -> list[str]:
        """Return hints about what is allowed but may be a mistake."""
        parameters, card = self._parameters(), self._card
        if parameters is None or card is None:
            return []
        frame = _("{name} is one frame of a sequence: only the displayed frame is segmented, unless all are chosen.")
        if parameters.allFrames:
            frame = _("{name} is one frame of a sequence, of which all are segmented.")
        hints = [frame.format(name=node.GetName()) for node in self.volumes() if node is not None and isFrame(node)]
        return [*hints, self.region.missing()] if self.region.missing() else hints


def isFrame(node: Any) -> bool:
    """Return whether a node shows the current frame of a sequence."""
    return scene.browser_of(node) is not None


def unsuitable(node: Any) -> str:
    """Return why a node cannot be an input, or an empty text; it is cheap enough to call at every change."""
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        return _("{name} is a label map: choose an image").format(name=node.GetName())
    image = node.GetImageData()
    if image is None or not image.GetNumberOfPoints():
        return _("{name} has no voxels: load it again").format(name=node.GetName())
    if image.GetNumberOfScalarComponents() != 1:
        return _(
            "{name} has several values per voxel (a color image or a time series): choose a volume with one value"
        ).format(name=node.GetName())
    if min(image.GetDimensions()) < 2:
        return _("{name} is a single slice: choose a volume").format(name=node.GetName())
    try:
        scene.check_place(node)
    except InputError as error:
        return translated(error)
    return ""


def sampleFile(card: Card) -> Any:
    """Return the image that comes with LightSeg for this model, or None."""
    path = resources_folder() / "SampleData" / card.sample
    return path if card.sample and path.is_file() else None
