"""Volumes that show the current frame of a sequence, and segmentations of all its frames that play beside it.

By the public classes of Slicer's module Sequences: `vtkMRMLSequenceNode`, `vtkMRMLSequenceBrowserNode` and, for the
nodes that show the current frame, `vtkSlicerSequencesLogic`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import slicer
import slicer.util

from ...core.errors import InputError
from ...core.i18n import tr as _
from ...core.moment import TIME, TRIGGER
from .attributes import INPUT_ROLE, REFERENCE_ROLE, attributes_of, provenance_of
from .results import segment_volumes
from .segmentations import segmentation_name

RUN = "LightSeg.Run"  # attribute of a sequence: what it was computed with, so that another run goes on with it
NOTICES = "LightSeg.Notices"
TO_MS = {"s": 1000.0, "sec": 1000.0, "ms": 1.0, "msec": 1.0, "us": 0.001, "min": 60000.0}


def browser_of(volumeNode: Any) -> Any:
    """Return the browser of a sequence whose current frame the volume shows, or None."""
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
        if browser.IsProxyNodeID(volumeNode.GetID()):
            return browser
    return None


def notices_of(segmentationNode: Any) -> list[Any]:
    """Return the notices of a segmentation, where it plays a sequence those of all frames."""
    browser = browser_of(segmentationNode)
    sequence = browser.GetSequenceNode(segmentationNode) if browser is not None else None
    of_all = sequence is not None and sequence.GetAttribute(NOTICES) is not None
    return list(provenance_of(sequence if of_all else segmentationNode).get("notices", []))


def check_still(node: Any) -> None:
    """Check that a node is the same, and at the same place, in all frames.

    Raises:
        InputError: if a sequence plays it, or a transform above it.
    """
    above = node
    while above is not None:
        if browser_of(above) is not None:
            raise InputError(
                _(
                    "{name} changes with the frame that is shown, so one place of it would not fit all frames. "
                    "Choose one that stays at its place."
                ).format(name=node.GetName())
            )
        above = above.GetParentTransformNode()


class FrameNodes:
    """The frames of the sequence that a volume shows, and the sequence that takes their segmentations.

    Args:
        volumeNodes: one for each channel; those that show a sequence are taken frame by frame, and so are the
            transforms above them; the others as they are.
        title: of the model; run: what distinguishes runs that may continue each other.

    Raises:
        InputError: if the first volume shows no sequence, or the sequences have no common frames.
    """

    def __init__(self, volumeNodes: Sequence[Any], title: str, run: str) -> None:
        self.volumeNodes = tuple(volumeNodes)
        self._browser = browser_of(volumeNodes[0])
        if self._browser is None:
            raise InputError(
                _("{name} does not show a frame of a sequence. Segment it as a single volume.").format(
                    name=volumeNodes[0].GetName()
                )
            )
        self._sequences = [self._browser.GetSequenceNode(node) for node in volumeNodes]
        self._source = self._sequences[0]
        if not self.count:
            raise InputError(
                _("{name} shows a sequence without frames. Load the sequence again.").format(
                    name=volumeNodes[0].GetName()
                )
            )
        self._title, self._run = title, run
        self.target = self._begun()

    @property
    def count(self) -> int:
        """Number of frames."""
        return int(self._source.GetNumberOfDataNodes())

    def check(self) -> None:
        """Check that the volumes, and what makes them show the sequence, are in the scene.

        Raises:
            InputError: for one that was removed.
        """
        if (removed := self._removed()) is None:
            return
        if removed is self._browser and self._has_target():
            raise InputError(
                _(
                    "{name} was removed from the scene, so no more frames were segmented; those that are done stay in "
                    "the sequence {target}. Put {source} into a browser in the Sequences module, and segment the "
                    "volume that it shows: it goes on, and all frames play there."
                ).format(name=removed.GetName(), target=self.target.GetName(), source=self._source.GetName())
            )
        raise InputError(
            _(
                "{name} was removed from the scene, so no more frames were segmented. "
                "Load the sequence and segment it again."
            ).format(name=removed.GetName())
        )

    def missing(self) -> list[int]:
        """Return the frames, from 0, that have no segmentation yet."""
        if not self._has_target():
            return list(range(self.count))
        return [n for n in range(self.count) if self.target.GetDataNodeAtValue(self._value(n)) is None]

    @contextmanager
    def opened(self, number: int) -> Iterator[tuple[Any, ...]]:
        """Give volumes of one frame, from 0: hidden copies under the transforms of that frame; they go afterwards.

        The frame that is shown stays.

        Raises:
            InputError: if a sequence has nothing for this frame, or another browser plays a volume or a transform.
        """
        with self._copies(number) as of_frame:
            yield tuple(of_frame(node) for node in self.volumeNodes)

    @contextmanager
    def _copies(self, number: int) -> Iterator[Callable[[Any], Any]]:
        """Give a function from a node to what it is in one frame, under what is above it there; copies go afterwards.

        A node that no frame changes is itself.
        """
        scene = self.volumeNodes[0].GetScene()
        found: dict[Any, Any] = {None: None}

        def of_frame(node: Any) -> Any:
            if node not in found:
                above = of_frame(node.GetParentTransformNode())
                own = self._in_frame(node, number)
                if own is node and above is node.GetParentTransformNode():
                    found[node] = node
                else:
                    copy = scene.CreateNodeByClass(node.GetClassName())
                    copy.UnRegister(None)
                    copy.CopyContent(own)
                    copy.SetName(node.GetName())
                    copy.HideFromEditorsOn()
                    copy.SaveWithSceneOff()
                    found[node] = scene.AddNode(copy)
                    copy.SetAndObserveTransformNodeID(above.GetID() if above is not None else None)
            return found[node]

        try:
            yield of_frame
        finally:
            for node, copy in reversed(found.items()):
                if copy is not node and copy.GetScene() is not None:  # it goes with a scene that is closed
                    scene.RemoveNode(copy)

    def _in_frame(self, node: Any, number: int) -> Any:
        """Return what the sequence of a node has for a frame; of a node without a sequence itself.

        Raises:
            InputError: if the sequence has nothing for this frame, or another browser plays it.
        """
        sequence = self._browser.GetSequenceNode(node)
        if sequence is None:
            if (other := browser_of(node)) is not None:
                raise InputError(
                    _(
                        "{name} is played by {other}, so what it is in each frame of {own} is not known. "
                        "Put its sequence into {own} in the Sequences module."
                    ).format(name=node.GetName(), other=other.GetName(), own=self._browser.GetName())
                )
            return node
        own = sequence.GetDataNodeAtValue(self._value(number))
        if own is None and node in self.volumeNodes:
            raise InputError(
                _("{name} has no volume at frame {number}. Load the sequence again.").format(
                    name=node.GetName(), number=number + 1
                )
            )
        if own is None:
            raise InputError(
                _(
                    "{name} has no transform at frame {number}. "
                    "Add it to its sequence, or take the volume out of the transform."
                ).format(name=node.GetName(), number=number + 1)
            )
        return own

    def keep(self, number: int, segmentationNode: Any) -> None:
        """Move the segmentation of a frame from the scene into the sequence of segmentations.

        A sequence that was removed from the scene gives way to a new one.
        """
        scene = segmentationNode.GetScene()
        if not self._has_target():
            self.target = self._new_target(scene)
        for role in (REFERENCE_ROLE, INPUT_ROLE):
            segmentationNode.SetNodeReferenceID(role, self.volumeNodes[0].GetID())
        segmentationNode.SetName(self.target.GetName())
        display = segmentationNode.GetDisplayNode()
        self.target.SetDataNodeAtValue(segmentationNode, self._value(number))
        scene.RemoveNode(segmentationNode)
        if display is not None:
            scene.RemoveNode(display)

    def shown(self) -> Any:
        """Return the segmentation that plays beside the volume; None while no frame has one, or nothing can play."""
        if self._removed() is not None or not self._has_target() or not self.target.GetNumberOfDataNodes():
            return None
        if not self._browser.IsSynchronizedSequenceNode(self.target):
            self._browser.AddSynchronizedSequenceNode(self.target)
            # Nothing is shown where a frame failed; otherwise a copy of another frame's segments gets there as soon as
            # changes are saved.
            self._browser.SetMissingItemMode(self.target, self._browser.MissingItemSetToDefault)
            self._browser.SetSaveChanges(self.target, True)  # so that a frame can be corrected in the Segment Editor
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(self._browser)
        proxy = self._browser.GetProxyNode(self.target)
        if proxy is None:
            return None
        if proxy.GetDisplayNode() is None:
            proxy.CreateDefaultDisplayNodes()
        # The frames have the coordinates of the volume, and a sequence keeps no transforms.
        proxy.SetAndObserveTransformNodeID(self.volumeNodes[0].GetTransformNodeID())
        for role in (REFERENCE_ROLE, INPUT_ROLE):
            proxy.SetNodeReferenceID(role, self.volumeNodes[0].GetID())
        return proxy

    def note(self, notices: list[Any]) -> None:
        """Keep what is to be known of all frames; each keeps its own notices."""
        self.target.SetAttribute(NOTICES, attributes_of({"notices": notices}).get(NOTICES))
        self._browser.GetProxyNode(self.target).Modified()  # so that the window shows them

    def course(self) -> list[tuple[int, float | None, dict[str, float]]]:
        """Return number from 1, ms and volumes in ml by segment, of every frame that has a segmentation."""
        found = []
        transform = self.volumeNodes[0].GetParentTransformNode()  # which the frames in the sequence are not under
        factor = TO_MS.get((self._source.GetIndexUnit() or "").lower())
        for number in range(self.count):
            node = self.target.GetDataNodeAtValue(self._value(number)) if self._has_target() else None
            if node is None:
                continue
            try:
                ms = None if factor is None else float(self._value(number)) * factor
            except ValueError:
                ms = None
            with self._copies(number) as of_frame:
                volumes = {name: ml for name, _color, ml in segment_volumes(node, of_frame(transform))}
            found.append((number + 1, ms, volumes))
        return found

    @property
    def kind(self) -> str:
        """What the times count from, TIME or TRIGGER."""
        return TRIGGER if "trigger" in (self._source.GetIndexName() or "").lower() else TIME

    def _removed(self) -> Any:
        """Return what is in the scene no longer of volumes, their sequences and the browser; None if all are."""
        needed = (*self.volumeNodes, self._browser, *self._sequences)
        return next((node for node in needed if node is not None and node.GetScene() is None), None)

    def _has_target(self) -> bool:
        """Return whether there is a sequence for the segmentations: it can be removed at any time."""
        return self.target is not None and self.target.GetScene() is not None

    def _value(self, number: int) -> str:
        """Return the index value of a frame, which the sequences have in common."""
        return str(self._source.GetNthIndexValue(number))

    def _begun(self) -> Any:
        """Return the sequence of an earlier run like this one that has not all frames, or None.

        It is of the same volumes, or, where another browser shows them now, of the same sequences.
        """
        known = [[node.GetID() for node in nodes] for nodes in (self.volumeNodes, self._sources())]
        for sequence in slicer.util.getNodesByClass("vtkMRMLSequenceNode"):
            if sequence.GetAttribute(RUN) == self._run and 0 < sequence.GetNumberOfDataNodes() < self.count:
                values = {self._value(n) for n in range(self.count)}
                own = {str(sequence.GetNthIndexValue(n)) for n in range(sequence.GetNumberOfDataNodes())}
                of = [sequence.GetNthNodeReferenceID(INPUT_ROLE, n) for n in range(len(self.volumeNodes))]
                if of in known and own <= values:
                    return sequence
        return None

    def _sources(self) -> list[Any]:
        """Return the sequence of each volume; of one without a sequence the volume itself."""
        return [
            node if sequence is None else sequence
            for node, sequence in zip(self.volumeNodes, self._sequences, strict=True)
        ]

    def _new_target(self, scene: Any) -> Any:
        """Return a new sequence for segmentations, with the index of the volumes' sequence."""
        name = scene.GenerateUniqueName(segmentation_name(self.volumeNodes[0], self._title))
        target = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
        target.SetIndexName(self._source.GetIndexName())
        target.SetIndexUnit(self._source.GetIndexUnit())
        target.SetIndexType(self._source.GetIndexType())
        target.SetAttribute(RUN, self._run)
        for number, node in enumerate(self._sources()):
            target.SetNthNodeReferenceID(INPUT_ROLE, number, node.GetID())
        return target


def write_course(name: str, course: Sequence[tuple[int, float | None, dict[str, float]]], axis: str, scene: Any) -> Any:
    """Add a table of volumes over time to the scene, with a chart of it, and return the table's node.

    Args:
        course: as `FrameNodes.course` gives it.
        axis: what the first column is.
    """
    import vtk

    table = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    segments = list(dict.fromkeys(segment for _number, _ms, volumes in course for segment in volumes))
    known = all(ms is not None for _number, ms, _volumes in course)
    for title in (axis, *(f"{segment} (ml)" for segment in segments)):
        column = vtk.vtkDoubleArray()
        column.SetName(title)
        table.AddColumn(column)
    for number, ms, volumes in course:
        row = table.AddEmptyRow()
        values = [float(number if not known or ms is None else ms), *(volumes.get(one, 0.0) for one in segments)]
        for at, value in enumerate(values):
            table.GetTable().GetColumn(at).SetValue(row, value)
    table.Modified()
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", table.GetName())
    for segment in segments:
        series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", segment)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(axis)
        series.SetYColumnName(f"{segment} (ml)")
        series.SetPlotType(series.PlotTypeScatter)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetXAxisTitle(axis)
    chart.SetYAxisTitle(_("Volume (ml)"))
    return table
