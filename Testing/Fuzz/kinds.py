"""The kinds of input that are spoiled, each with the command that takes it.

To add one: a function that writes a spoiled copy into an empty folder and returns what to call, and its entry in
`KINDS`.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import pydicom
import SimpleITK as sitk
from LightSegLib.batch.preview import steps
from LightSegLib.batch.run import plan_batch
from LightSegLib.batch.settings import Settings
from LightSegLib.cli.main import main
from LightSegLib.core.errors import LightSegError
from LightSegLib.imaging.readers import read_grid
from mutations import WORDS, one_of, spoiled_bytes, spoiled_json, spoiled_numbers, spoiled_text
from real_inputs import DICOM, IMAGES, MODEL, Inputs

# Fields of a NIfTI header (nifti1.h): dimensions, type, spacing, offset, scaling, units, both transforms, magic.
NIFTI_FIELDS = (0, *range(40, 56, 2), 68, 70, 72, *range(76, 108, 4), 108, 112, 116, 120, 123, 252, 254)
NIFTI_FIELDS += (*range(256, 280, 4), *range(280, 328, 4), 344, 345, 346, 348)
NIFTI_HEADER = 352
SEGMENTING = ("--model", MODEL, "--precision", "float32", "--quiet")
TRAINING = ("--epochs", "1", "--batch-size", "1", "--patch-size", "16,16,16", "--device", "cpu")


@dataclass(frozen=True)
class Trial:
    """What to call on a spoiled input: a command line, or something else that returns an exit code.

    after: looks at a result, and raises AssertionError where it is none.
    """

    words: tuple[str, ...] = ()
    call: Callable[[], int] | None = None
    after: Callable[[], None] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self) -> int:
        os.environ.update(self.environment)
        code = self.call() if self.call else main(self.words)
        if code == 0 and self.after:
            self.after()
        return code


Spoil = Callable[[Inputs, Path, Random], Trial]


# --- images --------------------------------------------------------------------------------------


def spoiled_image(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """Segment a spoiled image; what is packed with a checksum is read as it was, or refused."""
    name = random.choice([name for name, _, _ in IMAGES])
    shutil.copytree(inputs.images / name, folder, dirs_exist_ok=True)
    path, out = folder / name, folder / "out.seg.nrrd"
    others = [other for other in folder.iterdir() if other != path]
    chosen = random.choice(others) if others and random.random() < 0.2 else path
    data, packed = chosen.read_bytes(), False
    if chosen != path:
        chosen.write_bytes(spoiled_bytes(data, random))
    elif name.endswith((".nii", ".hdr")):
        ways = (lambda: spoiled_numbers(data, random, NIFTI_FIELDS), lambda: spoiled_bytes(data, random))
        path.write_bytes(one_of(random, *ways))
    elif name.endswith(".nii.gz"):
        packed = random.random() < 0.4
        inner = gzip.decompress(data)
        path.write_bytes(
            spoiled_bytes(data, random, 10)
            if packed
            else gzip.compress(spoiled_numbers(inner, random, NIFTI_FIELDS), 1, mtime=0)
        )
    else:
        end = next(data.find(mark) + len(mark) for mark in (b"\n\n", b"= LOCAL\n", b"") if mark in data) or len(data)
        packed = end < len(data) and name.startswith(("packed", "double")) and random.random() < 0.4
        path.write_bytes(spoiled_bytes(data, random, end) if packed else spoiled_text(data, random, end))

    def look() -> None:
        _grid_of(path, out)
        if packed:
            before, after = read_grid(inputs.images / name / name)[0], read_grid(path)[0]
            assert np.array_equal(before, after), "damaged voxels were segmented"

    return Trial(("segment", str(path), "--out", str(out), *SEGMENTING), after=look)


def spoiled_dicom(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """Segment a folder with a spoiled DICOM series, or one spoiled file of several frames."""
    name = random.choice(DICOM)
    series = folder / name
    shutil.copytree(inputs.images / name, series)
    paths = sorted(series.iterdir())
    for path in random.sample(paths, random.choice((1, 1, len(paths)))):
        if random.random() < 0.4:
            path.write_bytes(spoiled_bytes(path.read_bytes(), random))
        else:
            _spoil_elements(path, random)
    given = paths[0] if name == "multiframe" and random.random() < 0.5 else series
    return Trial(("segment", str(given), "--out", str(folder / "out.nrrd"), *SEGMENTING))


def _spoil_elements(path: Path, random: Random) -> None:
    data = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(random.choice((1, 1, 2))):
            element = random.choice([one for one in data.iterall() if one.VR != "SQ"])
            if random.random() < 0.2 and element.tag in data:
                del data[element.tag]
                continue
            word = random.choice(WORDS)
            try:
                number = float(word) if element.VR in ("FL", "FD") else int(float(word))
            except (ValueError, OverflowError):
                number = 0
            numeric = element.VR in ("US", "SS", "UL", "SL", "FL", "FD")
            try:
                element.value = (
                    number if numeric else word.encode("utf-8", "replace") if element.VR in ("OW", "OB") else word
                )
            except (ValueError, TypeError, OverflowError):
                element.value = None
        try:
            data.save_as(path)
        except Exception:  # what pydicom cannot write
            path.write_bytes(spoiled_bytes(path.read_bytes(), random))


def spoiled_labels(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """Compare a spoiled label map with a whole one."""
    path = folder / "labels.nii.gz"
    inner = gzip.decompress((inputs.root / "labels.nii.gz").read_bytes())
    ways = (lambda: spoiled_numbers(inner, random, NIFTI_FIELDS), lambda: spoiled_bytes(inner, random))
    path.write_bytes(gzip.compress(one_of(random, *ways), 1, mtime=0))
    words = (str(path), str(inputs.root / "labels.nii.gz"), "--out", str(folder / "out.csv"))
    return Trial(("evaluate", *words))


def spoiled_result(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """Compute a result again whose header has another provenance."""
    data = (inputs.root / "result.seg.nrrd").read_bytes()
    end = data.find(b"\n\n")
    line = re.search(rb"LightSeg_Provenance:=(.*)", data[:end])
    assert line
    provenance = json.loads(line[1])
    header = data[: line.start(1)] + spoiled_json(provenance, random).replace(b"\n", b" ") + data[line.end(1) : end]
    path = folder / "result.seg.nrrd"
    path.write_bytes((header if random.random() < 0.7 else spoiled_text(data[:end], random)) + data[end:])
    return Trial(("reproduce", str(path), str(inputs.images / "short.nii.gz" / "short.nii.gz")))


def _grid_of(path: Path, out: Path) -> None:
    """The result is on the grid of the image, by another reader."""
    result, geometry = sitk.ReadImage(str(out)), read_grid(path)[1]
    if abs(np.linalg.det(np.reshape(geometry.direction, (3, 3)))) < 0.999:
        return  # sheared: the result has a grid of its own
    assert result.GetSize()[::-1] == geometry.shape, "the result has another size than the image"
    for name, of_result, of_image in (
        ("spacing", result.GetSpacing(), geometry.spacing),
        ("origin", result.GetOrigin(), geometry.origin),
        ("direction", result.GetDirection(), geometry.direction),
    ):
        scale = max(1.0, *np.abs(of_image))
        assert np.allclose(of_result, of_image, rtol=1e-3, atol=1e-3 * scale), f"the result has another {name}"


# --- models --------------------------------------------------------------------------------------


def spoiled_checkpoint(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """Import a spoiled checkpoint, or give it to a model as its weights."""
    source = random.choice(sorted(inputs.checkpoints.iterdir()))
    data = source.read_bytes()
    path = folder / source.name
    if zipfile.is_zipfile(BytesIO(data)) and random.random() < 0.6:
        path.write_bytes(_rebuilt(data, random, ("data.pkl", "data.pkl", "version", "byteorder")))
    else:
        path.write_bytes(spoiled_bytes(data, random, 0, random.choice((None, min(len(data), 4000)))))
    use = ("weights", "use", "abdomen-ct-unetrpp", str(path), "--quiet")
    words = ("import", str(path)) if source.suffix == ".pth" else use
    return Trial(words, environment=_own_folders(folder))


def spoiled_zip(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """Import a spoiled zip file of a results folder."""
    data = (inputs.root / "model.zip").read_bytes()
    ways = (lambda: spoiled_bytes(data, random), lambda: _rebuilt(data, random, ("plans.json", "dataset.json")))
    ways += (lambda: spoiled_bytes(data, random, data.rfind(b"PK\x01\x02") - 400),)
    path = folder / "model.zip"
    path.write_bytes(one_of(random, *ways))

    def look() -> None:
        assert not list(folder.rglob("*outside*")), "the zip file has written outside its folder"

    return Trial(("import", str(path)), after=look, environment=_own_folders(folder))


def _rebuilt(data: bytes, random: Random, chosen: tuple[str, ...]) -> bytes:
    """An archive whose entries have spoiled content, with right checksums, or other names."""
    names = (
        "../outside",
        "/outside",
        "C:outside",
        "a\\..\\..\\outside",
        "",
        "DATA.PKL",
        "data.pkl",
        "CON",
        "a" * 300,
        "\x1b",
    )
    wanted, rename = random.choice(chosen), random.random() < 0.2
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for entry in old.infolist():
            content = old.read(entry)
            is_it = entry.filename.endswith(wanted)
            if is_it and not rename:
                spoil = spoiled_bytes if wanted.endswith(".pkl") else spoiled_text
                content = spoil(content, random)
            made = zipfile.ZipInfo(entry.filename)
            made.compress_type = random.choice((zipfile.ZIP_STORED, entry.compress_type, entry.compress_type))
            if is_it and rename:
                made.filename = random.choice((entry.filename.replace(wanted, ""), "")) + random.choice(names)
            new.writestr(made, content)
    return buffer.getvalue()


def spoiled_plans(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """Import a results folder whose plans or dataset.json are spoiled, in the checkpoint as well or not."""
    import torch

    model = folder / "nnunet"
    shutil.copytree(inputs.nnunet, model)
    name, entry = random.choice((("plans.json", "plans"), ("plans.json", "plans"), ("dataset.json", "dataset_json")))
    text = spoiled_json(json.loads((model / name).read_text(encoding="utf-8")), random)
    (model / name).write_bytes(text)
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    try:
        value = json.loads(text)
        content = torch.load(checkpoint, weights_only=False)
        content["init_args"][entry] = value
        torch.save(content, checkpoint)
    except (ValueError, RecursionError):
        pass
    given = checkpoint if random.random() < 0.3 else model

    def segment() -> int:
        code = main(["import", str(given)])
        image = inputs.images / "short.nii.gz" / "short.nii.gz"
        models = list((folder / "models").glob("*/model.json"))
        assert len(models) == (code == 0), "a model is there though it was refused, or the other way round"
        if code:
            return code
        words = ("--model", str(models[0].parent), "--precision", "float32", "--quiet", "--out", str(folder / "o.nrrd"))
        return main(["segment", str(image), *words])

    return Trial(call=segment, environment=_own_folders(folder))


def spoiled_card(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """List the models beside a spoiled card, describe it, segment with it."""
    model = folder / "models" / MODEL
    shutil.copytree(inputs.models / MODEL, model)
    card = model / "model.json"
    card.write_bytes(spoiled_json(json.loads(card.read_text(encoding="utf-8")), random))
    image = str(inputs.images / "short.nii.gz" / "short.nii.gz")
    words = random.choice(
        (
            ("models",),
            ("models", "--json"),
            ("info", str(model)),
            ("weights", "list"),
            ("segment", image, "--model", str(model), "--out", str(folder / "o.nrrd"), "--quiet"),
            ("segment", image, "--model", str(model), "--out", str(folder / "o.nrrd"), "--quiet"),
        )
    )
    return Trial(words, environment=_own_folders(folder))


def _own_folders(folder: Path) -> dict[str, str]:
    """Where nothing of what other trials made is."""
    return {"LIGHTSEG_MODELS": str(folder / "models"), "LIGHTSEG_WEIGHTS": str(folder / "weights")}


# --- tables, records, settings, data sets ---------------------------------------------------------


def spoiled_manifest(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """Plan a batch by a spoiled table."""
    path = folder / "cases.csv"
    path.write_bytes(spoiled_text((inputs.root / "cases.csv").read_bytes(), random))
    return Trial(call=lambda: _plan(path, folder / "out"))


def spoiled_records(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """Plan a batch that goes on, with spoiled records of what it has done."""
    records = folder / "out" / ".records"
    records.mkdir(parents=True)
    provenance = json.loads((inputs.root / "record.json").read_text(encoding="utf-8"))
    for case in "ABC":
        (records / f"{case}.json").write_bytes(spoiled_json(provenance, random))
    (records / ".tables.json").write_bytes(spoiled_json({"results.csv": ["0" * 64]}, random))
    return Trial(call=lambda: _plan(inputs.root / "cases.csv", folder / "out"))


def _plan(given: Path, out: Path) -> int:
    try:
        with plan_batch(given, MODEL, out, Settings()) as plan:
            print(len(list(steps(plan))))
    except LightSegError as error:
        print(f"lightseg: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def spoiled_settings(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """Use what the user's own folder remembers, spoiled: settings, what was downloaded, the half of a download."""
    own = folder / "LightSeg"
    kept = own / "weights" / "lung-tumor-ct-unetrpp"
    kept.mkdir(parents=True)
    (own / "settings.json").write_bytes(spoiled_json({"mirror": "http://127.0.0.1:9/x"}, random))
    record = {"id": kept.name, "version": "1.0", "file": "w.pt", "size": 3, "sha256": "0" * 64, "known": {"a": "b"}}
    (kept / "record.json").write_bytes(spoiled_json(record, random))
    (kept / "download.part.json").write_bytes(spoiled_json({"url": "http://127.0.0.1:9/x", "etag": "a"}, random))
    (kept / "download.part").write_bytes(b"abc")
    (kept / "w.pt").write_bytes(b"abc")
    words = random.choice((("list",), ("list", "--json"), ("verify",), ("path", kept.name), ("remove", kept.name)))
    return Trial(("weights", *words), environment={"XDG_DATA_HOME": str(folder), "LIGHTSEG_OFFLINE": "1"})


def spoiled_training_set(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """Train for one epoch on a set with a spoiled dataset.json or a spoiled file."""
    training = folder / "training"
    shutil.copytree(inputs.training, training)
    if random.random() < 0.6:
        provenance = json.loads((training / "dataset.json").read_text(encoding="utf-8"))
        (training / "dataset.json").write_bytes(spoiled_json(provenance, random))
    else:
        path = random.choice(sorted(training.glob("*/*.nii.gz")))
        inner = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(spoiled_numbers(inner, random, NIFTI_FIELDS), 1, mtime=0))
    return Trial(("train", str(training), "--out", str(folder / "model"), *TRAINING))


def spoiled_options(inputs: Inputs, folder: Path, random: Random) -> Trial:
    """Any words as values of the options of a command."""
    image = str(inputs.images / "short.nii.gz" / "short.nii.gz")
    words = [word for word in WORDS if "\x00" not in word and "\ud800" not in word and "/" not in word]
    flags, start = random.choice(
        (
            (
                (
                    "--roi",
                    "--device",
                    "--tile-overlap",
                    "--orientation",
                    "--precision",
                    "--largest-component",
                    "--model",
                ),
                ("segment", image, "--out", str(folder / "o.nrrd"), *SEGMENTING),
            ),
            (
                ("--epochs", "--batch-size", "--patch-size", "--learning-rate", "--weight-decay", "--warmup-epochs"),
                ("train", str(inputs.training), "--out", str(folder / "model"), *TRAINING),
            ),
            (
                ("--class-weight-exponent", "--foreground-fraction", "--flip-axes", "--ema-decay", "--seed", "--card"),
                ("train", str(inputs.training), "--out", str(folder / "model"), *TRAINING),
            ),
            (
                ("--validation-fraction", "--validate-every", "--device", "--card"),
                ("train", str(inputs.training), "--out", str(folder / "model"), *TRAINING),
            ),
        )
    )
    return Trial(
        (*start, random.choice(flags), random.choice((*words, "1,2,3,4,5,6", "16,16,16", "0,1", "LPS", "RAS")))
    )


KINDS: dict[str, Spoil] = {
    "image": spoiled_image,
    "dicom": spoiled_dicom,
    "labels": spoiled_labels,
    "result": spoiled_result,
    "checkpoint": spoiled_checkpoint,
    "zip": spoiled_zip,
    "plans": spoiled_plans,
    "card": spoiled_card,
    "manifest": spoiled_manifest,
    "records": spoiled_records,
    "settings": spoiled_settings,
    "training": spoiled_training_set,
    "options": spoiled_options,
}
OFTEN = (
    "image",
    "image",
    "image",
    "dicom",
    "dicom",
    "checkpoint",
    "plans",
    "card",
)  # tried more often than once a round
