"""DICOM segmentations: on the original slices, readable by others, valid, and with nothing of a patient in a log."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_series import STEP, above, image, multiframe, noise, slices, text, world, write
from LightSegLib.catalog.card import Label
from LightSegLib.catalog.terminology import Code, Terminology
from LightSegLib.core.errors import InputError, OutputError
from LightSegLib.imaging.dicom_segmentation_reader import read_dicom_segmentation
from LightSegLib.imaging.dicom_segmentation_writer import check_writable
from LightSegLib.imaging.readers import read_volume
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.imaging.writers import source_of, write_segmentation
from pydicom.dataset import Dataset

TURN = (0.8, 0.6, 0.0, -0.576, 0.768, 0.28)
HIPPOCAMPUS = Terminology(
    Code("SCT", "123037004", "Anatomical Structure"),
    Code("SCT", "5366008", "Hippocampus"),
    Code("SCT", "7771000", "Left"),
    Code("SCT", "12738006", "Brain"),
    Code("SCT", "255549009", "Anterior"),
)
LABELS = (
    Label(2, "Ball", (221, 130, 101), HIPPOCAMPUS),
    Label(5, "Nowhere", (1, 2, 3)),
    Label(7, "Half-space", (10, 200, 255)),
)
PROVENANCE = {
    "model": "tiny",
    "title": "Tiny",
    "version": "1.2",
    "weights_sha256": "ab" * 32,
    "lightseg": "0.2.0",
    "settings": {"mirror": True},
}


def value_at(places: np.ndarray, center: np.ndarray) -> np.ndarray:
    """The label at LPS positions [..., 3]: a ball, and below it all that is on one side."""
    away = places - center
    inside = np.linalg.norm(away, axis=-1) < 5.03
    return np.where(inside, 2, np.where((away[..., 0] > 1.013) & (away[..., 2] < -5.03), 7, 0)).astype(np.uint8)


def segmented(volume: Volume) -> Segmentation:
    """Labels by their places, on the grid that was read."""
    k, j, i = np.indices(volume.geometry.shape)
    places = np.stack([i, j, k], -1) @ volume.geometry.index_to_world[:3, :3].T + volume.geometry.origin
    return Segmentation(value_at(places, middle(volume)), volume.geometry, LABELS, dict(PROVENANCE))


def middle(volume: Volume) -> np.ndarray:
    center = (np.array(volume.geometry.shape[::-1]) - 1) / 2
    return volume.geometry.index_to_world[:3, :3] @ center + volume.geometry.origin + 0.17


def places_of(plane: Dataset, shape: tuple[int, int]) -> np.ndarray:
    """Positions [j, i, 3] of the voxels by the standard's equation."""
    j, i = np.mgrid[: shape[0], : shape[1]]
    start, right, down = world(plane, 0, 0), world(plane, 1, 0), world(plane, 0, 1)
    return start + i[..., None] * (right - start) + j[..., None] * (down - start)


def frames_of(path: Path) -> list[tuple[Dataset, np.ndarray, int, Dataset]]:
    """Place, voxels, segment and source of each frame, by pydicom alone."""
    data = pydicom.dcmread(path)
    shared = data.SharedFunctionalGroupsSequence[0]
    voxels = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    found = []
    for group, frame in zip(data.PerFrameFunctionalGroupsSequence, voxels, strict=True):
        plane = Dataset()
        for part in (shared.PlaneOrientationSequence, shared.PixelMeasuresSequence, group.PlanePositionSequence):
            plane.update(part[0])
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        found.append((plane, frame, number, source))
    return found


SOURCES = ["straight", "oblique", "even with a tilt", "uneven", "tilted and uneven", "enhanced", "one of two echoes"]


def make_source(folder: Path, kind: str) -> tuple[Volume, list[Dataset]]:
    """A volume as it is read, and a data set with the place and UIDs of each original slice."""
    if kind in ("enhanced", "one of two echoes"):
        echoes = (0, 1) if kind == "one of two echoes" else (0,)
        data = multiframe([(k, plane, echo) for k, plane in enumerate(noise()) for echo in echoes])
        write(folder, [data])
        part = "time point 2" if len(echoes) == 2 else ""
        found = []
        for number, group in enumerate(data.PerFrameFunctionalGroupsSequence, 1):
            if len(echoes) == 2 and number % 2:
                continue
            one = Dataset()
            one.update(group.PlanePositionSequence[0])
            one.update(data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0])
            one.update(data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0])
            one.SOPInstanceUID, one.SOPClassUID, one.InstanceNumber = data.SOPInstanceUID, data.SOPClassUID, number
            found.append(one)
        return read_volume(next(folder.iterdir()), part=part), found
    tilt = np.array([0, 0.35, 0]) if "tilt" in kind else np.zeros(3)
    steps = np.where(np.arange(12) < 6, 1.0, 1.7) if "uneven" in kind else np.full(12, 1.5)
    heights = np.cumsum(steps)
    row, column = np.array(TURN[:3]), np.array(TURN[3:])
    across = np.cross(row, column) if kind == "oblique" else np.array([0, 0, 1.0])
    data_sets = slices(
        position=lambda k: np.array([-10.0, -20.0, -30.0]) + heights[k] * across + k * tilt,
        orientation=TURN if kind == "oblique" else (1, 0, 0, 0, 1, 0),
    )
    return read_volume(write(folder, data_sets)), list(data_sets)


@pytest.mark.parametrize("kind", SOURCES)
def test_labels_are_on_the_original_slices(tmp_path: Path, kind: str) -> None:
    """For pydicom, highdicom and LightSeg alike: the label of each voxel is that of its place."""
    volume, originals = make_source(tmp_path / "series", kind)
    straightened = "straightened" in volume.reading
    assert straightened == (kind in ("even with a tilt", "uneven", "tilted and uneven"))
    segmentation = segmented(volume)
    path = tmp_path / "result.dcm"
    write_segmentation(segmentation, path, source_of(path, volume))

    by_source = {(one.SOPInstanceUID, one.get("InstanceNumber")): one for one in originals}
    shape = noise().shape[1:]
    found = {key: np.zeros(shape, int) for key in by_source}
    multi = kind in ("enhanced", "one of two echoes")
    for plane, frame, number, source in frames_of(path):
        assert frame.any()  # frames of nothing are left out
        assert ("ReferencedFrameNumber" in source) == multi
        key = next(
            (uid, instance)
            for uid, instance in by_source
            if uid == source.ReferencedSOPInstanceUID and (not multi or instance == source.ReferencedFrameNumber)
        )
        original = by_source[key]
        assert source.ReferencedSOPClassUID == original.SOPClassUID
        np.testing.assert_allclose(places_of(plane, shape), places_of(original, shape), atol=1e-4)
        found[key] += frame * LABELS[number - 1].value

    certain = 0
    labels = read_dicom_segmentation(path)
    assert labels.names == {label.value: label.name for label in LABELS}
    for key, original in by_source.items():
        places = places_of(original, shape)
        expected = value_at(places, middle(volume))
        if straightened:  # the nearest voxel of the straight grid: of the same label but for the borders
            reach = np.array(volume.geometry.spacing) / 2 + 1e-3
            corners = np.array(list(np.ndindex(3, 3, 3))) - 1
            around = [value_at(places + reach * corner, middle(volume)) for corner in corners]
            sure = np.all([one == expected for one in around], axis=0)
            certain += np.count_nonzero(sure)
        else:
            sure = np.ones(shape, bool)
        np.testing.assert_array_equal(found[key][sure], expected[sure])
        at = np.flatnonzero(np.abs(labels.positions - world(original, 0, 0)).max(axis=1) < 1e-4)
        ours = labels.labels[at[0]] if len(at) else np.zeros(shape, int)
        np.testing.assert_array_equal(ours, found[key])

    assert not straightened or certain > 0.7 * noise().size
    theirs = highdicom.seg.segread(path)
    values = np.array([0, *(label.value for label in LABELS)])
    if multi:
        numbers = [one.InstanceNumber for one in originals]
        read = theirs.get_pixels_by_source_frame(
            originals[0].SOPInstanceUID, numbers, combine_segments=True, assert_missing_frames_are_empty=True
        )
    else:
        uids = [one.SOPInstanceUID for one in originals]
        read = theirs.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(values[read], list(found.values()))


def written(
    tmp_path: Path, labels: tuple[Label, ...] = LABELS, name: str = "result", reproducible: bool = False, **tags: object
) -> Dataset:
    folder = tmp_path / "series"
    volume = read_volume(folder if folder.exists() else write(folder, slices(**tags)))
    path = tmp_path / f"{name}.dcm"
    given = segmented(volume)
    segmentation = Segmentation(given.voxels, given.geometry, labels, given.provenance)
    write_segmentation(segmentation, path, source_of(path, volume), reproducible)
    return pydicom.dcmread(path)


def test_segments_say_what_they_are_and_what_computed_them(tmp_path: Path) -> None:
    data = written(tmp_path)
    first, nowhere, last = data.SegmentSequence
    assert [one.SegmentNumber for one in data.SegmentSequence] == [1, 2, 3]
    assert (first.SegmentLabel, last.SegmentLabel) == ("Ball", "Half-space")
    kind, region = first.SegmentedPropertyTypeCodeSequence[0], first.AnatomicRegionSequence[0]
    codes = (
        first.SegmentedPropertyCategoryCodeSequence[0],
        kind,
        kind.SegmentedPropertyTypeModifierCodeSequence[0],
        region,
        region.AnatomicRegionModifierSequence[0],
    )
    assert [(code.CodingSchemeDesignator, code.CodeValue) for code in codes] == [
        ("SCT", "123037004"),
        ("SCT", "5366008"),
        ("SCT", "7771000"),
        ("SCT", "12738006"),
        ("SCT", "255549009"),
    ]
    assert nowhere.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"  # as Slicer calls what has no term
    color = highdicom.color.CIELabColor.from_dicom_value(first.RecommendedDisplayCIELabValue)
    assert color.to_rgb() == pytest.approx(LABELS[0].color, abs=1.5)
    assert first.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("LightSeg tiny", "1.2")
    assert "ab" * 32 in algorithm.AlgorithmParameters and '"mirror": true' in algorithm.AlgorithmParameters
    assert (data.Manufacturer, data.SeriesDescription, data.Modality) == ("LightSeg", "LightSeg: Tiny", "SEG")


def test_patient_and_study_are_those_of_the_images_and_nobody_else_hears_of_them(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    """A name of another form than DICOM's, over which libraries complain, quoting it."""
    secret = "Müller=Secret=a=b"
    tags = {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": secret,
        "PatientBirthDate": "19700102",
        "PatientSex": "unknown",
        "PatientAge": "0Y",
        "StudyDescription": "Kopf",
        "PatientIdentityRemoved": "YES",
        "InstitutionName": "",
    }
    with caplog.at_level(logging.DEBUG):
        data = written(tmp_path, **tags)
    assert str(data.PatientName).startswith("Müller") and data.PatientBirthDate == "19700102"
    assert (data.PatientID, data.StudyDescription, data.StudyDate) == ("P1", "Kopf", "20240101")
    assert data.PatientSex == "" and "PatientAge" not in data  # values that DICOM does not have
    assert data.AccessionNumber == "" and data.StudyTime is not None
    source = pydicom.dcmread(next((tmp_path / "series").iterdir()))
    for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert data[name].value == source[name].value
    assert data.SeriesInstanceUID != source.SeriesInstanceUID and data.SeriesNumber == 1005
    printed = capfd.readouterr()
    everything = [printed.out, printed.err, caplog.text, *(str(one.message) for one in recwarn.list)]
    assert not any("Müller" in one or "Secret" in one for one in everything)


@pytest.mark.parametrize(("number", "expected"), [("2147483647", 2147483647), ("", 1000), ("-3", 1000), ("7", 1007)])
def test_the_number_of_the_series_is_beside_that_of_the_images(tmp_path: Path, number: str, expected: int) -> None:
    assert written(tmp_path, SeriesNumber=number).SeriesNumber == expected


def test_names_in_other_letters_are_kept(tmp_path: Path) -> None:
    """Where the images' character set does not have them."""
    labels = (Label(2, "海馬 | a\\b", (1, 2, 3)), Label(5, "x" * 70, (1, 2, 3)), *LABELS[2:])
    data = written(tmp_path, labels, PatientName="Müller^Ü", SpecificCharacterSet="ISO_IR 100")
    assert [one.SegmentLabel for one in data.SegmentSequence] == ["海馬 | a/b", "x" * 64, "Half-space"]
    assert str(data.PatientName) == "Müller^Ü"


def test_uids_are_new_unless_the_same_are_asked_for(tmp_path: Path) -> None:
    def uids(data: Dataset) -> set[str]:
        own = {data.SOPInstanceUID, data.SeriesInstanceUID}
        return own | {one.DimensionOrganizationUID for one in data.DimensionIndexSequence}

    random = [uids(written(tmp_path)) for _ in range(2)]
    same = [uids(written(tmp_path, reproducible=True)) for _ in range(2)]
    other = uids(written(tmp_path, (*LABELS[:2], Label(7, "Renamed", (1, 2, 3))), reproducible=True))
    assert all(len(one) == 3 for one in (*random, *same, other))
    assert same[0] == same[1]
    assert not random[0] & random[1] and not random[0] & same[0] and not other & same[0]
    for uid in (*random[0], *same[0]):
        assert uid.startswith("2.25.") and len(uid) <= 64 and pydicom.uid.UID(uid).is_valid


def test_a_series_without_frame_of_reference_gets_one_that_all_its_results_share(tmp_path: Path) -> None:
    """Some programs that remove patients' names remove it."""
    first, second = (written(tmp_path, FrameOfReferenceUID=None) for _ in range(2))
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID and first.FrameOfReferenceUID.startswith("2.25.")
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_a_result_in_which_nothing_was_found(tmp_path: Path) -> None:
    volume = read_volume(write(tmp_path / "series", slices()))
    path = tmp_path / "result.dcm"
    nothing = Segmentation(np.zeros(volume.geometry.shape, np.uint8), volume.geometry, LABELS)
    write_segmentation(nothing, path, source_of(path, volume))
    data = pydicom.dcmread(path)
    assert not data.pixel_array.any() and data.NumberOfFrames == len(LABELS)
    assert len(data.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == len(noise())


def test_a_segment_that_another_program_added_does_not_take_the_value_of_one_of_lightseg(tmp_path: Path) -> None:
    data = written(tmp_path)
    data.SegmentSequence[1].SegmentDescription = "Drawn by hand"
    data.save_as(tmp_path / "edited.dcm")
    before = read_dicom_segmentation(tmp_path / "result.dcm")
    after = read_dicom_segmentation(tmp_path / "edited.dcm")
    assert before.names == {2: "Ball", 5: "Nowhere", 7: "Half-space"}
    assert after.names == {1: "Ball", 2: "Nowhere", 3: "Half-space"}
    np.testing.assert_array_equal(after.labels == 1, before.labels == 2)
    np.testing.assert_array_equal(after.labels == 3, before.labels == 7)


def test_slices_without_a_thickness_are_as_thick_as_their_step_even_a_single_one(tmp_path: Path) -> None:
    data_sets = slices()
    for data in data_sets:
        del data.SliceThickness
    volume = read_volume(write(tmp_path / "series", data_sets))
    path = tmp_path / "result.dcm"
    source = source_of(path, volume)
    write_segmentation(segmented(volume), path, source)
    measures = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == pytest.approx(STEP)
    assert source is not None
    one = replace(source.grid, frames=source.grid.frames[:1], places=source.grid.places[:1])
    check_writable(replace(source, grid=one, references=source.references[:1]))


# --- what cannot be written --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_series_without_uids(tmp_path: Path, name: str) -> None:
    """Said before anything is computed: a result would belong to nothing."""
    data_sets = slices(**{name: ""})
    volume = read_volume(write(tmp_path / "series", data_sets))
    with pytest.raises(InputError, match=f"does not state its {name}, to which a DICOM segmentation refers. Write "):
        source_of(tmp_path / "result.dcm", volume)
    assert source_of(tmp_path / "result.nrrd", volume) is None


def test_an_image_that_is_not_dicom(tmp_path: Path) -> None:
    volume = read_volume(write(tmp_path / "series", slices()))
    plain = Volume(volume.voxels, volume.geometry)
    path = tmp_path / "result.dcm"
    with pytest.raises(OutputError, match="refers to the slices of a DICOM series, but the input is not one"):
        source_of(path, plain)
    with pytest.raises(OutputError, match="refers to the slices of a DICOM series"):
        write_segmentation(segmented(plain), path)
    with pytest.raises(OutputError, match="contours"):
        write_segmentation(segmented(plain), tmp_path / "result.rtstruct.dcm")
    assert [one.name for one in tmp_path.iterdir()] == ["series"]


def test_without_highdicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = read_volume(write(tmp_path / "series", slices()))
    monkeypatch.setitem(sys.modules, "highdicom.seg", None)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(OutputError, match="pip install highdicom"):
        source_of(tmp_path / "result.dcm", volume)


def test_a_disk_that_loses_voxels_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = read_volume(write(tmp_path / "series", slices()))
    path = tmp_path / "result.dcm"
    source = source_of(path, volume)
    saved = Dataset.save_as

    def loses(self: Dataset, target: Path, **options: object) -> None:
        saved(self, target, **options)
        content = bytearray(target.read_bytes())
        start = content.rindex(b"\xe0\x7f\x10\x00") + 12  # after tag, type and length of the voxels
        at = next(at for at in range(start, len(content)) if content[at])
        content[at] = 0
        target.write_bytes(content)

    monkeypatch.setattr(Dataset, "save_as", loses)
    with pytest.raises(OutputError, match="could not be written completely"):
        write_segmentation(segmented(volume), path, source)
    assert [one.name for one in tmp_path.iterdir()] == ["series"]


def test_a_series_in_color(tmp_path: Path) -> None:
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    data_sets = [
        image(
            np.zeros((8, 8), np.int16),
            k,
            **tags,
            ImagePositionPatient=[text(value) for value in above(k)],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1, 1],
        )
        for k in range(4)
    ]
    with pytest.raises(InputError, match="is in color"):
        read_volume(write(tmp_path / "series", data_sets))


# --- validity ----------------------------------------------------------------------------------


def errors_of(path: Path) -> list[str]:
    """What dciodvfy (of dicom3tools, a program independent of the libraries here) calls an error."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not on this machine")
    told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace")
    lines = (told.stdout + told.stderr).splitlines()
    assert "Segmentation" in lines
    return [line for line in lines if line.startswith("Error")]


@pytest.mark.parametrize("kind", SOURCES)
def test_files_are_valid(tmp_path: Path, kind: str) -> None:
    volume, _originals = make_source(tmp_path / "series", kind)
    path = tmp_path / "result.dcm"
    write_segmentation(segmented(volume), path, source_of(path, volume))
    assert errors_of(path) == []


REAL = [
    ("ct_gantry_tilt_geometry_only", ""),
    ("ct_head_small", ""),
    ("ct_head_tilted_uneven", ""),
    ("enhanced_mr_philips.dcm", "echo time 1.52"),
    ("enhanced_mr_philips.dcm", "echo time 0.0"),
    ("enhanced_mr_siemens", ""),
    ("hippocampus_crop_series", ""),
    ("ct_jpeg2000_no_extension", ""),
]


@pytest.mark.parametrize(("name", "part"), REAL)
def test_real_series(shared_data: Path, tmp_path: Path, name: str, part: str) -> None:
    """Valid, and each frame at the place of the slice to which it refers, with its labels."""
    given = shared_data / "dicom" / name
    if name == "ct_jpeg2000_no_extension":  # has lost its UIDs
        with pytest.raises(InputError, match="does not state its StudyInstanceUID"):
            source_of(tmp_path / "result.dcm", read_volume(given))
        given = with_uids(given, tmp_path / "series")
    volume = read_volume(given, part=part)
    path = tmp_path / "result.dcm"
    k, j, i = np.indices(volume.geometry.shape)
    values = np.array([0, 2, 0, 7], np.uint8)
    voxels = values[(k // 2 + j * 4 // volume.geometry.shape[1] + i * 3 // volume.geometry.shape[2]) % 4]
    voxels[: len(voxels) // 4] = 0
    write_segmentation(
        Segmentation(voxels, volume.geometry, LABELS, dict(PROVENANCE)), path, source_of(path, volume), True
    )
    originals = places_by_uid(given)
    stated = pydicom.dcmread(path)
    theirs = highdicom.seg.segread(path)
    to_index = np.linalg.inv(volume.geometry.index_to_world)
    total = 0
    for plane, frame, number, source in frames_of(path):
        original = originals[source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber")]
        shape = frame.shape
        places = places_of(plane, shape)
        np.testing.assert_allclose(places, places_of(original, shape), atol=0.01)
        nearest = np.rint(places @ to_index[:3, :3].T + to_index[:3, 3] - 1e-9).astype(int)
        nearest = np.clip(nearest, 0, np.array(volume.geometry.shape[::-1]) - 1)
        expected = voxels[nearest[..., 2], nearest[..., 1], nearest[..., 0]] == LABELS[number - 1].value
        different = np.count_nonzero(expected != frame.astype(bool))
        assert different <= 0.01 * frame.size  # halfway between two voxels, either is the nearest
        assert different == 0 or "straightened" in volume.reading
        total += int(frame.sum())
    assert stated.NumberOfFrames == len(stated.PerFrameFunctionalGroupsSequence) and total
    uids = list(dict.fromkeys(uid for uid, _frame in originals))
    if not any(frame for _uid, frame in originals):
        read = theirs.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
        assert np.count_nonzero(read) == total
    assert np.count_nonzero(read_dicom_segmentation(path).labels) == total
    assert errors_of(path) == []


def with_uids(folder: Path, target: Path) -> Path:
    target.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        data = pydicom.dcmread(path)
        data.SOPClassUID, data.SOPInstanceUID = data.file_meta[0x00020002].value, data.file_meta[0x00020003].value
        data.StudyInstanceUID, data.SeriesInstanceUID = "2.25.1", "2.25.2"
        data.save_as(target / f"{number}.dcm")
    return target


def places_by_uid(given: Path) -> dict[tuple[str, int | None], Dataset]:
    """A data set with the place of each slice, by its UID and the number of its frame."""
    found: dict[tuple[str, int | None], Dataset] = {}
    for path in [given] if given.is_file() else sorted(given.iterdir()):
        data = pydicom.dcmread(path, stop_before_pixels=True)
        if "PerFrameFunctionalGroupsSequence" not in data:
            found[data.SOPInstanceUID, None] = data
            continue
        for number, group in enumerate(data.PerFrameFunctionalGroupsSequence, 1):
            one = Dataset()
            for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
                one.update((group if name in group else data.SharedFunctionalGroupsSequence[0])[name].value[0])
            found[data.SOPInstanceUID, number] = one
    return found
