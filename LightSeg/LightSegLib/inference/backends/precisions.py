"""The names of precisions, and of the backends that they lead to: a precision and the program that computes in it."""

from __future__ import annotations

AUTO = "auto"
FLOAT32, BFLOAT16, FLOAT16 = "float32", "bfloat16", "float16"
INT8 = "int8"
OPENVINO32, OPENVINO16, OPENVINO8 = "OpenVINO float32", "OpenVINO bfloat16", "OpenVINO int8"
BACKENDS = (FLOAT32, BFLOAT16, FLOAT16, OPENVINO32, OPENVINO16, OPENVINO8)
PRECISIONS = (AUTO, FLOAT32, INT8)  # between which a user chooses
