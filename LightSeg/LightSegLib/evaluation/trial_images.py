"""Images on which a model is tried where the user has none at hand: the sample that ships, or a generated body."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..catalog.card import Card
from ..core.paths import resources_folder
from ..imaging.geometry import Geometry, triple
from ..imaging.readers import read_volume
from ..imaging.volume import Volume

STEP = 3.0  # mm between voxels of the generated body
SMALLEST, LARGEST, UNKNOWN = 96.0, 384.0, 192.0  # mm along each axis; unknown: where a model does not state its patch
AIR, NOISE = -1000.0, 15.0  # HU
ORGANS = (  # HU; middle and radii along L, P, S, in halves of the box
    (40.0, (0.0, 0.0, 0.0), (0.9, 0.7, 9.0)),  # the trunk
    (-850.0, (-0.4, -0.05, 0.5), (0.3, 0.45, 0.6)),  # lungs
    (-850.0, (0.4, -0.05, 0.5), (0.3, 0.45, 0.6)),
    (110.0, (-0.35, -0.1, -0.4), (0.45, 0.4, 0.35)),  # liver
    (120.0, (0.55, 0.1, -0.4), (0.2, 0.2, 0.2)),  # spleen
    (180.0, (-0.35, 0.35, -0.7), (0.14, 0.14, 0.25)),  # kidneys
    (180.0, (0.35, 0.35, -0.7), (0.14, 0.14, 0.25)),
    (350.0, (0.0, 0.5, 0.0), (0.14, 0.14, 9.0)),  # spine
    (250.0, (0.05, 0.25, 0.0), (0.07, 0.07, 9.0)),  # aorta
)


def trial_images(card: Card) -> tuple[Volume, ...]:
    """Return an image for each channel of a model, about as large as what its network sees at once.

    For a CT model a generated body in HU, else the sample that ships, a T1 template of the head: all of it where the
    model looks for its place, else its middle. No image shows a disease.

    Args:
        card: with what its weights state, where it leaves that to them.
    """
    sample = resources_folder() / "SampleData" / "icbm152_t1_1mm.nii.gz"
    steps = card.preprocessing
    if card.modality == "CT" or not sample.is_file():
        image = generated_body(_seen(card))
    else:
        image = read_volume(sample)
        if not (card.region_from or card.roi_mm or steps.alignment or steps.conform):
            image = _middle(image, _seen(card))
    return tuple(replace(image, name=f"{image.name} ({channel})") for channel in card.channels)


def generated_body(size: np.ndarray) -> Volume:
    """Return a trunk in HU with lungs, liver, spleen, kidneys, spine and aorta as ellipsoids, the same every time.

    Args:
        size: mm along L, P, S.
    """
    i, j, k = (max(2, round(length / STEP)) for length in size)
    shape = (k, j, i)
    s, p, l = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)  # noqa: E741
    voxels = np.full(shape, AIR, np.float32)
    for value, middle, radii in ORGANS:
        distance = sum(((axis - m) / r) ** 2 for axis, m, r in zip((l, p, s), middle, radii, strict=True))
        voxels[np.broadcast_to(distance <= 1, shape)] = value
    voxels += np.random.default_rng(0).normal(0, NOISE, shape).astype(np.float32)
    return Volume(np.round(voxels).astype(np.int16), Geometry(shape, (STEP, STEP, STEP)), "a generated body")


def _seen(card: Card) -> np.ndarray:
    """Return how many mm a network sees at once along x, y, z, within the limits of an image."""
    steps = card.preprocessing
    spacing = steps.spacing or (steps.outer_resampling.spacing if steps.outer_resampling else (None, None, None))
    patch = card.inference.patch_size[::-1]
    seen = [voxels * step if step and voxels > 1 else UNKNOWN for voxels, step in zip(patch, spacing, strict=True)]
    return np.clip(seen, SMALLEST, LARGEST)


def _middle(image: Volume, size: np.ndarray) -> Volume:
    """Return the middle of an image, at most so many mm along x, y, z."""
    spacing = np.array(image.geometry.spacing)
    count = np.minimum(image.geometry.shape[::-1], np.ceil(size / spacing).astype(int))
    first = (np.array(image.geometry.shape[::-1]) - count) // 2
    i, j, k = (slice(start, start + number) for start, number in zip(first, count, strict=True))
    origin = triple((image.geometry.index_to_world @ [*first, 1])[:3])
    voxels = image.voxels[k, j, i]
    return replace(image, voxels=voxels, geometry=replace(image.geometry, shape=voxels.shape, origin=origin))
