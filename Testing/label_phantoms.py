"""Generated label maps for tests: a body with a liver, two kidneys and a spine that differ from subject to subject."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

SPACING = 4.0  # mm
SHAPE = (32, 32, 32)
BODY, LIVER, LEFT_KIDNEY, RIGHT_KIDNEY, CYST = 1, 2, 3, 4, 5

# value: center and half axes in mm along x (left), y (back), z (up)
ORGANS = {
    BODY: ((0, 0, 0), (52, 44, 54)),
    LIVER: ((0, -14, 22), (34, 18, 18)),
    LEFT_KIDNEY: ((24, 10, -18), (14, 15, 20)),
    RIGHT_KIDNEY: ((-24, 10, -18), (14, 15, 20)),
}


def settings(mirrored: bool = True) -> dict[str, Any]:
    """Settings of the maps: three organs, of which the kidneys mirror each other, and a cyst that counts as liver."""
    return {
        "name": "Phantom organs",
        "subject": "phantom",
        "modality": "MR",
        "channel": "Any contrast",
        "values": [
            {"value": LIVER, "name": "Liver", "tissue": "liver"},
            {"value": LEFT_KIDNEY, "name": "Left kidney", "tissue": "kidney"},
            {"value": RIGHT_KIDNEY, "name": "Right kidney", "tissue": "kidney"},
            {"value": CYST, "counts_as": LIVER, "tissue": "fluid"},
            {"value": BODY, "tissue": "fat"},
        ],
        "mirrored": [[LEFT_KIDNEY, RIGHT_KIDNEY]] if mirrored else [],
        "tissues": {
            "liver": {"intensity": {"T1": 100, "T2": 40}},
            "kidney": {"intensity": {"T1": 60, "T2": 90}},
            "fluid": {"intensity": {"T1": 20, "T2": 120}},
            "fat": {"intensity": {"T1": 30, "T2": 65}},
        },
        "totals": [{"name": "Kidneys", "values": [LEFT_KIDNEY, RIGHT_KIDNEY]}],
    }


def phantom(
    seed: int, shape: tuple[int, int, int] = SHAPE, spacing: float = SPACING, differ: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Values [k, j, i] of a subject, and its index-to-LPS matrix; `differ` scales how it departs from the mean."""
    random = np.random.default_rng(seed)
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = [-(length - 1) / 2 * spacing for length in shape[::-1]]
    k, j, i = np.indices(shape)
    world = [step * spacing + start for step, start in zip((i, j, k), matrix[:3, 3], strict=True)]
    values = np.zeros(shape, np.uint16)
    for value, (center, half) in ORGANS.items():
        moved = np.array(center) + (0 if value == BODY else differ * random.uniform(-3, 3, 3))
        sized = np.array(half) * (1 + differ * random.uniform(-0.1, 0.1, 3))
        inside = sum(((x - c) / h) ** 2 for x, c, h in zip(world, moved, sized, strict=True)) < 1
        values[inside] = value
        if value == LIVER:
            near = sum((x - c - 8) ** 2 for x, c in zip(world, moved, strict=True)) < 6**2
            values[near & inside] = CYST
    return values, matrix


def image_of(values: np.ndarray, seed: int, intensities: dict[int, float]) -> np.ndarray:
    """An image [k, j, i] of a phantom with other means than any map was trained with, and noise."""
    means = np.zeros(int(values.max()) + 1)
    for value, mean in intensities.items():
        means[value] = mean
    noise = np.random.default_rng(seed).normal(size=values.shape)
    return (means[values] + 3 * noise).astype(np.float32)


def write_maps(folder: Path, count: int = 5, **changes: Any) -> Path:
    """A folder of label maps with their settings."""
    import SimpleITK as sitk

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        values, matrix = phantom(number, **changes)
        image = sitk.GetImageFromArray(values)
        image.SetSpacing([float(matrix[n, n]) for n in range(3)])
        image.SetOrigin(matrix[:3, 3].tolist())
        sitk.WriteImage(image, str(folder / f"subject_{number}.nii.gz"))
    (folder / "synthesis.json").write_text(json.dumps(settings()), encoding="utf-8")
    return folder
