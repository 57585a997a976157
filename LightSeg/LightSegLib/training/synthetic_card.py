"""The model folder of a training on label maps: weights, template and card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..catalog.card import Card
from ..pipeline.template import Template, write_template
from ..volume import Geometry
from ..weights.files import save_weights
from .synthesis.atlas import mean_image, surrounding

if TYPE_CHECKING:
    from .synthetic import SyntheticRun

WEIGHTS, TEMPLATE = "weights.pt", "template.nrrd"
TEMPLATE_MARGIN, TEMPLATE_SPACING = 32.0, 2.0  # mm


def write_model(run: SyntheticRun, dataset: str) -> Card | None:
    """Write the best weights, the template and the card. Raises OutputError."""
    save_weights(run.best, run.out / WEIGHTS)
    if not (run.out / TEMPLATE).is_file():
        write_template(template(run), run.out / TEMPLATE)
    return None


def template(run: SyntheticRun) -> Template:
    """The mean image of the training's label maps, with its surroundings."""
    material = run.material
    grid = surrounding(material.layout.grid, TEMPLATE_MARGIN, TEMPLATE_SPACING)
    image, focus = mean_image(run.generator, material.settings, grid, bool(material.settings.class_pairs))
    return Template(image, focus, Geometry(grid.size, (grid.spacing,) * 3, grid.origin))
