"""Images over time, one frame at a time: NIfTI, NRRD, Slicer's sequences and DICOM."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_series import SHAPE, image, multiframe, noise, slices, write
from LightSegLib.core.errors import InputError
from LightSegLib.core.leftovers import FOLDER
from LightSegLib.core.moment import TRIGGER, moments
from LightSegLib.imaging.frame_writer import write_label_frames
from LightSegLib.imaging.geometry import Geometry, triple
from LightSegLib.imaging.readers import frame_moments, open_frames, read_frame, read_volume
from pydicom.dataset import Dataset

COUNT = 5
FRAMES = np.random.default_rng(0).integers(0, 1000, (COUNT, 6, 7, 8)).astype(np.int16)  # [t, k, j, i]
AFFINE = np.diag([0.75, 1.25, 2.5, 1.0])
NRRD = "NRRD0005\ntype: short\ndimension: 4\nspace: left-posterior-superior\nendian: little\nspace origin: (1,2,3)\n"
STEPS = "(0.75,0,0) (0,1.25,0) (0,0,2.5)"


def write_nifti(path: Path, frames: np.ndarray = FRAMES, step: float = 0.8, unit: str = "sec", **fields: float) -> Path:
    made = nib.Nifti1Image(frames.T, AFFINE)
    made.header.set_xyzt_units("mm", unit)
    made.header["pixdim"][4] = step
    for name, value in fields.items():
        made.header[name] = value
    nib.save(made, path)
    return path


def write_nrrd(path: Path, first: bool, fields: Sequence[str] = (), packed: bool = True) -> Path:
    """first: whether the axis of the frames is the first, as Slicer wrote it for long, or the last."""
    axes = "list domain domain domain" if first else "domain domain domain list"
    sizes = f"{COUNT} 8 7 6" if first else f"8 7 6 {COUNT}"
    own = [f"sizes: {sizes}", f"kinds: {axes}", f"space directions: {f'none {STEPS}' if first else f'{STEPS} none'}"]
    own.append(f"encoding: {'gzip' if packed else 'raw'}")
    voxels = (np.moveaxis(FRAMES, 0, -1) if first else FRAMES).tobytes()
    header = NRRD + "\n".join([*own, *fields]) + "\n\n"
    path.write_bytes(header.encode() + (gzip.compress(voxels) if packed else voxels))
    return path


def check_frames(path: Path, ms: Sequence[float | None], kind: str = "time") -> None:
    found = frame_moments(path)
    assert [(one.number, one.count, one.kind) for one in found] == [(n + 1, COUNT, kind) for n in range(COUNT)]
    assert [one.ms for one in found] == pytest.approx(ms) if None not in ms else [one.ms for one in found] == ms
    with open_frames(path) as frames:
        for number in (3, 1, COUNT, 2):
            volume = read_frame(frames, number)
            np.testing.assert_array_equal(volume.voxels, FRAMES[number - 1])
            assert volume.geometry.spacing == pytest.approx((0.75, 1.25, 2.5))
            assert volume.reading["frame"]["number"] == number
    np.testing.assert_array_equal(read_volume(path, frame=4).voxels, FRAMES[3])


# --- NIfTI and NRRD ---


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(("unit", "factor"), [("sec", 1000), ("msec", 1), ("usec", 0.001), ("unknown", None)])
def test_frames_of_nifti_have_the_times_of_its_header(tmp_path: Path, name: str, unit: str, factor: float) -> None:
    path = write_nifti(tmp_path / name, unit=unit, toffset=0.4)
    check_frames(path, [None if factor is None else round((0.4 + 0.8 * n) * factor, 3) for n in range(COUNT)])


def test_frames_of_nifti_2_and_scaled_ones_are_read(tmp_path: Path) -> None:
    made = nib.Nifti2Image(FRAMES.T, AFFINE)
    made.header.set_xyzt_units("mm", "msec")
    made.header["pixdim"][4], made.header["toffset"] = 30, 12
    nib.save(made, tmp_path / "two.nii.gz")
    check_frames(tmp_path / "two.nii.gz", [12, 42, 72, 102, 132])
    scaled = nib.Nifti1Image(FRAMES.T, AFFINE)
    scaled.header.set_slope_inter(0.5, 3)
    nib.save(scaled, tmp_path / "scaled.nii")
    stored = nib.load(tmp_path / "scaled.nii").get_fdata()[..., 1].T
    np.testing.assert_allclose(read_volume(tmp_path / "scaled.nii", frame=2).voxels, stored, atol=1e-3)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_frames_of_slicers_sequences_have_their_index_as_time(tmp_path: Path, first: bool, packed: bool) -> None:
    axis = 0 if first else 3
    units = '"s" "mm" "mm" "mm"' if first else '"mm" "mm" "mm" "s"'
    labels = '"TriggerTime" "" "" ""' if first else '"" "" "" "TriggerTime"'
    values = f"axis {axis} index values:=0 0.03 0.07 0.1 0.2"
    path = write_nrrd(tmp_path / "a.seq.nrrd", first, (f"units: {units}", f"labels: {labels}", values), packed)
    check_frames(path, [0, 30, 70, 100, 200], TRIGGER)


def test_frames_without_a_unit_of_time_have_no_times(tmp_path: Path) -> None:
    check_frames(write_nrrd(tmp_path / "a.nrrd", False, ("axis 3 index values:=0 1 2 3 4",)), [None] * COUNT)
    check_frames(write_nrrd(tmp_path / "b.nrrd", False, ("spacings: nan nan nan 40", 'units: "" "" "" "ms"')), [
        0, 40, 80, 120, 160,
    ])  # fmt: skip
    older = ("MultiVolume.FrameLabels:=5,10,20,40,80", "MultiVolume.FrameIdentifyingDICOMTagUnits:=ms")
    check_frames(write_nrrd(tmp_path / "c.nrrd", True, older), [5, 10, 20, 40, 80])


def test_slicer_itself_writes_what_is_read(tmp_path: Path) -> None:
    slicer = pytest.importorskip("slicer")
    scene = slicer.vtkMRMLScene()
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("ms")
    slicer.mrmlScene = getattr(slicer, "mrmlScene", None) or scene
    for number, voxels in enumerate(FRAMES):
        node = slicer.vtkMRMLScalarVolumeNode()
        matrix = slicer.util.vtkMatrixFromArray(np.diag([-0.75, -1.25, 2.5, 1.0]))
        node.SetIJKToRASMatrix(matrix)
        slicer.util.updateVolumeFromArray(node, voxels)
        sequence.SetDataNodeAtValue(node, str(40 * number))
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeSequenceStorageNode")
    storage.SetFileName(str(tmp_path / "slicer.seq.nrrd"))
    assert storage.WriteData(sequence)
    check_frames(tmp_path / "slicer.seq.nrrd", [0, 40, 80, 120, 160])


def test_frames_late_in_a_long_series_are_written_with_times_of_their_own(tmp_path: Path) -> None:
    ms = [1234567.0, 1234569.0, 1300001.25]
    labels = np.ones((2, 3, 4), np.uint8)
    frames = [(labels * number, Geometry(labels.shape, (1.0, 1.0, 1.0))) for number in (1, 2, 3)]
    write_label_frames(tmp_path / "a.seq.nrrd", frames, moments(3, ms), np.uint8)
    assert [one.ms for one in frame_moments(tmp_path / "a.seq.nrrd")] == ms


def test_memory_is_that_of_one_frame(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 1000, (60, 32, 64, 64)).astype(np.int16)
    write_nifti(tmp_path / "long.nii.gz", frames)
    one = frames[0].nbytes
    tracemalloc.start()
    with open_frames(tmp_path / "long.nii.gz") as opened:
        for number in (1, 30, 60):
            read_frame(opened, number)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < frames.nbytes / 2 and most < 16 * one + 2 * (1 << 24)


def test_what_was_unpacked_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_frames(write_nifti(tmp_path / "a.nii.gz")) as frames:
        read_frame(frames, 1)
        assert len(list(tmp_path.glob(f"{FOLDER}*"))) == 1
    assert not list(tmp_path.glob(f"{FOLDER}*"))


# --- bad input ---


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_frames_before_the_end_of_a_cut_file_are_read(tmp_path: Path, name: str) -> None:
    path = write_nifti(tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(0.7 * len(content))])
    with open_frames(path) as frames:
        np.testing.assert_array_equal(read_frame(frames, 2).voxels, FRAMES[1])
        with pytest.raises(InputError, match=rf"Frame 5 of {name} is missing because the file ends before it"):
            read_frame(frames, COUNT)


def test_a_damaged_file_has_no_frame_to_trust(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 255  # of the checksum
    path.write_bytes(content)
    with pytest.raises(InputError, match="its checksum does not match"):
        read_volume(path, frame=1)


def test_a_frame_that_is_no_image_leaves_the_others(tmp_path: Path) -> None:
    frames = FRAMES.astype(np.float32)
    frames[1] = np.nan
    frames[2] = 7
    path = write_nifti(tmp_path / "a.nii.gz", frames)
    with open_frames(path) as opened:
        with pytest.raises(InputError, match=r"Frame 2 of a\.nii\.gz has voxels that are NaN"):
            read_frame(opened, 2)
        with pytest.raises(InputError, match=r"Frame 3 of a\.nii\.gz is constant"):
            read_frame(opened, 3)
        assert read_frame(opened, 4).voxels.shape == FRAMES[0].shape


def test_what_is_not_over_time_has_no_frames(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(FRAMES[0].T, AFFINE), tmp_path / "a.nii.gz")
    assert frame_moments(tmp_path / "a.nii.gz") == ()
    with pytest.raises(InputError, match=r"a\.nii\.gz is not a series over time"):
        read_volume(tmp_path / "a.nii.gz", frame=1)
    with pytest.raises(InputError, match=r"has no frame 6\. Choose one from 1 to 5"):
        read_volume(write_nifti(tmp_path / "b.nii.gz"), frame=6)
    color = np.zeros((8, 7, 6, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(color, AFFINE), tmp_path / "color.nii.gz")
    with pytest.raises(InputError, match="3 components"):
        read_volume(tmp_path / "color.nii.gz", frame=1)


# --- DICOM ---


def check_series(folder: Path, ms: Sequence[float | None], kind: str = "time") -> None:
    found = frame_moments(folder)
    assert [one.ms for one in found] == ms and {one.kind for one in found} == {kind}
    for number in range(len(ms)):
        volume = read_volume(folder, frame=number + 1)
        np.testing.assert_array_equal(volume.voxels, noise() + number)
        assert volume.reading["frame"] == {"number": number + 1, "count": len(ms), "ms": ms[number], "kind": kind}


def write_times(folder: Path, tags: Sequence[dict[str, object]]) -> Path:
    """One frame for each dictionary of tags, in reverse order of the file names."""
    for number, own in reversed(list(enumerate(tags))):
        write(folder, slices(noise() + number, **own), first=(len(tags) - number) * SHAPE[0])
    return folder


@pytest.mark.parametrize(
    ("tags", "ms"),
    [
        ([{"TemporalPositionIdentifier": n} for n in (2, 10, 11)], [None] * 3),
        ([{"TemporalPositionIdentifier": n + 1, "TemporalResolution": "250"} for n in range(3)], [0, 250, 500]),
        ([{"FrameReferenceTime": str(1000 * n * n + 500)} for n in range(3)], [500, 1500, 4500]),
        ([{"AcquisitionTime": t} for t in ("235958.5", "235959", "235959.25")], [0, 500, 750]),
        ([{"AcquisitionNumber": n, "AcquisitionDateTime": f"2024010112000{n}"} for n in (1, 3)], [0, 2000]),
    ],
)
def test_dynamic_series_have_their_own_times(tmp_path: Path, tags: list[dict[str, object]], ms: list[float]) -> None:
    check_series(write_times(tmp_path, tags), ms)


def test_cine_slices_with_trigger_times_of_their_own_are_frames_by_rank(tmp_path: Path) -> None:
    """Each slice is taken in a heart beat of its own, so that its phases are not exactly those of the others."""
    every = []
    for phase in range(4):
        for k, data in enumerate(slices(noise() + phase)):
            data.TriggerTime = f"{phase * (30 + k % 2):g}"
            every.append(data)
    check_series(write(tmp_path, every[::-1]), [0, 30.5, 61, 91.5], TRIGGER)


def test_frames_of_an_enhanced_file_have_their_trigger_delay(tmp_path: Path) -> None:
    planes = [(k, plane + phase, phase) for phase in range(3) for k, plane in enumerate(noise())]
    data = multiframe(planes)
    for (_k, _plane, phase), group in zip(planes, data.PerFrameFunctionalGroupsSequence, strict=True):
        delay = Dataset()
        delay.NominalCardiacTriggerDelayTime = 40.0 * phase
        group.CardiacSynchronizationSequence = [delay]
        group.PixelValueTransformationSequence[0].RescaleSlope = 1
    write(tmp_path, [data])
    check_series(tmp_path, [0, 40, 80], TRIGGER)


def test_a_frame_that_lacks_a_slice_is_reported_and_leaves_the_others(tmp_path: Path) -> None:
    for number in range(3):
        own = slices(noise() + number, TemporalPositionIdentifier=number + 1)
        write(tmp_path, own[:-1] if number == 1 else own, first=number * SHAPE[0])
    with pytest.raises(InputError, match=r"time point 2 of .* has fewer slices than other frames .* \(11, not 12\)"):
        read_volume(tmp_path, frame=2)
    np.testing.assert_array_equal(read_volume(tmp_path, frame=3).voxels, noise() + 2)


def test_echoes_are_no_frames_and_color_is_refused(tmp_path: Path) -> None:
    for echo in (1, 2):
        write(tmp_path / "echoes", slices(noise() // echo, EchoNumbers=echo), first=100 * echo)
    assert frame_moments(tmp_path / "echoes") == ()
    with pytest.raises(InputError, match="is not a series over time"):
        read_volume(tmp_path / "echoes", frame=1)
    plane = np.zeros((20, 16, 3), np.uint8)
    write(tmp_path / "color", [image(plane, n, SamplesPerPixel=3, BitsAllocated=8, TriggerTime=n) for n in range(4)])
    with pytest.raises(InputError, match="in color"):
        read_volume(tmp_path / "color", frame=1)


def test_the_spinal_cord_over_time_has_the_voxels_and_times_that_nibabel_reads(shared_data: Path) -> None:
    path = shared_data / "other" / "cord_4d.nii.gz"
    image = nib.load(path)
    found: Callable[[int], np.ndarray] = lambda number: np.asarray(image.dataobj[..., number - 1]).T  # noqa: E731
    assert [one.ms for one in frame_moments(path)] == pytest.approx([1130.0 * n for n in range(30)], abs=0.01)
    with open_frames(path) as frames:
        for number in (1, 17, 30):
            volume = read_frame(frames, number)
            np.testing.assert_array_equal(volume.voxels, found(number))
            to_ras = np.diag([-1, -1, 1, 1]) @ volume.geometry.index_to_world
            np.testing.assert_allclose(to_ras, image.affine, atol=1e-3)
            assert volume.geometry.spacing == pytest.approx(triple(image.header.get_zooms()[:3]), rel=1e-5)
