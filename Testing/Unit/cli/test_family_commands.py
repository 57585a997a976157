"""Models of three families from the command line, as a new user goes: found, downloaded, run, measured, removed.

A server on this computer plays the addresses of their authors, with archives that are laid out as theirs and hold
small networks with random weights.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import SimpleITK as sitk
from http_server import PROXY_VARIABLES, Answer, Server
from imported_models import zipped
from LightSegLib.catalog import families, lookup
from LightSegLib.catalog.card import Card
from LightSegLib.catalog.families import family_cards
from LightSegLib.catalog.lookup import find_card
from LightSegLib.cli.arguments import build_parser, joined
from LightSegLib.cli.main import COMMANDS, main
from nnunet_models import make_plans, write_model

PAGE = Path(__file__).resolve().parents[3] / "Documentation" / "how-to" / "migrate-from-totalsegmentator.md"
SERVED = (
    "total-ct-fast", "total-ct-fastest", "total-ct-organs", "total-mr-fast", "lung-vessels-ct", "moose-ct-lungs",
    "hd-bet",
)  # fmt: skip
Publish = Callable[..., None]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """An archive for each model, as its card expects it, with a tiny network for its classes."""
    return {model: _archive(find_card(model), tmp_path_factory.mktemp(model)) for model in SERVED}


def _archive(card: Card, folder: Path) -> bytes:
    assert card.weights.archive is not None
    labels = {"background": 0, **{label.original or label.name: label.value for label in card.labels}}
    facts = {"channel_names": {"0": "CT" if card.modality == "CT" else "MRI"}, "labels": labels, "numTraining": 1}
    inside, _, model = card.weights.archive.folder.partition("/")
    trainer = (model or "nnUNetTrainer").partition("__")[0]
    written = write_model(folder, make_plans(), facts, trainer=trainer, folds=card.weights.archive.folds or ("0",))
    return zipped(written, folder / "archive.zip", inside).read_bytes()


@pytest.fixture
def server(archives: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Plays the addresses of the models, whose cards expect the archives there; the user's folders are empty."""
    for name in (*PROXY_VARIABLES, "LIGHTSEG_MIRROR", "LIGHTSEG_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights"))
    facts = tmp_path / "families"
    facts.mkdir()
    with Server() as running:
        for path in families.FAMILIES_FOLDER.glob("*.json"):
            file = json.loads(path.read_text(encoding="utf-8"))
            for card in file["cards"]:
                if card["id"] in SERVED:
                    address = urlsplit(card["weights"]["url"])
                    content = archives[card["id"]]
                    running.answers[address.path] = Answer(content, etag='"1"')
                    card["weights"] = {
                        **{name: card["weights"][name] for name in ("folder", "folds") if name in card["weights"]},
                        "url": f"{running.url}{address.path}",
                        "size": len(content),
                    }
            (facts / path.name).write_text(json.dumps(file), encoding="utf-8")
        for module in (families, lookup):
            monkeypatch.setattr(module, "FAMILIES_FOLDER", facts)
        _forget()
        yield running
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    """What was read of the families is read again."""
    families._files.cache_clear()
    family_cards.cache_clear()


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a CT and an MR of noise, which is the current one."""
    folder = tmp_path / "data"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, values in (
        ("ct", random.integers(-500, 500, (14, 24, 24))),
        ("mr", random.integers(20, 900, (14, 24, 24))),
    ):
        image = sitk.GetImageFromArray(values.astype(np.int16))
        image.SetSpacing((3.0, 3.0, 5.0))
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def lightseg(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        out, err = capfd.readouterr()
        return code, out, err

    return lightseg


@pytest.mark.parametrize(
    ("family", "search", "model", "image", "structure"),
    [
        ("TotalSegmentator", "liver", "total-ct-fast", "ct.nii.gz", "Liver"),
        ("MOOSE", "lung", "moose-ct-lungs", "ct.nii.gz", "Lower lobe of left lung"),
        ("HD-BET", "brain", "hd-bet", "mr.nii.gz", "Brain"),
    ],
)
def test_a_model_is_found_downloaded_after_a_break_run_measured_verified_and_removed(
    server: Server, images: Path, run: Run, monkeypatch: pytest.MonkeyPatch,
    family: str, search: str, model: str, image: str, structure: str,
) -> None:  # fmt: skip
    code, out, _ = run("models", "--family", family, "--search", search)
    (line,) = [line for line in out.splitlines() if line.split()[:1] == [model]]
    assert code == 0 and " available *" in line

    address = urlsplit(find_card(model).weights.sources[0].url).path
    whole = server.answers[address]
    assert isinstance(whole, Answer)
    server.answers[address] = [Answer(whole.content, etag='"1"', cut=len(whole.content) // 2), whole]
    with monkeypatch.context() as terminal:
        terminal.setattr(sys.stderr, "isatty", lambda: True)
        code, out, error = run("weights", "download", model)
    assert code == 0 and "Downloading" in error and "MB" in error
    assert server.ranges(address)[-1] == f"bytes={len(whole.content) // 2}-"  # it went on where it had stopped
    assert model in run("weights", "list")[1]

    words = ("--device", "cpu", "--out", "labels.seg.nrrd", "--statistics", "labels.json")
    code, out, error = run("segment", image, "--model", model, *words)
    assert code == 0 and "unverified" in error
    measured = json.loads(Path("labels.json").read_text(encoding="utf-8"))["structures"]
    labels = sitk.GetArrayFromImage(sitk.ReadImage("labels.seg.nrrd"))
    (value,) = measured[structure]["labels"]
    assert measured[structure]["volume_ml"] == pytest.approx((labels == value).sum() * 0.045)

    code, out, _ = run("verify", model, image, "--device", "cpu")
    assert "Checked" in out and "fill the network without remainder" in out and "Not checked" in out
    assert (code == 0) == (" *" not in run("models", model)[1].splitlines()[2])

    code, out, _ = run("weights", "remove", model)
    assert code == 0 and "freed" in out
    assert " available *" in run("models", model)[1]


def test_three_commands_of_totalsegmentator_work_as_the_page_says(server: Server, images: Path, run: Run) -> None:
    block = PAGE.read_text(encoding="utf-8").partition("Three of them whole")[2].split("```")[1]
    commands = [shlex.split(line) for line in block.splitlines() if line.startswith("lightseg ")]
    assert len(commands) == 3
    for command in commands:
        code, _, error = run(*command[1:])
        assert code == 0, error
    masks = sorted(path.name for path in Path("masks").glob("[!.]*"))
    assert len(masks) == 117 and "kidney_left.nii.gz" in masks and "liver.nii.gz" in masks
    assert len(json.loads(Path("masks.json").read_text(encoding="utf-8"))["structures"]) == 117
    assert Path("masks.png").stat().st_size > 10_000
    organs = sitk.GetArrayFromImage(sitk.ReadImage("organs.nii.gz"))
    assert set(np.unique(organs)) <= {0, 1, 5}  # spleen and liver, by TotalSegmentator's own values
    assert sitk.ReadImage("mr-labels.nii.gz").GetSize() == sitk.ReadImage("mr.nii.gz").GetSize()


def test_every_command_of_the_page_is_one_and_every_model_of_the_family_is_on_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    commands = [line.partition("#")[0] for line in text.splitlines() if line.startswith("lightseg ")]
    commands += [found for found in re.findall(r"`(lightseg [^`]*)`", text) if "MODEL" not in found]
    assert len(commands) > 10
    for command in commands:
        build_parser(COMMANDS).parse_args(joined(shlex.split(command)[1:]))
    parts = {part.model for card in family_cards() for part in card.parts}
    offered = {card.id for card in family_cards() if card.family == "TotalSegmentator"} - parts
    table = text.partition("## Tasks")[2].partition("\n\nTasks whose")[0]
    assert set(re.findall(r"`([\w-]+-(?:ct|mr)[\w-]*)`", table)) == offered


def _archive_with(files: dict[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _inside(content: bytes, path: Path) -> dict[str, bytes]:
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_archives_of_something_else_are_refused_in_a_sentence_and_leave_nothing(
    server: Server, archives: dict[str, bytes], images: Path, run: Run, tmp_path: Path
) -> None:
    lungs = _inside(archives["moose-ct-lungs"], tmp_path / "lungs.zip")
    two = _archive_with(lungs | {f"again/{name}": content for name, content in lungs.items()}, tmp_path / "two.zip")
    (tmp_path / "6mm.zip").write_bytes(archives["total-ct-fastest"])
    (tmp_path / "brain.zip").write_bytes(archives["hd-bet"])
    for model, file, message in (
        ("total-ct-fast", tmp_path / "6mm.zip", "has no folder Dataset297_TotalSegmentator_total_3mm_1559subj/"),
        ("moose-ct-lungs", two, "has 2 trainings that the card of Lobes of the lungs (CT) may mean"),
        ("moose-ct-lungs", tmp_path / "brain.zip", "has 2 classes with the background, but the labels"),
    ):
        size = file.stat().st_size
        facts = families.FAMILIES_FOLDER / f"{find_card(model).family.lower()}.json"
        content = json.loads(facts.read_text(encoding="utf-8"))
        for card in content["cards"]:
            if card["id"] == model:
                card["weights"]["size"] = size  # else the size alone would tell
                if model == "moose-ct-lungs":
                    card["weights"]["folds"] = []
        facts.write_text(json.dumps(content), encoding="utf-8")
        _forget()
        code, out, error = run("weights", "add", model, str(file))
        assert code != 0 and out == "" and message in error, error
        assert error.count("lightseg: ") == 1
        left = [path for path in (tmp_path / "weights").rglob("*") if path.is_file() and path.suffix != ".lock"]
        assert left == [], error


def test_what_is_missing_without_a_network_is_named_with_the_way_to_get_it(
    server: Server, archives: dict[str, bytes], images: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("weights", "download", "total-ct-organs")[0] == 0
    Path("vessels.zip").write_bytes(archives["lung-vessels-ct"])
    assert run("weights", "add", "lung-vessels-ct", "vessels.zip")[0] == 0
    monkeypatch.setenv("LIGHTSEG_OFFLINE", "1")
    for model, missing in (("total-ct", "total-ct-vertebrae"), ("lung-vessels-ct", "total-ct-fast")):
        code, _, error = run("segment", "ct.nii.gz", "--model", model, "--out", "o.nrrd", "--device", "cpu")
        assert code != 0 and "LIGHTSEG_OFFLINE" in error and f"weights add {missing} FILE" in error, error
    assert not Path("o.nrrd").exists()


@pytest.mark.parametrize("ending", [".zip", ""])
def test_the_archive_of_a_part_that_is_added_to_the_whole_leads_to_that_part(run: Run, ending: str) -> None:
    """The user wants total-ct without a network, and has copied one of its five archives, or has unpacked it."""
    name = f"Dataset294_TotalSegmentator_part4_muscles_1559subj{ending}"
    code, _, error = run("weights", "add", "total-ct", f"my downloads/{name}")
    assert code == 2 and error.endswith(
        f"Add it to that: lightseg weights add total-ct-muscles 'my downloads/{name}'\n"
    )
    code, _, error = run("weights", "add", "total-ct-muscles", f"my downloads/{name}")
    assert code == 2 and f"{name} does not exist. Check the path and the spelling." in error


def test_a_disk_without_room_for_archive_and_copy_is_noticed_before_the_download(
    server: Server, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = find_card("total-ct-fast").weights.size
    assert size is not None
    usage = shutil._ntuple_diskusage(10 * size, 8 * size, 2 * size)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    code, _, error = run("weights", "download", "total-ct-fast")
    assert code != 0 and "is too full" in error and "Free some space" in error
    assert [path for path in (tmp_path / "weights").rglob("*") if path.is_file() and path.stat().st_size] == []
