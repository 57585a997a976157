"""How tests run a model: in float32 on the CPU, which gives the same numbers on every processor."""

from __future__ import annotations

from dataclasses import replace

from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter

PLAIN = InferenceOptions(device="cpu", precision="float32", openvino=False)


def with_confidence(segmenter: Segmenter) -> Segmenter:
    """The same one, which now gives probabilities, too."""
    segmenter.options = replace(segmenter.options, confidence=True)
    return segmenter
