"""How the bundled brain model does on real heads, with the figures and pictures to judge it by.

    python Testing/Benchmarks/brain.py HEAD... --reference NAME=LABELS... --out FOLDER

Every HEAD (an image file) is segmented, with seconds and peak memory of this process; a picture of each goes to
FOLDER. `--reference head_a=meshnet.nii.gz` compares the head whose name begins with head_a with 17 structures of both
sides together, numbered as brainchop's MeshNet does; `FOLDER/brain.json` has all figures.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "LightSeg"))

from LightSegLib.catalog.card import Card  # noqa: E402
from LightSegLib.catalog.lookup import find_card  # noqa: E402
from LightSegLib.core.errors import LightSegError  # noqa: E402
from LightSegLib.imaging.readers import read_grid, read_volume  # noqa: E402
from LightSegLib.inference.options import InferenceOptions  # noqa: E402
from LightSegLib.inference.segmenter import Segmenter  # noqa: E402
from LightSegLib.rendering.case import draw_case  # noqa: E402

MODEL = "brain-mr-atlas-unet"
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


def agreement(card: Card, voxels: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Dice of each of MeshNet's structures, and their mean."""
    found = {}
    for number, name in enumerate(MESHNET, start=1):
        sides = (name, f"left {name}", f"right {name}")
        ours = np.isin(voxels, [label.value for label in card.labels if label.name.lower() in sides])
        theirs = reference == number
        found[name] = round(float(2 * (ours & theirs).sum() / max(1, ours.sum() + theirs.sum())), 3)
    return {"mean": round(float(np.mean(list(found.values()))), 3)} | found


def main() -> None:
    """Segment, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads", nargs="+", type=Path, metavar="HEAD")
    parser.add_argument("--reference", nargs="*", default=[], metavar="NAME=LABELS")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    references = dict(pair.split("=", 1) for pair in arguments.reference)
    segmenter = Segmenter(find_card(arguments.model), InferenceOptions(device="cpu", confidence=True))
    facts: dict[str, object] = {}
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
        fact: dict[str, object] = {
            "seconds": round(time.perf_counter() - started, 1),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000,
            "ml": {name: round(ml, 2) for name, ml in result.volumes_ml().items()},
            "notices": result.provenance["notices"],
            "alignment": {
                key: value for key, value in result.provenance["alignment"].items() if key != "template_to_image_lps"
            },
        }
        for beginning, labels in references.items():
            if name.startswith(beginning):
                fact["agreement_with_meshnet"] = agreement(segmenter.card, result.voxels, read_grid(labels)[0])
        facts[name] = fact
        draw_case(volume, result, arguments.out / f"{name}.png")
        print(name, json.dumps(fact))
        (arguments.out / "brain.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
