"""Results on disk: readable by Slicer and by anyone else, in the right place, and never half-written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib.catalog.card import Label
from LightSegLib.catalog.terminology import Code, Terminology, terminology_entry
from LightSegLib.core.errors import InputError, OutputError
from LightSegLib.imaging import writers
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.readers import read_labels, read_volume
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.imaging.write_check import check_written
from LightSegLib.imaging.writers import check_output, write_segmentation
from needs_slicer import needs_slicer
from scipy.spatial.transform import Rotation

HIPPOCAMPUS = Terminology(
    Code("SCT", "123037004", "Anatomical Structure"),
    Code("SCT", "5366008", "Hippocampus"),
    Code("SCT", "255549009", "Anterior"),
)
LABELS = (Label(1, "Front", (221, 130, 101), HIPPOCAMPUS), Label(2, "Rück", (10, 200, 255)))
ENTRY = (
    "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure~SCT^5366008^Hippocampus"
    "~SCT^255549009^Anterior~Anatomic codes - DICOM master list~^^~^^"
)
LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)  # turned about S, and left-handed
SHEARED = (1.0, 0.0, 0.0, 0.0, 0.96, 0.0, 0.0, 0.28, 1.0)


@pytest.fixture
def segmentation() -> Segmentation:
    voxels = np.zeros((10, 12, 14), np.int16)
    voxels[2:5, 3:8, 4:9] = 1
    voxels[5:8, 3:8, 4:9] = 2
    geometry = Geometry((10, 12, 14), (0.5, 1.0, 2.0), (10.0, -20.0, 30.0), OBLIQUE)
    return Segmentation(voxels, geometry, LABELS, {"model": "tiny", "seconds": 1.5})


def test_terminology_is_written_as_slicer_writes_it() -> None:
    assert terminology_entry(HIPPOCAMPUS) == ENTRY


@needs_slicer
def test_slicer_reads_names_colors_terms_and_place(segmentation: Segmentation, tmp_path: Path) -> None:
    import slicer

    path = tmp_path / "mit Leerzeichen ü.seg.nrrd"
    write_segmentation(segmentation, path)

    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)

    segments = node.GetSegmentation()
    assert segments.GetNumberOfSegments() == 2
    for number, label in enumerate(LABELS):
        segment = segments.GetNthSegment(number)
        assert segment.GetName() == label.name
        assert np.allclose(np.multiply(segment.GetColor(), 255), label.color, atol=0.01)
    assert segments.GetNthSegment(0).GetTerminology() == ENTRY
    # the block of label 1 (i 4..8, j 3..7, k 2..4) in RAS, by hand from spacing, direction and origin
    middle = node.GetSegmentCenterRAS(segments.GetNthSegmentID(0))
    i, j, k = 6 * 0.5, 5 * 1.0, 3 * 2.0
    expected_lps = np.array([10 + 0.8 * i - 0.6 * j, -20 + 0.6 * i + 0.8 * j, 30 - k])
    assert np.allclose(middle, expected_lps * (-1, -1, 1), atol=1e-3)


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".NII.GZ", ".nii.gz.nii"])
def test_every_format_keeps_voxels_and_grid(segmentation: Segmentation, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out{ending}"
    path.write_text("an older result")
    write_segmentation(segmentation, path)
    image = sitk.ReadImage(str(path))
    assert image.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(sitk.GetArrayFromImage(image), segmentation.voxels)
    assert np.allclose(image.GetSpacing(), (0.5, 1.0, 2.0), atol=1e-5)
    assert np.allclose(image.GetOrigin(), (10, -20, 30), atol=1e-5)
    assert np.allclose(image.GetDirection(), OBLIQUE, atol=1e-5)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_segmentation_file_states_where_it_came_from(segmentation: Segmentation, tmp_path: Path) -> None:
    write_segmentation(segmentation, tmp_path / "out.seg.nrrd")
    image = sitk.ReadImage(str(tmp_path / "out.seg.nrrd"))
    assert json.loads(image.GetMetaData("LightSeg_Provenance")) == segmentation.provenance


def test_label_values_above_255_survive(segmentation: Segmentation, tmp_path: Path) -> None:
    voxels = segmentation.voxels * 300
    labels = (Label(300, "a", (1, 2, 3)), Label(600, "b", (4, 5, 6)))
    write_segmentation(Segmentation(voxels, segmentation.geometry, labels), tmp_path / "out.nii.gz")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.nii.gz"))), voxels)


def test_nrrd_keeps_a_sheared_grid_and_nifti_refuses_it(segmentation: Segmentation, tmp_path: Path) -> None:
    geometry = Geometry((10, 12, 14), direction=SHEARED)
    sheared = Segmentation(segmentation.voxels, geometry, LABELS)
    write_segmentation(sheared, tmp_path / "out.nrrd")
    assert np.allclose(sitk.ReadImage(str(tmp_path / "out.nrrd")).GetDirection(), SHEARED, atol=1e-6)
    with pytest.raises(OutputError, match="right angles"):
        write_segmentation(sheared, tmp_path / "out.nii.gz")
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out.png", "not have a supported file extension"),
        ("missing/out.nrrd", "does not exist"),
        ("file/out.nrrd", "does not exist|cannot be written"),
        ("folder.nrrd", "is a folder"),
    ],
)
def test_impossible_places_are_refused(segmentation: Segmentation, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.nrrd").mkdir()
    with pytest.raises(OutputError, match=words):
        write_segmentation(segmentation, tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.nrrd"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that even root cannot write to")
def test_an_unwritable_folder_is_refused(segmentation: Segmentation) -> None:
    with pytest.raises(OutputError, match="not writable"):
        write_segmentation(segmentation, "/proc/out.nrrd")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
@pytest.mark.parametrize("ending", [".seg.nrrd", ".nrrd", ".nii.gz", ".nii"])
def test_a_full_disk_leaves_the_older_file_alone(tmp_path: Path, ending: str) -> None:
    """A process that may write files of 4 KiB only simulates a full disk; noise does not compress below that."""
    older = tmp_path / f"out{ending}"
    older.write_text("an older result")
    program = f"""
import resource, signal, sys
sys.path.insert(0, {str(LIBRARY)!r})
import numpy as np
from LightSegLib.catalog.card import Label
from LightSegLib.core.errors import OutputError
from LightSegLib.imaging import writers
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.imaging.writers import write_segmentation
from LightSegLib.imaging.write_check import check_written
voxels = np.random.default_rng(0).integers(0, 2, (40, 40, 40))
segmentation = Segmentation(voxels, Geometry((40, 40, 40)), (Label(1, "a", (1, 2, 3)),))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_segmentation(segmentation, {str(older)!r})
except OutputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "could not be written completely because the disk is full" in done.stdout
    assert older.read_text() == "an older result"
    assert [entry.name for entry in tmp_path.iterdir()] == [older.name]


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nrrd", ".nii.gz", ".nii"])
@pytest.mark.parametrize("fault", ["cut", "changed"])
def test_a_file_that_lost_its_end_without_a_word_is_not_taken_for_written(
    segmentation: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, fault: str
) -> None:
    """As some network disks do."""

    def losing(write: Callable[..., None]) -> Callable[..., None]:
        def lossy(path: Path, *rest: object) -> None:
            write(path, *rest)
            content = bytearray(path.read_bytes())
            if fault == "cut":
                del content[-4:]
            else:
                content[-1] ^= 1
            path.write_bytes(content)

        return lossy

    for name in ("write_nrrd", "write_nifti"):
        monkeypatch.setattr(writers, name, losing(getattr(writers, name)))
    with pytest.raises(OutputError, match=r"could not be written completely: reading it back .* gives something else"):
        write_segmentation(segmentation, tmp_path / f"out{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("handed", [1, -1])
def test_both_matrices_of_a_nifti_file_are_the_grids(tmp_path: Path, handed: int) -> None:
    """By nibabel, for turns about any axis and their mirror images."""
    for turn in Rotation.random(10, random_state=1).as_matrix():
        direction = tuple(map(float, (turn * [1, 1, handed]).ravel()))
        geometry = Geometry((3, 4, 5), (0.5, 1.25, 3.0), (10.5, -20.25, 30.0), direction)
        labels = Segmentation(np.ones((3, 4, 5), np.uint8), geometry, LABELS)
        write_segmentation(labels, tmp_path / "out.nii")
        image = nibabel.load(tmp_path / "out.nii")
        expected = np.diag([-1, -1, 1, 1]) @ geometry.index_to_world
        np.testing.assert_allclose(image.get_sform(), expected, atol=1e-5)
        np.testing.assert_allclose(image.get_qform(), expected, atol=1e-5)
        assert image.header["sform_code"] == image.header["qform_code"] == 1
        by_itk = sitk.ReadImage(str(tmp_path / "out.nii"))
        corner = by_itk.TransformIndexToPhysicalPoint((4, 3, 2))
        np.testing.assert_allclose(corner, (geometry.index_to_world @ [4, 3, 2, 1])[:3], atol=1e-4)
        assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nii.gz", ".nii"])
def test_a_result_is_no_image_of_a_later_run(segmentation: Segmentation, tmp_path: Path, ending: str) -> None:
    """A file of thirty structures has too many values to be doubted for them; it has to state what it is."""
    path = tmp_path / f"out{ending}"
    write_segmentation(segmentation, path)
    if ending != ".seg.nrrd":
        assert nibabel.load(path).header.get_intent()[0] == "label"
    with pytest.raises(InputError, match="not an image"):
        read_volume(path)
    assert np.array_equal(read_labels(path)[0], segmentation.voxels)


def test_the_current_folder_is_named_in_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=re.escape(tmp_path.name)):
        read_volume(".")
    with pytest.raises(OutputError, match=r"'\.' does not have"):
        check_output(".")


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nii.gz", ".nii"])
def test_label_maps_of_more_than_one_block_are_compared_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr("LightSegLib.imaging.write_check.BLOCK", 1000)
    voxels = np.random.default_rng(0).integers(0, 601, (11, 13, 17)).astype(np.int16)
    labels = (Label(600, "b", (4, 5, 6)),)
    path = tmp_path / f"out{ending}"
    write_segmentation(Segmentation(voxels, Geometry(voxels.shape), labels), path)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), voxels)
    with pytest.raises(OSError, match="completely"):
        check_written(path, voxels.astype(np.uint16) + np.uint16(1))


def test_an_extension_alone_is_not_a_file_name(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="would be a hidden file without a name"):
        check_output(tmp_path / ".nii.gz")
