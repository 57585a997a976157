"""MeshNet: the numbers of its published weights, computed independently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from LightSegLib.networks import build
from LightSegLib.networks.meshnet import MeshNet
from LightSegLib.weights.tensorflow_js import read_tensorflow_js
from meshnet_files import computed_with_numpy, write_meshnet


def logits_of(topology: Path, volume: np.ndarray) -> np.ndarray:
    state, arguments = read_tensorflow_js(topology)
    network = build("meshnet", arguments)
    network.load_state_dict(state)
    with torch.inference_mode():
        return network.eval()(torch.from_numpy(volume)[None, None])[0].numpy()


@pytest.mark.parametrize(
    ("activation", "instance_norm"), [("elu", False), ("relu", False), ("gelu", False), ("gelu", True)]
)
def test_a_network_of_tensorflow_js_computes_what_numpy_does(
    activation: str, instance_norm: bool, tmp_path: Path
) -> None:
    topology = write_meshnet(tmp_path, (1, 4, 2), activation, instance_norm=instance_norm)
    volume = np.random.default_rng(1).random((14, 12, 13), np.float32)
    np.testing.assert_allclose(logits_of(topology, volume), computed_with_numpy(topology, volume), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    ["brain-structures-meshnet", "brain-mask-mindgrab", "brain-tissue", "brain-tissue-tiny", "brain-atlas-104"],
)
def test_the_published_weights_compute_what_numpy_does(model: str, shared_models: Path, shared_data: Path) -> None:
    import SimpleITK as sitk

    head = sitk.GetArrayFromImage(sitk.ReadImage(str(shared_data / "heads" / "head_a_t1.nii.gz")))
    crop = head[90:154, 100:164, 96:160].astype(np.float32) / 255
    found = logits_of(shared_models / model / "model.json", crop)
    expected = computed_with_numpy(shared_models / model / "model.json", crop)
    assert np.abs(found - expected).max() <= 1e-4


def test_the_last_layer_alone_has_no_activation_and_sizes_stay() -> None:
    network = MeshNet(1, 2, 3, (1, 16), norm="batch").eval()
    assert network(torch.zeros(1, 1, 5, 6, 7)).shape == (1, 2, 5, 6, 7)
    assert network.reach == 17


def test_the_authors_names_of_tensors_are_understood() -> None:
    network = MeshNet(1, 2, 3, (1, 2), norm="batch")
    theirs = {
        "model.0.0.weight": "convolutions.0.weight",
        "model.0.0.bias": "convolutions.0.bias",
        "model.1.1.running_mean": "norms.1.running_mean",
        "model.2.weight": "classifier.weight",
    }
    assert {key: network.canonical_key(key) for key in theirs} == theirs
    assert set(theirs.values()) <= set(network.state_dict())


@pytest.mark.parametrize("wrong", [{"activation": "sine"}, {"norm": "group"}, {"dilations": ()}, {"dilations": (0,)}])
def test_arguments_that_make_no_network_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be|is not one of"):
        MeshNet(**{"in_channels": 1, "classes": 2, "channels": 3, "dilations": (1,), **wrong})  # type: ignore[arg-type]
