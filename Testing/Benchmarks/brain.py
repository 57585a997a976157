"""How the bundled brain model does on real heads, with the figures and pictures to judge it by.

    python Testing/Benchmarks/brain.py HEAD... --expected LABELS --out FOLDER [--measure]

Every HEAD (an image file) is segmented, with seconds and peak memory of this process; a picture of each goes to
FOLDER, and `FOLDER/brain.json` has all figures. LABELS is a folder with what MeshNet and hippodeep find in the heads
(`brain-structures-meshnet__head_a.nii.gz`, `hippodeep_L__head_a.nii.gz` and `.._R..`, for a HEAD whose name begins with
head_a): with these, `FOLDER/brain.md` has the tables of Documentation/explanation/brain-model.md, of both sides
together. --measure adds time and memory of all three from the command line, for an idle computer.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import measure
import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "LightSeg"))

from LightSegLib.catalog.card import Card  # noqa: E402
from LightSegLib.catalog.lookup import find_card  # noqa: E402
from LightSegLib.core.errors import LightSegError  # noqa: E402
from LightSegLib.imaging.readers import read_grid, read_volume  # noqa: E402
from LightSegLib.imaging.volume import Segmentation  # noqa: E402
from LightSegLib.inference.options import InferenceOptions  # noqa: E402
from LightSegLib.inference.segmenter import Segmenter  # noqa: E402
from LightSegLib.rendering.case import draw_case  # noqa: E402
from LightSegLib.weights.store import WeightStore  # noqa: E402

MODEL = "brain-mr-atlas-unet"
OTHERS = "brain-structures-meshnet", "hippodeep"
HALF = 128  # of hippodeep's shades of gray
MESHNET = (  # value 1 on: names of the labels, without the side
    "cerebral white matter",
    "cerebral cortex",
    "lateral ventricle",
    "inferior lateral ventricle",
    "cerebellar white matter",
    "cerebellar cortex",
    "thalamus",
    "caudate nucleus",
    "putamen",
    "globus pallidus",
    "third ventricle",
    "fourth ventricle",
    "brain stem",
    "hippocampus",
    "amygdala",
    "nucleus accumbens",
    "ventral diencephalon",
)


HIPPOCAMPUS = "hippocampus"


def dice(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Dice of two masks, rounded."""
    return round(float(2 * (ours & theirs).sum() / max(1, ours.sum() + theirs.sum())), 3)


def of_structure(card: Card, voxels: np.ndarray, name: str) -> np.ndarray:
    """Where a structure is, of both sides."""
    sides = (name, f"left {name}", f"right {name}")
    return np.isin(voxels, [label.value for label in card.labels if label.name.lower() in sides])


def compared(card: Card, result: Segmentation, name: str, expected: Path) -> dict[str, Any]:
    """Dice and volumes of both sides of each structure, beside what the others find; nothing without their files."""
    others = [expected / f"{model}__{name}.nii.gz" for model in (OTHERS[0], "hippodeep_L", "hippodeep_R")]
    if not all(path.is_file() for path in others):
        return {}
    meshnet, left, right = (read_grid(path)[0] for path in others)
    ml = result.geometry.voxel_volume_ml
    hippodeep = (left >= HALF) | (right >= HALF)
    rows = {}
    for number, structure in enumerate(MESHNET, start=1):
        ours, theirs = of_structure(card, result.voxels, structure), meshnet == number
        rows[structure] = {
            "ml": round(ours.sum() * ml, 2),
            "meshnet_ml": round(theirs.sum() * ml, 2),
            "dice": dice(ours, theirs),
        }
    hippocampus = {
        "hippodeep_ml": round(float(hippodeep.sum() * ml), 2),
        "dice": dice(of_structure(card, result.voxels, HIPPOCAMPUS), hippodeep),
        "meshnet_dice": dice(meshnet == 1 + MESHNET.index(HIPPOCAMPUS), hippodeep),
    }
    mean = round(float(np.mean([row["dice"] for row in rows.values()])), 3)
    agreement = {"mean": mean} | {structure: row["dice"] for structure, row in rows.items()}
    return {"agreement_with_meshnet": agreement, "structures": rows, "hippodeep": hippocampus}


def tables(facts: dict[str, dict[str, Any]]) -> str:
    """The figures of all heads that have them, in Markdown."""
    heads = {name: fact for name, fact in facts.items() if "structures" in fact}
    columns = [f"{name}: {what}" for name in heads for what in ("this model, ml", "MeshNet, ml", "Dice")]
    lines = [f"| Structure | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for structure in MESHNET:
        rows = [fact["structures"][structure] for fact in heads.values()]
        cells = [f"{row['ml']:.1f} | {row['meshnet_ml']:.1f} | {row['dice']:.2f}" for row in rows]
        lines.append(f"| {structure} | {' | '.join(cells)} |")
    means = [f"| | {fact['agreement_with_meshnet']['mean']:.3f}" for fact in heads.values()]
    lines.append(f"| mean | {' | '.join(means)} |")
    pairs = "Dice of this and MeshNet | this and hippodeep | MeshNet and hippodeep"
    lines += ["", f"| Hippocampi | this model, ml | MeshNet, ml | hippodeep, ml | {pairs} |", "|---" * 7 + "|"]
    for name, fact in heads.items():
        row, other = fact["structures"][HIPPOCAMPUS], fact["hippodeep"]
        volumes = f"{row['ml']:.1f} | {row['meshnet_ml']:.1f} | {other['hippodeep_ml']:.1f}"
        lines.append(f"| {name} | {volumes} | {row['dice']:.2f} | {other['dice']:.2f} | {other['meshnet_dice']:.2f} |")
    costs = [(name, model, cost) for name, fact in facts.items() for model, cost in fact.get("cost", {}).items()]
    if costs:
        lines += ["", "| Head | Model | Seconds from a cold start | Peak memory, GB |", "|---|---|---|---|"]
        lines += [f"| {name} | `{model}` | {cost['seconds']:.1f} | {cost['gb']:.2f} |" for name, model, cost in costs]
    return "\n".join(lines) + "\n"


def costs(model: str, head: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Seconds and GB of each model, from the command line to the written file."""
    found = {}
    for each in (model, *OTHERS):
        WeightStore().ensure(find_card(each))
        command = [sys.executable, "-m", "LightSegLib.cli", "segment", head.resolve(), "--model", each, "--overwrite"]
        cost = measure.run([*command, "--out", (folder / f"{each}.seg.nrrd").resolve()], cwd=ROOT / "LightSeg")
        found[each] = {"seconds": round(cost.seconds, 1), "gb": round(cost.peak_bytes / 1e9, 2)}
    return found


def main() -> None:
    """Segment, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads", nargs="+", type=Path, metavar="HEAD")
    parser.add_argument("--expected", type=Path, metavar="LABELS")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter(find_card(arguments.model), InferenceOptions(device="cpu", confidence=True))
    facts: dict[str, dict[str, Any]] = {}
    for head in arguments.heads:
        name = head.name.split(".")[0]
        volume = read_volume(head)
        started = time.perf_counter()
        try:
            result = segmenter.segment([volume])
        except LightSegError as error:
            facts[name] = {"error": str(error)}
            print(name, error)
            continue
        fact: dict[str, Any] = {
            "seconds": round(time.perf_counter() - started, 1),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000,
            "ml": {name: round(ml, 2) for name, ml in result.volumes_ml().items()},
            "notices": result.provenance["notices"],
            "alignment": {
                key: value for key, value in result.provenance["alignment"].items() if key != "template_to_image_lps"
            },
        }
        if arguments.expected is not None:
            fact |= compared(segmenter.card, result, name.removesuffix("_t1"), arguments.expected)
        if arguments.measure:
            fact["cost"] = costs(arguments.model, head, arguments.out)
        facts[name] = fact
        draw_case(volume, result, arguments.out / f"{name}.png")
        print(name, json.dumps(fact))
        (arguments.out / "brain.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    (arguments.out / "brain.md").write_text(tables(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
