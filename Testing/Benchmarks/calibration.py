"""What Dice the brain model may expect of its structures, and when it should warn: measured, fitted, and written.

    python Testing/Benchmarks/calibration.py LABELMAPS HEADS --out FOLDER [--images N] [--without-damage] [--write]

Whole heads are synthesized from the label maps that no training saw, of every contrast, with all that the training's
generator does to images, every second dozen with more noise, in any pose, and segmented as a user would:
FOLDER/images.json has the soft Dice and the true Dice of every structure. What is expected of each label map is checked
by a fit to the others; what is written is fitted to all. HEADS, image files in a folder, are segmented as they are and
damaged: FOLDER/heads.json. A later call goes on where one was interrupted, so new weights need a new FOLDER; those of a
last training on all label maps need one with the images.json of their sibling, which alone has not seen some of these.
`--write` puts the numbers into the card of the model.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "LightSeg"), str(ROOT / "Testing")]

from damaged_heads import damaged, harmless, middle_of  # noqa: E402
from LightSegLib.catalog.card import Calibration, Card  # noqa: E402
from LightSegLib.catalog.card_file import read_card, write_card  # noqa: E402
from LightSegLib.catalog.lookup import CARDS_FOLDER, find_card  # noqa: E402
from LightSegLib.core.atomic_io import atomic_write  # noqa: E402
from LightSegLib.core.errors import LightSegError  # noqa: E402
from LightSegLib.evaluation.metrics import dice  # noqa: E402
from LightSegLib.imaging.geometry import Geometry  # noqa: E402
from LightSegLib.imaging.readers import read_volume  # noqa: E402
from LightSegLib.imaging.volume import Segmentation, Volume  # noqa: E402
from LightSegLib.inference.expected_dice import expected_dice, explained, figures  # noqa: E402
from LightSegLib.inference.options import InferenceOptions  # noqa: E402
from LightSegLib.inference.segmenter import Segmenter  # noqa: E402
from LightSegLib.training.synthesis.atlas import surrounding  # noqa: E402
from LightSegLib.training.synthesis.generator import IGNORED, SampleRequest  # noqa: E402
from LightSegLib.training.synthesis.options import SynthesisOptions  # noqa: E402
from synthesized_heads import MARGIN, MODEL, random_pose, unseen  # noqa: E402

NOISES = ((0.0, 0.06), (0.06, 0.25))  # spans: as in the training, and more
KINDS = ("T1", "T2", "FLAIR", None)  # None: random
SEED, FIRST = 17, 5000  # number of the first image: no other script has these
POINTS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)  # quantiles of the soft Dice at which the line bends
BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SIDES = re.compile("^(Left|Right) ")
LARGE_ML = 3.0
SPARE = 0.25  # standard deviations of heads without damage, below the lowest of which no other one shall be
ROUNDS, SHRINKAGE = 30, 2.0  # of the fit in turn; as many images without an offset are added to each label's
LEAST = 50  # true voxels of 1 mm of a structure that counts


def calibrated(card: Card, calibration: Calibration) -> Card:
    """Return a card with such a calibration."""
    return replace(card, inference=replace(card.inference, calibration=calibration))


def pairs_of(card: Card, large: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the labels of the left and the right of each large structure that has sides."""
    values = {label.name: label.value for label in card.labels if label.value in large}
    right = {name: name.replace("Left ", "Right ") for name in values if name.startswith("Left ")}
    return tuple((values[name], values[other]) for name, other in right.items() if other in values)


def expected_of(row: dict[str, Any], card: Card) -> dict[int, float]:
    """Return the Dice that a card expects of each label of an image, by its value."""
    soft = {label.value: row["soft"][label.name] for label in card.labels if label.name in row["soft"]}
    return expected_dice(card, soft)


def soft_segmenter(model: str) -> Segmenter:
    """Return the model, which states the soft Dice and warns of nothing, with or without a calibration of its own."""
    card = find_card(model)
    values = tuple(label.value for label in card.labels)
    plain = Calibration((0.0, 1.0), (0.0, 1.0), values, 0.0)
    return Segmenter(calibrated(card, plain), InferenceOptions("cpu"))


def facts_of(result: Segmentation) -> dict[str, Any]:
    """Return the soft Dice of each label of the network, and what the alignment explains."""
    facts = result.provenance
    return {"soft": facts["soft_dice"], "information": round(explained(facts["alignment"]), 4)}


def synthesized(label_maps: Path, segmenter: Segmenter, images: range) -> Iterator[dict[str, Any]]:
    """Yield, for each image, its subject and contrast, and the soft and the true Dice of each structure."""
    if not images:
        return
    material = unseen(label_maps, segmenter.card)
    generator = material.generator(material.validation, 1)
    grid = surrounding(material.layout.grid, MARGIN, 1.0)
    plain = Geometry(grid.size, (grid.spacing,) * 3, grid.origin)
    subjects = len(material.validation)
    for number in images:
        request = SampleRequest(number % subjects, KINDS[number // subjects % len(KINDS)])
        noise = NOISES[number // (subjects * len(KINDS)) % len(NOISES)]
        sample = generator.sample(FIRST + number, grid, SynthesisOptions(noise=noise), request)
        pose = random_pose(np.random.default_rng((SEED, number)))
        geometry = Geometry.from_index_to_world(pose @ plain.index_to_world, grid.size)
        classes = sample.classes.numpy()
        fact = {"subject": sample.subject, "kind": request.kind or "random"}
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


def real(
    heads: Path, segmenter: Segmenter, rows: Sequence[dict[str, Any]], out: Path, kinds: Sequence[bool]
) -> Iterator[dict[str, Any]]:
    """Yield, for each form of each head, its name, whether it is damaged, and what the model says of it.

    What the form has changed in the labels is the Dice of each structure with those of the head as it is.

    Args:
        heads: folder of the images.
        rows: that are known already.
        out: where the labels of the heads are kept.
        kinds: whether the forms do damage: False for what does none, True for what does.
    """
    files = {path.name.split(".")[0]: path for path in sorted(heads.iterdir()) if "lesions" not in path.name}
    done = {(row["head"], row["form"]) for row in rows}
    for name, path in files.items():
        if (name, "as it is") not in done or not (out / f"{name}.npy").exists():
            result = segmenter.segment([read_volume(path)])
            with atomic_write(out / f"{name}.npy") as part:
                np.save(part, result.voxels)
            if (name, "as it is") not in done:
                yield {"head": name, "form": "as it is", "damaged": False} | facts_of(result)
    for damage, name in itertools.product(kinds, files):
        volume, own = read_volume(files[name]), np.load(out / f"{name}.npy")
        middle = middle_of(own > 0, volume.geometry)
        for form, other in damaged(volume, middle) if damage else harmless(volume):
            if (name, form) not in done:
                fact = {"head": name, "form": form, "damaged": damage}
                try:
                    result = segmenter.segment([other])
                except LightSegError as error:
                    yield fact | {"error": str(error)}
                    continue
                scores = {
                    label.name: round(dice(result.voxels == label.value, own == label.value), 4)
                    for label in segmenter.card.labels
                    if (own == label.value).any()
                }
                yield fact | facts_of(result) | {"dice": scores}


def known(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; none where there is no file."""
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def with_more(rows: list[dict[str, Any]], more: Iterator[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Return rows and more rows, written as soon as they are known."""
    for row in more:
        rows.append(row)
        with atomic_write(path) as part:
            part.write_text(json.dumps(rows), encoding="utf-8")
        print({name: value for name, value in row.items() if name not in ("soft", "dice", "ml")}, flush=True)
    return rows


def measured(rows: list[dict[str, Any]], names: Sequence[str]) -> np.ndarray:
    """Return label, by its place in the names, soft and true Dice of all structures of all images, [n, 3]."""
    places = {name: place for place, name in enumerate(names)}
    return np.array(
        [(places[name], row["soft"].get(name, 0.0), score) for row in rows for name, score in row["dice"].items()]
    )


def fitted(points: np.ndarray, names: Sequence[str]) -> Calibration:
    """Return what describes the Dice best: a rising line of straight pieces from 0, and an offset of each structure.

    Both sides of a structure have the same offset: the network is one for both, and its difference shall count alone.
    """
    from scipy.optimize import nnls

    place, soft, true = points.T
    structures, group = np.unique([SIDES.sub("", name) for name in names], return_inverse=True)
    own, count = group[place.astype(int)], len(structures)
    bends = np.array([0.0, *np.unique(np.quantile(soft[soft > 0], POINTS).round(3))])
    ramps = [np.clip((soft - low) / (high - low), 0, 1) for low, high in zip(bends[:-1], bends[1:], strict=True)]
    offsets = np.zeros(count)
    for _step in range(ROUNDS):
        heights = np.array([0.0, *np.cumsum(nnls(np.stack(ramps, axis=1), true - offsets[own])[0])])
        residual = true - np.interp(soft, bends, heights)
        offsets = np.bincount(own, residual, count) / (np.bincount(own, minlength=count) + SHRINKAGE)
    heights = np.minimum(1, heights.round(3))
    line, own_offsets = (tuple(bends.tolist()), tuple(heights.tolist())), tuple(offsets[group].round(3).tolist())
    return Calibration(*line, large=(), least_dice=0.0, offsets=own_offsets)


def reliability(rows: list[dict[str, Any]], card: Card) -> np.ndarray:
    """Return expected and true Dice [n, 2]; of each label map by what was fitted to the others."""
    names, values = [label.name for label in card.labels], {label.name: label.value for label in card.labels}
    found = []
    for subject in sorted({row["subject"] for row in rows}):
        fit = fitted(measured([row for row in rows if row["subject"] != subject], names), names)
        for row in rows:
            if row["subject"] == subject:
                expected = expected_of(row, calibrated(card, fit))
                found += [(expected.get(values[name], 0.0), score) for name, score in row["dice"].items()]
    return np.array(found)


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


def judged_by(row: dict[str, Any], card: Card) -> np.ndarray:
    """Return the figures by which an image is judged, the more the better: the difference of sides is negative."""
    assert card.inference.calibration is not None
    found = figures(card.inference.calibration, expected_of(row, card), row["information"])
    return np.array([found.mean, found.information, -found.difference])


def limits(heads: list[dict[str, Any]], card: Card) -> np.ndarray:
    """Return the least of each figure: a little below that of all heads without damage, to two digits."""
    good = np.array([judged_by(row, card) for row in heads if not row["damaged"] and "error" not in row])
    return np.floor(100 * (good.min(axis=0) - SPARE * good.std(axis=0))) / 100


def print_heads(heads: list[dict[str, Any]], card: Card, least: np.ndarray) -> None:
    """Print the table of the documentation: of each form, how many are warned of, and the figures; and each head."""
    assert card.inference.calibration is not None
    large = [label.name for label in card.labels if label.value in card.inference.calibration.large]
    head = "image | refused | warned of | labels unchanged | expected Dice | information | worse side"
    print(f"| {head} |\n|{'---|' * (head.count('|') + 1)}")
    lines = []
    for form in dict.fromkeys(row["form"] for row in sorted(heads, key=lambda row: row["damaged"])):
        rows = [row for row in heads if row["form"] == form and "error" not in row]
        found = np.array([judged_by(row, card) for row in rows])
        same = [np.mean([row["dice"].get(name, 1.0) for name in large]) for row in rows if "dice" in row]
        warned = (found < least).any(axis=1)
        lines += [
            f"{'warned' if one else 'passed'} {form} {row['head']} {values.round(3)} {same[n] if same else 1.0:.3f}"
            for n, (one, row, values) in enumerate(zip(warned, rows, found, strict=True))
        ]
        spans = [f"{min(values):.2f} to {max(values):.2f}" if len(values) else "" for values in (same, *found.T)]
        count = sum(row["form"] == form for row in heads)
        print(f"| {form} | {count - len(rows)} of {count} | {warned.sum()} | {' | '.join(spans)} |")
    print("\n".join(lines))


def write(model: str, calibration: Calibration) -> None:
    """Put the numbers into the card of the model."""
    path = CARDS_FOLDER / f"{model}.json"
    write_card(calibrated(read_card(path), calibration), path)


def main() -> None:
    """Measure, fit, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("label_maps", type=Path)
    parser.add_argument("heads", type=Path)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--without-damage", action="store_true", help="the limits follow from what is not damaged")
    parser.add_argument("--write", action="store_true", help="put the numbers into the card of the model")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    segmenter = soft_segmenter(arguments.model)
    path = arguments.out / "images.json"
    rows = known(path)
    rows = with_more(rows, synthesized(arguments.label_maps, segmenter, range(len(rows), arguments.images)), path)
    refused = sum("error" in row for row in rows)
    rows = [row for row in rows if "error" not in row]
    card = segmenter.card
    names = [label.name for label in card.labels]
    print_reliability(reliability(rows, card))
    ml = {label.value: np.mean([row["ml"][label.name] for row in rows]) for label in card.labels}
    large = tuple(value for value, mean in ml.items() if mean >= LARGE_ML)
    fit = replace(fitted(measured(rows, names), names), large=large, pairs=pairs_of(card, large))
    card = calibrated(card, fit)
    path = arguments.out / "heads.json"
    heads = known(path)
    kinds = (False,) if arguments.without_damage else (False, True)
    heads = with_more(heads, real(arguments.heads, segmenter, list(heads), arguments.out, kinds), path)
    least = limits(heads, card)
    print_heads(heads, card, least)
    warned = sum((judged_by(row, card) < least).any() for row in rows)
    print(f"warned of {warned} of {len(rows)} synthesized images; {refused} were refused")
    mean, information, difference = least.tolist()
    calibration = replace(fit, least_dice=mean, least_information=information, most_difference=round(-difference, 2))
    print(calibration)
    if arguments.write:
        write(arguments.model, calibration)


if __name__ == "__main__":
    main()
