"""What a training on label maps starts from: the maps, aligned in one space, and the grid of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from .synthesis.alignment import TemplateSpace, align, landmarks
from .synthesis.generator import Generator
from .synthesis.grid import Layout, choose_grid
from .synthesis.label_maps import LabelMap, read_label_maps
from .synthesis.settings import Settings, find_settings, read_settings
from .synthetic_options import SyntheticTrainingOptions


@dataclass(frozen=True)
class Material:
    """The inputs of a training on label maps.

    Attributes:
        training: positions in `maps`.
        validation: positions in `maps`.
    """

    settings: Settings
    maps: list[LabelMap]
    space: TemplateSpace
    layout: Layout
    training: tuple[int, ...]
    validation: tuple[int, ...]

    def generator(self, chosen: Sequence[int], seed: int) -> Generator:
        """Images of some of the maps."""
        affines = [self.space.affines[n] for n in chosen]
        return Generator([self.maps[n] for n in chosen], affines, self.settings, seed)


def prepare(folder: str | Path, options: SyntheticTrainingOptions) -> Material:
    """Read and align the label maps.

    Raises:
        InputError: for what cannot be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            _("The folder {folder} does not exist. Check the path and the spelling.").format(folder=folder)
        )
    settings = read_settings(find_settings(folder, options.settings))
    maps = read_label_maps(folder, settings)
    if len(maps) <= options.validation_maps:
        raise InputError(
            _(
                "{folder} has too few label maps ({count}): {validation} are reserved for validation, "
                "and none is left for training. Add label maps or reserve fewer."
            ).format(folder=folder.name, count=len(maps), validation=options.validation_maps)
        )
    order = np.random.default_rng(options.seed).permutation(len(maps)).tolist()
    held_out = sorted(order[: options.validation_maps])
    training = tuple(n for n in range(len(maps)) if n not in held_out)
    space = align([landmarks(label_map, settings) for label_map in maps], settings, training)
    symmetric = bool(settings.class_pairs)
    layout = choose_grid(
        space.box, options.spacing, options.margin, 2 ** len(options.widths), options.overlap, symmetric
    )
    if options.all_maps:
        training, held_out = tuple(range(len(maps))), []
    return Material(settings, maps, space, layout, training, tuple(held_out))


def network_arguments(material: Material, options: SyntheticTrainingOptions) -> dict[str, object]:
    """Return the network's arguments for these label maps, as its card states them."""
    settings = material.settings
    arguments = {
        "classes": len(settings.structures) + 1,
        "size": list(material.layout.grid.size),
        "tissues": list(settings.class_tissues),
        "pairs": [list(pair) for pair in settings.class_pairs],
        "overlap": material.layout.overlap,
        "widths": list(options.widths),
        "fine_channels": options.fine_channels,
        "residual_blocks": options.residual_blocks,
    }
    return arguments | ({"border_channels": options.border_channels} if options.border_channels else {})
