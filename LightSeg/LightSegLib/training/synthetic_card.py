"""The model folder of a training on label maps: weights, template and card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..catalog.anatomy import look_up
from ..catalog.card import Alignment, Card, Inference, Label, Normalization, Preprocessing, Total, Weights
from ..catalog.card_file import write_card
from ..catalog.lookup import CARD_NAME
from ..core.file_hash import sha256
from ..imaging.geometry import Geometry
from ..inference.alignment.template import Template, write_template
from ..weights.files import save_weights
from .earlier_runs import IMAGES, with_earlier
from .material import Material, network_arguments
from .model_card import NOT_STATED, model_id
from .run import Run
from .synthesis.atlas import mean_image, surrounding
from .synthetic_options import SyntheticTrainingOptions

WEIGHTS, TEMPLATE = "weights.pt", "template.nrrd"
TEMPLATE_MARGIN, TEMPLATE_SPACING = 32.0, 2.0  # mm


@dataclass(frozen=True)
class _Origin:
    """The origin of a model, and its files."""

    dataset: str
    command: str
    template_sha256: str
    weights: Weights


def write_model(run: Run, material: Material, options: SyntheticTrainingOptions, dataset: str, command: str) -> Card:
    """Write the best weights, the template and, when these are there, the card.

    Raises:
        OutputError: if the file or folder cannot be written.
    """
    template = run.out / TEMPLATE
    if not template.is_file():
        write_template(mean_template(material), template)
    weights = run.out / WEIGHTS
    save_weights(run.best, weights)
    origin = _Origin(dataset, command, sha256(template), Weights(WEIGHTS, weights.stat().st_size, sha256(weights)))
    card = _card(run, material, options, origin)
    write_card(card, run.out / CARD_NAME)
    return card


def mean_template(material: Material) -> Template:
    """Return the mean image of the training's label maps, with its surroundings."""
    grid = surrounding(material.layout.grid, TEMPLATE_MARGIN, TEMPLATE_SPACING)
    generator = material.generator(material.training, 0)
    image, focus = mean_image(generator, material.settings, grid, bool(material.layout.overlap))
    return Template(image, focus, Geometry(grid.size, (grid.spacing,) * 3, grid.origin))


def _card(run: Run, material: Material, options: SyntheticTrainingOptions, origin: _Origin) -> Card:
    """Return the card of the trained model."""
    settings, grid = material.settings, material.layout.grid
    labels = []
    for value, structure in enumerate(settings.structures, start=1):
        terminology, color = look_up(structure.name, value)
        labels.append(Label(value, structure.name, color, terminology))
    classes = {structure.value: n for n, structure in enumerate(settings.structures, start=1)}
    names = [material.maps[n].name for n in material.training]
    k, j, i = grid.size
    return Card(
        id=model_id(run.out),
        title=settings.name,
        version="1.0",
        description=f"{len(labels)} structures of the {settings.subject}: {settings.name.lower()}, in images of any "
        f"contrast and resolution; trained on images synthesized from {len(names)} label maps ({origin.dataset}).",
        modality=settings.modality,
        channels=(settings.channel,),
        network="atlas_unet",
        network_arguments=network_arguments(material, options),
        preprocessing=Preprocessing(
            normalization=(Normalization("none"),),
            alignment=Alignment(
                TEMPLATE,
                origin.template_sha256,
                settings.subject,
                (i, j, k),
                (grid.spacing,) * 3,
                grid.origin,
                second_look=True,
            ),
        ),
        inference=Inference((k, j, i), guided_upsampling=True),
        labels=tuple(labels),
        weights=origin.weights,
        license=settings.license or NOT_STATED,
        citation=settings.citation or NOT_STATED,
        limitations="Trained on synthesized images alone. Check every result.",
        training=with_earlier(
            {
                "command": origin.command,
                "label_maps": names,
                "validation_maps": [material.maps[n].name for n in material.validation],
                IMAGES: run.best_epoch * options.images_per_epoch,
                "seed": options.seed,
                "device": run.device.type,
                "torch": torch.__version__,
            },
            run.initial_sha256,
            run.earlier_runs,
        ),
        performance=_performance(run.best_scores, len(material.validation)) if material.validation else {},
        totals=tuple(Total(name, tuple(classes[value] for value in values)) for name, values in settings.totals),
    )


def _performance(best_scores: dict[str, dict[str, float]], maps: int) -> dict[str, Any]:
    """Return Dice on the validation's synthesized images: by contrast and resolution, and by structure."""
    scores = {name: float(np.nanmean(list(values.values()))) for name, values in best_scores.items()}
    by_structure: dict[str, dict[str, float]] = {}
    for name, values in best_scores.items():
        for structure, score in values.items():
            if np.isfinite(score):  # JSON knows no NaN
                by_structure.setdefault(structure, {})[name] = round(score, 4)
    return {
        "measured_on": f"images synthesized from {maps} label maps that were not trained on",
        "mean_dice_by_image": {name: round(score, 4) for name, score in scores.items()},
        "dice_by_structure": by_structure,
    }
