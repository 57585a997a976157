"""The steps after the network that a card names, one after the other, each on its grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..catalog.card import Card, Inference, Step
from ..core.i18n import tr as _
from ..imaging.geometry import Geometry
from ..imaging.volume import Segmentation
from .options import NONE
from .postprocessing.distance import Spacing, dilate, keep_within
from .postprocessing.pieces import keep_largest, remove_labels, remove_small
from .postprocessing.vertebrae import number_vertebrae
from .processing.orientation import orientation_steps, oriented
from .provenance import confidence_facts, nothing_found

MODEL, IMAGE = "model", "image"  # grids on which a step may run (see `Step`)
CORRECTIONS = ("keep_largest", "remove_small", "keep_within", "number_vertebrae")  # what they remove was wrong


@dataclass(frozen=True)
class _Scene:
    """What steps see of labels, all with the axes k, j, i running to S, A and R.

    Attributes:
        labels: integers [k, j, i], changed in place.
        spacing: mm along k, j, i.
        reference: other labels [k, j, i], or the same.
    """

    labels: np.ndarray
    spacing: Spacing
    reference: np.ndarray

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing))


def _keep_within(scene: _Scene, step: Step) -> None:
    near = np.isin(scene.reference, step.reference)
    keep_within(scene.labels, near, scene.spacing, step.distance_mm or 0, step.labels)


RUN: dict[str, Callable[[_Scene, Step], None]] = {
    "keep_largest": lambda scene, step: keep_largest(scene.labels, step.labels, step.together),
    "remove_small": lambda scene, step: remove_small(
        scene.labels, scene.voxel_mm3, step.volume_mm3 or 0, step.labels, step.together
    ),
    "remove_labels": lambda scene, step: remove_labels(scene.labels, step.labels),
    "keep_within": _keep_within,
    "dilate": lambda scene, step: dilate(scene.labels, scene.spacing, step.distance_mm or 0, step.labels),
    "number_vertebrae": lambda scene, step: number_vertebrae(
        scene.labels, scene.voxel_mm3, step.volume_mm3 or 0, step.labels
    ),
}


def on_model_grid(card: Card, rules: Inference) -> tuple[Step, ...]:
    """Return a card's steps that run where the model's labels are, then that of the run's largest component."""
    steps = tuple(step for step in card.postprocessing if step.grid == MODEL)
    if rules.largest_component != NONE:
        steps += (Step("keep_largest", together=rules.largest_component == "whole"),)
    return steps


def finish(card: Card, result: Segmentation, finder: Segmentation | None = None) -> Segmentation:
    """Run a card's steps that run on the image's grid.

    Args:
        card: of the model.
        result: its labels, changed in place.
        finder: what found the place; without it, steps that need its labels are left out, with a notice.
    """
    steps = [step for step in card.postprocessing if step.grid == IMAGE]
    if card.region_from is not None and finder is None and any(step.reference for step in steps):
        steps = [step for step in steps if not step.reference]
        result.provenance["notices"].append(
            _(
                "What is too far from the surrounding structures was not removed, "
                "since they are looked for only without a region of interest."
            )
        )
    if not steps:
        return result
    some = result.voxels.any()
    apply(steps, result.voxels, result.geometry, result.confidence, finder)
    if some and not result.voxels.any():
        result.provenance["notices"].append(nothing_found())
    result.provenance["postprocessing"] = result.provenance.get("postprocessing", []) + facts(steps)
    if result.confidence is not None:
        result.provenance.update(confidence_facts(result.voxels, result.confidence))
    return result


def apply(
    steps: Sequence[Step],
    labels: np.ndarray,
    geometry: Geometry,
    confidence: np.ndarray | None = None,
    reference: Segmentation | None = None,
) -> None:
    """Change labels by steps, in place.

    Where a step corrects the network by removing a label, the confidence becomes that of the background, as far as the
    label was wrong. Elsewhere it stays: how sure the network was of what it decided at that voxel, from which a grown,
    renumbered or left out label follows.

    Args:
        steps: in their order.
        labels: integers [k, j, i].
        geometry: of the labels.
        confidence: percentages [k, j, i], changed in place.
        reference: labels of another model, of axes parallel to these, that `Step.reference` means; without it the
            labels themselves.
    """
    if not steps or not labels.any():
        return
    order, flips = orientation_steps(geometry, "RAS")
    k, j, i = (geometry.spacing[2 - axis] for axis in order)
    others = labels if reference is None else on_grid(reference.voxels, reference.geometry, geometry)
    scene = _Scene(oriented(labels, order, flips), (k, j, i), oriented(others, order, flips))
    for step in steps:
        before = labels > 0 if confidence is not None and step.step in CORRECTIONS else None
        RUN[step.step](scene, step)
        if confidence is not None and before is not None:
            removed = before & (labels == 0)
            confidence[removed] = 100 - confidence[removed]


def on_grid(labels: np.ndarray, geometry: Geometry, target: Geometry) -> np.ndarray:
    """Return labels on another grid, the nearest one at each voxel, 0 outside of theirs.

    Args:
        labels: [k, j, i].
        geometry: of the labels.
        target: a grid whose axes are parallel to those of the labels, in any order.
    """
    if geometry.matches(target):
        return labels
    matrix = np.linalg.inv(geometry.index_to_world) @ target.index_to_world  # from target's index to that of labels
    along = [int(np.abs(row[:3]).argmax()) for row in matrix[:3]]  # the target's axis that each of i, j, k follows
    result = labels
    outside = []
    for axis, other in enumerate(along):
        places = matrix[axis, other] * np.arange(target.shape[2 - other]) + matrix[axis, 3]
        nearest = np.floor(places + 0.5).astype(int)
        length = labels.shape[2 - axis]
        outside.append((nearest < 0) | (nearest >= length))
        result = result.take(nearest.clip(0, length - 1), axis=2 - axis)
    for axis, missing in enumerate(outside):
        result[(slice(None),) * (2 - axis) + (missing,)] = 0
    return result.transpose([2 - along.index(2 - axis) for axis in range(3)])


def facts(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return the steps for the provenance, each with the parameters that it has."""
    return [step.stated for step in steps]
