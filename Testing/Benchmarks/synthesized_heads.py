"""The brain model from end to end: whole heads synthesized from label maps that it was not trained on.

    python Testing/Benchmarks/synthesized_heads.py LABELMAPS --out FILE.json [--model FOLDER] [--heads N] [--kinds T1]

Each head has voxels of 1 mm, is turned by up to 15 degrees about each axis and moved by up to 20 mm, and is segmented
as a user would; labels are compared on its own grid. The registration's error is the mean distance, over places within
50 mm of the middle, from where the map by the structures themselves puts them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "LightSeg"))

from LightSegLib.catalog.card import Card  # noqa: E402
from LightSegLib.catalog.lookup import find_card  # noqa: E402
from LightSegLib.evaluation.metrics import dice  # noqa: E402
from LightSegLib.imaging.geometry import Geometry  # noqa: E402
from LightSegLib.imaging.volume import Volume  # noqa: E402
from LightSegLib.inference.options import InferenceOptions  # noqa: E402
from LightSegLib.inference.segmenter import Segmenter  # noqa: E402
from LightSegLib.training.earlier_runs import runs_of, seen  # noqa: E402
from LightSegLib.training.material import Material, prepare  # noqa: E402
from LightSegLib.training.synthesis.atlas import ALIGNED, surrounding  # noqa: E402
from LightSegLib.training.synthesis.generator import SampleRequest  # noqa: E402
from LightSegLib.training.synthetic_options import SyntheticTrainingOptions  # noqa: E402

MODEL = "brain-mr-atlas-unet"
CONTRASTS = {"T1": "T1", "T2": "T2", "FLAIR": "FLAIR", "random": "tissues"}
KINDS = {
    f"{name}, {'5 mm' if slices else '1 mm'}": (contrast, slices)
    for name, contrast in CONTRASTS.items()
    for slices in (0.0, 5.0)
}
TURN, SHIFT, MARGIN, NEAR = 15.0, 20.0, 32.0, 50.0  # degrees; mm
SEED = 11


def unseen(label_maps: Path, card: Card) -> Material:
    """Return the label maps of which three are set aside; end where a training of the model has seen one of these."""
    material = prepare(label_maps, SyntheticTrainingOptions(settings="brain"))
    names = [material.maps[n].name for n in material.validation]
    if known := seen(runs_of(card.training), "label_maps", names):
        sys.exit(
            f"{card.id} {card.version} was trained on {', '.join(known)}. Name a sibling that was not with --model."
        )
    return material


def random_pose(random: np.random.Generator) -> np.ndarray:
    """A rigid map, 4x4, mm."""
    pose = np.eye(4)
    for axis, angle in enumerate(np.radians(random.uniform(-TURN, TURN, 3))):
        a, b = (other for other in range(3) if other != axis)
        turn = np.eye(4)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        pose = turn @ pose
    pose[:3, 3] = random.uniform(-SHIFT, SHIFT, 3)
    return pose


def registration_error(found: np.ndarray, true: np.ndarray) -> float:
    """Mean distance in mm between two maps 4x4 of places near the middle."""
    steps = np.linspace(-NEAR, NEAR, 11)
    places = np.array([[*place, 1.0] for place in itertools.product(steps, repeat=3) if np.linalg.norm(place) <= NEAR])
    return float(np.linalg.norm((places @ (found - true).T)[:, :3], axis=1).mean())


def table(facts: dict[str, list[dict[str, Any]]]) -> str:
    """The mean Dice of each structure, both sides together, by kind, in Markdown."""
    names = [name for name in facts[next(iter(facts))][0]["structures"] if not name.startswith("Right ")]
    lines = [f"| Structure | {' | '.join(facts)} |", "|---" * (1 + len(facts)) + "|"]
    for name in names:
        both = {name, name.replace("Left ", "Right ")}
        means = [np.nanmean([row["structures"][one] for row in rows for one in both]) for rows in facts.values()]
        lines.append(f"| {name.removeprefix('Left ')} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    for name, digits in (("dice", 3), ("error_mm", 1)):
        means = [np.mean([row[name] for row in rows]) for rows in facts.values()]
        title = {"dice": "mean", "error_mm": "registration error, mm"}[name]
        lines.append(f"| {title} | {' | '.join(f'{mean:.{digits}f}' for mean in means)} |")
    return "\n".join(lines)


def main() -> None:
    """Synthesize, segment, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("label_maps", type=Path)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--heads", type=int, default=3, help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=CONTRASTS, default=[*CONTRASTS], help="contrasts (default: all)")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    segmenter = Segmenter(find_card(arguments.model), InferenceOptions(device="cpu"))
    material = unseen(arguments.label_maps, segmenter.card)
    generator = material.generator(material.validation, 1)
    grid = surrounding(material.layout.grid, MARGIN, 1.0)
    plain = Geometry(grid.size, (grid.spacing,) * 3, grid.origin)
    random = np.random.default_rng(SEED)
    facts: dict[str, list[dict[str, Any]]] = {}
    for (kind, (contrast, slices)), head in itertools.product(KINDS.items(), range(arguments.heads)):
        pose = random_pose(random)  # the same for a head of a kind, whichever kinds are asked for
        if kind.split(",")[0] not in arguments.kinds:
            continue
        request = SampleRequest(head % len(material.validation), contrast, slices, whole=True)
        sample = generator.sample(head, grid, ALIGNED, request)
        geometry = Geometry.from_index_to_world(pose @ plain.index_to_world, grid.size)
        result = segmenter.segment([Volume(sample.image.numpy(), geometry, kind)])
        classes = sample.classes.numpy()
        scores = {
            label.name: round(dice(result.voxels == label.value, classes == label.value), 4)
            for label in segmenter.card.labels
        }
        found = np.array(result.provenance["alignment"]["template_to_image_lps"])
        mean, error = round(float(np.nanmean([*scores.values()])), 4), round(registration_error(found, pose), 2)
        facts.setdefault(kind, []).append({"dice": mean, "error_mm": error, "structures": scores})
        print(kind, sample.subject, mean, f"{error} mm", flush=True)
        arguments.out.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    print(table(facts))


if __name__ == "__main__":
    main()
