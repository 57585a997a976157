"""Weights of TensorFlow.js: raw floats with a JSON beside them, read as they are or refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from LightSegLib.core.errors import ModelError
from LightSegLib.weights.tensorflow_js import read_tensorflow_js
from meshnet_files import layer, write_meshnet

Change = Callable[[dict[str, Any]], None]


def layers(content: dict[str, Any]) -> list[dict[str, Any]]:
    return content["modelTopology"]["model_config"]["config"]["layers"]


def entries(content: dict[str, Any]) -> list[dict[str, Any]]:
    return content["weightsManifest"][0]["weights"]


def changed(path: Path, change: Change) -> Path:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def reordered(*order: int, more: Sequence[dict[str, Any]] = ()) -> Change:
    """The layers input, convolution, activation, convolution, activation, output by number, and then `more`."""

    def change(content: dict[str, Any]) -> None:
        known = [*layers(content), *more]
        layers(content)[:] = [known[number] | {"inbound_nodes": []} for number in order]

    return change


BATCH_NORM = layer("BatchNormalization", "norm", None, epsilon=1e-5, scale=True, center=True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (reordered(0, 1, 3, 2, 4, 5), "'activation_0' is an activation that does not follow a convolution"),
        (reordered(0, 1, 2, 6, 3, 4, 5, more=[BATCH_NORM]), "'norm' has a norm that is not between convolution"),
        (
            lambda c: layers(c)[1]["config"].update(name="conv_0_gn", activation="elu"),
            "'conv_0_gn' has a norm that is not between convolution",
        ),
    ],
)
def test_layers_in_another_order_than_that_of_a_meshnet_are_refused(
    change: Change, reason: str, tmp_path: Path
) -> None:
    path = changed(write_meshnet(tmp_path, (1, 2)), reordered(*range(6)))
    with pytest.raises(ModelError, match=reason):
        read_tensorflow_js(changed(path, change))


def test_the_file_states_what_network_it_is(tmp_path: Path) -> None:
    state, arguments = read_tensorflow_js(write_meshnet(tmp_path, (1, 8, 2), "gelu", 5, 4, instance_norm=True))
    assert arguments == {
        "in_channels": 1, "classes": 4, "channels": 5, "dilations": [1, 8, 2], "activation": "gelu",
        "norm": "instance", "bias": False,
    }  # fmt: skip
    assert tuple(state["convolutions.1.weight"].shape) == (5, 5, 3, 3, 3)


def test_shards_are_joined_wherever_they_were_cut(tmp_path: Path) -> None:
    found = []
    for shards in (1, 2, 7):
        folder = tmp_path / str(shards)
        folder.mkdir()
        found.append(read_tensorflow_js(write_meshnet(folder, shards=shards))[0])
    for other in found[1:]:
        assert all((other[key] == tensor).all() for key, tensor in found[0].items())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: layers(c)[2].update(class_name="Lambda"), "'activation_0' has the unknown kind Lambda"),
        (
            lambda c: layers(c)[3]["inbound_nodes"][0].append(["input", 0, 0, {}]),
            "does not have exactly the previous layer",
        ),
        (lambda c: layers(c)[1]["config"].update(padding="valid"), "has the unsupported padding valid"),
        (lambda c: layers(c)[1]["config"].update(strides=[2, 2, 2]), "has the unsupported strides"),
        (lambda c: layers(c)[1]["config"].update(filters=10**9), "larger than that of any MeshNet"),
        (lambda c: layers(c)[1]["config"].update(dilation_rate=[10**6] * 3), "larger than that of any MeshNet"),
        (lambda c: layers(c)[1]["config"].update(filters=-1), "has -1 filters"),
        (lambda c: layers(c)[1]["config"].update(filters=6), "different values of channels"),
        (lambda c: layers(c)[2]["config"].update(activation="softsign"), "different values of activation"),
        (lambda c: layers(c).pop(2), "does not have exactly the previous layer|without one at the end"),
        (lambda c: layers(c)[0]["config"].update(batch_input_shape=[None, 1]), "its input has the unsupported shape"),
        (lambda c: layers(c).extend(layers(c) * 400), "more than 1000 layers"),
        (lambda c: entries(c)[0].update(shape=[3, 3, 3, 1, 5]), "bytes instead of"),
        (lambda c: entries(c)[0].update(shape=[3, 3, 3, 1, 10**12]), "have the unsupported shape"),
        (lambda c: entries(c)[0].update(shape=[4096] * 5), "more than 268 MB"),
        (lambda c: entries(c)[0].update(shape=[-3, -3, 3, 1, 4]), "have the unsupported shape"),
        (lambda c: entries(c)[0].update(dtype="uint8"), "not stored as float32"),
        (lambda c: entries(c)[0].update(quantization={"dtype": "uint8"}), "not stored as float32"),
        (lambda c: entries(c)[0].update(name="other/kernel"), "not in the list"),
        (lambda c: c["weightsManifest"][0].update(paths=["../group1-shard1of2.bin"]), "is missing in the same folder"),
        (lambda c: c["weightsManifest"][0].update(paths=["/dev/zero"]), "is missing in the same folder"),
        (lambda c: c.pop("weightsManifest"), "it is invalid"),
        (lambda c: c.update(modelTopology=[]), "it is invalid"),
    ],
)
def test_what_is_not_a_meshnet_is_refused_by_name(change: Change, reason: str, tmp_path: Path) -> None:
    path = changed(write_meshnet(tmp_path), change)
    with pytest.raises(
        ModelError, match=rf"model\.json is not a TensorFlow.js MeshNet .*({reason}).*\. Download its files again"
    ):
        read_tensorflow_js(path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    path = write_meshnet(tmp_path)
    (tmp_path / "group1-shard2of2.bin").unlink()
    with pytest.raises(ModelError, match=r"group1-shard2of2\.bin .* is missing\. Download all files"):
        read_tensorflow_js(path)


@pytest.mark.parametrize("cut", [0, 1, 4, 100])
def test_weights_that_were_cut_off_are_refused(cut: int, tmp_path: Path) -> None:
    path, shard = write_meshnet(tmp_path), tmp_path / "group1-shard2of2.bin"
    shard.write_bytes(shard.read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"weights have \d+ bytes instead of \d+\."):
        read_tensorflow_js(path)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    path, shard = write_meshnet(tmp_path), tmp_path / "group1-shard1of2.bin"
    shard.write_bytes(b"\xff" * shard.stat().st_size)
    with pytest.raises(ModelError, match="some of its weights are not finite numbers"):
        read_tensorflow_js(path)


@pytest.mark.parametrize("text", [b"", b"[1, 2", b"\xff\xfe", b"[" * 5000, b'{"modelTopology": 1e999}'])
def test_what_is_not_a_json_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(text)
    with pytest.raises(ModelError, match=r"is not a TensorFlow\.js MeshNet"):
        read_tensorflow_js(path)
