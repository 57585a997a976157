"""The command line as its users type it: forms, exit codes, what goes to which stream."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LightSegLib import __version__
from LightSegLib.cli import main as cli
from LightSegLib.cli.arguments import build_parser, joined
from LightSegLib.cli.training_arguments import SYNTHESIS_HELP, TRAINING_HELP
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.inference import segmenter
from LightSegLib.training.options import TrainingOptions
from LightSegLib.training.synthetic_options import SyntheticTrainingOptions

LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"
Run = Callable[..., tuple[int, str, str]]
FLOAT32 = ("--device", "cpu", "--precision", "float32")  # the same numbers, and no notice, on every processor


# --- what is wrong with a command line ---------------------------------------------------------


def test_without_a_model_the_bundled_ones_are_named(run: Run) -> None:
    for words in (("segment", "head.nii.gz"), ("batch", "heads", "--out", "results")):
        code, out, problem = run(*words)
        assert (code, out) == (2, "") and problem == (
            "lightseg: The following arguments are required: --model. Name a model: brain-mr-atlas-unet, "
            "hippocampus-mr-lightmedseg and hippocampus-mr-unet come with LightSeg, and 'lightseg models' lists all of "
            "them.\n"
        )


def test_a_wrong_argument_is_reported_in_a_line_without_the_list_of_all(run: Run) -> None:
    code, out, problem = run("segment", "head.nii.gz", "--model", "a", "--roi", "1,2")
    assert (code, out) == (2, "") and problem == (
        "lightseg: Argument --roi: '1,2' is neither six numbers R,A,S,R,A,S in mm, joined by commas, nor a file. "
        "'lightseg segment --help' shows what it takes.\n"
    )


def test_without_a_command_its_help_lists_them(run: Run) -> None:
    for words, some in (((), ("segment", "batch")), (("weights",), ("download", "verify"))):
        code, out, printed = run(*words)
        assert (code, out) == (2, "") and all(f"\n    {one} " in printed for one in some)
        assert printed == run(*words, "--help")[1]


@pytest.mark.parametrize(
    ("words", "problem", "command"),
    [
        ("segmnt head.nii.gz --model m", "Argument COMMAND: there is no 'segmnt'. Did you mean 'segment'?", ""),
        ("weights pathh m", "Argument ACTION: there is no 'pathh'. Did you mean 'path'?", " weights"),
        ("segment head.nii.gz --modle m", "There is no --modle. Did you mean --model?", " segment"),
        ("batch heads --model m --out=r --formt=nii", "There is no --formt. Did you mean --format?", " batch"),
        ("segment a --model m --precision flot32", "there is no 'flot32'. Did you mean 'float32'?", " segment"),
        ("segment a --model m --xyz", "Unrecognized arguments: --xyz.", " segment"),
        ("segment a --model m -- --modle", "Unrecognized arguments: -- --modle.", " segment"),
    ],
)
def test_a_misspelled_word_is_answered_with_the_near_one(run: Run, words: str, problem: str, command: str) -> None:
    code, out, printed = run(*words.split())
    assert (code, out) == (2, "") and printed.endswith(f"{problem} 'lightseg{command} --help' shows what it takes.\n")


# --- models and info ---------------------------------------------------------------------------


def test_models_lists_own_models_and_their_state(
    run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("complete", "incomplete"):
        card = json.loads((tiny_model / "model.json").read_text(encoding="utf-8")) | {"id": name}
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").write_text(json.dumps(card), encoding="utf-8")
    (tmp_path / "complete" / "weights.pt").touch()
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path))

    code, out, _ = run("models", "--json")
    models = {model["id"]: model for model in json.loads(out)}
    assert code == 0
    facts = {"id": "complete", "title": "Tiny", "modality": "MR", "state": "user", "labels": ["Front", "Rück"]}
    assert facts.items() <= models["complete"].items()
    assert models["incomplete"]["state"] == "missing"

    code, out, _ = run("models")
    assert code == 0
    assert ["complete", "MR", "user", "Tiny"] in [line.split() for line in out.splitlines()]


def test_a_family_is_listed_without_the_parts_of_its_models(run: Run) -> None:
    code, out, _ = run("models", "--family", "totalsegmentator", "--modality", "ct")
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert code == 0 and "total-ct" in listed and "body-mr" not in listed and "total-ct-organs" not in listed
    (line,) = [line for line in out.splitlines() if line.startswith("  total-ct ")]
    assert line.split()[:6] == ["total-ct", "CT", "1304", "MB", "available", "*"]  # five parts and the rough model
    assert "lightseg verify" in out and "Not offered: heartchambers_highres, appendicular_bones, " in out
    code, out, _ = run("models", "--family", "Total Segmentator", "--all")
    assert code == 0 and "  total-ct-organs " in out


def test_a_modality_finds_models_whose_titles_say_that_they_take_it_too(run: Run) -> None:
    for modality in ("CT", "mr"):
        code, out, _ = run("models", "--modality", modality, "--json")
        ids = {model["id"] for model in json.loads(out)}
        assert code == 0 and {"mrsegmentator", "siam-head"} <= ids
        assert ("total-ct" in ids, "total-mr" in ids) == (modality == "CT", modality == "mr")


def test_a_structure_is_found_with_the_models_that_have_it(run: Run) -> None:
    code, out, _ = run("models", "--search", "iliopsoas", "--family", "totalsegmentator")
    (line,) = [line for line in out.splitlines() if line.startswith("  total-ct-fast ")]
    assert code == 0 and line.endswith("(CT, fast): Left iliopsoas, Right iliopsoas")
    assert "  liver-vessels-ct " not in out
    code, out, _ = run("models", "brainstem")
    (line,) = [line for line in out.splitlines() if line.startswith("  brain-mr-atlas-unet ")]
    assert code == 0 and line.endswith(": Brain stem")


def test_a_search_without_result_is_an_error_with_the_reason(run: Run) -> None:
    code, out, error = run("models", "xylophone")
    assert (code, out) == (2, "") and "No model fits" in error
    code, out, error = run("models", "mr", "hipocampus", "thalmus")
    assert (code, out) == (2, "")
    assert "No model fits. Did you mean 'hippocampus' for 'hipocampus', 'thalamus' for 'thalmus'?" in error
    code, out, error = run("models", "coronary")
    assert (code, out) == (2, "") and "coronary_arteries" in error and "license of the authors" in error
    code, out, error = run("models", "--family", "nosuch")
    assert (code, out) == (2, "") and "CADS, " in error


def test_info_tells_many_labels_in_few_lines(run: Run) -> None:
    code, out, _ = run("info", "total-ct")
    assert code == 0 and "Rib 1 to 12 (left, right)" in out and len(out.splitlines()) < 48
    code, out, _ = run("info", "total-ct", "--labels")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and len(lines) == 118 and ["5", "Liver", "liver", "SCT", "10200004"] in lines


def test_info_is_in_groups_with_one_column_and_lines_that_a_terminal_holds(run: Run) -> None:
    code, out, _ = run("info", "brain-mr-atlas-unet")
    lines = out.splitlines()
    facts = "\n".join(lines[: lines.index("  Training:")])
    first = [re.findall(r"^  ([A-Z]\w+) +", group, re.MULTILINE)[0] for group in facts.strip().split("\n\n")]
    assert code == 0 and first == ["Id", "Modality", "Spacing", "Weights", "License"]
    assert {line.find(line[2:].split(maxsplit=1)[1]) for line in lines if re.match("  [A-Z].* {2}", line)} == {15}
    assert max(map(len, lines)) <= 120 and len(facts.splitlines()) < 40
    assert "      dice by structure: 32 (--json lists them)" in lines


def test_models_and_help_do_not_load_torch() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(LIBRARY)!r}); from LightSegLib.cli.main import main; "
        "main(['models']); main(['segment', '--help']); main(['train', '--help']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_what_a_run_took_is_listed_and_described(
    run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("LightSegLib.catalog.lookup.user_models_folder", lambda: tmp_path)
    card = json.loads(shutil.copytree(tiny_model, tmp_path / "own").joinpath("model.json").read_text(encoding="utf-8"))
    took = {"volume": "256 x 256 x 256 voxels of 1 x 1 x 1 mm", "seconds": 12.3, "cold_seconds": 15.1}
    card |= {"id": "own", "measured": took | {"memory_mb": 1460, "cores": 2, "processor": "Xeon", "form": "float32"}}
    (tmp_path / "own" / "model.json").write_text(json.dumps(card), encoding="utf-8")
    _, out, _ = run("models")
    assert re.search(r"^  own .* 12 s ", out, re.MULTILINE)
    _, out, _ = run("info", "own")
    assert "12.3 s (15.1 s from a start) and 1460 MB for 256 x 256 x 256 voxels" in " ".join(out.split())


def test_info_describes_a_model(run: Run, tiny_model: Path) -> None:
    code, out, _ = run("info", tiny_model)
    assert code == 0
    for fact in ("Tiny", "1 Front, 2 Rück", "CC0-1.0", "MR"):
        assert fact in out
    code, out, _ = run("info", tiny_model, "--json")
    assert json.loads(out) == json.loads((tiny_model / "model.json").read_text(encoding="utf-8"))


def test_info_states_what_a_model_was_trained_on(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    """Data, how many cases, and the runs before; of names as many as a line holds."""
    folder = shutil.copytree(tiny_model, tmp_path / "own")
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    card["training"] = {
        "dataset": "Balls of Bern",
        "training_cases": 200,
        "trained_on": [f"case_{number:03d}" for number in range(200)],
        "validation_cases": ["case_201", "case_202"],
        "earlier_runs": [{"dataset": "Balls of Zurich", "images": 7}, {"images": 9, "validation_cases": []}],
    }
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    code, out, _ = run("info", folder)
    assert code == 0
    told = out[out.index("  Training:") :].splitlines()
    assert told[:5] == [
        "  Training:",
        "    dataset: Balls of Bern",
        "    training cases: 200",
        "    trained on: 200 (--json lists them)",
        "    validation cases: case_201, case_202",
    ]
    assert told[5:11] == [
        "    earlier runs 1:",
        "      dataset: Balls of Zurich",
        "      images: 7",
        "    earlier runs 2:",
        "      images: 9",
        "      validation cases: none",
    ]


# --- segment -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nrrd", ".nii.gz"])
def test_segment_writes_labels_on_the_inputs_grid(
    run: Run, tiny_model: Path, write_image: Callable[..., Path], tmp_path: Path, ending: str
) -> None:
    geometry = {"spacing": (0.9, 1.1, 2.0), "origin": (5.0, -7.0, 11.0)}
    image = write_image("Bilder größer/T1 ä.nii.gz", **geometry)
    out_file = tmp_path / f"résultat 1{ending}"
    code, out, err = run("segment", image, "--model", tiny_model, "--out", out_file, *FLOAT32)
    assert (code, err) == (0, "")
    labels = sitk.ReadImage(str(out_file))
    assert np.allclose((*labels.GetSpacing(), *labels.GetOrigin()), (0.9, 1.1, 2.0, 5, -7, 11), atol=1e-5)
    voxels = sitk.GetArrayFromImage(labels)
    assert voxels.shape == (12, 20, 16)
    # the printed table of volumes agrees with the file
    printed = {line.split()[0]: float(line.split()[1]) for line in out.splitlines()[1:3]}
    for value, name in ((1, "Front"), (2, "Rück")):
        assert printed[name] == pytest.approx((voxels == value).sum() * 0.9 * 1.1 * 2.0 / 1000, abs=0.001)
    assert str(out_file) in out


def test_segment_quietly(run: Run, tiny_model: Path, write_image: Callable[..., Path], tmp_path: Path) -> None:
    words = ("segment", write_image(), "--model", tiny_model, "--out", tmp_path / "out.nrrd", "--quiet")
    assert run(*words, "--mirror", "--largest-component", *FLOAT32) == (0, "", "")


def test_segment_two_channels(
    run: Run, make_model: Callable[..., Path], write_image: Callable[..., Path], tmp_path: Path
) -> None:
    inputs = [write_image("t1.mha"), write_image("t2.nrrd")]
    words = ("segment", *inputs, "--model", make_model(channels=2), "--out", tmp_path / "out.nrrd")
    code, _, err = run(*words, *FLOAT32)
    assert (code, err) == (0, "")


@pytest.mark.parametrize("form", [("--roi", "-4.1,-3.1,0,4,3,30"), ("--roi=-4.1,-3.1,0,4,3,30",)])
def test_the_region_is_given_in_ras_and_may_be_negative(
    run: Run,
    tiny_model: Path,
    write_image: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: tuple[str, ...],
) -> None:
    regions = []
    segment = segmenter.Segmenter.segment

    def watched(self: segmenter.Segmenter, volumes: list, roi: RegionOfInterest, progress: object) -> object:
        regions.append(roi)
        return segment(self, volumes, roi, progress)

    monkeypatch.setattr(segmenter.Segmenter, "segment", watched)
    image = write_image(origin=(-8.0, -10.0, 0.0))  # LPS: voxel i is 8 - i mm to the right, j 10 - j mm in front
    code, _, _ = run("segment", image, "--model", tiny_model, "--out", tmp_path / "out.nrrd", *FLOAT32, *form)
    assert code == 0
    assert regions[0].corners.min(axis=0).tolist() == [-4, -3, 0]
    assert regions[0].corners.max(axis=0).tolist() == [4.1, 3.1, 30]
    k, j, i = np.nonzero(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.nrrd"))))
    assert k.size
    assert i.min() >= 4
    assert i.max() <= 12
    assert j.min() >= 7
    assert j.max() <= 13


def test_progress_is_shown_on_a_terminal_only(
    run: Run, tiny_model: Path, write_image: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("segment", write_image(), "--model", tiny_model, "--out", tmp_path / "out.nrrd", "--overwrite", *FLOAT32)
    assert run(*words)[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, out, err = run(*words)
    assert "Segmenting 1/1" in err
    assert "Segmenting" not in out
    assert err.endswith("\r\033[K")
    assert run(*words, "--quiet")[2] == ""


def test_a_crash_is_one_line_and_exit_code_1(
    run: Run, tiny_model: Path, write_image: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("something broke\nwith details")

    monkeypatch.setattr(segmenter.Segmenter, "segment", crash)
    words = ("segment", write_image(), "--model", tiny_model, "--out", tmp_path / "out.nrrd")
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert "RuntimeError: something broke" in err
    assert err.count("\n") == 1
    monkeypatch.setenv("LIGHTSEG_DEBUG", "1")
    with pytest.raises(RuntimeError, match="broke"):
        run(*words)


def test_damaged_weights_are_not_bad_input(
    run: Run, tiny_model: Path, write_image: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_bytes((tiny_model / "model.json").read_bytes())
    (tmp_path / "model" / "weights.pt").write_bytes((tiny_model / "weights.pt").read_bytes()[:-1])
    code, _, err = run("segment", write_image(), "--model", tmp_path / "model", "--out", tmp_path / "out.nrrd")
    assert code == 1
    assert "is damaged or was replaced" in err and "Install the model again" in err


# --- evaluate and train ------------------------------------------------------------------------


def test_evaluate_prints_a_table_and_writes_it_where_it_is_asked_to(
    run: Run, write_image: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    expected = np.zeros((12, 12, 12), np.uint8)
    expected[2:6, 2:8, 2:8] = 1
    predicted = expected.copy()
    predicted[6, 2:8, 2:8] = 1
    write_image("expert/case.nii.gz", expected)
    write_image("mine/case.nii.gz", predicted)
    table, words = tmp_path / "table.csv", ("evaluate", tmp_path / "mine", tmp_path / "expert", "--model", tiny_model)
    code, out, _ = run(*words)
    assert code == 0 and not [*tmp_path.rglob("*.csv")] and "written" not in out
    assert run(*words, "--out", table) == (0, f"{out}{table} written\n", "")
    (case,) = out.splitlines()[1:]
    assert case.split() == ["case", "Front", f"{2 * 144 / 324:.3f}", "1.000", "1.000", "0.036"]
    with table.open(encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["case"], row["label"], row["name"]) == ("case", "1", "Front")
    assert float(row["dice"]) == pytest.approx(2 * 144 / 324)
    assert float(row["volume_ml"]) == pytest.approx(0.144)
    elsewhere = tmp_path / "elsewhere.csv"
    write_image("expert/later.nii.gz", expected)
    code, _, notice = run("evaluate", tmp_path / "mine", tmp_path / "expert", "--out", elsewhere)
    assert code == 0 and "label files without a prediction: 1 (later" in notice
    assert elsewhere.read_text(encoding="utf-8").count("case") == 2  # the heading and the one case
    write_image("mine/later.nii.gz", expected)
    code, out, _ = run(*words)
    assert [line.split()[0] for line in out.splitlines()] == ["CASE", "case", "later", "mean"]
    assert out.splitlines()[-1].startswith(f"mean of 2  Front  {(1 + 2 * 144 / 324) / 2:.3f} +- 0.056")


def test_evaluate_replaces_no_table_unless_asked(run: Run, write_image: Callable[..., Path], tmp_path: Path) -> None:
    """A slip of the keyboard must not cost the table of a batch."""
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    mine, expert = (write_image(f"{folder}/case.nii.gz", labels).parent for folder in ("mine", "expert"))
    table = mine / "results.csv"
    table.write_text("an older table", encoding="utf-8")
    code, _, problem = run("evaluate", mine, expert, "--out", table)
    assert code == 2 and "already exists" in problem and "--overwrite" in problem
    code, _, problem = run("evaluate", mine, expert, "--overwrite")
    assert code == 2 and "Add --out CSV, or omit it." in problem
    assert table.read_text(encoding="utf-8") == "an older table"
    assert run("evaluate", mine, expert, "--out", table, "--overwrite")[0] == 0
    assert table.read_text(encoding="utf-8").startswith("case,label,name,dice")


def test_evaluate_names_sides_rounds_and_says_where_nothing_is_common(
    run: Run, write_image: Callable[..., Path], tmp_path: Path
) -> None:
    mine, expert = np.zeros((2, 12, 12, 12), np.uint8)
    mine[2:6, 2:6, 2:6], expert[2:6, 2:6, 2:6], expert[2:6, 2:6, 6] = 3, 1, 2
    spacing = {"spacing": (0.7, 0.7, 1.1)}
    files = [write_image(f"{name}.nii.gz", v, **spacing) for name, v in (("mine", mine), ("expert", expert))]
    written = ("--out", tmp_path / "evaluation.csv")
    code, out, notice = run("evaluate", *files, "--model", "hippocampus-mr-lightmedseg", *written)
    assert code == 0 and "Left " in notice and "Anterior hippocampus" in out and "label 3" not in out
    assert "no label in common; they may be of different models" in notice
    text = (tmp_path / "evaluation.csv").read_text(encoding="utf-8")
    assert max(len(number) for number in re.findall(r"\d+\.\d+", text)) <= 9
    assert "no label" not in run("evaluate", files[0], files[0])[2]
    write_image("nothing.nii.gz", np.zeros_like(mine), **spacing)
    assert "no label" not in run("evaluate", tmp_path / "nothing.nii.gz", files[0])[2]


def test_evaluate_wants_two_files_or_two_folders(run: Run, write_image: Callable[..., Path]) -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    mine, expert = (write_image(f"{folder}/case.nii.gz", labels) for folder in ("mine", "expert"))
    for words in ((mine, expert.parent), (mine.parent, expert)):
        code, _, problem = run("evaluate", *words)
        assert code == 2 and "is a file, but" in problem and "Give two files or two folders." in problem


def test_every_training_option_is_a_flag() -> None:
    words = ["train", "data", "--out", "model", "--patch-size", "8,16,24", "--flip-axes", "0,1", "--epochs", "7"]
    arguments = build_parser(dict.fromkeys(cli.COMMANDS, print)).parse_args(
        [*words, "--learning-rate", "1e-4", "--resume"]
    )
    given = {name: value for name, value in vars(arguments).items() if name in vars(TrainingOptions())}
    assert given == {
        "patch_size": (8, 16, 24),
        "flip_axes": (0, 1),
        "epochs": 7,
        "learning_rate": 1e-4,
        "resume": True,
    }
    assert set(TRAINING_HELP) == set(vars(TrainingOptions())) - {"device"}


def test_every_option_of_a_training_on_label_maps_is_a_flag() -> None:
    words = ["train", "--synthesize", "maps", "--out", "model", "--widths", "8,16", "--hours", "1.5", "--seed", "3"]
    arguments = build_parser(dict.fromkeys(cli.COMMANDS, print)).parse_args(
        [*words, "--set", "noise=0,1", "--nice", "0"]
    )
    given = {name: value for name, value in vars(arguments).items() if name in vars(SyntheticTrainingOptions())}
    assert given == {"widths": (8, 16), "hours": 1.5, "seed": 3, "nice": 0} and arguments.set == ["noise=0,1"]
    assert set(SYNTHESIS_HELP) == set(vars(SyntheticTrainingOptions())) - set(vars(TrainingOptions()))


# --- wrong words -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["unknown"],
        ["segment"],
        ["segment", "x.nii.gz", "--model", "m"],
        ["segment", "x.nii.gz", "--model", "m", "--out", "o.nrrd", "--roi", "1,2,3"],
        ["segment", "x.nii.gz", "--model", "m", "--out", "o.nrrd", "--roi", "1,2,3,4,5,nan"],
        ["segment", "x.nii.gz", "--model", "m", "--out", "o.nrrd", "--roi"],
        ["segment", "x.nii.gz", "--model", "m", "--out", "o.nrrd", "--device", "tpu"],
        ["train", "x", "--out", "o", "--patch-size", "16"],
        ["train", "x", "--out", "o", "--flip-axes", "3"],
    ],
)
def test_wrong_words_are_bad_input(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "lightseg" in err


def test_only_the_region_is_joined_to_its_value() -> None:
    assert joined(["a", "--roi", "-1,2", "--quiet"]) == ["a", "--roi=-1,2", "--quiet"]


def test_help_and_version_are_done(run: Run) -> None:
    assert run("--help")[0] == 0
    assert run("--version")[:2] == (0, f"lightseg {__version__}\n")
