"""The module LightSeg of 3D Slicer: its face over LightSegLib, which does the work.

Slicer loads this file at start-up, so nothing heavy is imported at file scope and torch only by a job.
"""

import importlib.util
import json
from pathlib import Path

import slicer
import vtk
from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

DEFAULT_MODEL = "hippocampus-mr-lightmedseg"
SAMPLE_NAME = "ICBM152"
SAMPLE_FOLDER = Path(__file__).parent / "Resources" / "SampleData"
SAMPLE_FILE = SAMPLE_FOLDER / "icbm152_t1_1mm.nii.gz"
SAMPLE_SHA256 = "12987d68e360c8dc5e287a57b3472df2e03daa05ff6892ea55fac26f9117c3ea"
TORCH_VERSION = ">=2.6"


class LightSeg(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
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
            "Each model names its training data, licence and citation; the result carries them as attributes."
        )
        slicer.app.startupCompleted.connect(registerSampleData)


def registerSampleData():
    """Offer the bundled sample in the module Sample Data, by button and by name; its address is a local file."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="LightSeg",
        sampleName=SAMPLE_NAME,
        uris=SAMPLE_FILE.as_uri(),
        fileNames=SAMPLE_FILE.name,
        nodeNames=SAMPLE_NAME,
        checksums=f"SHA256:{SAMPLE_SHA256}",  # else Slicer's cache would keep the file of an older version
        loadFileTypes="VolumeFile",
        thumbnailFileName=str(Path(__file__).parent / "Resources" / "Icons" / "LightSeg.png"),
    )


def loadSample():
    """Load the bundled T1 template and return its volume node; nothing is downloaded."""
    return slicer.util.loadVolume(str(SAMPLE_FILE), {"name": SAMPLE_NAME})


def sampleRegions():
    """Boxes around the hippocampi of the sample: [{"name", "side", "corners"}], two corners each in RAS mm."""
    return json.loads((SAMPLE_FOLDER / "icbm152_rois.json").read_text(encoding="utf-8"))["rois"]


@parameterNodeWrapper
class LightSegParameterNode:
    """What the user chose; saved with the scene.

    modelId - id of the model card.
    inputVolume - the volume to segment.
    roi - where to look, the whole volume if none.
    outputSegmentation - segmentation that takes the segments, a new one if none.
    """

    modelId: str = DEFAULT_MODEL
    inputVolume: vtkMRMLScalarVolumeNode
    roi: vtkMRMLMarkupsROINode
    outputSegmentation: vtkMRMLSegmentationNode


class LightSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Model, input, region, output and Apply."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._cards = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/LightSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = LightSegLogic()
        self._fillModels()
        self.ui.modelComboBox.currentIndexChanged.connect(self.onModelChanged)
        self.ui.roiSelector.nodeAddedByUser.connect(self.onRoiAdded)
        self.ui.applyButton.clicked.connect(self.onApplyButton)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.initializeParameterNode()

    def cleanup(self):
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Take the scene's parameters, and its first volume where none is chosen yet."""
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            images = [node for node in volumes if node.GetClassName() == "vtkMRMLScalarVolumeNode"]
            if images:
                self._parameterNode.inputVolume = images[0]

    def setParameterNode(self, parameterNode):
        """Show and observe these parameters, or none."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.onParametersModified()

    def onParametersModified(self, caller=None, event=None):
        """Show the chosen model, and let Apply say why it cannot be pressed."""
        ids = [card.id for card in self._cards]
        model = self._parameterNode.modelId
        self.ui.modelComboBox.setCurrentIndex(ids.index(model) if model in ids else -1)
        reason = self._missing(ids)
        self.ui.applyButton.setEnabled(not reason)
        self.ui.applyButton.setToolTip(reason or _("Segment the volume"))

    def onModelChanged(self, *_arguments):
        index = self.ui.modelComboBox.currentIndex
        if self._parameterNode and index >= 0:
            self._parameterNode.modelId = self._cards[index].id

    def onRoiAdded(self, roiNode):
        """A new region starts as large as the volume, ready to be dragged."""
        if self._parameterNode and self._parameterNode.inputVolume:
            bounds = [0.0] * 6
            self._parameterNode.inputVolume.GetRASBounds(bounds)
            roiNode.SetCenter([(bounds[axis] + bounds[axis + 1]) / 2 for axis in (0, 2, 4)])
            roiNode.SetSize([bounds[axis + 1] - bounds[axis] for axis in (0, 2, 4)])
        roiNode.CreateDefaultDisplayNodes()
        roiNode.GetDisplayNode().SetHandlesInteractive(True)

    def onApplyButton(self):
        parameters = self._parameterNode
        if not self._ensureTorch() or not self._agreedToDownload(parameters.modelId):
            return
        with slicer.util.tryWithErrorDisplay(_("The volume could not be segmented."), waitCursor=True):
            try:
                parameters.outputSegmentation = self.logic.segment(
                    parameters.inputVolume,
                    parameters.modelId,
                    parameters.outputSegmentation,
                    parameters.roi,
                    progress=self._showProgress,
                    acceptLicence=True,  # the question before a download shows the licence
                )
                self._showResult(parameters.outputSegmentation)
            except Exception:
                self.ui.statusLabel.setText("")  # no progress of a job that failed
                raise

    def _fillModels(self):
        from LightSegLib.catalog.store import all_cards
        from LightSegLib.errors import LightSegError

        try:
            self._cards = all_cards()
        except LightSegError as error:  # a damaged card must not keep the module from opening
            self.ui.statusLabel.setText(str(error))
        for card in self._cards:
            title = _("{title} (unverified)").format(title=card.title) if card.unverified else card.title
            self.ui.modelComboBox.addItem(title)

    def _missing(self, ids):
        """What the user has to do before Apply, or nothing."""
        if self._parameterNode.modelId not in ids:
            return _("Choose a model")
        if len(self._cards[ids.index(self._parameterNode.modelId)].channels) > 1:
            return _("This model needs several volumes: call LightSegLogic().segment() in the Python console")
        if not self._parameterNode.inputVolume:
            return _("Choose an input volume")
        return ""

    def _ensureTorch(self):
        """True when torch is there, or was installed after the user agreed."""
        if torchInstalled():
            return True
        try:
            import PyTorchUtils
        except ImportError:
            slicer.util.errorDisplay(
                _("LightSeg needs PyTorch. Install the extension PyTorch in the Extensions Manager and restart Slicer.")
            )
            return False
        question = _("LightSeg needs PyTorch, a download of up to several gigabytes. Install it now?")
        if not slicer.util.confirmOkCancelDisplay(question):
            return False
        with slicer.util.tryWithErrorDisplay(_("PyTorch could not be installed."), waitCursor=True):
            PyTorchUtils.PyTorchUtilsLogic().installTorch(torchVersionRequirement=TORCH_VERSION)
        return torchInstalled()

    def _agreedToDownload(self, model):
        """True when the model's weights are here, or the user agrees to the download and the licence."""
        from LightSegLib.weights.store import WeightStore

        card = next(card for card in self._cards if card.id == model)
        if WeightStore().state(card) != "available":
            return True
        size = card.weights.size
        question = _("The weights of '{title}' ({size}) are downloaded once.\n\nLicence: {licence}\n\nContinue?")
        megabytes = _("{size:.0f} MB").format(size=size / 1e6) if size else _("size not known")
        return slicer.util.confirmOkCancelDisplay(
            question.format(title=card.title, size=megabytes, licence=card.licence)
        )

    def _showProgress(self, progress):
        text = progress.step
        if progress.tiles:
            text = _("{step}: tile {tile} of {tiles}").format(
                step=progress.step, tile=progress.tile, tiles=progress.tiles
            )
        if progress.received:
            text = _("{step}: {received:.1f} MB, {rate:.1f} MB per second").format(
                step=progress.step, received=progress.received / 1e6, rate=progress.bytes_per_second / 1e6
            )
        if progress.seconds_left is not None:
            text = _("{step}, {seconds:.0f} s left").format(step=text, seconds=progress.seconds_left)
        self.ui.statusLabel.setText(text)
        self.ui.statusLabel.repaint()  # at once, without letting the user change the scene meanwhile

    def _showResult(self, segmentationNode):
        text = _("Segmented in {seconds} s on {device}.").format(
            seconds=segmentationNode.GetAttribute("LightSeg.Seconds"),
            device=segmentationNode.GetAttribute("LightSeg.Device"),
        )
        notices = json.loads(segmentationNode.GetAttribute("LightSeg.Notices") or "[]")
        self.ui.statusLabel.setText(" ".join([text, *notices]))


def torchInstalled():
    """True when torch can be imported; does not import it."""
    return importlib.util.find_spec("torch") is not None


class LightSegLogic(ScriptedLoadableModuleLogic):
    """What the module does, for the widget and for the Python console alike."""

    _worker = None  # shared, so that the window and the console find the same model loaded
    _job = None

    def getParameterNode(self):
        return LightSegParameterNode(super().getParameterNode())

    def segment(
        self,
        volumeNode,
        model=DEFAULT_MODEL,
        segmentationNode=None,
        roiNode=None,
        device="auto",
        progress=None,
        side=None,
        cancelled=None,
        acceptLicence=False,
        fullPrecision=False,
        mirror=False,
        largestComponent=None,
        confidence=False,
        openvino=True,
    ):
        """Segment a volume node, or a list of nodes with one per channel, and return the segmentation node.

        It runs in this process and returns when it is done; `start` does the same beside the application.

        model: id of a model, or path of a model folder. segmentationNode: takes the segments beside those it has;
        a new node is made where none is given. roiNode: Markups ROI that limits the work. device: "auto", "cpu",
        "cuda" or "mps". progress: called with a `Progress`. side: "left" or "right" names the segments so.
        cancelled: asked again and again, True stops the job. acceptLicence: agree to a licence that forbids
        commercial use, needed once before such a model is downloaded. fullPrecision: compute in float32 on every
        device. mirror: average over the flips that the model allows, slower. largestComponent: "none", "label" (one
        piece of every label), "whole" (one piece of all together), or None for what the model says. confidence: add a
        volume with the probability of every voxel's label, too. openvino: use it on the CPU where it is installed.

        Raises LightSegError, with the scene as it was; Cancelled, one of these, after `cancelled` said so.
        """
        from LightSegLib import mrml
        from LightSegLib.catalog.store import find_card
        from LightSegLib.errors import LightSegError
        from LightSegLib.segmenter import Segmenter

        volumeNodes = list(volumeNode) if isinstance(volumeNode, (list, tuple)) else [volumeNode]
        card = find_card(model)
        mrml.check_output(segmentationNode, side)
        volumes = mrml.volumes_from_nodes(volumeNodes)
        region = mrml.region_from_node(roiNode, volumeNodes[0]) if volumeNodes and roiNode is not None else None
        if not torchInstalled():
            raise LightSegError("PyTorch is not installed. Install it with the extension PyTorch, then try again.")
        segmenter = Segmenter(card, device, fullPrecision, mirror, largestComponent, acceptLicence, openvino)
        segmentation = segmenter.segment(volumes, region, progress, cancelled, confidence)
        return mrml.write_segmentation(segmentation, volumeNodes[0], segmentationNode, side)

    def start(
        self,
        volumeNode,
        model=DEFAULT_MODEL,
        segmentationNode=None,
        roiNode=None,
        device="auto",
        side=None,
        acceptLicence=False,
        fullPrecision=False,
        mirror=False,
        largestComponent=None,
        confidence=False,
        openvino=True,
    ):
        """As `segment`, in a process of its own: returns a `background.Job` at once, and Slicer stays usable.

        Its signals `progress` and `finished` can be connected, `cancel()` ends it, `wait()` waits. The process stays
        for some minutes with the model loaded, so that the next job begins at once.

        Raises LightSegError for nodes that cannot be used and while another job runs; what goes wrong later is the
        job's `error`.
        """
        from LightSegLib import background
        from LightSegLib.errors import LightSegError

        if LightSegLogic._job is not None and LightSegLogic._job.state == "running":
            raise LightSegError("A segmentation is running already. Wait until it is done, or cancel it.")
        if not torchInstalled():
            raise LightSegError("PyTorch is not installed. Install it with the extension PyTorch, then try again.")
        volumeNodes = list(volumeNode) if isinstance(volumeNode, (list, tuple)) else [volumeNode]
        LightSegLogic._job = background.Job(
            self.worker(),
            str(model),
            volumeNodes,
            segmentationNode,
            roiNode,
            side,
            device=device,
            accept_licence=acceptLicence,
            full_precision=fullPrecision,
            mirror=mirror,
            largest_component=largestComponent,
            confidence=confidence,
            openvino=openvino,
        )
        return LightSegLogic._job

    @staticmethod
    def worker():
        """The process that computes, the same for all."""
        from LightSegLib import background
        from LightSegLib.worker.client import Worker

        if LightSegLogic._worker is None:
            LightSegLogic._worker = Worker(background.interpreter())
        return LightSegLogic._worker

    @staticmethod
    def stopWorker():
        """Cancel what runs, and end the process that waits for the next job."""
        if LightSegLogic._job is not None:
            LightSegLogic._job.cancel()
        if LightSegLogic._worker is not None:
            LightSegLogic._worker.stop()


class LightSegTest(ScriptedLoadableModuleTest):
    """Self-test: the bundled model on the bundled sample, as a user would start."""

    def setUp(self):
        if not torchInstalled():  # as where Slicer's extensions are built, by ctest, which does not call runTest
            self.skipTest("PyTorch is not installed")
        slicer.mrmlScene.Clear()

    def runTest(self):
        if not torchInstalled():
            self.delayDisplay("Nothing was tested: PyTorch is not installed. Press Apply once to install it.")
            return
        self.setUp()
        self.test_hippocampusOfSample()

    def test_hippocampusOfSample(self):
        """Both hippocampi of the sample have 2 to 5 ml, and anterior and posterior parts."""
        volumeNode = loadSample()
        segmentationNode = None
        for region in sampleRegions():
            lower, upper = region["corners"]
            roiNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", region["name"])
            roiNode.SetCenter([(lower[axis] + upper[axis]) / 2 for axis in range(3)])
            roiNode.SetSize([abs(upper[axis] - lower[axis]) for axis in range(3)])
            segmentationNode = LightSegLogic().segment(
                volumeNode, segmentationNode=segmentationNode, roiNode=roiNode, side=region["side"]
            )
        for side in ("Left", "Right"):
            names = [f"{side} {part} hippocampus" for part in ("anterior", "posterior")]
            parts = [self.volumeMl(segmentationNode, name) for name in names]
            self.assertGreater(min(parts), 0.3)
            self.assertTrue(2 < sum(parts) < 5, f"{side} hippocampus has {sum(parts):.2f} ml")
        self.delayDisplay("Test passed")

    def volumeMl(self, segmentationNode, name):
        """Volume of a segment by its name; the sample's voxels have 1 mm."""
        segmentation = segmentationNode.GetSegmentation()
        segmentId = segmentation.GetSegmentIdBySegmentName(name)
        labels = slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentationNode, segmentId)
        return (labels == segmentation.GetSegment(segmentId).GetLabelValue()).sum() / 1000
