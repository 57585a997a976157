"""The module LightSeg of 3D Slicer: its face over LightSegLib, which does the work.

Slicer loads this file at start-up, so nothing heavy is imported at file scope and torch only by a job.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk
from LightSegLib.core.packages import has_torch, torch_failure
from LightSegLib.slicer_app.parameters import (
    DEFAULT_MODEL,
    Device,
    LargestComponent,
    LightSegParameterNode,
    Precision,
    Side,
    inferenceOptions,
)
from LightSegLib.slicer_app.sample import loadSample, registerSampleData, samplePlace, sampleRois
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

if TYPE_CHECKING:
    from LightSegLib.batch.engine import Engine
    from LightSegLib.batch.run import Outcome
    from LightSegLib.batch.settings import Settings
    from LightSegLib.core.progress import CancelCallback
    from LightSegLib.inference.options import InferenceOptions
    from LightSegLib.slicer_app.jobs import Job
    from LightSegLib.slicer_app.sequence_job import SequenceJob

ITEM_FLAGS_ROLE = 255  # Qt::UserRole - 1, where the entries of a combo box keep their flags; 0 disables


class LightSeg(ScriptedLoadableModule):  # type: ignore[misc]
    """Title, contributors and help of the module, as Slicer shows them."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("LightSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["LightSeg developers"]
        self.parent.helpText = _(
            "Segments volumes with small neural networks, on any computer and without a network connection. "
            "Not for clinical use."
        )
        self.parent.acknowledgementText = _(
            "Each model names its training data, license and citation; the result carries them as attributes."
        )
        slicer.app.startupCompleted.connect(registerSampleData)


class LightSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):  # type: ignore[misc]
    """Brings the parts of the window together: models, inputs, run, result, storage."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        self._parameterNode: Any = None
        self._parameterNodeGuiTag: Any = None

    def setup(self) -> None:
        """Build the window; Slicer calls this when the module is first shown."""
        from LightSegLib.slicer_app.panel.help import connectHelp
        from LightSegLib.slicer_app.panel.inputs import Inputs
        from LightSegLib.slicer_app.panel.installation import Installation
        from LightSegLib.slicer_app.panel.models import Models
        from LightSegLib.slicer_app.panel.offer import Offer
        from LightSegLib.slicer_app.panel.openvino import OpenVino
        from LightSegLib.slicer_app.panel.output import Output
        from LightSegLib.slicer_app.panel.pytorch import PyTorch
        from LightSegLib.slicer_app.panel.result import Result
        from LightSegLib.slicer_app.panel.run import Run
        from LightSegLib.slicer_app.panel.status import Status
        from LightSegLib.slicer_app.panel.storage import Storage
        from LightSegLib.slicer_app.panel.structures import Structures

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/LightSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = LightSegLogic()
        self.status = Status(self.ui)
        self.installation = Installation(self.status, lambda: self.run.show())
        self.pytorch = PyTorch(self.status, self.installation)
        self.models = Models(self.ui, self.status, self.pytorch, self.onModelChosen, self.refresh)
        self.inputs = Inputs(self.ui, lambda: self._parameterNode, self.onInputsChanged)
        self.output = Output(self.ui, lambda: self._parameterNode, self.inputs.firstVolume)
        self.structures = Structures(self.ui, lambda: self._parameterNode)
        self.result = Result(self.ui)
        self.storage = Storage(self.ui, self.status, self.models)
        self.run = Run(self.ui, self.status, self.pytorch, self.start, self.onFinished, self.before)
        self.offer = Offer(self.ui, self.inputs.region)
        self.openvino = OpenVino(self.ui, self.installation, lambda: self.run.running, self.onOpenVinoInstalled)
        self.ui.sampleButton.clicked.connect(self.onSample)
        connectHelp(self.ui)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.onNodeAdded)
        self.refresh()
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """End jobs and the worker process; Slicer calls this when the application closes or the module is reloaded."""
        self.models.close()
        self.run.close()
        self.installation.close()
        self.logic.stopWorker()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """Show the current scene and models; Slicer calls this whenever the module is opened."""
        self.refresh()  # the command line and other windows download and import models, too
        self.initializeParameterNode()

    def exit(self) -> None:
        """Let go of the parameter node; Slicer calls this when another module is opened."""
        self.setParameterNode(None)

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """Let go of the parameter node before the scene is closed."""
        self.setParameterNode(None)

    def onSceneEndClose(self, caller: Any, event: Any) -> None:
        """Take the new scene's parameter node if the module is shown."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller: Any, event: Any) -> None:
        """The parameters of the scene that was opened, whose nodes are only there now."""
        if self._parameterNode:
            self.setParameterNode(None)
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)  # type: ignore[untyped-decorator]
    def onNodeAdded(self, caller: Any, event: Any, node: Any) -> None:
        """Guess the inputs again when a volume is added."""
        if self._parameterNode and node.IsA("vtkMRMLScalarVolumeNode"):
            # its name and voxels come after it
            qt.QTimer.singleShot(0, self.inputs.guess)

    def initializeParameterNode(self) -> None:
        """Take the scene's parameters, and its volumes where none are chosen yet."""
        self.setParameterNode(self.logic.getParameterNode())
        self.inputs.guess()

    def setParameterNode(self, parameterNode: Any) -> None:
        """Show and observe these parameters, or none."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._dropUnknownChoices()
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            for number, device in enumerate(Device):  # the box was just filled with them
                if not device.isPossible():
                    self.ui.deviceBox.setItemData(number, 0, ITEM_FLAGS_ROLE)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.onParametersModified()
        else:
            self.inputs.follow([])
            self.result.show(None)

    def _dropUnknownChoices(self) -> None:
        """A scene of another version may name a choice that is not one here; its default takes its place."""
        node = self._parameterNode.parameterNode
        kinds = {"side": Side, "device": Device, "precision": Precision, "largestComponent": LargestComponent}
        for name, choices in kinds.items():
            if node.GetParameter(name) not in ("", *choices.__members__):
                node.SetParameter(name, next(iter(choices)).name)

    def onInputsChanged(self) -> None:
        """A chosen volume has changed, or a region is shown or hidden elsewhere."""
        if self._parameterNode:
            self.showChoices()

    def onParametersModified(self, caller: Any = None, event: Any = None) -> None:
        """Let every part show the parameters, and Apply say why it cannot be pressed."""
        self.models.show(self._parameterNode.modelId)
        self.result.show(self._parameterNode.result)
        self.ui.mirrorBox.setEnabled(bool(self.models.card and self.models.card.inference.mirror_axes))
        self.showChoices()

    def showChoices(self) -> None:
        """Show what is chosen, and what would come of it."""
        self.inputs.show(self.models.card)
        self.output.show(self.models.card)
        self.structures.show(self.models.card)
        self.offer.refresh()
        self.run.show()

    def refresh(self) -> None:
        """Read again which models there are."""
        with self.status.trying(_("The models could not be read.")):
            self.models.refresh()
            self.storage.refresh()
            self.openvino.refresh()
        if self._parameterNode:
            self.onParametersModified()

    def onModelChosen(self, model: str) -> None:
        """Keep the chosen model in the parameter node and guess its inputs."""
        if self._parameterNode:
            self._parameterNode.modelId = model
            self.inputs.guess()

    def onSample(self) -> None:
        """Load the sample, and let the slices cross where there is something for the model to find."""
        with self.status.trying(_("The sample could not be loaded."), waitCursor=True):
            self._parameterNode.input1 = loadSample()
            slicer.util.setSliceViewerLayers(background=self._parameterNode.input1, fit=True)
            slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *samplePlace())

    def onOpenVinoInstalled(self) -> None:
        """Let the next job use it, in a new process."""
        self.logic.stopWorker()
        self.refresh()
        self.status.end(_("OpenVINO is installed and used from the next run on."))

    def reason(self) -> str:
        """What the user has to do before Apply, or nothing."""
        card = self.models.card
        if self._parameterNode is None or card is None:
            return _("Choose a model")
        if self.models.state(card) in ("manual", "missing"):
            return _("The weights of this model must be downloaded manually: press Use a File")
        return self.inputs.reason() or self.structures.reason()

    def before(self) -> tuple[str, str]:
        """What the user has to do before Apply, and what to know of the model; either may be empty."""
        from LightSegLib.catalog.duration import warning
        from LightSegLib.slicer_app.translation import translated

        text = warning(self.models.card) if self.models.card is not None else None
        return self.reason(), translated(text) if text is not None else ""

    def start(self) -> Job | SequenceJob | None:
        """Begin a job with the parameters; None where something has to be asked, installed or agreed to first."""
        card, parameters = self.models.card, self._parameterNode
        if self.offer.made():
            return None
        if not self.pytorch.installed():
            self.pytorch.ensure(self.run.begin)
            return None
        structures, confidence = self.structures.names, self.output.confidence()
        if card is None or not self.models.agreed(structures):
            return None
        # the licenses that need it were just agreed to
        options = inferenceOptions(parameters, structures=structures, confidence=confidence, accept_license=True)
        if self.output.allFrames():
            return self.logic.startSequence(self.inputs.volumes(), card.id, parameters.roi, self.output.side(), options)
        return self.logic.start(
            self.inputs.volumes(), card.id, self.output.node(), parameters.roi, self.output.side(), options
        )

    def onFinished(self, job: Job | SequenceJob) -> None:
        """Show the result of a job, or keep it for when the module is opened again."""
        if job.segmentationNode is not None and job.state == "done":  # also while the user is in another module
            self.logic.getParameterNode().result = job.segmentationNode
            if job.roiNode is not None:
                job.roiNode.SetDisplayVisibility(False)  # it is around what is to be looked at now
        self.refresh()  # a download has changed where the weights are


def torchInstalled() -> bool:
    """Return whether a torch that is new enough can be imported, without importing it."""
    return has_torch()


def requireTorch() -> None:
    """Make sure that PyTorch is installed.

    Raises:
        LightSegError: if PyTorch is missing.
    """
    from LightSegLib.core.errors import LightSegError

    if not torchInstalled():
        raise LightSegError(_("PyTorch is not installed, or too old. Install the extension PyTorch, then try again."))


class LightSegLogic(ScriptedLoadableModuleLogic):  # type: ignore[misc]
    """The functions of the module, for the window and for the Python console."""

    progressCallback: Callable[[Any], None] | None = None  # takes a Progress; of segmentFiles a BatchState
    cancelCallback: CancelCallback | None = None

    def getParameterNode(self) -> Any:
        """Return the module's parameter node of the current scene."""
        return LightSegParameterNode(super().getParameterNode())  # type: ignore[call-arg]

    @staticmethod
    def options(**values: Any) -> InferenceOptions:
        """Return how to run: device, precision, mirror, confidence, ...; see `LightSegLib.inference.options`."""
        from LightSegLib.inference.options import InferenceOptions

        return InferenceOptions(**values)

    def segment(
        self,
        volumeNode: Any,
        model: str = DEFAULT_MODEL,
        segmentationNode: Any = None,
        roiNode: Any = None,
        side: str | None = None,
        options: InferenceOptions | None = None,
    ) -> Any:
        """Segment a volume node, or a list of nodes with one per channel, and return the segmentation node.

        It runs in this process and returns when it is done; `start` does the same beside the application.

        `progressCallback` is called with a `Progress`; `cancelCallback` is asked again and again, and True stops it.

        Args:
            model: id of a model, or path of a model folder.
            segmentationNode: takes the segments beside those it has; a new node is made where none is given.
            roiNode: Markups ROI that limits the work.
            side: "left" or "right" names the segments so.
            options: how to run, such as `logic.options(device="cpu", mirror=True)`.

        Raises:
            LightSegError: with the scene as it was.
            Canceled: one of these, after `cancelCallback` returned True.
        """
        from LightSegLib.catalog.lookup import find_card
        from LightSegLib.inference.segmenter import Segmenter
        from LightSegLib.slicer_app.request import Request

        request = Request.of(volumeNode, model, segmentationNode, roiNode, side, options)
        card = find_card(request.model)
        volumes, roi = request.read()
        requireTorch()
        segmenter = Segmenter(card, request.options)
        try:
            segmentation = segmenter.segment(volumes, roi, self.progressCallback, self.cancelCallback)
        except Exception as error:
            if failure := torch_failure(error):
                raise failure from error
            raise
        return request.write(request.on_volume(segmentation))

    def start(
        self,
        volumeNode: Any,
        model: str = DEFAULT_MODEL,
        segmentationNode: Any = None,
        roiNode: Any = None,
        side: str | None = None,
        options: InferenceOptions | None = None,
    ) -> Job:
        """Start `segment` in a process of its own and return its `jobs.Job` at once; Slicer stays usable.

        Its signals `progress` and `finished` can be connected, `cancel()` ends it, `wait()` waits. The process stays
        for some minutes with the model loaded, so that the next job begins at once.

        Raises:
            LightSegError: for nodes that cannot be used and while another job runs; what goes wrong later is the
                job's `error`.
        """
        from LightSegLib.slicer_app import jobs
        from LightSegLib.slicer_app.request import Request

        requireTorch()
        return jobs.start(Request.of(volumeNode, model, segmentationNode, roiNode, side, options))

    def startSequence(
        self,
        volumeNode: Any,
        model: str = DEFAULT_MODEL,
        roiNode: Any = None,
        side: str | None = None,
        options: InferenceOptions | None = None,
    ) -> SequenceJob:
        """Start a segmentation of every frame of the sequence that a volume shows, and return its job at once.

        The job's `wait()` waits; its `segmentationNode` then plays beside the volume, and its `tableNode` has the
        volumes over time. Started again after cancel or a failed frame, it goes on with the frames that are missing.

        Raises:
            LightSegError: as `start`, and for a volume that shows no sequence, or where a confidence is asked for.
        """
        from LightSegLib.slicer_app import sequence_job
        from LightSegLib.slicer_app.request import Request

        requireTorch()
        return sequence_job.start(Request.of(volumeNode, model, None, roiNode, side, options))

    def segmentFiles(
        self,
        inputPath: str,
        model: str,
        outputFolder: str,
        settings: Settings | None = None,
        engine: Engine | None = None,
    ) -> Outcome:
        """Segment many volumes from files to files, as `lightseg batch`; returns when it is done, Slicer stays usable.

        `progressCallback` is called with a `State` of the batch, whose `text()` describes it; `cancelCallback` is
        asked again and again, True stops the batch, and the next call goes on.

        Returns an `Outcome` with `state` (numbers of cases done, skipped, failed), `skipped_inputs` (with reasons),
        `table` (a path) and `notices` (what became of earlier results).

        Args:
            inputPath: folder of volumes, CSV file (case, one column per channel) or tree of DICOM files.
            outputFolder: takes the segmentations, `results.csv` and `report.html`; cases that are done there are
                skipped.
            settings: a `batch.settings.Settings` with the options, the format and whether pictures are drawn;
                engine: a `batch.engine.Engine` with the number of processes, what fits this computer if None.

        Raises:
            LightSegError: for what keeps all cases from being done; a case that fails is reported in the table.
        """
        from LightSegLib.batch.progress import Callbacks
        from LightSegLib.slicer_app import files_job

        requireTorch()
        callbacks = Callbacks(on_state=self.progressCallback, canceled=self.cancelCallback)
        return files_job.run(inputPath, model, outputFolder, settings, engine, callbacks)

    @staticmethod
    def stopWorker() -> None:
        """End the process that waits for the next job; one that works is left alone."""
        from LightSegLib.slicer_app import jobs

        jobs.stop()


class LightSegTest(ScriptedLoadableModuleTest):  # type: ignore[misc]
    """Self-test: the bundled models on the bundled sample, as a user would start."""

    def setUp(self) -> None:
        """Start every test with an empty scene."""
        if not torchInstalled():  # as where Slicer's extensions are built, by ctest, which does not call runTest
            self.skipTest("PyTorch is not installed")
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all tests, as the button Reload and Test does."""
        if not torchInstalled():
            self.delayDisplay("Nothing was tested: PyTorch is not installed. Press Apply once to install it.")
            return
        for test in (self.test_brainOfSample, self.test_hippocampusOfSample):
            self.setUp()
            test()

    def test_brainOfSample(self) -> None:
        """Return 32 structures, the hippocampi in about their size."""
        segmentationNode = LightSegLogic().segment(loadSample())
        self.assertEqual(segmentationNode.GetSegmentation().GetNumberOfSegments(), 32)
        for side in ("Left", "Right"):
            self.assertTrue(3 < self.volumeMl(segmentationNode, f"{side} hippocampus") < 8)
        self.delayDisplay("Test passed")

    def test_hippocampusOfSample(self) -> None:
        """Return both hippocampi of the sample have 2 to 5 ml, and anterior and posterior parts."""
        volumeNode = loadSample()
        segmentationNode = None
        for roi in sampleRois():
            lower, upper = roi["corners"]
            roiNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", roi["name"])
            roiNode.SetCenter([(lower[axis] + upper[axis]) / 2 for axis in range(3)])
            roiNode.SetSize([abs(upper[axis] - lower[axis]) for axis in range(3)])
            segmentationNode = LightSegLogic().segment(
                volumeNode, "hippocampus-mr-lightmedseg", segmentationNode, roiNode, roi["side"]
            )
        for side in ("Left", "Right"):
            names = [f"{side} {part} hippocampus" for part in ("anterior", "posterior")]
            parts = [self.volumeMl(segmentationNode, name) for name in names]
            self.assertGreater(min(parts), 0.3)
            self.assertTrue(2 < sum(parts) < 5, f"{side} hippocampus has {sum(parts):.2f} ml")
        self.delayDisplay("Test passed")

    def volumeMl(self, segmentationNode: Any, name: str) -> float:
        """Return the volume of a segment by its name; the sample's voxels have 1 mm."""
        segmentation = segmentationNode.GetSegmentation()
        segmentId = segmentation.GetSegmentIdBySegmentName(name)
        labels = slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentationNode, segmentId)
        return (labels == segmentation.GetSegment(segmentId).GetLabelValue()).sum() / 1000
