"""Nodes that cannot be segmented: one clear sentence, what to do, and a scene as it was."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from known_boxes import SHAPE
from LightSegLib.core.errors import InputError, LightSegError, UnknownModelError

NOISE = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)


def add(voxels, kind="vtkMRMLScalarVolumeNode"):
    return slicer.util.addVolumeFromArray(voxels, name="T1", nodeClassName=kind)


def with_nan():
    voxels = NOISE.copy()
    voxels[3, 3, 3] = np.nan
    return add(voxels)


def flat():
    """Zero thickness along k, as after a wrong import."""
    node = add(NOISE)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.diag([1.0, 1, 0, 1])))
    return node


def color():
    image = vtk.vtkImageData()
    image.SetDimensions(*SHAPE[::-1])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photo")
    node.SetAndObserveImageData(image)
    return node


def several_components():
    node = color()
    scalar = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Phases")
    scalar.SetAndObserveImageData(node.GetImageData())
    return scalar


INPUTS = {
    "nothing": (lambda: None, "No input volume is chosen"),
    "an empty list": (list, "No input volume is chosen"),
    "nothing for a channel": (lambda: [add(NOISE), None], "No input volume is chosen"),
    "a name": (lambda: "T1", "'T1'.*is not a scalar volume"),
    "a model": (lambda: slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "Mesh"), "Mesh, vtkMRMLModelNode"),
    "a label map": (lambda: add((NOISE > 0).astype(np.uint8), "vtkMRMLLabelMapVolumeNode"), "is a label map"),
    "no voxels": (lambda: slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty"), "has no voxels"),
    "color": (color, "Photo has 3 components"),
    "a time series": (several_components, "Phases has 3 components"),
    "one slice": (lambda: add(NOISE[:1]), "is not a three-dimensional image"),
    "constant": (lambda: add(np.zeros(SHAPE)), "is constant"),
    "not a number": (with_nan, r"has voxels that are NaN or infinite \(1 of them\)"),
    "flat": (flat, "not positive"),
    "not in the scene": (slicer.vtkMRMLScalarVolumeNode, "is not in the scene"),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_an_input_that_cannot_be_segmented(kind, scene, segment, boxes, fingerprint):
    make, message = INPUTS[kind]
    node = make()
    before = fingerprint()

    with pytest.raises(InputError, match=message) as raised:
        segment(node)

    assert str(raised.value).count(". ") >= 1, "a second sentence says what to do"
    assert not boxes.volumes and fingerprint() == before


def logic_methods():
    import LightSeg

    logic = LightSeg.LightSegLogic()
    return {"segment": logic.segment, "start": logic.start, "startSequence": logic.startSequence}


@pytest.mark.parametrize("method", ["segment", "start", "startSequence"])
@pytest.mark.parametrize(
    "kind", ["nothing", "an empty list", "nothing for a channel", "a name", "a model", "not in the scene"]
)
def test_every_method_refuses_what_is_no_volume(method, kind, scene, model, fingerprint):
    make, message = INPUTS[kind]
    node = make()
    before = fingerprint()

    with pytest.raises(InputError, match=message):
        logic_methods()[method](node, model)

    assert fingerprint() == before


@pytest.mark.parametrize("method", ["segment", "start", "startSequence"])
def test_options_that_are_none_of_the_logic(method, make_volume, model, fingerprint):
    volume = make_volume()
    before = fingerprint()

    with pytest.raises(InputError, match=r"\{'device': 'cpu'\} cannot be used as options. Make them with"):
        logic_methods()[method](volume, model, options={"device": "cpu"})

    assert fingerprint() == before


def test_a_pytorch_that_cannot_be_loaded_is_named(make_volume, segment, boxes, fingerprint):
    """In this process, as in that of a job; any other error of the program stays what it is."""
    volume = make_volume()
    before = fingerprint()
    try:
        exec(compile("raise OSError('c10.dll')", "__init__.py", "exec"), {"__name__": "torch"})
    except OSError as error:
        boxes.fail = error

    with pytest.raises(LightSegError, match=r"PyTorch cannot be loaded \(c10.dll\)\. Restart the program"):
        segment(volume)
    boxes.fail = OSError("another file")
    with pytest.raises(OSError, match="another file"):
        segment(volume)

    assert fingerprint() == before


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((None, "out"), "None cannot be used as inputPath"),
        (("in", None), "None cannot be used as outputFolder"),
        (("in", "out", {"format": "nrrd"}), "{'format': 'nrrd'} cannot be used as settings"),
        (("in", "out", None, 4), "4 cannot be used as engine"),
    ],
)
def test_files_that_are_none(arguments, name):
    import LightSeg

    folder, out, *others = arguments
    with pytest.raises(InputError) as raised:
        LightSeg.LightSegLogic().segmentFiles(folder, "hippocampus-mr-lightmedseg", out, *others)

    assert str(raised.value).startswith(f"{name}. help(LightSegLogic.segmentFiles) describes")


def empty_roi():
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")


REGIONS = {
    "a volume": (lambda: add(NOISE), "T1, vtkMRMLScalarVolumeNode.*is not a Markups ROI"),
    "not placed": (empty_roi, "Box is empty"),
}


@pytest.mark.parametrize("kind", REGIONS)
def test_a_region_that_is_none(kind, make_volume, segment, boxes, fingerprint):
    volume, roi = make_volume(), REGIONS[kind][0]()
    before = fingerprint()

    with pytest.raises(InputError, match=REGIONS[kind][1]):
        segment(volume, roiNode=roi)

    assert not boxes.volumes and fingerprint() == before


def test_a_region_beside_the_volume(make_volume, model, scene, fingerprint):
    """Found by the real pipeline, before any network is loaded."""
    import LightSeg

    volume, roi = make_volume(), empty_roi()
    roi.SetCenter([500.0, 0, 0])
    roi.SetSize([10.0, 10, 10])
    before = fingerprint()

    with pytest.raises(InputError, match="outside the volume"):
        LightSeg.LightSegLogic().segment(volume, model, roiNode=roi)

    assert fingerprint() == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"side": "links"}, InputError, "'links' is not known"),
        ({"segmentationNode": "Segmentation"}, InputError, "is not a segmentation"),
        ({"model": "hipocampus"}, UnknownModelError, "hippocampus-mr-lightmedseg"),
    ],
)
def test_an_argument_that_is_none(options, error, message, make_volume, model, boxes, fingerprint):
    import LightSeg

    volume = make_volume()
    before = fingerprint()

    with pytest.raises(error, match=message):
        LightSeg.LightSegLogic().segment(volume, **{"model": model, **options})

    assert not boxes.volumes and fingerprint() == before


def test_more_volumes_than_the_model_has_channels(make_volume, model, fingerprint):
    import LightSeg

    volumes = [make_volume(), make_volume()]
    before = fingerprint()

    with pytest.raises(InputError, match="needs a single volume"):
        LightSeg.LightSegLogic().segment(volumes, model)

    assert fingerprint() == before


def test_channels_bent_against_each_other(make_volume, bending_transform, segment):
    """Their local grids agree, their anatomy does not."""
    with pytest.raises(InputError, match="non-linear transform"):
        segment([make_volume(), make_volume(transform=bending_transform)])


def test_a_volume_replaced_while_it_was_segmented(make_volume, segment, boxes, fingerprint, monkeypatch):
    from LightSegLib.inference import segmenter

    volume, known = make_volume(), segmenter.Segmenter.segment
    before = fingerprint()

    def replaced(self, *arguments):
        result = known(self, *arguments)
        slicer.util.updateVolumeFromArray(volume, NOISE[:5])
        return result

    monkeypatch.setattr(segmenter.Segmenter, "segment", replaced)
    with pytest.raises(LightSegError, match=r"size of .* changed"):
        segment(volume)

    assert fingerprint() == before
