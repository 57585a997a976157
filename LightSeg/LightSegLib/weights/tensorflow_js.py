"""MeshNet as TensorFlow.js keeps it: `model.json`, a Keras topology with a list of weights, and files of raw floats.

Nothing in these files is executed, and nothing is made that the size of the files does not justify. What is not the
chain of layers of a MeshNet is refused by name.

Source: TensorFlow.js, "layers-model" format: `modelTopology` as Keras writes it, `weightsManifest` with groups of
`paths` (shards, to be joined in their order) and `weights` (name, shape and type, in the order of the bytes). Kernels
are [D, H, W, in, out]. A convolution whose name ends in "_gn" is followed by an instance norm over the volume without
weights; so the models of brainchop say it, since Keras has no such layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import ModelError
from ..core.i18n import tr as _
from ..core.json_file import read_bytes, read_json

if TYPE_CHECKING:
    from torch import Tensor

TOPOLOGY = "model.json"
MOST_TOPOLOGY = 4 << 20  # bytes of model.json
MOST_WEIGHTS = 1 << 28  # bytes of all shards; the largest known has half a million
MOST_LAYERS = 1000
MOST_CHANNELS = 4096
MOST_DILATION = 128
ACTIVATIONS = ("elu", "relu", "gelu")
INSTANCE = "_gn"  # end of the name of a convolution with an instance norm
FIXED = {"padding": "same", "data_format": "channels_last", "strides": [1, 1, 1]}
SILENT = ("InputLayer", "Dropout", "SpatialDropout3D")  # they do nothing to a volume


class _Unfit(Exception):
    """Why files are not a MeshNet, as half a sentence."""


def read_tensorflow_js(topology: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights by MeshNet's names, float32 [out, in, k, j, i], and its arguments.

    Args:
        topology: path of model.json; the shards are beside it. The network's axes are the kernels' own, D, H, W.

    Raises:
        ModelError: for anything that is missing, cut off, larger than it may be, or no MeshNet.
    """
    import torch

    try:
        content = read_json(topology, MOST_TOPOLOGY)
        layers = list(_layers(content))
        arguments, names = _arguments(layers)
        arrays = dict(_arrays(content, topology.parent))
        state = {ours: torch.from_numpy(_kernel(arrays.pop(theirs, None), theirs)) for ours, theirs in names.items()}
        if arrays:
            raise _Unfit(
                _("it has weights that belong to no layer ({names})").format(names=", ".join(list(arrays)[:3]))
            )
        return state, arguments
    except FileNotFoundError as error:
        raise ModelError(
            _(
                "The file {file} of this TensorFlow.js model is missing. "
                "Download all files that are listed in its {topology}."
            ).format(file=Path(error.filename).name, topology=topology.name)
        ) from error
    except (_Unfit, OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        reason = error if isinstance(error, _Unfit) else _("it is invalid ({reason})").format(reason=error)
        raise ModelError(
            _(
                "{file} is not a TensorFlow.js MeshNet that LightSeg can read: {reason}. "
                "Download its files again, or choose another model."
            ).format(file=topology.name, reason=reason)
        ) from error


def _layers(content: Any) -> Iterator[dict[str, Any]]:
    """Yield the layers' class and configuration, each fed by the one before."""
    topology = content["modelTopology"]
    model = topology.get("model_config", topology)["config"]
    layers = model if isinstance(model, list) else model["layers"]
    if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
        raise _Unfit(_("it has more than {limit} layers").format(limit=MOST_LAYERS))
    before = None
    for layer in layers:
        if inbound := layer.get("inbound_nodes"):
            sources = [node[0] for node in inbound[0]]
            if len(inbound) != 1 or sources != [before]:
                raise _Unfit(
                    _("its layer '{layer}' does not have exactly the previous layer as its input").format(
                        layer=layer["config"]["name"]
                    )
                )
        before = str(layer["config"]["name"])
        yield {**layer["config"], "class": str(layer["class_name"])}


def _arguments(layers: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Arguments of MeshNet, and for each of its tensors the name in the manifest."""
    convolutions: list[dict[str, Any]] = []
    activations: list[str] = []
    names: dict[str, str] = {}
    norms: set[str] = set()
    for layer in layers:
        kind, name = layer["class"], layer["name"]
        number, before = len(convolutions), len(activations)
        if kind == "Conv3D":
            _check_convolution(layer)
            convolutions.append(layer)
            own = layer.get("activation", "linear")
            activations += [] if own == "linear" else [own]
            if own != "linear" and name.endswith(INSTANCE):
                raise _late_norm(name)
        elif kind == "Activation":
            activations.append(layer["activation"])
        elif kind == "BatchNormalization":
            if len(activations) >= number:
                raise _late_norm(name)
            norms.add("batch")
            names |= _batch_norm(layer, number - 1)
        elif kind not in SILENT:
            raise _Unfit(_("its layer '{layer}' has the unknown kind {kind}").format(layer=name, kind=kind))
        if len(activations) > before and len(activations) != len(convolutions):
            raise _Unfit(
                _("its layer '{layer}' is an activation that does not follow a convolution").format(layer=name)
            )
    if len(convolutions) < 2 or len(activations) != len(convolutions) - 1:
        raise _Unfit(_("a MeshNet has convolutions with an activation each, and one without at the end"))
    *hidden, last = convolutions
    norms |= {"instance" for layer in hidden if layer["name"].endswith(INSTANCE)}
    for number, layer in enumerate(hidden):
        names |= _tensors(layer, f"convolutions.{number}")
    names |= _tensors(last, "classifier")
    uniform = {
        "channels": {layer["filters"] for layer in hidden},
        "activation": set(activations),
        "norm": norms or {"none"},
        "bias": {layer["use_bias"] for layer in hidden},
    }
    for what, found in uniform.items():
        if len(found) != 1:
            raise _Unfit(
                _("its layers have different values of {property} ({values})").format(
                    property=what, values=", ".join(sorted(map(str, found)))
                )
            )
    if not set(activations) <= set(ACTIVATIONS):
        raise _Unfit(
            _("its activation {activation} is not one of {known}").format(
                activation=activations[0], known=", ".join(ACTIVATIONS)
            )
        )
    if any(layer["kernel_size"] != [3, 3, 3] for layer in hidden) or last["kernel_size"] != [1, 1, 1]:
        raise _Unfit(_("its kernels must be 3 x 3 x 3, and the last 1 x 1 x 1"))
    if not last["use_bias"]:
        raise _Unfit(_("its last convolution has no bias"))
    dilations = [layer["dilation_rate"][0] for layer in hidden]
    inputs = {"in_channels": _inputs(layers), "classes": last["filters"], "dilations": dilations}
    return inputs | {what: found.pop() for what, found in uniform.items()}, names


def _check_convolution(layer: dict[str, Any]) -> None:
    """Check that a convolution has the arguments that MeshNet's have.

    Raises:
        _Unfit: if it has not.
    """
    for what, wanted in FIXED.items():
        if layer[what] != wanted:
            raise _Unfit(
                _("its layer '{layer}' has the unsupported {property} {value}").format(
                    layer=layer["name"], property=what, value=layer[what]
                )
            )
    dilation = layer["dilation_rate"]
    numbers = (layer["filters"], *dilation)
    if any(type(number) is not int or number < 1 for number in numbers) or len(set(dilation)) != 1:
        raise _Unfit(
            _("its layer '{layer}' has {filters} filters and the dilation {dilation}").format(
                layer=layer["name"], filters=layer["filters"], dilation=dilation
            )
        )
    if layer["filters"] > MOST_CHANNELS or dilation[0] > MOST_DILATION or layer.get("groups", 1) != 1:
        raise _Unfit(_("its layer '{layer}' is larger than that of any MeshNet").format(layer=layer["name"]))


def _inputs(layers: Sequence[dict[str, Any]]) -> int:
    """Return the number of input channels, the last entry of the first layer's shape."""
    shape = next(layer[key] for layer in layers for key in ("batch_input_shape", "batch_shape") if key in layer)
    if len(shape) != 5 or type(shape[-1]) is not int or not 1 <= shape[-1] <= MOST_CHANNELS:
        raise _Unfit(_("its input has the unsupported shape {shape}").format(shape=shape))
    return int(shape[-1])


def _tensors(layer: dict[str, Any], ours: str) -> dict[str, str]:
    """Return the names of a convolution's tensors, here and in the manifest."""
    kinds = {"weight": "kernel"} | ({"bias": "bias"} if layer["use_bias"] else {})
    return {f"{ours}.{own}": f"{layer['name']}/{theirs}" for own, theirs in kinds.items()}


def _late_norm(name: str) -> _Unfit:
    """Return the error for a norm in another place than MeshNet has it, where its values would be others."""
    return _Unfit(_("its layer '{layer}' has a norm that is not between convolution and activation").format(layer=name))


def _batch_norm(layer: dict[str, Any], number: int) -> dict[str, str]:
    """Return the names of a batch norm's tensors, here and in the file."""
    if abs(layer["epsilon"] - 1e-5) > 1e-9 or not (layer["scale"] and layer["center"]):
        raise _Unfit(
            _("its layer '{layer}' is a batch normalization without weights or with an epsilon other than 1e-5").format(
                layer=layer["name"]
            )
        )
    kinds = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    return {f"norms.{number}.{own}": f"{layer['name']}/{theirs}" for own, theirs in kinds.items()}


def _arrays(content: Any, folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every array of the manifest by its name."""
    left = MOST_WEIGHTS
    for group in content["weightsManifest"]:
        expected = sum(_count(entry) for entry in group["weights"]) * 4
        if expected > left:
            raise _Unfit(_("its weights would take more than {limit:.0f} MB").format(limit=MOST_WEIGHTS / 1e6))
        left -= expected
        paths = [folder / _plain(path) for path in group["paths"]]
        sizes = [path.stat().st_size for path in paths]
        if sum(sizes) != expected:
            raise _Unfit(
                _("its weights have {size} bytes instead of {expected}").format(size=sum(sizes), expected=expected)
            )
        floats = np.frombuffer(b"".join(map(read_bytes, paths, sizes)), "<f4")
        if not np.isfinite(floats).all():
            raise _Unfit(_("some of its weights are not finite numbers"))
        position = 0
        for entry in group["weights"]:
            count = _count(entry)
            yield str(entry["name"]), floats[position : position + count].reshape(entry["shape"])
            position += count


def _count(entry: dict[str, Any]) -> int:
    """Return the numbers of an array of the manifest."""
    shape = entry["shape"]
    if entry["dtype"] != "float32" or "quantization" in entry:
        raise _Unfit(_("its weights '{name}' are not stored as float32").format(name=entry["name"]))
    if any(type(length) is not int or not 1 <= length <= MOST_CHANNELS for length in shape) or len(shape) > 5:
        raise _Unfit(
            _("its weights '{name}' have the unsupported shape {shape}").format(name=entry["name"], shape=shape)
        )
    return math.prod(shape)


def _plain(path: str) -> str:
    """Return the path of a shard.

    Raises:
        _Unfit: unless it is a plain file name.
    """
    if not path == PurePosixPath(path).name == PureWindowsPath(path).name or path in ("", ".", ".."):
        raise _Unfit(_("its shard '{file}' is missing in the same folder").format(file=path))
    return path


def _kernel(array: np.ndarray | None, name: str) -> np.ndarray:
    """Return a kernel in torch's order [out, in, k, j, i]."""
    if array is None:
        raise _Unfit(_("its weights '{name}' are not in the list").format(name=name))
    return np.array(array.transpose(4, 3, 0, 1, 2) if array.ndim == 5 else array, np.float32, order="C")
