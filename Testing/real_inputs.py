"""Real inputs, made anew at each start: images of every format, models, cards, tables, data sets, results.

All are small, so that a spoiled one is tried in a fraction of a second.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import dicom_series
import nnunet_models
import numpy as np
import SimpleITK as sitk
import torch
from LightSegLib.cli.main import main
from LightSegLib.weights.checkpoint import read_checkpoint, write_slim
from LightSegLib.weights.files import save_weights

MODEL = "dataset042_tiny-3d_fullres"  # as `nnunet_models` makes it, imported
SHAPE = (9, 10, 11)
OBLIQUE = (0, 1, 0, -1, 0, 0, 0, 0, 1)
# name of the file to open, voxel type, packed
IMAGES = (
    ("short.nii", np.int16, False),
    ("short.nii.gz", np.int16, True),
    ("float.nii", np.float32, False),
    ("byte.nii.gz", np.uint8, True),
    ("pair.hdr", np.int16, False),
    ("short.nrrd", np.int16, False),
    ("packed.nrrd", np.int16, True),
    ("double.nrrd", np.float64, True),
    ("apart.nhdr", np.int16, False),
    ("short.mha", np.int16, False),
    ("packed.mha", np.int16, True),
    ("apart.mhd", np.int16, False),
)
DICOM = ("series", "multiframe")


@dataclass(frozen=True)
class Inputs:
    """All inputs: a folder for each image below `images`, and the others by their names."""

    root: Path

    def __getattr__(self, name: str) -> Path:
        return self.root / name


def voxels(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Noise [k, j, i] that changes slowly along k."""
    return np.cumsum(np.random.default_rng(0).normal(size=shape), axis=0) * 50


def image(array: np.ndarray) -> sitk.Image:
    """With a place, a spacing and directions that a wrong reading would change."""
    made = sitk.GetImageFromArray(array)
    made.SetSpacing((1.1, 1.2, 2.5))
    made.SetOrigin((-10.5, 20.25, 3))
    made.SetDirection(OBLIQUE)
    return made


def make_inputs(root: Path) -> Inputs:
    """Write them all into an empty folder."""
    inputs = Inputs(root)
    _images(inputs)
    _models(inputs)
    _results(inputs)
    _training_sets(inputs)
    return inputs


def _images(inputs: Inputs) -> None:
    for name, kind, packed in IMAGES:
        folder = inputs.images / name
        folder.mkdir(parents=True)
        array = voxels() > 0 if kind is np.uint8 else voxels()
        sitk.WriteImage(image(array.astype(kind)), str(folder / name), packed)
    dicom_series.write(inputs.images / "series", dicom_series.slices(dicom_series.noise((4, 10, 11))))
    frames = [(k, plane, 0) for k, plane in enumerate(dicom_series.noise((4, 10, 11)))]
    dicom_series.write(inputs.images / "multiframe", [dicom_series.multiframe(frames)])


def _models(inputs: Inputs) -> None:
    results = nnunet_models.write_model(inputs.results)
    results.rename(inputs.root / "nnunet")
    run("import", inputs.nnunet)
    checkpoint = inputs.nnunet / "fold_0" / "checkpoint_final.pth"
    inputs.checkpoints.mkdir()
    shutil.copy(checkpoint, inputs.checkpoints / "archive.pth")
    torch.save(
        torch.load(checkpoint, weights_only=False),
        inputs.checkpoints / "legacy.pth",
        _use_new_zipfile_serialization=False,
    )
    read = read_checkpoint(checkpoint)
    write_slim(read, inputs.checkpoints / "slim.pt")
    save_weights(read.state, inputs.checkpoints / "plain.pt")
    with zipfile.ZipFile(inputs.root / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(inputs.nnunet.rglob("*")):
            archive.write(path, f"model/{path.relative_to(inputs.nnunet).as_posix()}")


def _results(inputs: Inputs) -> None:
    first = inputs.images / "short.nii.gz" / "short.nii.gz"
    run("segment", first, "--model", MODEL, "--out", inputs.root / "result.seg.nrrd", "--precision", "float32")
    labels = sitk.Cast(sitk.ReadImage(str(first)) > 0, sitk.sitkUInt8)
    sitk.WriteImage(labels, str(inputs.root / "labels.nii.gz"))
    (inputs.root / "cases.csv").write_text(f"case,CT\nA,{first}\nB,{first}\n=C,{first}\n", encoding="utf-8")
    known = {"case": "A", "status": "done", "model": MODEL, "model_sha256": "0" * 64, "settings_sha256": "0" * 64}
    record = known | {
        "files": {"A.seg.nrrd": "0" * 64},
        "ml": {"liver": 1.5},
        "notices": ["x"],
        "libraries": {"a": "1"},
    }
    (inputs.root / "record.json").write_text(json.dumps(record), encoding="utf-8")


def _training_sets(inputs: Inputs) -> None:
    for name in ("images", "labels"):
        (inputs.training / name).mkdir(parents=True)
    for number in range(3):
        values = np.random.default_rng(number).normal(size=(16, 16, 16)).astype(np.float32)
        labels = np.zeros(values.shape, np.uint8)
        labels[4:10, 4:10, 4:10], labels[10:12, 4:10, 4:10] = 1, 2
        sitk.WriteImage(image(values + 3 * labels), str(inputs.training / "images" / f"case{number}.nii.gz"))
        sitk.WriteImage(image(labels), str(inputs.training / "labels" / f"case{number}.nii.gz"))
    description = {"name": "Tiny", "channel_names": {"0": "MR"}, "labels": {"background": 0, "front": 1, "back": 2}}
    (inputs.training / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def run(*words: object) -> None:
    """A command that has to work. Raises RuntimeError."""
    if main([str(word) for word in words] + (["--quiet"] if words[0] == "segment" else [])):
        raise RuntimeError(f"{words[0]} failed on an input that is whole")
