"""DICOM as hospitals have it: what is read with which notice, and what is refused with which words."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_series import ORIGIN, ROOT, SHAPE, STEP, above, file_name, image, multiframe, noise, slices, world, write
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.readers import read_volume
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRBigEndian, RLELossless

Make = Callable[[], list[FileDataset]]
COUNT = SHAPE[0]


def changed(numbers: slice, **tags: object) -> list[FileDataset]:
    data_sets = slices()
    for data in data_sets[numbers]:
        for name, value in tags.items():
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)
    return data_sets


def spoiled(name: str, words: bytes) -> list[FileDataset]:
    """The text of the last slice is another; pydicom alone would not write it."""
    data_sets = slices(RescaleSlope="1", RescaleIntercept="0")
    tag = data_sets[-1][name].tag
    data_sets[-1]._dict[tag] = RawDataElement(tag, "DS", len(words), words, 0, False, True)
    return data_sets


def turning() -> list[FileDataset]:
    data_sets = slices()
    for k, data in enumerate(data_sets):
        turn = np.deg2rad(3 * k)
        row, column = (np.cos(turn), np.sin(turn), 0), (-np.sin(turn), np.cos(turn), 0)
        data.ImageOrientationPatient = [f"{value:.8g}" for value in (*row, *column)]
    return data_sets


def at_places(*places: float) -> list[FileDataset]:
    return slices(noise((len(places), 8, 8)), position=lambda k: (0, 0, places[k]))


def two_acquisitions(shift: float) -> list[FileDataset]:
    second = slices(noise() + 1, position=lambda k: above(k) + np.array([0, 0, shift]), AcquisitionNumber=2)
    return [one for pair in zip(slices(AcquisitionNumber=1), second, strict=True) for one in pair]


REFUSED: dict[str, tuple[Make, str]] = {
    "a slice of another orientation in the middle": (
        lambda: changed(slice(5, 6), ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
        r"has missing slices: .* 3 mm between .* at \(-10, -20, -24\) .* differs from the rest of .* in orientation",
    ),
    "slices that turn": (turning, "no two slices with the same size, orientation and spacing"),
    "pixel spacing that changes half-way": (
        lambda: changed(slice(6, None), PixelSpacing=[2, 2]),
        r"2 volumes in one series: 16 x 20 at 1\.25 x 0\.75 mm across z \(6 slices\); 16 x 20 at 2 x 2 mm",
    ),
    "the second-to-last place twice": (
        lambda: at_places(0, 1, 2, 3, 4, 4),
        r"IM\d+\.dcm and IM\d+\.dcm in .* have the same position \(0, 0, 4\) but are different images",
    ),
    "there and back": (lambda: at_places(0, 1, 2, 3, 2, 1, 0), "have the same position .* Export the series again"),
    "all at one place": (lambda: at_places(*[7] * 6), r"All 6 slices of \w+ have the same position, \(0, 0, 7\)"),
    "two acquisitions": (
        lambda: two_acquisitions(0),
        r"2 volumes in one series: acquisition 1 \(12 slices\); acquisition 2 \(12 slices\)\. Put the files of one",
    ),
    "two acquisitions that interlock": (lambda: two_acquisitions(0.75), "2 volumes in one series: acquisition 1"),
    "two acquisitions that nearly coincide": (lambda: two_acquisitions(0.02), "2 volumes in one series: acquisition 1"),
    "a slice missing": (lambda: [*slices()[:4], *slices()[5:]], "has missing slices: .* 3 mm between"),
    "no position": (
        lambda: changed(slice(None), ImagePositionPatient=None),
        r"IM00000\.dcm in .* has no ImagePositionPatient: its position is unknown\. Export",
    ),
    "one without position": (
        lambda: changed(slice(3, 4), ImagePositionPatient=None),
        f"{file_name(3)} in .* has no ImagePositionPatient",
    ),
    "no orientation": (lambda: changed(slice(None), ImageOrientationPatient=None), "has no ImageOrientationPatient"),
    "no directions": (
        lambda: changed(slice(None), ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        "not two perpendicular directions",
    ),
    "no pixel spacing": (
        lambda: changed(slice(None), PixelSpacing=None),
        "has no PixelSpacing: its spacing is unknown",
    ),
    "no size": (lambda: changed(slice(None), PixelSpacing=[0, 1]), r"has a PixelSpacing of 0\.0 x 1\.0 mm"),
    "a position that is no number": (
        lambda: spoiled("ImagePositionPatient", b"-10\\-20\\abc "),
        rf"{file_name(COUNT - 1)} in .* has an invalid ImagePositionPatient, '-10\\-20\\abc'",
    ),
    "a position of two numbers": (
        lambda: spoiled("ImagePositionPatient", b"-10\\-20 "),
        "has an invalid ImagePositionPatient",
    ),
    "a position that is infinite": (
        lambda: spoiled("ImagePositionPatient", b"0\\0\\1e999 "),
        "has an invalid ImagePositionPatient",
    ),
    "a slope that is no number": (
        lambda: spoiled("RescaleSlope", b"one "),
        "has an invalid RescaleSlope, 'one'",
    ),
    "a single slice": (lambda: slices()[:1], "contains a single slice|is a single slice"),
    "colors": (lambda: changed(slice(None), SamplesPerPixel=3), "is in color"),
    "frames over time": (
        lambda: [multiframe([(0, plane, 0) for plane in noise()])],
        r"All 12 slices of \w+ have the same position",
    ),
    "two echoes in a file": (
        lambda: [multiframe([(k, plane, echo) for k, plane in enumerate(noise()) for echo in (0, 1)])],
        r"time point 1 \(12 slices\); time point 2 \(12 slices\)\. Choose one of its frames",
    ),
    "frames missing in a file": (
        lambda: [multiframe([(k, plane, 0) for k, plane in enumerate(noise()) if k not in (4, 5)])],
        r"4\.5 mm between frame 4 of IM00000\.dcm at .* and frame 5 of IM00000\.dcm at",
    ),
    "frames without places": (lambda: [without_groups()], "several frames without functional groups"),
}


def without_groups() -> FileDataset:
    data = multiframe([(k, plane, 0) for k, plane in enumerate(noise())])
    data.PerFrameFunctionalGroupsSequence = Items([])
    return data


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_sure_place_is_refused(tmp_path: Path, case: str) -> None:
    make, words = REFUSED[case]
    with pytest.raises(InputError, match=words):
        read_volume(write(tmp_path / "series", make()))


# --- what is read ---


def test_frames_out_of_order_are_at_their_places_with_their_own_slope(tmp_path: Path) -> None:
    voxels = noise()
    order = [(7 * k) % COUNT for k in range(COUNT)]
    volume = read_volume(write(tmp_path, [multiframe([(k, voxels[k], k) for k in order])]) / file_name(0))
    np.testing.assert_array_equal(volume.voxels, voxels * np.arange(1, COUNT + 1)[:, None, None])
    assert volume.geometry.spacing == (0.75, 1.25, STEP) and volume.geometry.origin == tuple(ORIGIN)
    assert volume.reading["frames"] == COUNT and volume.reading["files"] == 1


@pytest.mark.parametrize("kind", ["float", "below zero", "small"])
def test_each_slice_has_its_own_slope_and_intercept(tmp_path: Path, kind: str) -> None:
    """The first slice has 1 and 0, as scanners write an empty slice."""
    slopes = {"float": 0.371, "below zero": 1, "small": 1e-4}[kind]
    intercept = -1024 if kind == "below zero" else 0
    stored = noise().astype(np.uint16)
    data_sets = slices(stored, Modality="PT")
    truth = stored.astype(float)
    for k, data in enumerate(data_sets):
        slope = 1 if k == 0 else slopes * (1 if kind == "below zero" else k)
        data.RescaleSlope, data.RescaleIntercept = f"{slope:.10g}", str(intercept if k else 0)
        truth[k] = truth[k] * slope + (intercept if k else 0)
    volume = read_volume(write(tmp_path, data_sets))
    np.testing.assert_allclose(volume.voxels, truth, rtol=1e-6)
    assert volume.voxels.dtype.kind == ("i" if kind == "below zero" else "f")


def test_overlays_in_the_upper_bits_are_not_values(tmp_path: Path) -> None:
    voxels = noise()
    overlay = np.random.default_rng(2).integers(0, 16, voxels.shape).astype(np.uint16) << 12
    unsigned = slices(voxels.astype(np.uint16) | overlay, BitsStored=12, HighBit=11, PixelRepresentation=0)
    np.testing.assert_array_equal(read_volume(write(tmp_path / "a", unsigned)).voxels, voxels)
    signed = slices(((voxels - 500) & 0xFFF).astype(np.uint16), BitsStored=12, HighBit=11, PixelRepresentation=1)
    np.testing.assert_array_equal(read_volume(write(tmp_path / "b", signed)).voxels, voxels - 500)


@pytest.mark.parametrize(("bits", "signed"), [(12, False), (12, True), (16, False)])
def test_voxels_in_big_endian_are_no_others(tmp_path: Path, bits: int, signed: bool) -> None:
    """As older scanners write them."""
    kind = np.int16 if signed else np.uint16
    data_sets = slices(noise().astype(kind), BitsStored=bits, HighBit=bits - 1, PixelRepresentation=int(signed))
    for number, data in enumerate(data_sets):
        data.PixelData = data.pixel_array.astype(">i2" if signed else ">u2").tobytes()
        data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dcmwrite(tmp_path / f"{number}.dcm", data, little_endian=False, implicit_vr=False, overwrite=False)
    np.testing.assert_array_equal(read_volume(tmp_path).voxels, noise())


def test_values_by_a_table_or_a_palette_are_none_that_can_be_used(tmp_path: Path) -> None:
    palette = write(tmp_path / "a", slices(PhotometricInterpretation="PALETTE COLOR"))
    with pytest.raises(InputError, match="in color"):
        read_volume(palette)
    table = write(tmp_path / "b", changed(slice(None), ModalityLUTSequence=Items([FileDataset("", {})])))
    with pytest.raises(InputError, match="Modality LUT"):
        read_volume(table)


@pytest.mark.parametrize("shown", ["MONOCHROME1", "MONOCHROME2"])
def test_compressed_slices_by_pydicom_or_gdcm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str) -> None:
    """As stored by both, also where the lowest value is shown as white, for which GDCM would invert them."""
    data_sets = slices(RescaleSlope="2", RescaleIntercept="-1000", PhotometricInterpretation=shown)
    for data in data_sets:
        data.compress(RLELossless, generate_instance_uid=False)
    folder = write(tmp_path, data_sets)
    expected = noise().astype(int) * 2 - 1000
    np.testing.assert_array_equal(read_volume(folder).voxels, expected)
    monkeypatch.setattr(FileDataset, "pixel_array", property(lambda _self: 1 / 0))
    np.testing.assert_array_equal(read_volume(folder).voxels, expected)


def test_the_same_slices_twice_are_used_once(tmp_path: Path) -> None:
    write(tmp_path, slices())
    write(tmp_path, slices(), first=COUNT)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels, noise())
    assert "(12 of them)" in volume.notices[0] and volume.reading["doubled"] == COUNT


def test_scouts_and_screen_captures_in_a_series_are_named(tmp_path: Path) -> None:
    scouts = [
        image(plane, 100 + k, ImagePositionPatient=[k, 0, 0], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
        for k, plane in enumerate(noise()[:3])
    ]
    for scout in scouts:
        scout.PixelSpacing, scout.ImageType = [1, 1], ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    capture = image(noise()[0], 110, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    other_size = slices(noise()[:1, :10, :10], InstanceNumber=120)
    derived = slices(noise()[:3], ImageType=["DERIVED", "SECONDARY", "MPR"])
    report = image(noise()[0], 130, "9", Rows=None, Columns=None, PixelData=None, Modality="SR")
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    folder = write(tmp_path, [*slices(), *scouts, capture, *other_size, *derived, report])
    (folder / "readme.txt").write_text("hello")
    (folder / "empty.dcm").touch()
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.voxels, noise())
    words = " | ".join(volume.reading["left_over"])
    for reason in (
        " (and 2 more) is a localizer",
        "is a screen capture",
        "differs from the rest of its series in size",
        "origin (derived)",
    ):
        assert reason in words
    assert "is not an image (SR)" in words and "empty.dcm is empty" in words and "readme" not in words
    assert "is a localizer" in volume.notices[-1]


@pytest.mark.parametrize(
    "rewritten",
    [slice(5), slice(3, 8), slice(-1, None), slice(0, None, 2)],
    ids=["face", "middle", "one", "every other"],
)
def test_slices_that_a_defacing_tool_rewrote_stay_in_their_series(tmp_path: Path, rewritten: slice) -> None:
    """It marks as derived what it changed, and leaves the other slices as they were."""
    folder = write(tmp_path, changed(rewritten, ImageType=["DERIVED", "PRIMARY", "M"]))
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.voxels, noise())
    assert volume.geometry.spacing[2] == STEP
    (notice,) = volume.notices
    assert f"{len(range(COUNT)[rewritten])} of the {COUNT} slices" in notice and "are marked as derived" in notice


def test_a_series_whose_slices_are_all_derived_or_all_original_needs_no_word(tmp_path: Path) -> None:
    """Reformatted series are derived as a whole."""
    for kind in ("ORIGINAL", "DERIVED"):
        assert read_volume(write(tmp_path / kind, slices(ImageType=[kind, "PRIMARY", "M"]))).notices == ()


def test_derived_slices_beyond_the_original_ones_are_stated(tmp_path: Path) -> None:
    """They may have been calculated to lengthen the image."""
    write(tmp_path, slices())
    more = slices(noise()[:2], position=lambda k: above(COUNT + k), ImageType=["DERIVED", "SECONDARY", "AVERAGE"])
    volume = read_volume(write(tmp_path, more, first=COUNT))
    assert len(volume.voxels) == COUNT + 2 and "2 of the 14 slices" in volume.notices[0]


def test_a_gap_between_rewritten_slices_is_a_gap_of_the_series(tmp_path: Path) -> None:
    data_sets = changed(slice(5), ImageType=["DERIVED", "PRIMARY", "M"])
    for lost in (2, 4, 5):  # among the rewritten ones, and where these meet the others
        folder = write(tmp_path / str(lost), [*data_sets[:lost], *data_sets[lost + 1 :]])
        with pytest.raises(InputError, match=r"has missing slices: .* 3 mm between"):
            read_volume(folder)


@pytest.mark.parametrize(
    "places",
    [np.arange(COUNT) + 0.01 / STEP, np.arange(COUNT + 1), np.arange(0, COUNT, 3) + 0.5, COUNT + 10 + np.arange(2)],
    ids=["rounded anew", "one more", "a few in between", "a few far away"],
)
def test_derived_slices_that_are_no_volume_beside_the_original_one_are_left_over(
    tmp_path: Path, places: np.ndarray
) -> None:
    """Copies, thick slices of an overview, and what was calculated elsewhere."""
    derived = slices(
        noise((len(places), *SHAPE[1:])) // 2,
        position=lambda k: above(0) + np.array([0, 0, STEP * places[k]]),
        ImageType=["DERIVED", "SECONDARY", "AVERAGE"],
    )
    write(tmp_path, slices())
    volume = read_volume(write(tmp_path, derived, first=COUNT))
    np.testing.assert_array_equal(volume.voxels, noise())
    (left_over,) = volume.reading["left_over"]
    assert f"(and {len(places) - 1} more) differs from the rest of its series in origin (derived)" in left_over


@pytest.mark.parametrize("shift", [0.5, 6 * STEP], ids=["in between", "partly the same places"])
def test_derived_slices_that_are_another_volume_are_listed_beside_the_original_ones(
    tmp_path: Path, shift: float
) -> None:
    derived = slices(
        position=lambda k: above(k) + np.array([0, 0, shift]), ImageType=["DERIVED", "SECONDARY", "AVERAGE"]
    )
    write(tmp_path, slices())
    write(tmp_path, derived, first=COUNT)
    with pytest.raises(InputError, match=r"across z \(12 slices\); .* across z, derived \(12 slices\)\. Put the files"):
        read_volume(tmp_path)


def test_a_slice_that_states_it_is_of_another_series_is_named(tmp_path: Path) -> None:
    volume = read_volume(write(tmp_path, changed(slice(-1, None), SeriesInstanceUID=f"{ROOT}.8")))
    assert volume.geometry.shape[0] == COUNT - 1
    assert f"{file_name(COUNT - 1)} is a single slice and belongs to another series" in volume.notices[0]


def test_a_header_that_asks_for_more_than_its_file_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ends before its last voxel"):
        read_volume(write(tmp_path / "large", changed(slice(None), Rows=65535, Columns=65535)))
    data = multiframe([(k, plane, 0) for k, plane in enumerate(noise())])
    data.NumberOfFrames = 2_000_000_000
    with pytest.raises(InputError, match="a file with 2000000000 frames that gives 12 positions of frames"):
        read_volume(write(tmp_path / "long", [data]))


def test_frames_that_the_header_does_not_count_are_not_lost_unnoticed(tmp_path: Path) -> None:
    data = multiframe([(k, plane, 0) for k, plane in enumerate(noise())])
    data.NumberOfFrames = COUNT - 2
    with pytest.raises(InputError, match="a file with 10 frames that gives 12 positions of frames"):
        read_volume(write(tmp_path / "positions", [data]))
    del data.PerFrameFunctionalGroupsSequence[COUNT - 2 :]
    with pytest.raises(InputError, match="it has 7680 bytes of voxels, but its header describes 6400"):
        read_volume(write(tmp_path / "voxels", [data]))


@pytest.mark.parametrize(("size", "words"), [(-300, "ends before its last voxel"), (200, "ends within its header")])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, size: int, words: str) -> None:
    folder = write(tmp_path, slices())
    last = folder / file_name(COUNT - 1)
    last.write_bytes(last.read_bytes()[:size])
    with pytest.raises(InputError, match=rf"{last.name}.*{words}.*copy (it|them) again"):
        read_volume(folder)


def test_files_without_prefix_or_ending(tmp_path: Path) -> None:
    folder = write(tmp_path, slices())
    for path in list(folder.iterdir()):
        path.with_suffix("").write_bytes(path.read_bytes()[132:])
        path.unlink()
    np.testing.assert_array_equal(read_volume(folder).voxels, noise())


def test_a_multi_frame_file_without_prefix_and_ending_has_its_place(tmp_path: Path) -> None:
    frames = [(k, voxels, 0) for k, voxels in enumerate(noise())][::-1]
    path = tmp_path / "IM1"
    multiframe(frames).save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[132:])
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, noise())
    assert volume.geometry.spacing == pytest.approx((0.75, 1.25, STEP))


def test_a_slice_without_prefix_that_was_cut_off_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, slices())
    last = folder / file_name(COUNT - 1)
    last.write_bytes(last.read_bytes()[132:332])
    with pytest.raises(InputError, match=last.name):
        read_volume(folder)


@pytest.mark.slow
def test_two_thousand_slices_in_five_folders(tmp_path: Path) -> None:
    voxels = noise((2000, 16, 16))
    data_sets = slices(voxels)
    for number in range(5):
        write(tmp_path / f"disk {number}", data_sets[number::5], first=400 * number)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels, voxels)
    index = np.linalg.inv(volume.geometry.index_to_world) @ (*world(data_sets[1234], 3, 4), 1)
    np.testing.assert_allclose(index[:3], (3, 4, 1234), atol=1e-6)


def test_a_series_in_two_folders_is_in_memory_once(tmp_path: Path) -> None:
    """Besides the voxels, a few kilobytes for each header."""
    voxels = noise((100, 128, 128))
    data_sets = slices(voxels)
    for number in range(2):
        write(tmp_path / f"disk {number}", data_sets[number::2], first=100 * number)
    read_volume(tmp_path)  # what is imported and kept for good
    tracemalloc.start()
    volume = read_volume(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert peak < 1.1 * volume.voxels.nbytes + 100 * 8192


def test_of_two_series_below_a_folder_none_is_guessed(tmp_path: Path) -> None:
    write(tmp_path / "a", slices())
    write(tmp_path / "b", slices(series="2", SeriesDescription="T2"))
    with pytest.raises(InputError, match=r"2 DICOM series \(MR 5 T1 MPRAGE, 12 slices; MR 5 T2, 12 slices\)"):
        read_volume(tmp_path)
    assert read_volume(tmp_path / "a").geometry.shape == SHAPE
    assert f"{ROOT}.1" not in str(read_volume(tmp_path / "a").reading), "no identifier goes into results"
