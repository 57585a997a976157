"""Parameters live in the scene's node and follow the widgets, as Slicer's parameterNodeWrapper has it."""

from __future__ import annotations

import enum
from typing import Annotated

import pytest
import slicer
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from user_actions import choose


class Device(enum.Enum):
    AUTOMATIC = "auto"
    PROCESSOR = "cpu"


@parameterNodeWrapper
class Parameters:
    model: str = "liver"
    mirror: bool = True
    folds: int
    threshold: float = 0.5
    device: Device
    side: Annotated[str, Choice(["left", "right"])] = "left"
    volume: slicer.vtkMRMLScalarVolumeNode
    channels: list[slicer.vtkMRMLScalarVolumeNode]


@pytest.fixture
def node(scene):
    return scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


def test_they_are_stored_as_slicer_stores_them(node, scene):
    parameters = Parameters(node)
    parameters.volume = volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    parameters.channels = [volume, None]
    parameters.device = Device.PROCESSOR

    stored = {name: node.GetParameter(name) for name in node.GetParameterNamesAsCommaSeparatedList().split(",")}
    expected = {"model": "liver", "mirror": "True", "folds": "0", "threshold": "0.5", "device": "PROCESSOR"}
    expected |= {"side": "left", "volume": "", "channels.len": "2", "channels.0": "", "channels.1": ""}
    assert stored == expected
    assert node.GetNodeReference("volume") is volume
    again = Parameters(node)
    assert again.device is Device.PROCESSOR and again.mirror is True and again.channels == (volume, None)

    scene.RemoveNode(volume)
    assert again.volume is None and again.channels == (None, None)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("model", None, ValueError),
        ("model", 3, TypeError),
        ("mirror", 1, TypeError),
        ("folds", 0.5, TypeError),
        ("side", "front", ValueError),
        ("volume", "vtkMRMLScalarVolumeNode1", TypeError),
        ("modle", "liver", AttributeError),
    ],
)
def test_what_does_not_fit_is_refused(node, name, value, error):
    parameters = Parameters(node)
    with pytest.raises(error):
        setattr(parameters, name, value)
    assert parameters.model == "liver" and parameters.side == "left"


def test_widgets_and_parameters_follow_each_other(node, scene):
    import qt

    parameters = Parameters(node)
    box, line, side = qt.QCheckBox(), qt.QLineEdit(), qt.QComboBox()
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(scene)
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T1")
    tag = parameters.connectParametersToGui({"mirror": box, "model": line, "side": side, "volume": selector})
    assert box.checked and line.text == "liver" and side.currentText == "left"

    box.click()
    line.text = "spleen"
    choose(side, "right")
    choose(selector, "T1")
    found = parameters.mirror, parameters.model, parameters.side, parameters.volume
    assert found == (False, "spleen", "right", volume)

    parameters.mirror, parameters.volume = True, None
    assert box.checked and selector.currentNode() is None

    parameters.disconnectGui(tag)
    box.click()
    parameters.side = "left"
    assert parameters.mirror and side.currentText == "right"


def test_a_widget_that_slicer_cannot_link_is_refused(node):
    import qt

    with pytest.raises(RuntimeError, match="links no QListWidget"):
        Parameters(node).connectParametersToGui({"model": qt.QListWidget()})
    with pytest.raises(RuntimeError, match="links no QComboBox"):
        Parameters(node).connectParametersToGui({"model": qt.QComboBox()})
