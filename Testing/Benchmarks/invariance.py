"""What must not change the brain model's answer, and what may change it a little, on real heads.

    python Testing/Benchmarks/invariance.py HEAD... --out FILE.json [--parts orders spacing repeat]

orders: each HEAD is written to NIfTI in all 48 orders of its axes and read again; the labels must be the same, voxel
for voxel. spacing: it is reduced to 1, 2 and 3 mm and to slices of 6 mm along each axis; the volumes of structures with
at least LARGE_ML are compared with those of the head as it is. repeat: it is segmented again by another process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "LightSeg"))

from LightSegLib.catalog.lookup import find_card  # noqa: E402
from LightSegLib.imaging.geometry import to_sitk  # noqa: E402
from LightSegLib.imaging.readers import read_volume  # noqa: E402
from LightSegLib.imaging.volume import Volume  # noqa: E402
from LightSegLib.inference.alignment.levels import averaged  # noqa: E402
from LightSegLib.inference.options import InferenceOptions  # noqa: E402
from LightSegLib.inference.processing.orientation import orientation_steps, oriented, turned  # noqa: E402
from LightSegLib.inference.segmenter import Segmenter  # noqa: E402

MODEL = "brain-mr-atlas-unet"
PARTS = ("orders", "spacing", "repeat")
LARGE_ML = 3.0
THICK = 6.0  # mm
LIMITS = {"1 mm": 0.05, "2 mm": 0.08, "3 mm": 0.12}  # largest change of a volume, as a share of it
THICK_LIMIT = 0.20
FLIPS = list(itertools.product((False, True), repeat=3))


def stored(volume: Volume, path: Path) -> Volume:
    """The volume, written to a file and read again."""
    import SimpleITK as sitk

    sitk.WriteImage(to_sitk(volume.voxels, volume.geometry), str(path))
    return read_volume(path)


def upright(segmenter: Segmenter, volume: Volume) -> np.ndarray:
    """Labels of a volume with their axes along L, P and S."""
    result = segmenter.segment([volume])
    return oriented(result.voxels, *orientation_steps(result.geometry, "LPS"))


def orders(segmenter: Segmenter, volume: Volume, folder: Path) -> dict[str, Any]:
    """How many voxels differ in the 48 orders, those that differ by order."""
    expected: np.ndarray | None = None  # of the first order, for a file rounds the directions
    differing = {}
    for order, flipped in itertools.product(itertools.permutations(range(3)), FLIPS):
        flips = tuple(axis for axis in range(3) if flipped[axis])
        found = upright(segmenter, stored(turned(volume, order, flips), folder / "turned.nii"))
        expected = found if expected is None else expected
        if count := int(np.count_nonzero(found != expected)):
            differing[f"{order} {flips}"] = count
    return {"orders": 48, "differing voxels": differing}


def reduced(volume: Volume) -> Iterator[tuple[str, float, Volume]]:
    """The volume at other spacings, with a name and the limit for the change of volumes."""
    grids = {name: ((float(name.split()[0]),) * 3, limit) for name, limit in LIMITS.items()}
    for axis, name in enumerate(("k", "j", "i")):
        grids[f"6 mm along {name}"] = (tuple(THICK if a == axis else 0.0 for a in range(3)), THICK_LIMIT)
    image = volume.voxels.astype(np.float32)
    for name, (mm, limit) in grids.items():
        voxels, geometry = averaged(image, volume.geometry, mm)
        if geometry.shape != volume.geometry.shape:
            yield name, limit, Volume(voxels, geometry, name)


def spacings(segmenter: Segmenter, volume: Volume) -> dict[str, Any]:
    """Changes of the volumes of large structures at other spacings, as shares; those beyond the limit once more."""
    own = {name: ml for name, ml in segmenter.segment([volume]).volumes_ml().items() if ml >= LARGE_ML}
    facts: dict[str, Any] = {}
    for name, limit, other in reduced(turned(volume, *orientation_steps(volume.geometry, "LPS"))):
        found = segmenter.segment([other]).volumes_ml()
        change = {structure: round(found[structure] / ml - 1, 3) for structure, ml in own.items()}
        beyond = {structure: share for structure, share in change.items() if abs(share) > limit}
        facts[name] = {"limit": limit, "change": change, "beyond": beyond}
        print(name, f"limit {limit}", f"{len(beyond)} of {len(own)} beyond:", beyond, flush=True)
    return facts


def repeats(segmenter: Segmenter, head: Path, folder: Path) -> int:
    """How many voxels differ from those of another process."""
    out = folder / "again.npy"
    code = f"from invariance import *; np.save({str(out)!r}, open_model().segment([read_volume({str(head)!r})]).voxels)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
    return int(np.count_nonzero(segmenter.segment([read_volume(head)]).voxels != np.load(out)))


def open_model() -> Segmenter:
    """Return the model as users run it."""
    return Segmenter(find_card(MODEL), InferenceOptions(device="cpu"))


def main() -> None:
    """Segment each head in all its forms, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads", nargs="+", type=Path, metavar="HEAD")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    segmenter = open_model()
    facts: dict[str, dict[str, Any]] = {}
    for head in arguments.heads:
        volume = read_volume(head)
        fact = facts.setdefault(head.name.split(".")[0], {})
        with tempfile.TemporaryDirectory() as folder:
            if "orders" in arguments.parts:
                fact["orders"] = orders(segmenter, volume, Path(folder))
                print(head.name, fact["orders"], flush=True)
            if "spacing" in arguments.parts:
                fact["spacing"] = spacings(segmenter, volume)
            if "repeat" in arguments.parts:
                fact["repeat"] = repeats(segmenter, head, Path(folder))
                print(head.name, "differing voxels of another process:", fact["repeat"], flush=True)
        arguments.out.write_text(json.dumps(facts, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
