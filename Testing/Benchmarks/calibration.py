"""What Dice the brain model may expect of its structures, and when it should warn: measured, fitted, and written.

    python Testing/Benchmarks/calibration.py LABELMAPS HEADS --out FOLDER [--images N] [--write]

Whole heads are synthesized from the label maps that no training saw, of every contrast, with all that the training's
generator does to images, in any pose, and segmented as a user would. FOLDER/images.json has the soft Dice and the true
Dice of every structure. What is expected of each label map is checked by a fit to the others; what is written
is fitted to all. HEADS, image files in a folder, are segmented as they are and damaged: FOLDER/heads.json.
A later call goes on where one was interrupted, so new weights need a new FOLDER. `--write` puts the numbers into the
card of the model.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "LightSeg"))

from damage import cases, middle_of  # noqa: E402
from LightSegLib.catalog.card import Calibration  # noqa: E402
from LightSegLib.catalog.card_file import read_card, write_card  # noqa: E402
from LightSegLib.catalog.lookup import CARDS_FOLDER, find_card  # noqa: E402
from LightSegLib.core.errors import LightSegError  # noqa: E402
from LightSegLib.evaluation.metrics import dice  # noqa: E402
from LightSegLib.imaging.geometry import Geometry  # noqa: E402
from LightSegLib.imaging.readers import read_volume  # noqa: E402
from LightSegLib.imaging.volume import Segmentation, Volume  # noqa: E402
from LightSegLib.inference.options import InferenceOptions  # noqa: E402
from LightSegLib.inference.segmenter import Segmenter  # noqa: E402
from LightSegLib.training.material import prepare  # noqa: E402
from LightSegLib.training.synthesis.atlas import surrounding  # noqa: E402
from LightSegLib.training.synthesis.generator import IGNORED, SampleRequest  # noqa: E402
from LightSegLib.training.synthesis.options import SynthesisOptions  # noqa: E402
from LightSegLib.training.synthetic_options import SyntheticTrainingOptions  # noqa: E402
from synthesized_heads import MARGIN, MODEL, random_pose  # noqa: E402

KINDS = ("T1", "T2", "FLAIR", None)  # None: random
SEED, FIRST = 17, 5000  # number of the first image: no other script has these
POINTS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)  # quantiles of the soft Dice at which the line bends
BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LARGE_ML = 3.0
SPARE = 0.5  # standard deviations of heads without damage, below the lowest of which no other one shall be
AS_IT_IS = "as it is"
Line = tuple[tuple[float, ...], tuple[float, ...]]  # soft Dice and Dice
LEAST = 50  # true voxels of 1 mm of a structure that counts


def soft_segmenter(model: str) -> Segmenter:
    """Return the model with the soft Dice itself in place of what is expected, and without a warning."""
    card = find_card(model)
    values = tuple(label.value for label in card.labels)
    plain = Calibration((0.0, 1.0), (0.0, 1.0), values, 0.0)
    return Segmenter(replace(card, inference=replace(card.inference, calibration=plain)), InferenceOptions("cpu"))


def facts_of(result: Segmentation) -> dict[str, Any]:
    """Return the soft Dice of each structure, and what the alignment explains."""
    alignment = result.provenance["alignment"]
    return {
        "soft": result.provenance["expected_dice"],
        "information": round(alignment["information"] + alignment["inner_information"], 4),
    }


def synthesized(label_maps: Path, segmenter: Segmenter, images: range) -> Iterator[dict[str, Any]]:
    """Yield, for each image, its subject and contrast, and the soft and the true Dice of each structure."""
    if not images:
        return
    material = prepare(label_maps, SyntheticTrainingOptions(settings="brain"))
    generator = material.generator(material.validation, 1)
    grid = surrounding(material.layout.grid, MARGIN, 1.0)
    plain = Geometry(grid.size, (grid.spacing,) * 3, grid.origin)
    subjects = len(material.validation)
    for number in images:
        request = SampleRequest(number % subjects, KINDS[number // subjects % len(KINDS)])
        sample = generator.sample(FIRST + number, grid, SynthesisOptions(), request)
        pose = random_pose(np.random.default_rng((SEED, number)))
        geometry = Geometry.from_index_to_world(pose @ plain.index_to_world, grid.size)
        classes = sample.classes.numpy()
        fact: dict[str, Any] = {"subject": sample.subject, "kind": request.kind or "random"}
        try:
            result = segmenter.segment([Volume(sample.image.numpy(), geometry, "head")])
        except LightSegError as error:
            yield fact | {"error": str(error)}
            continue
        seen = classes != IGNORED
        true = {label.name: (classes == label.value) for label in segmenter.card.labels}
        found = {label.name: (result.voxels == label.value) & seen for label in segmenter.card.labels}
        counted = {name: int(mask.sum()) for name, mask in true.items()}
        scores = {name: round(dice(found[name], mask), 4) for name, mask in true.items() if counted[name] >= LEAST}
        yield fact | facts_of(result) | {"dice": scores, "ml": {name: n / 1000 for name, n in counted.items()}}


def real(heads: Path, segmenter: Segmenter, done: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield, for each form of each head, its name, whether a warning is wanted, and what the model says of it."""
    for path in sorted(heads.iterdir()):
        name = path.name.split(".")[0]
        if "lesions" in name:  # labels
            continue
        volume = read_volume(path)
        first = segmenter.segment([volume])
        if (name, AS_IT_IS) not in done:
            yield {"head": name, "form": AS_IT_IS, "warning wanted": False} | facts_of(first)
        for wanted, form, other in cases(volume, middle_of(first.voxels > 0, first.geometry)):
            if (name, form) in done:
                continue
            fact = {"head": name, "form": form, "warning wanted": wanted}
            try:
                yield fact | facts_of(segmenter.segment([other]))
            except LightSegError as error:
                yield fact | {"error": str(error)}


def known(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; none where there is no file."""
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def with_more(rows: list[dict[str, Any]], more: Iterator[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Return rows and more rows, written as soon as they are known."""
    for row in more:
        rows.append(row)
        path.write_text(json.dumps(rows), encoding="utf-8")
        print({name: value for name, value in row.items() if name not in ("soft", "dice", "ml")}, flush=True)
    return rows


def pairs(rows: list[dict[str, Any]]) -> np.ndarray:
    """Return soft and true Dice of all structures of all images, [n, 2]; one that was not found has 0 and 0."""
    return np.array([(row["soft"].get(name, 0.0), score) for row in rows for name, score in row["dice"].items()])


def fitted(points: np.ndarray) -> Line:
    """Return soft Dice and Dice of a rising line of straight pieces, of the least squares."""
    from scipy.optimize import nnls

    soft, true = points.T
    bends = np.unique(np.quantile(soft[soft > 0], POINTS).round(3))
    ramps = [np.clip((soft - low) / (high - low), 0, 1) for low, high in zip(bends[:-1], bends[1:], strict=True)]
    heights = np.cumsum(nnls(np.stack((np.ones_like(soft), *ramps), axis=1), true)[0])
    return tuple(map(float, bends)), tuple(float(min(1.0, round(height, 3))) for height in heights)


def reliability(rows: list[dict[str, Any]]) -> np.ndarray:
    """Return expected and true Dice [n, 2]; of each label map by what was fitted on the others."""
    found = []
    for subject in sorted({row["subject"] for row in rows}):
        line = fitted(pairs([row for row in rows if row["subject"] != subject]))
        own = pairs([row for row in rows if row["subject"] == subject])
        found.append(np.stack((np.interp(own[:, 0], *line), own[:, 1]), axis=1))
    return np.concatenate(found)


def print_reliability(checked: np.ndarray) -> None:
    """Print the table of the documentation."""
    print("| expected Dice | structures | mean expected | mean true | true, middle half |\n|---|---|---|---|---|")
    for low, high in zip(BINS[:-1], BINS[1:], strict=True):
        own = checked[(checked[:, 0] >= low) & (checked[:, 0] < high)]
        if len(own):
            quarters = " to ".join(f"{q:.2f}" for q in np.quantile(own[:, 1], (0.25, 0.75)))
            print(f"| {low} to {high} | {len(own)} | {own[:, 0].mean():.3f} | {own[:, 1].mean():.3f} | {quarters} |")
    away = np.abs(checked[:, 0] - checked[:, 1])
    print(f"mean error {away.mean():.3f}, correlation {np.corrcoef(checked.T)[0, 1]:.3f}")


def figures(row: dict[str, Any], names: list[str], line: Line) -> tuple[float, float]:
    """Return the mean expected Dice of large structures and what the alignment explains; zeros where refused."""
    if "error" in row:
        return 0.0, 0.0
    return float(np.mean([np.interp(row["soft"].get(name, 0.0), *line) for name in names])), row["information"]


def limits(heads: list[dict[str, Any]], names: list[str], line: Line) -> tuple[float, float]:
    """Return the least expected Dice and the least information: a little below those of all heads without damage."""
    good = np.array([figures(row, names, line) for row in heads if not row["warning wanted"] and "error" not in row])
    least_dice, least_information = good.min(axis=0) - (SPARE * good[:, 0].std(), SPARE * good[:, 1].std())
    return float(np.floor(100 * least_dice) / 100), max(0.0, float(np.floor(100 * least_information) / 100))


def print_heads(heads: list[dict[str, Any]], names: list[str], line: Line, least: tuple[float, float]) -> None:
    """Print the table of the documentation: of each form, how many are warned of, and the figures of each head."""
    print("| image | refused | warned of | expected Dice | information |\n|---|---|---|---|---|")
    for form in dict.fromkeys(row["form"] for row in sorted(heads, key=lambda row: row["warning wanted"])):
        rows = [row for row in heads if row["form"] == form]
        refused = sum("error" in row for row in rows)
        found = [figures(row, names, line) for row in rows if "error" not in row]
        warned = sum(any(value < limit for value, limit in zip(one, least, strict=True)) for one in found)
        spans = [f"{min(values):.2f} to {max(values):.2f}" for values in zip(*found, strict=True)] or ["", ""]
        print(f"| {form} | {refused} of {len(rows)} | {warned} | {spans[0]} | {spans[1]} |")
    for row in heads:
        print(row["form"], row["head"], *(f"{value:.3f}" for value in figures(row, names, line)))


def write(model: str, calibration: Calibration) -> None:
    """Put the numbers into the card of the model."""
    path = CARDS_FOLDER / f"{model}.json"
    card = read_card(path)
    write_card(replace(card, inference=replace(card.inference, calibration=calibration)), path)


def main() -> None:
    """Measure, fit, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("label_maps", type=Path)
    parser.add_argument("heads", type=Path)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--images", type=int, default=36)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--write", action="store_true", help="put the numbers into the card of the model")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    segmenter = soft_segmenter(arguments.model)
    path = arguments.out / "images.json"
    rows = known(path)
    rows = with_more(rows, synthesized(arguments.label_maps, segmenter, range(len(rows), arguments.images)), path)
    refused = sum("error" in row for row in rows)
    rows = [row for row in rows if "error" not in row]
    print_reliability(reliability(rows))
    line = fitted(pairs(rows))
    means = {label: np.mean([row["ml"][label.name] for row in rows]) for label in segmenter.card.labels}
    large = [label for label, ml in means.items() if ml >= LARGE_ML]
    names = [label.name for label in large]
    path = arguments.out / "heads.json"
    heads = known(path)
    heads = with_more(heads, real(arguments.heads, segmenter, {(row["head"], row["form"]) for row in heads}), path)
    least = limits(heads, names, line)
    print_heads(heads, names, line, least)
    false = [any(v < limit for v, limit in zip(figures(row, names, line), least, strict=True)) for row in rows]
    print(f"warned of {sum(false)} of {len(rows)} synthesized images; {refused} were refused")
    calibration = Calibration(*line, tuple(label.value for label in large), *least)
    print(calibration)
    if arguments.write:
        write(arguments.model, calibration)


if __name__ == "__main__":
    main()
