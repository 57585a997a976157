"""What a cohort is made of: folders, manifests and DICOM trees as they are on people's disks."""

from __future__ import annotations

import csv
import os
import sys
import unicodedata
from pathlib import Path

import dicom_series
import numpy as np
import pytest
import SimpleITK as sitk
from batch_cases import SHAPE, blobs, write_series, write_volume
from LightSegLib.batch.case import Case, SkippedInput, Source
from LightSegLib.batch.cases import find_cases
from LightSegLib.catalog.card import Card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.geometry import Geometry, to_sitk

HIPPOCAMPUS = find_card("hippocampus-mr-lightmedseg")
GLIOMA = find_card("brain-tumor-mr-slim-unetrv2")  # T1, T1ce, T2, FLAIR


def found(input_path: Path, card: Card = HIPPOCAMPUS) -> tuple[dict[str, Case], dict[str, str]]:
    """Cases by id; reasons by the name of what was left out."""
    every = list(find_cases(input_path, card))
    cases = [one for one in every if isinstance(one, Case)]
    assert len({case.id for case in cases}) == len(cases)
    return {case.id: case for case in cases}, {one.what: one.reason for one in every if isinstance(one, SkippedInput)}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(case: Case) -> list[str]:
    return [path.name for source in case.channels for path in source.paths]


# --- folders -----------------------------------------------------------------------------------


def test_every_image_of_a_folder_and_its_folders_is_a_case(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "Bjørn 2.NRRD", "site 1/sub-01/T1.mha", "notes.txt", ".hidden.nii.gz", "c_0000.nii.gz")
    touch(tmp_path, "a.seg.nrrd", "out/.records/a.json", "out/a.nii.gz")
    cases, skipped_inputs = found(tmp_path)
    assert set(cases) == {"a", "Bjørn 2", "site 1_sub-01_T1", "c"}
    assert skipped_inputs == {str(tmp_path / "a.seg.nrrd"): "is a segmentation"}, (
        "results of a batch are none of its inputs"
    )


def test_label_maps_beside_images_are_left_out(tmp_path: Path) -> None:
    """As data sets have them: an expert's mask beside each image, or a folder of labels with the images' names."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[8:16, 8:24, 8:16] = 1
    masks = ["case1_seg.nii.gz", "case2-mask.mha", "sub-01/anat/sub-01_dseg.nii", "labelsTr/case1.nii.gz"]
    masks += ["sub-01/anat/sub-01_desc-brainmask.nii", "case2_ground_truth.mha"]
    images = ["case1.nii.gz", "case2.mha", "sub-01/anat/sub-01_T1w.nii", "case3_masked.nii.gz", "Segal_T1.nrrd"]
    for name in images:
        write_volume(tmp_path / name)
    for name in masks:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(to_sitk(mask, Geometry(SHAPE, (1, 1, 1.5))), str(tmp_path / name))
    write_volume(tmp_path / "labels" / "image.nii.gz")
    cases, skipped_inputs = found(tmp_path)
    assert set(cases) == {"case1", "case2", "sub-01_anat_sub-01_T1w", "case3_masked", "Segal_T1", "labels_image"}
    assert skipped_inputs == {str(tmp_path / name): "is a label map by its name and its voxels" for name in masks}


def test_images_that_are_not_read_are_named(tmp_path: Path) -> None:
    """Analyze, other formats, and what browsers and systems make of names; what is not an image by its name is not."""
    unread = ["b.nii (1).gz", "c.hdr", "c.img", "e.img.gz", "f.mgz", "g.nii.gz.part", "h.mnc"]
    touch(tmp_path, "a.nii.gz", "d.MHA", "i.nhdr", "i.raw", "j.json", "k.png", "._a.nii.gz", ".f.mgz", *unread)
    dicom_series.write(tmp_path / "dicom", dicom_series.slices()[:3])
    (tmp_path / "dicom" / dicom_series.file_name(0)).rename(tmp_path / "dicom" / "slice.img")
    cases, skipped_inputs = found(tmp_path)
    assert set(cases) == {"a", "d", "i", "P1_20240101_5"}
    assert set(skipped_inputs) == {str(tmp_path / name) for name in unread}
    assert "extension of a supported image format (.nrrd" in skipped_inputs[str(tmp_path / "c.hdr")]


def test_images_whose_names_have_lost_their_extension_are_named(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    for name in ("a.nii", "b.nii.gz", "c.nrrd", "d.mha"):
        sitk.WriteImage(image, str(tmp_path / name))
        (tmp_path / name).rename(tmp_path / name[0])
    (tmp_path / "README").write_text("About these images", encoding="utf-8")
    dicom_series.write(tmp_path / "dicom", dicom_series.slices()[:3])
    for path in (tmp_path / "dicom").iterdir():
        path.rename(path.with_suffix(""))
    cases, skipped_inputs = found(tmp_path)
    assert set(cases) == {"P1_20240101_5"}
    assert set(skipped_inputs) == {str(tmp_path / name) for name in "abcd"}


def test_a_case_that_is_a_link_to_nowhere_is_reported_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").symlink_to(".git/annex/objects/a")
    case = found(tmp_path)[0]["a"]
    with pytest.raises(InputError, match=r"a\.nii\.gz is a link to a file that is missing\. Get the file"):
        case.sha256()


def test_nothing_of_a_folder_vanishes_without_a_word(tmp_path: Path) -> None:
    touch(tmp_path, "in/a_0000.nii.gz", "in/a_0000.nrrd", "elsewhere/b.nii.gz")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    cases, skipped_inputs = found(tmp_path / "in")
    assert set(cases) == {"a", "link_b"}
    assert skipped_inputs == {str(tmp_path / "in" / "a_0000.nrrd"): "has the same case name as a_0000.nii.gz"}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ("NDims = 3\nElementDataFile = a.raw\n", "a.raw"),
        ("NDims = 3\nElementDataFile = a.raw.gz\n", "a.raw.gz"),
        ("NDims = 3\nElementDataFile = b.bin\n", "b.bin"),
        ("NDims = 3\nElementDataFile = raw/all.raw\n", "raw/all.raw"),
        ("NDims = 3\nElementDataFile = LIST\nraw/1.raw\nraw/2.raw\n", "raw/2.raw"),
        ("NDims = 3\nElementDataFile = raw/%d.raw 1 2 1\n", "raw/2.raw"),
    ],
)
def test_voxels_that_a_header_names_are_part_of_the_content(tmp_path: Path, header: str, data: str) -> None:
    (tmp_path / "a.mhd").write_text(header, encoding="utf-8")
    touch(tmp_path, "raw/1.raw", data)
    case = Case("a", (Source((tmp_path / "a.mhd",)),))
    before = case.sha256()
    (tmp_path / data).write_bytes(b"2")
    assert case.sha256() != before
    (tmp_path / data).unlink()
    with pytest.raises(InputError, match=f"{Path(data).name} does not exist"):
        case.sha256()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_what_has_no_end_is_not_an_image(tmp_path: Path) -> None:
    """A batch would read it for ever."""
    os.mkfifo(tmp_path / "pipe.nii.gz")
    for path in (tmp_path / "pipe.nii.gz", Path("/dev/zero")):
        with pytest.raises(InputError, match="a pipe, a device or a folder, not a file"):
            Case("a", (Source((path,)),)).sha256()


def test_two_cases_of_the_same_name_are_distinguished_on_every_disk(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"case,T1\np,1.nii\nP,2.nii\np,3.nii\n{composed},4.nii\n{decomposed},5.nii\n", encoding="utf-8")
    cases, _ = found(manifest)
    assert [names(case)[0] for case in cases.values()] == [f"{number}.nii" for number in range(1, 6)]
    assert list(cases) == ["p", "P (2)", "p (3)", composed, f"{decomposed} (2)"]
    touch(tmp_path / "x", "a.nii", "a.nrrd")
    assert list(found(tmp_path / "x")[0]) == ["a", "a (2)"]


def test_channels_are_joined_by_their_numbers_and_what_is_incomplete_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, *(f"whole_000{n}.nii.gz" for n in range(4)), *(f"part_000{n}.nii.gz" for n in (0, 1, 3)), "x.nii")
    cases, skipped_inputs = found(tmp_path, GLIOMA)
    assert names(cases["whole"]) == [f"whole_000{n}.nii.gz" for n in range(4)] and len(cases) == 1
    assert (
        skipped_inputs[str(tmp_path / "part_0000.nii.gz")] == "belongs to an incomplete case (missing: part_0002 (T2))"
    )
    assert "is not clearly one of the channels T1, T1ce, T2, FLAIR" in skipped_inputs[str(tmp_path / "x.nii")]


def test_channels_are_joined_by_names_in_a_folder_for_each_case(tmp_path: Path) -> None:
    """As BraTS has them, also where a case is called like another contrast."""
    for case in ("BraTS-7", "MAP-001"):
        touch(tmp_path, *(f"{case}/{case}-{name}.nii.gz" for name in ("t1c", "t1n", "t2f", "t2w", "seg")))
    cases, skipped_inputs = found(tmp_path, GLIOMA)
    for case in ("BraTS-7", "MAP-001"):
        assert names(cases[case]) == [f"{case}-{name}.nii.gz" for name in ("t1n", "t1c", "t2w", "t2f")]
        assert str(tmp_path / case / f"{case}-seg.nii.gz") in skipped_inputs
    assert len(skipped_inputs) == 2


def test_what_is_neither_folder_nor_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a folder nor a CSV file"):
        list(find_cases(tmp_path / "nowhere", HIPPOCAMPUS))


# --- manifests ---------------------------------------------------------------------------------


def test_a_manifest_names_its_columns_in_any_order(tmp_path: Path) -> None:
    manifest = tmp_path / "cohort ä.csv"
    lines = [
        "age;FLAIR;Case;t1;T1ce;T2",
        "61;f.nii;erste Ä;/data/1.nii;c.nii;2.nii",
        "",
        "52;f.nii;second;;c.nii;2.nii",
    ]
    manifest.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    cases, skipped_inputs = found(manifest, GLIOMA)
    paths = [source.paths[0] for source in cases["erste Ä"].channels]
    assert paths == [Path("/data/1.nii"), *(tmp_path / name for name in ("c.nii", "2.nii", "f.nii"))]
    assert skipped_inputs == {"second": "has no file for T1"}


def test_a_manifest_with_one_column_too_few_is_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("case,T1,T2\n1,2,3\n")
    with pytest.raises(InputError, match=r"are case, T1, T2, but must be: case, T1, T1ce, T2, FLAIR"):
        list(find_cases(manifest, GLIOMA))


# --- content -----------------------------------------------------------------------------------


def test_a_case_is_recognized_by_its_bytes_alone(tmp_path: Path) -> None:
    first, moved = write_volume(tmp_path / "a.mha"), write_volume(tmp_path / "elsewhere" / "b.mha")
    other = write_volume(tmp_path / "c.mha", seed=1)

    def content(*paths: Path) -> str:
        return Case("any", (Source(paths),)).sha256()

    assert content(first) == content(moved) != content(other)
    header = write_volume(tmp_path / "split.mhd")
    before = content(header)
    with (tmp_path / "split.raw").open("r+b") as voxels:
        voxels.write(b"changed")
    assert content(header) != before, "the voxels lie beside the header"
    with pytest.raises(InputError, match=r"missing\.nii does not exist"):
        content(tmp_path / "missing.nii")


# --- DICOM -------------------------------------------------------------------------------------


def test_a_tree_of_dicom_has_a_case_for_each_series_that_fits(tmp_path: Path) -> None:
    study = tmp_path / "Müller" / "study 1"
    write_series(study, 0)
    write_series(study, 1, description="T1 again", number="7")
    write_series(study, 2, modality="CT", description="CT")
    write_series(study, 3, image_type="ORIGINAL\\PRIMARY\\LOCALIZER", description="scout")
    write_series(study, 4, slices=1, description="one")
    write_series(tmp_path / "P2", 5, patient="P2", study="1.2.3.5")
    touch(study, "readme.txt", "DICOMDIR")

    cases, skipped_inputs = found(tmp_path)

    assert set(cases) == {"P1_20200131_1", "P1_20200131_7", "P2_20200131_6"}
    volume = cases["P1_20200131_7"].channels[0].read()
    np.testing.assert_array_equal(volume.voxels, blobs(1))
    assert volume.geometry.spacing == (1, 1, 1.5)
    reasons = {what.rsplit(" ", 1)[1]: reason for what, reason in skipped_inputs.items()}
    assert reasons == {"CT": "is CT, but the model needs MR", "scout": "is a localizer", "one": "is a single slice"}
    assert Case.from_json(cases["P1_20200131_1"].to_json()) == cases["P1_20200131_1"]


def test_the_channels_of_a_study_are_found_by_what_its_series_are_called(tmp_path: Path) -> None:
    for number, description in enumerate(("AX T2", "AX T1", "FLAIR cor", "AX T1 +C post", "DWI")):
        name = "T1ce" if "+C" in description else description
        write_series(tmp_path / f"s{number}", number, description=name, slices=2)
    write_series(tmp_path / "s9", 9, description="AX T1", study="1.2.9", patient="P9", slices=2)
    cases, skipped_inputs = found(tmp_path, GLIOMA)
    assert [source.paths[0].parent.name for source in cases["P1_20200131"].channels] == ["s1", "s3", "s0", "s2"]
    assert len(cases) == 1
    assert skipped_inputs[f"{tmp_path / 's4'}, series DWI"] == "is not used"
    assert skipped_inputs[f"{tmp_path / 's9'}, series AX T1"].endswith("no single series for T1ce, T2, FLAIR")


def test_no_case_is_made_of_the_series_of_two_patients(tmp_path: Path) -> None:
    """Whoever took their names away gave both studies one UID."""
    for number, description in enumerate(("T1", "T1ce", "T2", "FLAIR")):
        write_series(tmp_path / f"s{number}", number, description=description, patient=f"P{number // 2}", slices=2)
    cases, skipped_inputs = found(tmp_path, GLIOMA)
    assert cases == {} and skipped_inputs[f"{tmp_path / 's0'}, series T1"].endswith("no single series for T2, FLAIR")


def test_a_long_manifest_is_read_as_it_is_needed(tmp_path: Path) -> None:
    """A fault far down shows only when it is reached."""
    manifest = tmp_path / "long.csv"
    with manifest.open("w", newline="") as stream:
        csv.writer(stream).writerows([("case", "T1"), *((f"c{n}", "x.nii") for n in range(10_000))])
    with manifest.open("ab") as stream:
        stream.write(b"\xff\xfe,y.nii\n")
    cases = find_cases(manifest, HIPPOCAMPUS)
    assert next(cases) == Case("c0", (Source((tmp_path / "x.nii",)),))
    with pytest.raises(InputError, match="Save it as CSV in UTF-8"):
        list(cases)
