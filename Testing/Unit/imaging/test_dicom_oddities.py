"""What else DICOM files say of themselves: read at the right place with the right values, or refused in a sentence."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_series import ORIGIN, ROOT, SHAPE, STEP, file_name, noise, slices, world, write
from LightSegLib.batch.case import Source
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.dicom import decoder
from LightSegLib.imaging.dicom.decoder import Decoder, DecodingError
from LightSegLib.imaging.readers import read_volume
from pydicom.dataelem import DataElement
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from waiting import gone, wait_until

Change = Callable[[FileDataset, int], None]


def stating(**tags: object) -> Change:
    def change(data: FileDataset, _k: int) -> None:
        for name, value in tags.items():
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)

    return change


def halves(name: str, first: object, second: object) -> Change:
    return lambda data, k: setattr(data, name, first if k < SHAPE[0] // 2 else second)


def syntax(uid: str) -> Change:
    def change(data: FileDataset, _k: int) -> None:
        data.file_meta.TransferSyntaxUID = uid

    return change


def comma(data: FileDataset, _k: int) -> None:
    data[0x00280030] = DataElement(0x00280030, "LO", "1,25\\0,75")


READ: dict[str, Change] = {
    "implicit": syntax(ImplicitVRLittleEndian),
    "deflated": syntax(DeflatedExplicitVRLittleEndian),
    "run-length encoded": lambda data, _k: data.compress(RLELossless, generate_instance_uid=False),
    "without thickness": stating(SliceThickness=None),
    "a negative distance between slices": stating(SpacingBetweenSlices="-3"),
    "one SOPInstanceUID for all": stating(SOPInstanceUID=f"{ROOT}.55"),
    "derived as a whole": stating(ImageType=["DERIVED", "PRIMARY", "MPR"]),
    "signed and unsigned": lambda data, k: setattr(data, "PixelRepresentation", k % 2),
    "with a padding value": stating(PixelPaddingValue=-2000),
    "the lowest value as white": stating(PhotometricInterpretation="MONOCHROME1"),
}
REFUSED: dict[str, tuple[Change, str]] = {
    "two frames of reference": (halves("FrameOfReferenceUID", f"{ROOT}.8", f"{ROOT}.9"), "2 volumes in one series"),
    "two patients": (halves("PatientID", "P1", "P2"), "contains 2 DICOM series"),
    "two studies": (halves("StudyInstanceUID", f"{ROOT}.8", f"{ROOT}.9"), "contains 2 DICOM series"),
    "white and black exchanged half-way": (
        halves("PhotometricInterpretation", "MONOCHROME1", "MONOCHROME2"),
        "2 volumes in one series",
    ),
    "places by SliceLocation alone": (stating(ImagePositionPatient=None, SliceLocation="1"), "its position is unknown"),
    "a negative spacing": (stating(PixelSpacing=["-1.25", "0.75"]), "which is not positive"),
    "decimal commas": (comma, "has an invalid PixelSpacing"),
    "a spacing of nothing": (stating(PixelSpacing=["1e-308", "1"]), "which is not plausible for a medical image"),
    "a spacing without end": (stating(PixelSpacing=["1e300", "1"]), "which is not plausible for a medical image"),
    "a place without end": (stating(ImagePositionPatient=["1e300", "0", "0"]), "same position"),
    "slices closer than any scanner takes them": (
        lambda data, k: setattr(data, "ImagePositionPatient", ["0", "0", f"{k * 5e-4:g}"]),
        "same position",
    ),
    "frames without end": (stating(NumberOfFrames="4294967296"), "several frames without functional groups"),
    "more rows than voxels": (
        stating(Rows=65535, Columns=65535),
        "ends before its last voxel: it has 640 of 8589672450",
    ),
    "fewer rows than voxels": (
        stating(Rows=SHAPE[1] // 2),
        "it has 640 bytes of voxels, but its header describes 320",
    ),
    "fewer columns than voxels": (stating(Columns=SHAPE[2] - 1), "640 bytes of voxels, but its header describes 600"),
    "no voxels": (stating(PixelData=b""), "ends before its last voxel: it has 0 of 640 bytes"),
    "no bits": (stating(BitsAllocated=0), "cannot be read .*Bits Allocated"),
    "a compression that nobody knows": (
        syntax("1.2.3.4.5"),
        r"compressed as 1\.2\.3\.4\.5, which LightSeg cannot decode",
    ),
}


def changed(change: Change) -> list[FileDataset]:
    data_sets = slices()
    for k, data in enumerate(data_sets):
        change(data, k)
    return data_sets


@pytest.mark.parametrize("case", READ)
def test_what_is_read_has_its_place_and_values(tmp_path: Path, case: str) -> None:
    volume = read_volume(write(tmp_path / "series", changed(READ[case])))
    np.testing.assert_array_equal(volume.voxels, noise())
    for k, j, i in ((0, 0, 0), (5, 7, 3), (11, 19, 15)):
        place = (volume.geometry.index_to_world @ [i, j, k, 1])[:3]
        np.testing.assert_allclose(place, world(slices()[k], i, j), atol=0.01)
    assert any("MONOCHROME1" in notice for notice in volume.notices) == (case == "the lowest value as white")


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_reported(tmp_path: Path, case: str) -> None:
    change, words = REFUSED[case]
    with pytest.raises(InputError, match=words):
        read_volume(write(tmp_path / "series", changed(change)))


def test_bytes_that_fill_up_the_last_row_of_a_file_are_padding(tmp_path: Path) -> None:
    data_sets = slices()
    for data in data_sets:
        data.PixelData += bytes(2)
    np.testing.assert_array_equal(read_volume(write(tmp_path, data_sets)).voxels, noise())


@pytest.mark.parametrize(("attribute", "value"), [("RescaleSlope", "2"), ("RescaleIntercept", "-3")])
def test_a_slice_that_lost_its_scaling_is_reported(tmp_path: Path, attribute: str, value: str) -> None:
    """It is darker than its neighbors, and a network takes that for a border."""
    data_sets = slices(RescaleSlope="1", RescaleIntercept="0")
    for data in data_sets:
        setattr(data, attribute, value)
    assert read_volume(write(tmp_path / "whole", data_sets)).notices == ()
    delattr(data_sets[4], attribute)
    (notice,) = read_volume(write(tmp_path / "series", data_sets)).notices
    assert f"1 of 12 slices of series have no {attribute}, as the others have" in notice


@pytest.mark.parametrize(
    ("tilt", "stated", "noticed"),
    [(0, "18.5", True), (0, "-18.5", True), (0, "0.2", False), (0, "", False), (18.5, "18.5", False)],
    ids=["lost", "lost to the other side", "hardly any", "none", "in the directions, along which the slices are"],
)
def test_a_gantry_tilt_that_no_position_shows_is_reported(
    tmp_path: Path, tilt: float, stated: str, noticed: bool
) -> None:
    """Corrected or lost: the files are the same."""
    cosine, sine = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    along = STEP * np.array([0, -sine, cosine])
    data_sets = slices(
        position=lambda k: ORIGIN + k * along, orientation=(1, 0, 0, 0, cosine, sine), GantryDetectorTilt=stated
    )
    notices = read_volume(write(tmp_path / "series", data_sets)).notices
    assert [f"series states a gantry tilt of {stated} degrees" in notice for notice in notices] == [True] * noticed


def test_points_in_time_are_volumes_of_their_own(tmp_path: Path) -> None:
    for time in range(3):
        write(tmp_path, slices(noise() + time, TemporalPositionIdentifier=time + 1), first=time * SHAPE[0])
    with pytest.raises(InputError, match=r"3 volumes in one series: time point 1 \(12 slices\); time point 2"):
        read_volume(tmp_path)


def test_points_in_time_that_nothing_shows_apart_are_refused(tmp_path: Path) -> None:
    for time in range(2):
        write(tmp_path, slices(noise() + time, AcquisitionTime="120000"), first=time * SHAPE[0])
    with pytest.raises(InputError, match=r"have the same position .* but are different images"):
        read_volume(tmp_path)


def test_one_slice_is_for_its_series(tmp_path: Path) -> None:
    """As users drop one file; another series of the folder is none of its business."""
    write(tmp_path, slices())
    other = slices(noise() + 1, SeriesInstanceUID=f"{ROOT}.2")
    write(tmp_path, other, first=SHAPE[0])
    volume = read_volume(tmp_path / file_name(4))
    np.testing.assert_array_equal(volume.voxels, noise())
    assert volume.geometry.origin == tuple(ORIGIN) and volume.geometry.spacing[2] == STEP
    assert volume.notices == (
        f"{file_name(4)} is one slice of a series, so all files of this series in {tmp_path} were read.",
    )
    np.testing.assert_array_equal(read_volume(tmp_path / file_name(SHAPE[0])).voxels, noise() + 1)
    alone = write(tmp_path / "alone", slices()[:1])
    with pytest.raises(InputError, match="is a single slice"):
        read_volume(alone / file_name(0))


def test_a_case_of_one_slice_depends_on_its_series(tmp_path: Path) -> None:
    """So that a batch segments it again when another slice has changed."""
    write(tmp_path, slices())
    assert len(Source((tmp_path / file_name(4),)).files()) == SHAPE[0]


@pytest.mark.parametrize("size", [189, 200, 330, 400, 420, 500, 700])
def test_a_slice_that_ends_anywhere_in_its_header_is_named(tmp_path: Path, size: int) -> None:
    write(tmp_path, slices())
    path = tmp_path / file_name(SHAPE[0] - 1)  # without it the others are a whole volume
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=rf"{path.name} .*(ends within its header|cannot be read)"):
        read_volume(tmp_path)


def test_slices_that_were_not_fetched_are_missed(tmp_path: Path) -> None:
    """The last files of a data set of DataLad are links to nowhere: the volume would end early."""
    folder = write(tmp_path / "series", slices())
    path = folder / file_name(SHAPE[0] - 1)
    path.unlink()
    path.symlink_to("../.git/annex/objects/a")
    with pytest.raises(InputError, match=rf"{path.name} is a link to a file that is missing\. They may be slices"):
        read_volume(folder)


def test_a_copy_of_one_slice_is_used_once(tmp_path: Path) -> None:
    data_sets = slices()
    volume = read_volume(write(tmp_path, [*data_sets, copy.deepcopy(data_sets[4])]))
    np.testing.assert_array_equal(volume.voxels, noise())
    assert "duplicate slices with the same content" in volume.notices[0]


# --- decoders in a process of their own ---


def test_what_gdcm_does_not_know_is_refused_without_its_noise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A transfer syntax of JPEG 2000, whose voxels are none."""
    data_sets = slices()
    for data in data_sets:
        data.compress(RLELossless, generate_instance_uid=False)
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    with pytest.raises(InputError, match=r"cannot be read|cannot be decoded"):
        read_volume(write(tmp_path, data_sets))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("__import__('time').sleep(1000)", "did not finish"),
        ("os._exit(11)", "crashed"),
        ("raise SystemExit(0)", "crashed"),
    ],
)
def test_a_decoder_that_hangs_or_crashes_costs_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    write(tmp_path, slices())
    broken = decoder.SCRIPT.replace("    try:\n", f"    if source.endswith({file_name(1)!r}): {fault}\n    try:\n")
    monkeypatch.setattr(decoder, "SCRIPT", broken)
    decoding = Decoder(patience=20.0)
    try:
        assert decoding.decode(tmp_path / file_name(0)).squeeze().shape == SHAPE[1:]
        decoding._patience = 1.0
        with pytest.raises(DecodingError, match=words):
            decoding.decode(tmp_path / file_name(1))
        decoding._patience = 60.0
        np.testing.assert_array_equal(decoding.decode(tmp_path / file_name(2)).squeeze(), noise()[2])
    finally:
        decoding.close()
    assert decoding._process is None


def test_a_decoder_that_cannot_be_started_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Python was removed or updated while the program runs."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(DecodingError, match="its decoder could not be started"):
        Decoder().decode(tmp_path / file_name(0))


def test_the_decoder_runs_in_this_python() -> None:
    """Outside of Slicer, whose own Python is called PythonSlicer."""
    decoding = Decoder()
    try:
        assert decoding._running().args[0] == sys.executable
    finally:
        decoding.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_decoder_that_hangs_behind_slicers_launcher_is_ended_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = tmp_path / "PythonSlicer"
    script = f'exec 3<&0\n"{sys.executable}" "$@" <&3 &\necho $! > "{tmp_path}/pid"\nwait $!\n'
    launcher.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(decoder, "SCRIPT", "__import__('time').sleep(1000)")
    (tmp_path / file_name(0)).write_bytes(b"")
    decoding = Decoder(patience=0.1)
    decoding._running()
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    with pytest.raises(DecodingError, match="did not finish"):
        decoding.decode(tmp_path / file_name(0))
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: gone(pid))
