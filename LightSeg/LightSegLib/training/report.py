"""How good a trained model is on the cases it was not trained on, as its card states it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..catalog.card import Card
from ..evaluation.comparison import compare_labels, summarize
from ..evaluation.metrics import dice
from ..imaging.volume import Volume
from ..inference.backends.precisions import FLOAT32
from ..inference.options import InferenceOptions
from ..inference.segmenter import Segmenter

ValidationCase = tuple[str, list[Volume], np.ndarray]


def measure_performance(card: Card, cases: Sequence[ValidationCase], device: str) -> dict[str, Any]:
    """Return Dice, HD95 (mm) and volume error (ml) per label, mean and standard deviation over the cases.

    `missed` counts the cases in which only the network or only the expert has the label. `mirrored_dice` is measured on
    the same cases with left and right swapped.
    """
    segmenter = Segmenter(card, InferenceOptions(device, FLOAT32))
    names = {label.value: label.name for label in card.labels}
    rows = []
    mirrored: dict[int, list[float]] = {label.value: [] for label in card.labels}
    for name, volumes, labels in cases:
        rows += compare_labels(name, segmenter.segment(volumes).voxels, labels, volumes[0].geometry, names)
        swapped = [_mirror(volume) for volume in volumes]
        predicted = segmenter.segment(swapped).voxels
        expected = _mirror(Volume(labels, volumes[0].geometry)).voxels
        for value, scores in mirrored.items():
            scores.append(dice(predicted == value, expected == value))
    by_label: dict[str, dict[str, Any]] = {}
    for summary in summarize(rows):
        by_label[summary.name] = {
            measure: {"mean": round(summary.mean[measure], 4), "std": round(summary.std[measure], 4)}
            for measure in summary.mean
            if np.isfinite(summary.mean[measure])  # JSON knows neither NaN nor infinity
        } | {"missed": summary.missed}
        swapped_scores = np.array(mirrored[summary.label])
        if not np.isnan(swapped_scores).all():  # found in an image, but neither there nor by the expert once mirrored
            by_label[summary.name]["mirrored_dice"] = {"mean": round(float(np.nanmean(swapped_scores)), 4)}
    means = {
        f"mean_{measure}": round(float(np.mean([entry[measure]["mean"] for entry in having])), 4)
        for measure in ("dice", "mirrored_dice")
        if (having := [entry for entry in by_label.values() if measure in entry])
    }
    return {"cases": len(cases), **means, "labels": by_label}


def _mirror(volume: Volume) -> Volume:
    """Return the volume with its anatomy's left and right swapped: reversed along the array axis closest to them."""
    direction = np.reshape(volume.geometry.direction, (3, 3))
    axis = 2 - int(np.abs(direction[0]).argmax())
    return Volume(np.flip(volume.voxels, axis).copy(), volume.geometry, volume.name)
