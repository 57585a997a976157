"""Training of the border head, alone or with its network, in images of half the voxel size of the network's grid.

Voxels of every class are drawn, as in any training; the head answers at those where the network's labels differ between
neighboring voxels, as in `AlignedRestorer`. The network itself, where it is trained, too, learns from all of them what
its logits are worth between the voxels of its grid.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..core.errors import InputError
from ..core.i18n import tr as _
from ..inference.alignment.aligned_restore import AlignedRestorer, cells, interpolated, uniform_cells
from ..inference.alignment.borders import Patches, Unit
from ..inference.alignment.guided import Guide, Intensities
from ..inference.processing.restore import Decision
from ..networks.atlas_unet import UNLIKELY
from ..networks.border_head import STEP
from .earlier_runs import card_of
from .loss import drawn_loss, drawn_voxels
from .material import Material
from .synthesis.draw import random_generator
from .synthesis.generator import Sample
from .synthesis.grid import Grid
from .synthesis.options import SynthesisOptions
from .synthetic_options import SyntheticTrainingOptions
from .synthetic_run import SyntheticRun

FINER = 2  # times the voxels of the network's grid along each axis
SAME = 1e-3  # mm
MOST_TURNED = 15.0  # degrees about each axis that patches are turned, so that they are interpolated as in other images
TO_GRID = np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]])  # from the finer index


class BorderRun(SyntheticRun):
    """A run of the border head on synthesized images, by itself unless the options ask for the whole network.

    Raises:
        InputError: without weights to start from.
    """

    def __init__(
        self, material: Material, out: Path, options: SyntheticTrainingOptions, synthesis: SynthesisOptions
    ) -> None:
        if not options.initial_weights:
            raise InputError(
                _(
                    "A border head is trained for a network that has been trained. "
                    "Name its weights with --initial-weights."
                )
            )
        super().__init__(material, out, options, synthesis)
        assert self.network.border is not None
        self.network.requires_grad_(options.whole_network)
        self.network.border.requires_grad_(True)

    def initial_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors of a network, which must fit as they are, with those of a new head where it has none."""
        head = {key: tensor for key, tensor in self.network.state_dict().items() if key.startswith("border.")}
        return {**head, **state}

    @property
    def starts_at_random(self) -> bool:
        """Whether what is trained had random weights at first, which a head by itself has, whatever its network."""
        return not self.options.whole_network

    def check_origin(self, weights: Path) -> None:
        """Check also that the weights are of a network on the grid of this run, for the prior stays as it is.

        Raises:
            InputError: if they are not.
        """
        super().check_origin(weights)
        card = card_of(weights, self.initial_sha256)
        rules = None if card is None else card.preprocessing.alignment
        grid = self.material.layout.grid
        if rules is not None and not (
            rules.size[::-1] == grid.size
            and rules.spacing == (grid.spacing,) * 3
            and np.allclose(rules.origin, grid.origin, atol=SAME)  # whose last digits depend on the processor
        ):
            raise InputError(
                _(
                    "{file} is of a network on another grid than that of these label maps and options. "
                    "Repeat those of its training: --seed, --validation-maps, --spacing, --margin and --overlap."
                ).format(file=weights)
            )

    def count_prior(self) -> None:
        """The prior is that of the weights given."""

    @staticmethod
    def grid_of(grid: Grid) -> Grid:
        """Return a grid of half the voxel size, in which a voxel of the network's grid is eight voxels."""
        spacing = grid.spacing / FINER
        k, j, i = (FINER * length for length in grid.size)
        x, y, z = (start - (grid.spacing - spacing) / 2 for start in grid.origin)
        return Grid((k, j, i), spacing, (x, y, z))

    def loss(self, image: Tensor, classes: Tensor, number: int) -> Tensor:
        """Return the loss on an image [k, j, i] of the finer grid with its half classes."""
        random = random_generator(self.options.seed, number)
        network, flat = self.network, classes.flatten().long()
        assert network.border is not None
        chosen, weights = drawn_voxels(flat, len(network.half_classes), self.options.voxels_per_class, random)
        turn = Rotation.from_euler("xyz", MOST_TURNED * (2 * torch.rand(3, generator=random).numpy() - 1), degrees=True)
        voxels = torch.unravel_index(chosen, image.shape)
        coarse = F.avg_pool3d(image[None, None], FINER)[0, 0]
        with torch.set_grad_enabled(self.options.whole_network):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16()):
                of_grid = network.half_logits(coarse.to(self.device))
            # as `AtlasUNet` gives them for both sides together
            of_grid = of_grid.float().cpu().softmax(1).clamp(min=UNLIKELY)
            corner, fractions = cells([(place + 0.5) / FINER - 0.5 for place in voxels[::-1]], network.half_size)
            values = torch.cat((of_grid.log(), coarse.reshape(-1, 1)), 1)
            values = interpolated(values, network.half_size, corner, fractions)
            logits, seen = values[:, :-1], values[:, -1]
        with torch.no_grad():
            changing = (~uniform_cells(of_grid.argmax(1).reshape(network.half_size)).flatten()[corner]).nonzero()[:, 0]
            probabilities = of_grid.T.reshape(-1, *network.half_size)
            own_side = coarse[..., network.overlap :], probabilities[..., network.overlap :]
            evidence = Intensities(*own_side).evidence(image.flatten()[chosen[changing]], seen[changing])
            unit = Unit(*own_side, network.half_tissues)
            steps = turn.as_matrix() * (FINER * STEP / self.material.layout.grid.spacing)
            patches = unit.of(Patches(image, steps)([voxel[changing] for voxel in voxels]))
        inputs = (logits[changing].T, evidence.T, patches, unit.tissues)
        change = evidence + network.border(*(part.to(self.device) for part in inputs)).T.cpu()
        return drawn_loss(logits.index_add(0, changing, change), flat[chosen], weights).to(self.device)

    def found(self, sample: Sample) -> np.ndarray:
        """Return the labels of a whole image of the finer grid."""
        coarse = F.avg_pool3d(sample.image[None, None], FINER)
        labels = np.zeros(sample.image.shape, np.uint8)
        grid = self.material.layout.grid
        network = copy.deepcopy(self.average).cpu()
        guide = Guide(sample.image.numpy(), coarse[0, 0], border_network=network, spacing=(grid.spacing,) * 3)
        AlignedRestorer(grid.size, TO_GRID, labels, Decision(), None, guide).add(network(coarse)[0])
        return labels
