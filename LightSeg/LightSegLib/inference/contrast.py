"""Whether a head has the contrast that a model was made for, by the intensities of its tissues.

In a T1-weighted image of an adult white matter is brighter than gray matter, and gray matter brighter than fluid. The
labels of a model show where these are: a model of T1-weighted images often finds them in another contrast, too.
"""

from __future__ import annotations

import numpy as np

from ..catalog.card import Card
from ..catalog.channels import is_called
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..imaging.volume import Segmentation, Volume

BRIGHTEST_FIRST = ("68523003", "40146001", "66720007")  # SNOMED CT: cerebral white matter, its cortex, ventricles
LEAST_VOXELS = 100  # of a tissue, for a median that noise does not decide


def other_contrast(card: Card, volume: Volume, labels: Segmentation) -> list[Message]:
    """Return a notice where a model of T1-weighted images alone got one of another contrast.

    Args:
        card: of the model.
        volume: its image.
        labels: on the volume's grid, of this model or of the one that found its place; without all three tissues
            there is no notice.
    """
    if len(card.channels) != 1 or not is_called(card.channels[0], "t1"):
        return []
    medians = []
    for code in BRIGHTEST_FIRST:
        values = [label.value for label in labels.labels if label.terminology and label.terminology.type.value == code]
        voxels = volume.voxels[np.isin(labels.voxels, values)]
        if voxels.size < LEAST_VOXELS:
            return []
        medians.append(float(np.median(voxels)))
    white, gray, fluid = medians
    if white > gray > fluid:
        return []
    return [
        _(
            "{volume} does not look T1-weighted, but '{model}' was made for T1-weighted images: "
            "white matter should be brighter than cortex, and cortex brighter than fluid, but their median intensities "
            "are {white:.4g}, {gray:.4g} and {fluid:.4g}. The result is probably wrong. "
            "Choose a T1-weighted image, or a model for any contrast."
        ).format(volume=volume.name, model=card.title, white=white, gray=gray, fluid=fluid)
    ]
