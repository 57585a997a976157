"""Make LightSeg's sample: the ICBM152 2009a T1 template and the two boxes around its hippocampi.

    python Resources/make_sample.py nilearn-0.14.1-py3-none-any.whl    (pip download --no-deps nilearn==0.14.1)
    python Resources/make_sample.py                                    (uses an installed nilearn)

It cuts the empty background away, keeps nilearn's 8-bit intensities and its 1 mm grid, and writes the
same bytes each time.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SOURCE = "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
FOLDER = Path(__file__).resolve().parent.parent / "LightSeg" / "Resources" / "SampleData"
MARGIN = 4  # voxels of background kept around the brain, so that the edge of the brain shows

# The right hippocampus of the template, from the tip of its head to the end of its tail and with the few
# millimeters around it that the bundled model saw in training. RAS, mm.
RIGHT_BOX = ((8.0, -49.0, -32.0), (43.0, 0.0, 9.0))


def main(arguments: list[str]) -> int:
    """Write the image and the boxes beside it; the optional argument is the wheel of nilearn."""
    image = crop_to_brain(read_template(Path(arguments[0]) if arguments else None))
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_nifti(image, FOLDER / "icbm152_t1_1mm.nii.gz")
    (FOLDER / "icbm152_rois.json").write_text(json.dumps(boxes(), indent=2) + "\n", encoding="utf-8")
    print(f"Wrote {image.GetSize()} voxels and two boxes into {FOLDER}")
    return 0


def read_template(wheel: Path | None) -> sitk.Image:
    """The template out of the wheel or, without one, out of the installed nilearn."""
    if wheel is None:
        package = importlib.util.find_spec("nilearn")
        if package is None or package.origin is None:
            raise SystemExit("nilearn is not installed. Install it or give the path of its wheel.")
        return sitk.ReadImage(str(Path(package.origin).parent.parent / SOURCE))
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        return sitk.ReadImage(archive.extract(SOURCE, folder))


def crop_to_brain(image: sitk.Image) -> sitk.Image:
    """Cut to the box of non-zero voxels and MARGIN around it; the world position of every voxel stays."""
    inside = np.argwhere(sitk.GetArrayViewFromImage(image) > 0)
    first = np.maximum(inside.min(axis=0) - MARGIN, 0)[::-1]
    last = np.minimum(inside.max(axis=0)[::-1] + MARGIN, np.array(image.GetSize()) - 1)
    return sitk.RegionOfInterest(image, (last - first + 1).tolist(), first.tolist())


def boxes() -> dict[str, object]:
    """Both boxes; the template is symmetric, so the left one is the mirror image of the right one."""
    (r1, a1, s1), (r2, a2, s2) = RIGHT_BOX
    return {
        "image": "icbm152_t1_1mm.nii.gz",
        "coordinates": "RAS, mm (MNI space)",
        "rois": [
            {"name": "Left hippocampus", "side": "left", "corners": [[-r2, a1, s1], [-r1, a2, s2]]},
            {"name": "Right hippocampus", "side": "right", "corners": [[r1, a1, s1], [r2, a2, s2]]},
        ],
    }


def write_nifti(image: sitk.Image, path: Path) -> None:
    """Compress as well as gzip can, without a time stamp, so that the same image gives the same file."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "image.nii"
        sitk.WriteImage(image, str(plain))
        path.write_bytes(gzip.compress(plain.read_bytes(), compresslevel=9, mtime=0))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
