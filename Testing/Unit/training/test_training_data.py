"""Labeled images that are a training set, and those that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.cli.main import main
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.readers import read_volume
from LightSegLib.training.dataset import read_dataset
from LightSegLib.training.trainer import train
from training_sets import QUICK, ball, write


def test_a_plain_pair_of_folders_is_a_dataset_too(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image, labels = ball(np.random.default_rng(0))
        write(tmp_path / "images" / f"{name}.nrrd", image)
        write(tmp_path / "labels" / f"{name}.nrrd", labels)
    dataset = read_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == ["a", "b"] and dataset.channels == ("Image",)


def test_labels_without_a_name_are_refused_before_training(raw_dataset: Path, tmp_path: Path) -> None:
    path = raw_dataset / "labelsTr" / "case_2.nii.gz"
    labels = read_volume(path).voxels.copy()
    labels[0, 0, 0] = 9
    write(path, labels)
    with pytest.raises(InputError, match="label 9"):
        train(raw_dataset, tmp_path / "out", QUICK)
    assert not (tmp_path / "out").exists()


def test_image_and_label_of_different_size_are_named(raw_dataset: Path, tmp_path: Path) -> None:
    write(raw_dataset / "labelsTr" / "case_1.nii.gz", np.ones((16, 16, 15), np.uint8))
    assert main(["train", str(raw_dataset), "--out", str(tmp_path / "out")]) == 2
    with pytest.raises(InputError, match="case_1"):
        train(raw_dataset, tmp_path / "out", QUICK)


def test_a_label_without_its_image_its_reverse_and_a_folder_of_something_else_are_refused(
    raw_dataset: Path, tmp_path: Path
) -> None:
    label = raw_dataset / "labelsTr" / "case_3.nii.gz"
    label.rename(tmp_path / "elsewhere.nii.gz")
    with pytest.raises(InputError, match="case_3_0000"):
        read_dataset(raw_dataset)
    (tmp_path / "elsewhere.nii.gz").rename(label)
    (raw_dataset / "imagesTr" / "case_3_0000.nii.gz").unlink()
    with pytest.raises(InputError, match="case_3"):
        read_dataset(raw_dataset)
    with pytest.raises(InputError, match="imagesTr"):
        read_dataset(tmp_path)


def test_names_with_brackets_and_other_formats_are_paired(raw_dataset: Path) -> None:
    for path in sorted((raw_dataset / "labelsTr").iterdir()):
        number = path.name[5]
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path.with_name(f"case [{number}].seg.nrrd")))
        path.unlink()
        image = raw_dataset / "imagesTr" / f"case_{number}_0000.nii.gz"
        image.rename(image.with_name(f"case [{number}]_0000.nii.gz"))
    (raw_dataset / "imagesTr" / "._case [0]_0000.nii.gz").write_bytes(b"of macOS")
    (raw_dataset / "labelsTr" / "._case [0].nii.gz").write_bytes(b"of macOS")
    cases = read_dataset(raw_dataset).cases
    assert [case.name for case in cases] == [f"case [{n}]" for n in range(6)]
    assert [case.images[0].name for case in cases] == [f"case [{n}]_0000.nii.gz" for n in range(6)]
    volumes, labels = cases[0].load()
    assert labels.shape == volumes[0].voxels.shape and set(np.unique(labels)) == {0, 1, 2}


def test_two_images_of_one_channel_are_refused(raw_dataset: Path) -> None:
    image = raw_dataset / "imagesTr" / "case_0_0000.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(image)), str(image.with_name("case_0_0000.nrrd")))
    with pytest.raises(InputError, match="two images of the same channel"):
        read_dataset(raw_dataset)


def test_fractional_and_empty_label_files_are_refused(raw_dataset: Path, tmp_path: Path) -> None:
    for number in range(6):
        write(raw_dataset / "labelsTr" / f"case_{number}.nii.gz", np.zeros((16, 16, 16), np.uint8))
    with pytest.raises(InputError, match="labeled voxel"):
        train(raw_dataset, tmp_path / "out", QUICK)
    write(raw_dataset / "labelsTr" / "case_0.nii.gz", np.full((16, 16, 16), 0.7, np.float32))
    with pytest.raises(InputError, match="fractional"):
        train(raw_dataset, tmp_path / "out", QUICK)
