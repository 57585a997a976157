"""The module as Slicer meets it: loaded at start-up, opened, and asked to segment."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import slicer

import LightSeg

MODULE_FOLDER = Path(LightSeg.__file__).parent


def test_it_loads_quickly_and_without_torch():
    """Slicer starts before the user has installed PyTorch; the module reports it when it is used."""
    script = (
        f"import sys; sys.modules['torch'] = None; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "import fakes; fakes.install()\n"
        "import numpy, slicer; before = set(sys.modules)\n"
        "import LightSeg\n"
        "new = set(sys.modules) - before\n"
        "print(*sorted({name if name.startswith('LightSegLib.') else name.split('.')[0] for name in new}))\n"
        "from LightSegLib.core.errors import LightSegError\n"
        "assert not LightSeg.torchInstalled()\n"
        "volume = slicer.util.addVolumeFromArray(numpy.arange(512.0).reshape(8, 8, 8))\n"
        "try: LightSeg.LightSegLogic().segment(volume)\n"
        "except LightSegError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    loaded, message = done.stdout.splitlines()
    assert not {"scipy", "SimpleITK", "requests", "pydicom", "PIL"} & set(loaded.split())
    own = {".".join(name.split(".")[1:3]) for name in loaded.split() if name.startswith("LightSegLib.")}
    light = {"slicer_app.parameters", "slicer_app.sample", "inference.options", "inference.backends"}
    light |= {"catalog.orientations"}
    assert {name for name in own if "." in name and not name.startswith("core.")} == light
    assert "PyTorch is not installed" in message


def test_what_slicer_shows_of_it(monkeypatch):
    sources = []
    logic = SimpleNamespace(registerCustomSampleDataSource=lambda **source: sources.append(source))
    sample_data = types.ModuleType("SampleData")
    sample_data.SampleDataLogic = logic
    monkeypatch.setitem(sys.modules, "SampleData", sample_data)
    parent = SimpleNamespace()

    LightSeg.LightSeg(parent)
    assert not sources, "not before Slicer is ready"
    slicer.app.startupCompleted.emit()

    assert parent.title == "LightSeg" and parent.categories == ["Segmentation"]
    assert sources[0]["sampleName"] == "ICBM152"
    assert Path(sources[0]["thumbnailFileName"]).is_file()
    # Slicer takes the three together, as text or as lists of one length, and checks the file against the sum
    from LightSegLib.slicer_app.sample import SAMPLE_FILE as sample

    assert (sources[0]["uris"], sources[0]["fileNames"]) == (sample.as_uri(), sample.name)
    assert sources[0]["nodeNames"] == "ICBM152"
    assert sources[0]["checksums"] == f"SHA256:{hashlib.sha256(sample.read_bytes()).hexdigest()}"


def test_every_node_selector_of_the_form_knows_the_scene():
    """Selectors that are not connected to the form's scene stay empty without a word."""
    form = ElementTree.parse(MODULE_FOLDER / "Resources" / "UI" / "LightSeg.ui").getroot()
    selectors = {w.attrib["name"] for w in form.iter("widget") if w.attrib["class"].startswith("qMRMLNode")}
    connected = {
        connection.findtext("receiver")
        for connection in form.iter("connection")
        if connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and connection.findtext("sender") == form.find("widget").attrib["name"]
    }
    bound = {text.text for text in form.findall(".//property[@name='SlicerParameterName']/string")}

    assert selectors == connected and len(selectors) == 6
    assert bound <= set(LightSeg.LightSegParameterNode.__annotations__)
    assert bound < set(LightSeg.LightSegParameterNode.__annotations__)


def test_a_whole_run_with_a_network(make_volume, make_transform, scene, tiny_model):
    """Preprocessing, an untrained network, restoring and the scene: the grid of the input, within the region."""
    turned = np.array([[0, 0, 1.5, 2], [1, 0, 0, 3], [0, 1, 0, 4], [0, 0, 0, 1]], float)
    volume = make_volume(np.diag([1, 1.2, 0.9, 1]), make_transform(turned))
    bounds = np.zeros(6)
    volume.GetRASBounds(bounds)
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter((bounds[::2] + bounds[1::2]) / 2)
    roi.SetSize((bounds[1::2] - bounds[::2]) / 2)
    steps = []

    logic = LightSeg.LightSegLogic()
    logic.progressCallback = steps.append

    node = logic.segment(volume, str(tiny_model), roiNode=roi, options=logic.options(device="cpu"))

    assert node.GetAttribute("LightSeg.Device") == "cpu"
    assert {"Preparing", "Loading model", "Segmenting", "Restoring"} <= {step.step for step in steps}
    found = np.zeros(6)
    node.GetRASBounds(found)
    assert (found[1::2] > found[::2]).all(), "an untrained network labels something"
    allowed = np.zeros(6)
    roi.GetRASBounds(allowed)
    assert (found[::2] >= allowed[::2] - 1.5).all() and (found[1::2] <= allowed[1::2] + 1.5).all()


@pytest.mark.slow
def test_the_self_test_of_the_module(scene):
    """What Slicer's own test run calls: the bundled model on the bundled sample."""
    from LightSegLib.catalog.lookup import find_card, weights_path

    if not weights_path(find_card(LightSeg.DEFAULT_MODEL)).is_file():
        pytest.skip("the bundled model's weights are not in this checkout")
    LightSeg.LightSegTest().runTest()
