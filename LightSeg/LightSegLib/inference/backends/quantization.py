"""Int8 forms of networks, by OpenVINO's own operations.

The inputs of the convolutions are rounded to 256 steps between the least and the greatest value that calibration has
seen, their kernels to 255 steps around zero in each output channel. OpenVINO then computes the products in int8 and
their sums in int32. The first convolution, and the last where it only mixes channels, take little time and decide
most: they stay in float32.

Source: the FakeQuantize operation of OpenVINO's operation set, and its guide "Low precision transformations".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

CONVOLUTIONS = ("Convolution", "ConvolutionBackpropData")
STEPS, KERNEL_STEPS = 256, 255
SMALLEST = 1e-6  # range of what is always zero

Range = tuple[float, float]


def observing(model: Any) -> Any:
    """Return OpenVINO's model of a network with more outputs: least and greatest input of each convolution."""
    from openvino import opset13 as operations

    observed = model.clone()
    outputs = []
    for convolution in _rounded(observed):
        values = convolution.input_value(0)
        axes = operations.constant(np.arange(len(values.get_partial_shape()), dtype=np.int64))
        outputs += [
            operations.result(reduce(values, axes)) for reduce in (operations.reduce_min, operations.reduce_max)
        ]
    observed.add_results(outputs)
    return observed


def quantized(model: Any, ranges: Sequence[Range]) -> Any:
    """Return the int8 form of OpenVINO's model of a network.

    Args:
        ranges: least and greatest input of each convolution, as the model of `observing` gives them.
    """
    from openvino import opset13 as operations

    rounded = model.clone()
    inputs: dict[tuple[str, int], Any] = {}  # what several convolutions take is rounded once
    for convolution, seen in zip(_rounded(rounded), ranges, strict=True):
        values, kernels = convolution.input_value(0), convolution.input_value(1)
        key = (values.get_node().get_friendly_name(), values.get_index())
        if key not in inputs:
            low, high = (np.float32(bound) for bound in with_zero(*seen))
            inputs[key] = operations.fake_quantize(values, low, high, low, high, STEPS).output(0)
        greatest = np.abs(kernels.get_node().data)
        output_axis = 0 if convolution.get_type_name() == CONVOLUTIONS[0] else 1
        others = tuple(axis for axis in range(greatest.ndim) if axis != output_axis)
        limit = np.maximum(greatest.max(axis=others, keepdims=True), SMALLEST).astype(np.float32)
        convolution.input(0).replace_source_output(inputs[key])
        convolution.input(1).replace_source_output(
            operations.fake_quantize(kernels, -limit, limit, -limit, limit, KERNEL_STEPS).output(0)
        )
    rounded.validate_nodes_and_infer_types()
    return rounded


def with_zero(low: float, high: float) -> Range:
    """Return a range of 256 steps, one of them exactly 0, around what was seen from `low` to `high`."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == 0:
        return 0.0, max(high, SMALLEST)
    last = STEPS - 1
    zero = min(max(round(-low / (high - low) * last), 1), last)
    step = max(-low / zero, high / (last - zero) if zero < last else 0.0)
    return -zero * step, (last - zero) * step


def _rounded(model: Any) -> list[Any]:
    """Return the convolutions that compute in int8, in the order of their computation."""
    found = [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() in CONVOLUTIONS and node.input_value(1).get_node().get_type_name() == "Constant"
    ]
    makes_outputs = found and math.prod(found[-1].input_value(1).get_shape()[2:]) == 1
    return found[1:-1] if makes_outputs else found[1:]
