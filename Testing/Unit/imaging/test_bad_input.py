"""Whatever is wrong with what the user hands over: one clear message, exit code 2, and no file left behind."""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import slices, write
from LightSegLib.catalog.lookup import find_card
from LightSegLib.cli.main import main
from LightSegLib.core.errors import InputError, LightSegError, ModelError
from LightSegLib.imaging import label_files
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.segmenter import Segmenter

Refused = Callable[..., str]
NOISE = np.random.default_rng(0).normal(100, 20, (12, 20, 16)).astype(np.float32)


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path) -> Refused:
    """Runs `lightseg segment`, checks that it refuses and leaves the folder as it was; the message."""

    def segment(
        *inputs: object, model: object = tiny_model, out: object = tmp_path / "out.nrrd", more: tuple = ()
    ) -> str:
        before = sorted(tmp_path.rglob("*"))
        code = main(["segment", *map(str, inputs), "--model", str(model), "--out", str(out), *more])
        printed, message = capfd.readouterr()
        assert (code, printed) == (2, "")
        assert message.startswith("lightseg: ")
        assert message.count("\n") == 1
        assert "Traceback" not in message
        assert sorted(tmp_path.rglob("*")) == before
        return message

    return segment


# --- the image ---------------------------------------------------------------------------------


def test_missing_file(refused: Refused, tmp_path: Path) -> None:
    assert "nowhere.nii.gz does not exist. Check the path" in refused(tmp_path / "nowhere.nii.gz")


@pytest.mark.parametrize("name", ["text.nii.gz", "text.nrrd", "text.txt", "text.mha", "text.dcm"])
def test_unreadable_file(refused: Refused, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is not an image")
    assert f"{name} cannot be read as an image" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_an_image_of_a_data_set_that_was_not_fetched(refused: Refused, tmp_path: Path, name: str) -> None:
    """As git clones of public data sets have them: a link to nowhere, or a text in place of the image."""
    path = tmp_path / name
    path.symlink_to(".git/annex/objects/a")
    assert f"{name} is a link to a file that is missing. Get the file" in refused(path)
    for text in ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "/annex/objects/MD5E-s9--0\n"):
        path.unlink()
        path.write_text(text)
        assert f"{name} is a placeholder of Git LFS or git-annex, not the image itself. Get" in refused(path)


def test_an_image_under_the_name_of_another_format(
    refused: Refused, write_image: Callable[..., Path], tmp_path: Path
) -> None:
    """The message quotes nothing of its bytes."""
    for name in ("b.mha", "b.nrrd"):
        message = refused(write_image("a.nii.gz").rename(tmp_path / name))
        assert f"{name} cannot be read as an image (it does not begin like a" in message
        assert message.isascii() and "\\u" not in message


def test_an_impossible_place_is_reported_with_its_file(refused: Refused, tmp_path: Path) -> None:
    folder = write(tmp_path / "series", slices(spacing=(2e4, 1)))
    assert "lightseg: series has a voxel spacing of 1 x 2e+04 x 1.5 mm" in refused(folder)


def test_empty_file_and_empty_folder(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty.nii").touch()
    assert "empty.nii cannot be read as an image" in refused(tmp_path / "empty.nii")
    (tmp_path / "folder").mkdir()
    assert "folder does not contain a DICOM series" in refused(tmp_path / "folder")


def test_a_folder_of_images_leads_to_the_batch(refused: Refused, write_image: Callable[..., Path]) -> None:
    folder = write_image("heads/first/t1.nii.gz").parents[1]
    assert refused(folder) == (
        "lightseg: heads is a folder with image files, but no DICOM series. "
        "Choose one of the files, or use 'lightseg batch' to segment each of them.\n"
    )


@pytest.mark.parametrize("name", ["cut.nii.gz", "cut.nii", "cut.nrrd"])
def test_file_that_was_cut_off(refused: Refused, write_image: Callable[..., Path], name: str) -> None:
    path = write_image(name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"{name} cannot be read as an image" in refused(path)


def test_two_dimensions(refused: Refused, tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(NOISE[0]), str(tmp_path / "flat.nrrd"))
    assert "flat.nrrd has 2 dimensions" in refused(tmp_path / "flat.nrrd")


def test_a_single_slice(refused: Refused, write_image: Callable[..., Path]) -> None:
    assert "at least two slices" in refused(write_image("slice.nrrd", NOISE[:1]))


def test_four_dimensions(refused: Refused, tmp_path: Path) -> None:
    frames = sitk.JoinSeries([sitk.GetImageFromArray(NOISE)] * 3)
    sitk.WriteImage(frames, str(tmp_path / "time.nii.gz"))
    assert "time.nii.gz has 4 dimensions" in refused(tmp_path / "time.nii.gz")


def test_several_components(refused: Refused, tmp_path: Path) -> None:
    color = sitk.GetImageFromArray(np.stack([NOISE] * 3, axis=-1), isVector=True)
    sitk.WriteImage(color, str(tmp_path / "color.nrrd"))
    assert "color.nrrd has 3 components per voxel" in refused(tmp_path / "color.nrrd")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_numbers(refused: Refused, write_image: Callable[..., Path], value: float) -> None:
    voxels = NOISE.copy()
    voxels[1, 2, 3:5] = value
    assert "voxels that are NaN or infinite (2 of them)" in refused(write_image("bad.nrrd", voxels))


@pytest.mark.parametrize("factor", [1e300, 1e-300])
def test_values_that_no_network_can_compute_with(
    refused: Refused, write_image: Callable[..., Path], factor: float
) -> None:
    message = refused(write_image("far.nii.gz", NOISE.astype(np.float64) * factor))
    assert "which a network cannot compute with. Rescale them" in message


def test_constant_image(refused: Refused, write_image: Callable[..., Path]) -> None:
    assert "every voxel has the value 7" in refused(write_image("constant.nii.gz", np.full((9, 9, 9), 7, np.int16)))


@pytest.mark.parametrize("spacing", [0.0, -1.0])
@pytest.mark.parametrize("ending", [".nii", ".mha", ".nrrd"])
def test_spacing_that_is_not_positive(
    refused: Refused, write_image: Callable[..., Path], spacing: float, ending: str
) -> None:
    path = write_image(f"spacing{ending}")
    content = path.read_bytes()
    if ending == ".nii":
        changed = content[:80] + struct.pack("<f", spacing) + content[84:]  # pixdim[1]
    elif ending == ".mha":
        changed = content.replace(b"ElementSpacing = 1 1 1", f"ElementSpacing = {spacing} 1 1".encode())
    else:
        changed = content.replace(b"space: left-posterior-superior\n", b"").replace(b"space origin: (0,0,0)\n", b"")
        directions = b"space directions: (1,0,0) (0,1,0) (0,0,1)"
        changed = changed.replace(directions, f"spacings: {spacing} 1 1".encode())
    assert str(spacing).encode() in changed or ending == ".nii"
    path.write_bytes(changed)
    message = refused(path)
    assert "spacing" in message
    assert "positive" in message


def test_real_volumes_with_too_few_channels(
    refused: Refused, make_model: Callable[..., Path], shared_data: Path
) -> None:
    message = refused(shared_data / "dicom" / "hippocampus_crop_series", model=make_model(channels=2))
    assert "needs 2 volumes, one per channel (channel 0, channel 1), but got 1" in message


# --- several images, region, model -------------------------------------------------------------


def test_wrong_number_of_channels(refused: Refused, write_image: Callable[..., Path]) -> None:
    assert "needs a single volume (channel 0), but got 2" in refused(write_image("a.nrrd"), write_image("b.nrrd"))


@pytest.mark.parametrize("difference", ["spacing", "origin", "size"])
def test_channels_of_different_grids(
    refused: Refused, make_model: Callable[..., Path], write_image: Callable[..., Path], difference: str
) -> None:
    other = {
        "spacing": lambda: write_image("b.nrrd", spacing=(1.0, 1.0, 1.1)),
        "origin": lambda: write_image("b.nrrd", origin=(0.5, 0.0, 0.0)),
        "size": lambda: write_image("b.nrrd", NOISE[1:]),
    }[difference]()
    message = refused(write_image("a.nrrd"), other, model=make_model(channels=2))
    assert "b and a do not have the same grid" in message


def test_region_outside_the_volume(refused: Refused, write_image: Callable[..., Path]) -> None:
    message = refused(write_image(), more=("--roi", "-500,-500,-500,-400,-400,-400"))
    assert "region of interest is outside the volume" in message


def test_unknown_model(
    refused: Refused,
    write_image: Callable[..., Path],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tiny_model.parent))
    message = refused(write_image(), model="tiny-l")
    assert "There is no model 'tiny-l'" in message
    assert "tiny-1" in message


# --- the output --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.png", "out", "missing/out.nrrd"])
def test_output_name_that_cannot_be_written(
    refused: Refused, write_image: Callable[..., Path], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Segmenter, "segment", lambda *_, **__: pytest.fail("the place must be checked first"))
    message = refused(write_image(), out=tmp_path / name)
    assert "not have a supported file extension" in message or "does not exist" in message


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that even root cannot write to")
def test_output_folder_not_writable(
    refused: Refused, write_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Segmenter, "segment", lambda *_, **__: pytest.fail("the place must be checked first"))
    assert "is not writable" in refused(write_image(), out="/proc/out.nrrd")


def test_output_that_would_overwrite_the_input(refused: Refused, write_image: Callable[..., Path]) -> None:
    image = write_image()
    content = image.read_bytes()
    assert "would be overwritten" in refused(image, out=image.parent / ".." / image.parent.name / image.name)
    assert image.read_bytes() == content


def test_disk_that_is_full_when_the_voxels_are_written(
    refused: Refused, write_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image()

    def half_written(stream: IO[bytes], _voxels: np.ndarray) -> None:
        stream.write(b"some voxels")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(label_files, "_write", half_written)
    assert "the disk is full" in refused(image)


def test_only_a_full_disk_is_called_one(
    refused: Refused, write_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image()

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(label_files, "_write", failing)
    message = refused(image)
    assert "is full" not in message
    assert "Check the disk" in message


def test_disk_that_is_full_when_the_file_gets_its_name(
    refused: Refused, write_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    assert "Free some space" in refused(image)


# --- from Python -------------------------------------------------------------------------------


def test_python_raises_the_same_errors(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_volume(tmp_path / "nowhere.nii.gz")
    with pytest.raises(InputError, match="not positive"):
        Geometry((4, 4, 4), (1.0, 0.0, 1.0))
    with pytest.raises(InputError, match="singular"):
        Geometry((4, 4, 4), direction=(1, 0, 0, 1, 0, 0, 0, 0, 1))
    segmenter = Segmenter(find_card(str(tiny_model)))
    for voxels, words in (
        (np.zeros((0, 4, 4)), "not a three-dimensional image"),
        (np.zeros((4, 4, 4)), "constant"),
        (np.full((4, 4, 4), np.nan), r"\(64 of them\)"),
        (np.zeros((4, 4, 4), complex), "not grayscale"),
    ):
        with pytest.raises(LightSegError, match=words):
            segmenter.segment([Volume(voxels, Geometry(voxels.shape))])


def test_a_file_that_may_not_be_read_is_bad_input(
    write_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_image("secret.nrrd")

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="permissions"):
        read_volume(path)


def test_a_damaged_model_of_the_user_takes_no_other_model_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "models" / "broken"
    broken.mkdir(parents=True)
    (broken / "model.json").write_text("{", encoding="utf-8")
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "models"))
    assert find_card("hippocampus-mr-lightmedseg").classes == 3
    with pytest.raises(ModelError, match="cannot be read"):
        find_card(str(broken))
