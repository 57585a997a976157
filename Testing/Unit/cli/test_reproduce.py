"""`lightseg reproduce`: whether a result is still what its record describes, and if not, why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from threshold_models import write_threshold_model

Run = Callable[..., tuple[int, str, str]]


def test_a_result_is_computed_again_as_it_states_and_found_the_same(
    run: Run, tiny_model: Path, write_image: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the flips, the box and the precision of the first time, which the second command does not repeat."""
    image, out = write_image(), tmp_path / "Ergebnis ü.seg.nrrd"
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tiny_model.parent))
    words = ("--mirror", "--largest-component", "--precision", "float32", "--roi", "-2,-3,2,-12,-17,9")
    assert run("segment", image, "--model", tiny_model, "--out", out, *words, "--quiet") == (0, "", "")
    code, printed, problems = run("reproduce", out, image)
    assert (code, problems) == (0, "")
    assert printed == "The labels are the same in all 3840 voxels (float32).\n"
    earlier = sitk.ReadImage(str(out))  # as a version wrote it that called the region of interest otherwise
    provenance = earlier.GetMetaData("LightSeg_Provenance")
    earlier.SetMetaData("LightSeg_Provenance", provenance.replace('"roi_lps"', '"region_lps"'))
    assert '"region_lps": [' in earlier.GetMetaData("LightSeg_Provenance")
    sitk.WriteImage(earlier, str(out))
    assert run("reproduce", out, image)[0] == 0


def test_a_result_that_was_edited_or_made_of_another_image_is_distinguished_from_one_that_was_not(
    run: Run, tiny_model: Path, write_image: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, out = write_image(), tmp_path / "out.seg.nrrd"
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tiny_model.parent))
    assert run("segment", image, "--model", tiny_model, "--out", out, "--quiet")[0] == 0
    edited = sitk.ReadImage(str(out))
    edited[3, 4, 5] = 2 if edited[3, 4, 5] != 2 else 0
    edited.SetMetaData("LightSeg_Provenance", edited.GetMetaData("LightSeg_Provenance").replace("torch", "tarch"))
    sitk.WriteImage(edited, str(out))
    code, _, problems = run("reproduce", out, image)
    assert code == 1
    assert "out.seg.nrrd has another label in 1 of 3840 voxels. " in problems and "torch: none then" in problems

    smaller = write_image("other.nii.gz", np.eye(8, dtype=np.float32)[None] * np.ones((8, 1, 1), np.float32))
    code, _, problems = run("reproduce", out, smaller)
    assert code == 2 and "do not have the same grid" in problems


def test_what_holds_no_record_is_refused_with_what_does(
    run: Run, tmp_path: Path, write_image: Callable[..., Path]
) -> None:
    """Results as NIfTI or DICOM, a name with a typo, and a file whose copy was interrupted."""
    image = write_image()
    (tmp_path / "result.dcm").write_bytes(bytes(128) + b"DICM")
    for file in (image, tmp_path / "result.dcm"):
        code, out, problem = run("reproduce", file, image)
        assert (code, out) == (2, "") and problem == (
            f"lightseg: {file} does not contain how it was computed, which of all formats only .seg.nrrd holds in "
            "full. Use a .seg.nrrd file written by 'lightseg segment' or 'lightseg batch'.\n"
        )
    missing, damaged = tmp_path / "rezult.seg.nrrd", tmp_path / "half.seg.nrrd"
    code, _, problem = run("reproduce", missing, image)
    assert (code, problem) == (2, f"lightseg: {missing} does not exist. Check the path and the spelling.\n")
    damaged.write_bytes(b"NRRD")
    code, _, problem = run("reproduce", damaged, image)
    assert code == 2 and "half.seg.nrrd cannot be read as a segmentation. It may be damaged" in problem


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("[" * 5000, "nested too deeply"),
        ("[]", "must be a JSON object"),
        ('{"settings": 3}', "settings must be a JSON object"),
        ('{"settings": {}}', "settings.mirror is missing"),
        ('{"settings": {"mirror": false, "largest_component": []}}', "largest_component must be text"),
        (
            '{"settings": {"mirror": false, "largest_component": "model", "region_lps": [[1, 2]]}}',
            "must have 8 entries",
        ),
        ('{"settings": {"mirror": false, "largest_component": "model", "region_lps": 5}}', "must be a list"),
        ('{"settings": {"mirror": false, "largest_component": "model", "roi_lps": 5}}', "must be a list"),
        ('{"libraries": "torch"}', "libraries must be a JSON object"),
        ('{"device": null}', "device must be text"),
        ('{"computed_in": "float7"}', "precision cannot be"),
    ],
)
def test_a_result_that_states_nonsense_of_itself_is_refused(
    run: Run, tiny_model: Path, write_image: Callable[..., Path], tmp_path: Path, written: str, words: str
) -> None:
    sound = {
        "model": str(tiny_model),
        "version": "1",
        "weights_sha256": "0",
        "device": "cpu",
        "computed_in": "float32",
        "settings": {"mirror": False, "largest_component": "model"},
        "lightseg": "1",
    }
    labels = sitk.Cast(sitk.ReadImage(str(image := write_image())) > 100, sitk.sitkUInt8)
    labels.SetMetaData("LightSeg_Provenance", json.dumps(sound | json.loads(written)) if written[0] == "{" else written)
    sitk.WriteImage(labels, str(tmp_path / "out.seg.nrrd"))
    code, _, problems = run("reproduce", tmp_path / "out.seg.nrrd", image)
    assert code == 2 and words in problems


def test_another_image_is_named_as_the_reason_also_where_the_labels_are_the_same(
    run: Run, tmp_path: Path, write_image: Callable[..., Path]
) -> None:
    """The baseline scan and the follow-up, resampled to it, are easily mixed up."""
    model = write_threshold_model(tmp_path / "bright", ["Bright"], [100]).folder
    rng = np.random.default_rng(0)
    baseline = rng.integers(0, 200, (12, 12, 12)).astype(np.int16)
    brighter, other = np.where(baseline > 100, baseline + 1, baseline), np.flip(baseline, 0)
    image, out = write_image("baseline.nii.gz", baseline), tmp_path / "out.seg.nrrd"
    again = ("reproduce", out, "--model", model)
    assert run("segment", image, "--model", model, "--out", out, "--precision", "float32", "--quiet")[0] == 0

    assert run(*again, write_image("as_floats.nrrd", baseline.astype(np.float32)))[::2] == (0, "")
    code, printed, notice = run(*again, write_image("brighter.nii.gz", brighter))
    assert code == 0 and "the same in all 1728 voxels" in printed
    assert "another input than in the original run: SHA-256 of the voxels: " in notice
    code, _, problem = run(*again, write_image("other.nii.gz", other))
    assert code == 1 and "The input is another one than in the original run (SHA-256 of the voxels: " in problem
    labels = sitk.ReadImage(str(out))
    labels[0, 0, 0] = 1 - labels[0, 0, 0]
    sitk.WriteImage(labels, str(out))
    code, _, problem = run(*again, image)
    assert code == 1 and "1 of 1728 voxels" in problem and "so the labels were probably edited" in problem
