"""Put newly trained weights into a bundled model: the weights, the template, and what its card states about them.

    python Testing/bundle_model.py brain-mr-atlas-unet FOLDER [--performance FACTS.json]

FOLDER holds weights.pt, template.nrrd and, where the training has come so far, model.json, whose network, grid,
training facts and performance are taken over. What Dice to expect was measured with the former weights, so it is left
out until `Testing/Benchmarks/calibration.py --write` has measured it anew. After a last training on all label maps
(`--all-maps`) there is nothing to measure either with: quality, expected Dice and template stay those of the former
weights, from which it went on. All other words of the bundled card stay.
FACTS.json: measured quality on real heads, as `Testing/Benchmarks/brain.py` writes it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "LightSeg"))

from LightSegLib.catalog.card import Weights  # noqa: E402
from LightSegLib.catalog.card_file import read_card, write_card  # noqa: E402
from LightSegLib.catalog.lookup import CARD_NAME, CARDS_FOLDER  # noqa: E402
from LightSegLib.core.file_hash import sha256  # noqa: E402
from LightSegLib.core.paths import resources_folder  # noqa: E402


def bundle(model: str, trained: Path, facts: Path | None) -> None:
    """Copy the files and write the card."""
    path = CARDS_FOLDER / f"{model}.json"
    card, models = read_card(path), resources_folder() / "Models"
    weights = models / card.weights.file
    shutil.copyfile(trained / "weights.pt", weights)
    new = read_card(trained / CARD_NAME) if (trained / CARD_NAME).is_file() else None
    on_all_maps = new is not None and new.training.get("validation_maps") == []
    alignment = card.preprocessing.alignment
    if alignment is not None and not on_all_maps:
        template = models / alignment.template
        shutil.copyfile(trained / "template.nrrd", template)
        alignment = dataclasses.replace(alignment, template_sha256=sha256(template))
    performance = dict(card.performance)
    training = card.training
    inference = dataclasses.replace(card.inference, calibration=None)
    if new is not None:
        if new.labels != card.labels:
            sys.exit(f"The labels of {trained} are not those of {model}. Correct the card first.")
        if alignment is not None and new.preprocessing.alignment is not None:
            grid = new.preprocessing.alignment
            alignment = dataclasses.replace(alignment, size=grid.size, spacing=grid.spacing, origin=grid.origin)
        card = dataclasses.replace(card, network_arguments=new.network_arguments)
        training = new.training
        inference = dataclasses.replace(new.inference, calibration=card.inference.calibration if on_all_maps else None)
        if not on_all_maps:
            performance["synthesized_images"] = new.performance
    if facts is not None:
        performance["real_heads"] = json.loads(facts.read_text(encoding="utf-8"))
    card = dataclasses.replace(
        card,
        inference=inference,
        weights=Weights(card.weights.file, weights.stat().st_size, sha256(weights)),
        preprocessing=dataclasses.replace(card.preprocessing, alignment=alignment),
        training=training,
        performance=performance,
    )
    write_card(card, path)
    print(f"{path} and {weights} written")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--performance", type=Path, metavar="FACTS.json")
    arguments = parser.parse_args()
    bundle(arguments.model, arguments.folder, arguments.performance)
