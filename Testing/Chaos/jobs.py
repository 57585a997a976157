"""The jobs that faults meet: each with what it needs, what it must leave whole, and what it has done in the end."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import SimpleITK as sitk
import torch
from http_server import Answer, Server
from LightSegLib.catalog.lookup import all_cards
from LightSegLib.cli.main import main
from LightSegLib.core.file_hash import sha256
from LightSegLib.weights.checkpoint import read_checkpoint
from real_inputs import MODEL, Inputs, image, voxels

SHAPE = (20, 40, 40)  # of an image whose result takes a while to be written
CASES = 3
NAMES = (".lightseg-", "lightseg-", ".import-", ".replaced-")  # of what is there for a while only
TRAINING = ("--epochs", "3", "--batch-size", "1", "--patch-size", "16,16,16", "--validate-every", "1")


class Job(ABC):
    """One command in a folder of its own. `target`: the folder in it that it writes to, which may be a disk."""

    name = ""
    seconds = 1.0  # that it takes; measured before the first fault

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs

    @abstractmethod
    def prepare(self, folder: Path, target: Path) -> tuple[str, ...]:
        """Write what the job needs, and what it must not lose; the command line."""

    @abstractmethod
    def check(self, folder: Path, target: Path) -> None:
        """After a fault: AssertionError where something is lost or half done."""

    def finished(self, folder: Path, target: Path) -> None:
        """After the same command again, without a fault: AssertionError where it is not all done."""
        self.check(folder, target)

    def environment(self, folder: Path, target: Path) -> dict[str, str]:
        """For the command; nothing of the user's, nor of other tries."""
        return {
            "TMPDIR": str(folder / "tmp"),
            "XDG_DATA_HOME": str(folder / "user"),
            "LIGHTSEG_MODELS": str(self.inputs.models),
            "LIGHTSEG_WEIGHTS": str(folder / "weights"),
        }

    def call(self, folder: Path, target: Path, words: tuple[str, ...]) -> Callable[[], int]:
        """The command as a call, for a fork."""

        def run() -> int:
            os.environ.update(self.environment(folder, target))
            return main(words)

        return run


class Segment(Job):
    """A result that is there is replaced by a new one."""

    name = "segment"

    def prepare(self, folder: Path, target: Path) -> tuple[str, ...]:
        sitk.WriteImage(image(voxels(SHAPE).astype(np.int16)), str(folder / "scan.nrrd"))
        self._scan = (folder / "scan.nrrd").read_bytes()
        (target / "result.nii.gz").write_bytes(b"the result of yesterday")
        words = ("segment", str(folder / "scan.nrrd"), "--model", MODEL, "--out", str(target / "result.nii.gz"))
        return (*words, "--overwrite", "--precision", "float32")

    def check(self, folder: Path, target: Path) -> None:
        assert (folder / "scan.nrrd").read_bytes() == self._scan, "the scan was changed"
        content = (target / "result.nii.gz").read_bytes()
        assert content == b"the result of yesterday" or _whole(target / "result.nii.gz"), "half a result"

    def finished(self, folder: Path, target: Path) -> None:
        assert _whole(target / "result.nii.gz"), "no result"


class Batch(Job):
    """Some scans, of which each becomes a segmentation and a line of the table."""

    name = "batch"

    def prepare(self, folder: Path, target: Path) -> tuple[str, ...]:
        (folder / "scans").mkdir()
        for number in range(CASES):
            path = folder / "scans" / f"case {number}.nrrd"
            sitk.WriteImage(image((voxels(SHAPE) + number).astype(np.int16)), str(path))
        self._scans = {path.name: path.read_bytes() for path in (folder / "scans").iterdir()}
        (target / "notes.txt").write_text("of the user")
        words = ("batch", str(folder / "scans"), "--model", MODEL, "--out", str(target), "--precision", "float32")
        return (*words, "--workers", "1", "--threads", "1", "--no-pictures", "--quiet")

    def check(self, folder: Path, target: Path) -> None:
        scans = {path.name: path.read_bytes() for path in (folder / "scans").iterdir()}
        assert scans == self._scans, "the scans were changed"
        assert (target / "notes.txt").read_text() == "of the user", "a file of the user's was changed"
        for path in target.glob("*.seg.nrrd"):
            assert _whole(path), f"half of {path.name}"
        for path in (target / ".records").glob("[!.]*.json"):
            row = json.loads(path.read_text(encoding="utf-8"))
            done = target / f"{row['case']}.seg.nrrd"
            assert row["status"] != "done" or done.is_file(), f"{row['case']} counts as done without a result"

    def finished(self, folder: Path, target: Path) -> None:
        self.check(folder, target)
        assert len(list(target.glob("*.seg.nrrd"))) == CASES, "not all cases are done"
        lines = (target / "results.csv").read_text(encoding="utf-8").splitlines()
        assert len(lines) == CASES + 1 and all("done" in line for line in lines[1:]), "the table is not whole"


class Download(Job):
    """Weights from a server on this computer."""

    name = "download"
    CONTENT = b"PK\x03\x04" + bytes(range(256)) * 4000

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.server = Server()
        self.server.__enter__()
        self.server._http.handle_error = lambda *_: None  # of requests whose program was killed
        self.answer(Answer(self.CONTENT, etag='"1"'))

    def answer(self, *answers: Answer) -> None:
        """What the server gives from now on, one after the other; the last one for ever."""
        self.server.answers["/w.pt"] = list(answers)

    def environment(self, folder: Path, target: Path) -> dict[str, str]:
        own = {"LIGHTSEG_WEIGHTS": str(target / "weights"), "LIGHTSEG_MODELS": str(folder / "models")}
        return super().environment(folder, target) | own | {"LIGHTSEG_OFFLINE": "", "NO_PROXY": "127.0.0.1"}

    def prepare(self, folder: Path, target: Path) -> tuple[str, ...]:
        card = json.loads((self.inputs.models / MODEL / "model.json").read_text(encoding="utf-8"))
        source = {"kind": "url", "url": f"{self.server.url}/w.pt"}
        card |= {"id": "far", "weights": {"file": "w.pt", "sources": [source]}}
        (folder / "models" / "far").mkdir(parents=True)
        (folder / "models" / "far" / "model.json").write_text(json.dumps(card), encoding="utf-8")
        return ("weights", "download", "far", "--quiet")

    def check(self, folder: Path, target: Path) -> None:
        path = target / "weights" / "far" / "w.pt"
        assert not path.exists() or path.read_bytes() == self.CONTENT, "half of the weights under their name"

    def finished(self, folder: Path, target: Path) -> None:
        assert (target / "weights" / "far" / "w.pt").read_bytes() == self.CONTENT, "no weights"


class DownloadArchive(Download):
    """An archive from a server on this computer, whose place a slim copy takes."""

    name = "download of an archive"

    def __init__(self, inputs: Inputs) -> None:
        self.CONTENT = _tar(inputs.nnunet)
        super().__init__(inputs)

    def answer(self, *answers: Answer) -> None:
        self.server.answers["/w.tar.gz"] = list(answers)

    def prepare(self, folder: Path, target: Path) -> tuple[str, ...]:
        words = super().prepare(folder, target)
        path = folder / "models" / "far" / "model.json"
        card = json.loads(path.read_text(encoding="utf-8"))
        source = {"kind": "url", "url": f"{self.server.url}/w.tar.gz"}
        card |= {"weights": {"file": "w.tar.gz", "sources": [source], "archive": {"folds": ["0"]}}}
        path.write_text(json.dumps(card), encoding="utf-8")
        return words

    def check(self, folder: Path, target: Path) -> None:
        path = target / "weights" / "far" / "w.tar.gz"
        assert not path.exists() or path.read_bytes() == self.CONTENT, "half of an archive under its name"
        for copy in path.parent.glob("slim-*.pt"):
            read_checkpoint(copy)

    def finished(self, folder: Path, target: Path) -> None:
        self.check(folder, target)
        assert len(list((target / "weights" / "far").glob("slim-*.pt"))) == 1, "no weights"


class Import(Job):
    """A model that is there is replaced by another one of the same name."""

    name = "import --replace"

    def environment(self, folder: Path, target: Path) -> dict[str, str]:
        return super().environment(folder, target) | {"LIGHTSEG_MODELS": str(target / "models")}

    def prepare(self, folder: Path, target: Path) -> tuple[str, ...]:
        shutil.copytree(self.inputs.models / MODEL, target / "models" / MODEL)
        (target / "models" / "another").mkdir()
        shutil.copytree(self.inputs.nnunet, folder / "nnunet")
        checkpoint = folder / "nnunet" / "fold_0" / "checkpoint_final.pth"
        content = torch.load(checkpoint, weights_only=False)
        content["network_weights"] = {key: tensor + 1 for key, tensor in content["network_weights"].items()}
        torch.save(content, checkpoint)
        self._old = sha256(self.inputs.models / MODEL / "weights.pt")
        return ("import", str(folder / "nnunet"), "--replace")

    def check(self, folder: Path, target: Path) -> None:
        before = os.environ.get("LIGHTSEG_MODELS", "")
        os.environ["LIGHTSEG_MODELS"] = str(target / "models")
        try:
            (card,) = [card for card in all_cards() if card.id == MODEL]  # puts back what a killed import moved aside
        except ValueError:
            raise AssertionError("the model is gone") from None
        finally:
            os.environ["LIGHTSEG_MODELS"] = before
        path = target / "models" / MODEL / card.weights.file
        assert sha256(path) == card.weights.sha256, "a card with the weights of another"
        read_checkpoint(path)

    def finished(self, folder: Path, target: Path) -> None:
        self.check(folder, target)
        assert sha256(target / "models" / MODEL / "weights.pt") != self._old, "the model is the old one"


class Train(Job):
    """A training of a few epochs, which goes on where it was."""

    name = "train --resume"

    def prepare(self, folder: Path, target: Path) -> tuple[str, ...]:
        shutil.copytree(self.inputs.training, folder / "training")
        self._set = _digest(folder / "training")
        words = ("train", str(folder / "training"), "--out", str(target / "model"), "--device", "cpu", "--resume")
        return (*words, *TRAINING)

    def check(self, folder: Path, target: Path) -> None:
        assert _digest(folder / "training") == self._set, "the training set was changed"
        if (target / "model" / "checkpoint.pt").exists():
            torch.load(target / "model" / "checkpoint.pt", weights_only=True)
        if (target / "model" / "model.json").exists():
            card = json.loads((target / "model" / "model.json").read_text(encoding="utf-8"))
            assert sha256(target / "model" / "weights.pt") == card["weights"]["sha256"], "a card of other weights"

    def finished(self, folder: Path, target: Path) -> None:
        self.check(folder, target)
        assert (target / "model" / "model.json").is_file(), "no model"
        lines = (target / "model" / "training.csv").read_text(encoding="utf-8").splitlines()
        assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"], "the log has not each epoch once"


JOBS: tuple[type[Job], ...] = (Segment, Batch, Download, DownloadArchive, Import, Train)


def left_over(*folders: Path) -> list[str]:
    """What should be gone once a command without a fault has ended."""
    return [path.name for folder in folders for path in folder.rglob("*") if path.name.startswith(NAMES)]


def spoil_clock(folder: Path, random: Random) -> None:
    """Let all files be from the future, as after a clock was set back."""
    ahead = 4e9 + random.random() * 1e8
    for path in folder.rglob("*"):
        with suppress(OSError):
            os.utime(path, (ahead, ahead))


def _whole(path: Path) -> bool:
    """Whether a segmentation can be read, to its last voxel, by another reader, whose size is that of the scan."""
    try:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError:
        return False
    return array.shape == SHAPE and int(array.max()) <= 2


def _tar(folder: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(folder, "model")
    return content.getvalue()


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
