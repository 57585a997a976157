"""`lightseg segment` and `lightseg batch` on series over time: the beating phantom, frame by frame."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from beating_phantom import (
    BLOOD_LABEL,
    COUNT,
    DIASTOLIC_MM,
    SPACING,
    STEP_MS,
    SYSTOLIC_MM,
    blood_ml,
    voxels,
    write_beat,
    write_heart_model,
)
from LightSegLib.batch import records
from LightSegLib.batch.case import Case
from LightSegLib.batch.case_processor import CaseProcessor
from LightSegLib.batch.settings import Batch
from LightSegLib.batch.tasks import Answer
from LightSegLib.cli.main import main
from LightSegLib.core.moment import Moment
from LightSegLib.imaging.frame_writer import write_label_frames
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.readers import open_frames

FLOAT = ("--precision", "float32")
PATIENTS = {"one": (0, 2, 4), "two": (1, 3)}  # frames of the beat


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "beating-heart"
    write_heart_model(folder)
    return str(folder)


class InThisProcess:
    """A batch without worker processes, which take longer to start than small frames to segment.

    Attributes:
        stops_after: cases after which Ctrl+C is pressed, if at all.
    """

    stops_after: int | None = None

    def run(self, cases: Iterable[Case], batch: Batch, *_engine: Any) -> Iterator[Answer]:
        processor = CaseProcessor()
        for number, case in enumerate(cases):
            if number == self.stops_after:
                raise KeyboardInterrupt
            message = {"case": case.to_json(), "batch": batch.to_json(), "threads": 1}
            yield Answer.of(processor(message, lambda _progress: None))


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> InThisProcess:
    found = InThisProcess()
    monkeypatch.setattr("LightSegLib.batch.local.run", found.run)
    return found


def ejection_percent(*phases: int) -> float:
    """Of a ball with the radius that the phantom has, in percent."""
    ml = [blood_ml(phase) for phase in phases]
    return 100 * (max(ml) - min(ml)) / max(ml)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.seg.nrrd")}


def test_one_frame_is_segmented_as_a_volume_of_its_own(model: str, tmp_path: Path) -> None:
    path = write_beat(tmp_path / "beat.nii.gz")
    out = tmp_path / "five.nii.gz"
    assert main(["segment", str(path), "--frame", "5", "--model", model, "--out", str(out), *FLOAT]) == 0
    labels = np.asarray(nib.load(out).dataobj).T
    np.testing.assert_array_equal(labels == BLOOD_LABEL, voxels(4) > 250)


def test_frames_are_asked_for_and_must_be_there(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = str(write_beat(tmp_path / "beat.nii.gz")), str(tmp_path / "out.nii.gz")
    for words, message in (
        ((), "beat.nii.gz has 4 dimensions, so it is a series over time. Choose a frame with --frame"),
        (("--frame", "9"), "beat.nii.gz has no frame 9. Choose one from 1 to 8."),
    ):
        assert main(["segment", path, *words, "--model", model, "--out", out, *FLOAT]) == 2
        assert message in capsys.readouterr().err
    nib.save(nib.Nifti1Image(voxels(0).T, np.eye(4)), tmp_path / "still.nii.gz")
    still = str(tmp_path / "still.nii.gz")
    assert main(["segment", still, "--all-frames", "--model", model, "--out", out, *FLOAT]) == 2
    assert "still.nii.gz is not a series over time" in capsys.readouterr().err
    assert main(["segment", path, "--all-frames", "--model", model, "--out", "a.seg.nrrd", *FLOAT]) == 2
    assert "a.seg.nrrd would be a segmentation of one frame" in capsys.readouterr().err
    assert not [*tmp_path.glob("out*")]


def test_records_of_frames_are_read_as_often_as_those_of_other_cases(
    model: str, tmp_path: Path, in_this_process: InThisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cohort has many: their curves come of the survey that finds the columns of the table."""
    reading, passes = records.rows, []
    monkeypatch.setattr(records, "rows", lambda batch: passes.append("") or reading(batch))
    source = write_beat(tmp_path / "cine.nii.gz", phases=(0, 1))
    assert main(["segment", str(source), "--all-frames", "--model", model, *FLOAT, "--out", str(tmp_path / "out")]) == 0
    before, survey, table_of_results, page, printed = 1, 1, 3, 2, 1
    assert len(passes) == before + survey + table_of_results + page + printed
    assert "ejection fraction" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_all_frames_become_one_file_a_table_and_a_curve(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_beat(tmp_path / "beat.nii.gz"), tmp_path / "labels.nii.gz"
    assert main(["segment", str(path), "--all-frames", "--model", model, "--out", str(out), *FLOAT]) == 0
    image = nib.load(out)
    assert image.shape == (*voxels(0).shape[::-1], COUNT) and image.header.get_xyzt_units() == ("mm", "msec")
    assert image.header.get_zooms()[3] == STEP_MS
    np.testing.assert_allclose(image.affine, nib.load(path).affine, atol=1e-5)
    for name in ("qform_code", "sform_code"):
        assert image.header[name] == nib.load(path).header[name]
    for frame in range(COUNT):
        labels = np.asarray(image.dataobj[..., frame]).T
        np.testing.assert_array_equal(labels == BLOOD_LABEL, voxels(frame) > 250)
    folder = tmp_path / "labels_frames"
    rows = table(folder / "results.csv")
    assert [row["frame"] for row in rows] == [str(n + 1) for n in range(COUNT)]
    assert [float(row["time_ms"]) for row in rows] == [n * STEP_MS for n in range(COUNT)]
    assert {row["series"] for row in rows} == {"beat"} and {row["time_kind"] for row in rows} == {"time"}
    for frame, row in enumerate(rows):
        counted = (voxels(frame) > 250).sum() * SPACING**3 / 1000
        assert float(row["Left ventricle (ml)"]) == pytest.approx(counted, abs=5e-4)  # to a cubic millimeter
        assert counted == pytest.approx(blood_ml(frame), rel=0.02)  # of a ball of 9 to 13 voxels radius
        assert float(row["confidence"]) > 0.9
    (heart,) = table(folder / "heart.csv")
    fraction = 100 * (1 - (SYSTOLIC_MM / DIASTOLIC_MM) ** 3)
    assert float(heart["ejection_fraction_percent"]) == pytest.approx(fraction, abs=0.5)
    assert float(heart["stroke_volume_ml"]) == pytest.approx(blood_ml(0) - blood_ml(COUNT // 2), rel=0.01)
    assert (heart["end_diastole_frame"], heart["end_systole_ms"]) == ("1", "400.0")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Volumes over time" in page and "Left ventricle, frame 5, 400 ms" in page and "Time (ms)" in page
    assert re.search(r"ejection fraction 68\.\d %", page)
    printed = capsys.readouterr().out
    assert "ejection fraction" in printed and "end-systole" in printed and "frame 5, 400 ms" in printed


@pytest.mark.slow
def test_a_damaged_frame_leaves_the_others_and_a_second_run_does_what_is_missing(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_beat(tmp_path / "beat.nii.gz", damaged=2), tmp_path / "beat.seq.nrrd"
    command = ["segment", str(path), "--all-frames", "--model", model, "--out", str(out), *FLOAT]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert "ejection fraction" in printed.out and "from 7 of 8 frames" in printed.out
    assert "1 of 8 frames failed" in printed.err and "Frame 3 of beat.nii.gz is constant" in printed.err
    folder = tmp_path / "beat_frames"
    before = times(folder)
    assert len(before) == COUNT - 1 and not out.exists()
    assert [row["status"] for row in table(folder / "results.csv")].count("failed") == 1
    (folder / "beat_frame006.seg.nrrd").unlink()  # as if the run had been stopped there
    assert main(command) == 1
    after = times(folder)
    assert {name for name in before if after[name] == before[name]} == set(before) - {"beat_frame006.seg.nrrd"}
    assert set(after) == set(before)
    (heart,) = table(folder / "heart.csv")
    assert (heart["frames"], heart["failed_frames"]) == ("7", "1")


def test_an_image_of_the_same_name_with_fewer_frames_takes_the_place_of_the_earlier_one(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], in_this_process: InThisProcess
) -> None:
    """Every patient's file is called cine.nii.gz, and the results of all go to one place."""
    out, one_file = tmp_path / "out", tmp_path / "labels.nii.gz"
    command = ["segment", str(tmp_path / "cine.nii.gz"), "--all-frames", "--model", model, *FLOAT, "--out"]
    write_beat(tmp_path / "cine.nii.gz", phases=(0, 2, 4, 5))
    assert main([*command, str(out)]) == main([*command, str(one_file)]) == 0
    corrected = out / "cine_frame004.seg.nrrd"
    corrected.write_bytes(corrected.read_bytes() + b"by hand")
    capsys.readouterr()

    write_beat(tmp_path / "cine.nii.gz", phases=(0, 1))
    assert main([*command, str(out)]) == main([*command, str(one_file), "--overwrite"]) == 0
    printed = capsys.readouterr()
    for folder in (out, tmp_path / "labels_frames"):
        assert [row["frame"] for row in table(folder / "results.csv")] == ["1", "2"]
        (heart,) = table(folder / "heart.csv")
        assert heart["frames"] == "2"
        assert float(heart["ejection_fraction_percent"]) == pytest.approx(ejection_percent(0, 1), abs=1)
        assert "2 frames" in (folder / "report.html").read_text(encoding="utf-8")
    assert nib.load(one_file).shape[3] == 2
    assert (
        f"Results of an earlier image with the same name were removed from {out}, "
        f"where those of {tmp_path / 'cine.nii.gz'} are now (number of frames: 2)."
    ) in printed.err
    assert "but are in no table: cine_frame004.seg.nrrd." in printed.err
    assert set(times(out)) == {"cine_frame001.seg.nrrd", "cine_frame002.seg.nrrd", corrected.name}
    assert len(times(tmp_path / "labels_frames")) == 2


def test_a_record_that_cannot_be_removed_costs_no_table(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    in_this_process: InThisProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That of a frame which the image of now lacks is open elsewhere; the other's goes, and the next run takes it."""
    out, unlink = tmp_path / "out", Path.unlink
    command = ["segment", str(tmp_path / "cine.nii.gz"), "--all-frames", "--model", model, *FLOAT, "--out", str(out)]
    write_beat(tmp_path / "cine.nii.gz", phases=(0, 2, 4, 5))
    assert main(command) == 0
    write_beat(tmp_path / "cine.nii.gz", phases=(0, 1))

    def held(path: Path, missing_ok: bool = False) -> None:
        if path.name == "cine_frame003.json":
            raise PermissionError(13, "Access is denied", str(path))
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", held)
        assert main(command) == 2
    assert "cine_frame003.json could not be written (Access is denied)" in capsys.readouterr().err
    assert [row["frame"] for row in table(out / "results.csv")] == ["1", "2", "3"]
    assert "several images, so nothing is computed" in (out / "report.html").read_text(encoding="utf-8")
    assert main(command) == 0
    assert [row["frame"] for row in table(out / "results.csv")] == ["1", "2"]


def test_a_frame_that_was_corrected_by_hand_stops_another_image_before_it_is_computed(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], in_this_process: InThisProcess
) -> None:
    """Two patients' cines, each in a folder of its own, and one folder of results."""
    one, two = (write_beat(tmp_path / name / "cine.nii.gz", phases=phases) for name, phases in PATIENTS.items())
    command = ["segment", "--all-frames", "--model", model, *FLOAT, "--out", str(tmp_path / "out")]
    assert main([*command, str(one)]) == 0
    corrected = tmp_path / "out" / "cine_frame002.seg.nrrd"
    corrected.write_bytes(corrected.read_bytes() + b"by hand")
    assert main([*command, str(one)]) == 0
    before = times(tmp_path / "out")
    capsys.readouterr()

    in_this_process.stops_after = 0  # as soon as anything would be computed
    assert main([*command, str(two)]) == 2
    problem = capsys.readouterr().err
    assert "(changed after it wrote them: cine_frame002.seg.nrrd)" in problem
    assert f"They are results of {one}, and the image of this name is now {two}. Choose another folder" in problem
    assert times(tmp_path / "out") == before


def test_frames_that_all_fail_in_the_same_way_are_reported_in_one_line(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], in_this_process: InThisProcess
) -> None:
    """An export that went wrong: all frames but the second and the last are blank."""
    frames = np.zeros((8, 8, 8, 6), np.int16)
    frames[2:6, 2:6, 2:6, [1, 5]] = 300
    nib.save(nib.Nifti1Image(frames, np.diag([3, 3, 3, 1])), tmp_path / "blank.nii.gz")
    command = ["segment", str(tmp_path / "blank.nii.gz"), "--all-frames", "--model", model, "--out"]
    assert main([*command, str(tmp_path / "out"), *FLOAT]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lightseg: frame")]
    assert len(lines) == 2
    assert lines[0].startswith("lightseg: frames 1, 3 to 5: Each frame of blank.nii.gz is constant: every voxel has")
    assert lines[1].startswith("lightseg: frames 2, 6: Each frame of blank.nii.gz has only 2 different values")


def test_nothing_is_computed_of_two_images_when_the_second_one_is_interrupted(
    model: str, tmp_path: Path, in_this_process: InThisProcess
) -> None:
    out = tmp_path / "out"
    command = ["segment", str(tmp_path / "cine.nii.gz"), "--all-frames", "--model", model, *FLOAT, "--out", str(out)]
    write_beat(tmp_path / "cine.nii.gz", phases=(0, 2, 4))
    assert main(command) == 0
    write_beat(tmp_path / "cine.nii.gz", phases=(3, 4, 5))
    in_this_process.stops_after = 1
    assert main(command) == 1
    assert [row["frame"] for row in table(out / "results.csv")] == ["1"] and table(out / "heart.csv") == []
    first = times(out)
    in_this_process.stops_after = None
    assert main(command) == 0
    assert times(out).items() > first.items() and len(first) == 1
    (heart,) = table(out / "heart.csv")
    assert float(heart["ejection_fraction_percent"]) == pytest.approx(ejection_percent(3, 4), abs=1.5)


def test_flags_that_mean_nothing_for_all_frames_are_refused_and_the_image_is_not_replaced(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_beat(tmp_path / "beat.nii.gz", phases=(0, 4))
    before = path.read_bytes()
    command = ["segment", str(path), "--all-frames", "--model", model, *FLOAT, "--out"]
    for words, message in (
        ((str(tmp_path / "out"), "--reproducible-uids"), "--all-frames does not write. Omit it."),
        ((str(tmp_path / "out"), "--overwrite"), "--overwrite is for a single file"),
        ((str(path), "--overwrite"), "is one of the inputs"),
    ):
        assert main([*command, *words]) == 2
        assert message in capsys.readouterr().err
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


def test_the_result_of_a_frame_is_reproduced_from_the_image_over_time(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], in_this_process: InThisProcess
) -> None:
    """Its record names the frame; --frame chooses another, and the frame may also be an image of its own by now."""
    path, out = write_beat(tmp_path / "beat.nii.gz", phases=(0, 4)), tmp_path / "out"
    assert main(["segment", str(path), "--all-frames", "--model", model, "--out", str(out), *FLOAT]) == 0
    nib.save(nib.Nifti1Image(voxels(4).T, nib.load(path).affine), tmp_path / "alone.nii.gz")
    command = ["reproduce", str(out / "beat_frame002.seg.nrrd"), "--model", model]
    assert main([*command, str(path)]) == main([*command, str(tmp_path / "alone.nii.gz")]) == 0
    assert capsys.readouterr().out.count("The labels are the same in all") == 2
    assert main([*command, str(path), "--frame", "1"]) == 1
    problem = capsys.readouterr().err
    assert "has another label in " in problem
    assert "another one than in the original run (frame: 2 then, 1 now; SHA-256 of the voxels: " in problem


def test_the_advice_for_an_image_over_time_names_what_the_command_has(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_beat(tmp_path / "beat.nii.gz", phases=(0, 4)))
    assert main(["verify", model, path]) == 2
    assert "over time. Choose a frame with --frame, or a three-dimensional image." in capsys.readouterr().err
    assert main(["verify", model, path, "--frame", "3"]) == 2
    assert "has no frame 3" in capsys.readouterr().err
    assert main(["evaluate", path, path]) == 2  # which has no such flag
    assert "over time. Choose one of its frames, or a three-dimensional image." in capsys.readouterr().err


def test_slicer_opens_labels_over_time_as_a_sequence(tmp_path: Path) -> None:
    slicer = pytest.importorskip("slicer")
    geometry = Geometry((3, 4, 5), (1.5, 2, 2.5), (1, 2, 3))
    frames = [np.full(geometry.shape, n, np.uint8) * (np.indices(geometry.shape)[0] > 0) for n in (1, 2, 3)]
    moments = [Moment(n + 1, 3, ms, "trigger") for n, ms in enumerate((0.0, 33.5, 70.0))]
    path = tmp_path / "a.seq.nrrd"
    write_label_frames(path, ((frame, geometry) for frame in frames), moments, np.uint8)
    with open_frames(path) as opened:
        assert list(opened.layout.moments) == moments
        np.testing.assert_array_equal(opened.read(2)[0], frames[1])
    sequence = slicer.vtkMRMLSequenceNode()
    storage = slicer.vtkMRMLVolumeSequenceStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(sequence)
    assert [sequence.GetNthIndexValue(n) for n in range(3)] == ["0", "33.5", "70"]
    assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("trigger time", "ms")
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(sequence.GetNthDataNode(number)), frame)


@pytest.mark.slow
def test_a_batch_takes_series_and_volumes_of_one_folder(model: str, tmp_path: Path) -> None:
    write_beat(tmp_path / "in" / "beat.nii.gz")
    nib.save(nib.Nifti1Image(voxels(0).T, np.diag([-SPACING, -SPACING, SPACING, 1])), tmp_path / "in" / "still.nii.gz")
    assert main(["batch", str(tmp_path / "in"), "--model", model, "--out", str(tmp_path / "out"), *FLOAT]) == 0
    rows = {row["case"]: row for row in table(tmp_path / "out" / "results.csv")}
    assert list(rows) == [*(f"beat_frame{n + 1:03d}" for n in range(COUNT)), "still"]
    assert rows["still"]["series"] == rows["still"]["time_ms"] == ""
    assert rows["still"]["Left ventricle (ml)"] == rows["beat_frame001"]["Left ventricle (ml)"]


@pytest.mark.slow
def test_the_spinal_cord_over_time_is_labeled_frame_by_frame(model: str, shared_data: Path, tmp_path: Path) -> None:
    path, out = shared_data / "other" / "cord_4d.nii.gz", tmp_path / "cord.nii.gz"
    assert main(["segment", str(path), "--all-frames", "--model", model, "--out", str(out), *FLOAT]) == 0
    image, labels = nib.load(path), nib.load(out)
    assert labels.shape == image.shape and labels.header.get_zooms()[3] == pytest.approx(1130, abs=0.01)
    np.testing.assert_allclose(labels.affine, image.affine, atol=1e-4)
    for frame in (0, 13, 29):
        blood = np.asarray(image.dataobj[..., frame]) > 250
        np.testing.assert_array_equal(np.asarray(labels.dataobj[..., frame]) == BLOOD_LABEL, blood)
    rows = table(tmp_path / "cord_frames" / "results.csv")
    assert len(rows) == 30 and float(rows[29]["time_ms"]) == pytest.approx(1130 * 29, abs=0.01)
