"""A small U-Net for aligned images: it refines what an atlas and the image's own intensities suggest.

Three sources of knowledge add up to the logits, for a whole grid or, where structures are paired, for the left half
and the mirrored right half by the same weights:

1. the prior: how often each structure is at each position of the template (an atlas);
2. the tissues: Gaussian intensities of a few tissue groups, fitted to the image at hand by expectation maximization,
   as in atlas-based segmentation (Van Leemput et al. 1999, doi:10.1109/42.811270; Ashburner and Friston 2005,
   doi:10.1016/j.neuroimage.2005.02.018);
3. the network: a U-Net on every second voxel and one convolution level on every voxel, which starts at zero and so
   at the answer of the first two.

One network for both sides sees twice the examples and cannot confuse left and right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.i18n import tr as _
from .atlas_layers import CoarseUNet, ConvNormAct, Doubled, Pointwise, ResidualBlock
from .border_head import BorderHead

CLIP = 4.0  # standard deviations from the mean at which intensities are cut
WITHIN = 0.7  # prior probability of any structure from which a voxel counts in the statistics of the intensities
FEWEST = 64  # voxels for statistics; with fewer valid ones, all voxels count
EM_STEPS = 8
EM_WITHIN = 0.3  # like WITHIN, for the fit of the tissues: includes the rim
EM_STRIDE = 2  # the fit looks at every second voxel along each axis
TEMPER = 0.5  # power of the likelihood in the offset: neighboring voxels are not independent observations
EM_TEMPER = 0.7  # and in the fit
BACKGROUND = -math.log(2 * CLIP)  # log-likelihood of what belongs to no tissue: any intensity alike
LOWEST = -8.0  # log-likelihood of a tissue to which a voxel cannot belong
WIDTH, WIDTH_COUNT, LEAST_WIDTH = 0.15, 30.0, 0.01  # variance expected of a tissue, voxels it counts for, its least
RARE = 1e-4  # least prior probability
NEVER = 1e-6  # least probability of an offset
UNLIKELY = 1e-5  # least probability in the combined logits
ALIKE = 0.1  # difference between the logits of both sides up to which a place belongs to the side where it is


class AtlasUNet(nn.Module):
    """Network on a template's grid; see the module's text.

    The buffer `prior`, uint8 [1, half classes - 1, k, j, i], holds 255 times the square root of each probability: the
    root spends the 256 steps on the rare.

    Args:
        classes: with the background, class 0.
        size: voxels [k, j, i] of the grid, i running from right to left through the plane of symmetry in the
            middle.
        tissues: for each class the number of its tissue group, 0 for the background's.
        pairs: classes (left, right) that mirror each other; none for a grid without symmetry.
        overlap: voxels of the other side that each half sees.
        widths: channels of the U-Net's levels, the first at every second voxel.
        fine_channels: of the level at every voxel.
        residual_blocks: more convolutions at every voxel, and as many at the U-Net's first level.
        prior_step: voxels of the grid to one of the stored prior.
        border_channels: of the head for places at the image's own resolution, 0 for none.

    Attributes:
        threads: that may compute the two halves of an image, on a CPU and without gradients; each half is computed in
            one of them, so that the result does not depend on their number.

    Raises:
        ValueError: for arguments that do not fit together.
    """

    prior: Tensor

    def __init__(
        self,
        classes: int,
        size: Sequence[int],
        tissues: Sequence[int],
        pairs: Sequence[Sequence[int]] = (),
        overlap: int = 8,
        widths: Sequence[int] = (24, 44, 64, 80),
        fine_channels: int = 8,
        residual_blocks: int = 0,
        prior_step: int = 2,
        border_channels: int = 0,
    ) -> None:
        super().__init__()
        k, j, i = size
        self.classes, self.size, self.pairs = classes, (k, j, i), tuple((left, right) for left, right in pairs)
        self.overlap, self.prior_step = overlap, prior_step
        _check_classes(classes, tissues, self.pairs)
        rights = {right for _, right in self.pairs}
        self.half_classes = [label for label in range(classes) if label not in rights]
        self.half_size = (k, j, i // 2 + overlap) if self.pairs else self.size
        multiple = 2 ** len(widths)
        if any(length % multiple or length < multiple for length in self.half_size) or (self.pairs and i % 2):
            raise ValueError(
                _("the computed size {size} must be a multiple of {multiple} along every axis").format(
                    size=self.half_size, multiple=multiple
                )
            )
        if any(length % prior_step for length in self.half_size):
            raise ValueError(
                _("the computed size {size} must be a multiple of prior_step {prior_step} along every axis").format(
                    size=self.half_size, prior_step=prior_step
                )
            )
        self.half_tissues = [tissues[label] for label in self.half_classes]
        self.tissue_count = max(tissues) + 1
        stored = [length // prior_step for length in self.half_size]
        self.register_buffer("prior", torch.zeros(1, len(self.half_classes) - 1, *stored, dtype=torch.uint8))
        channels = self.tissue_count  # the intensity, and the tissues but the background
        outputs = len(self.half_classes)
        self.fine = ConvNormAct(channels, fine_channels, norm=False)
        self.down = nn.Conv3d(fine_channels, widths[0], 3, stride=2, padding=1)
        self.place = Pointwise(outputs, widths[0])
        self.coarse = CoarseUNet(channels + 3, widths)
        self.lateral = Pointwise(widths[0], fine_channels)
        self.mix = ConvNormAct(fine_channels, fine_channels)
        self.fine_blocks = nn.ModuleList(ResidualBlock(fine_channels) for _ in range(residual_blocks))
        self.coarse_blocks = nn.ModuleList(ResidualBlock(widths[0]) for _ in range(residual_blocks))
        self.coarse_head = Pointwise(widths[0], outputs)
        self.fine_head = Pointwise(fine_channels, outputs)
        self.offset_scale = nn.Parameter(torch.ones(outputs))
        self.tissues = list(tissues)
        self.border = BorderHead(outputs, self.tissue_count - 1, border_channels) if border_channels else None
        for head in (self.coarse_head, self.fine_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        self.threads = 1
        self._atlas: Atlas | None = None
        self.register_load_state_dict_post_hook(_forget_atlas)

    @property
    def joined_inputs(self) -> dict[str, int]:
        """Keys of the weights whose input is joined of equal parts, with the number of these."""
        return {f"coarse.decoder.{number}.conv.weight": 2 for number in range(1, len(self.coarse.decoder))}

    def pass_bytes(self, size: Sequence[int]) -> int:
        """Return the bytes of the tensors that a pass of one image [k, j, i] holds at a time, with both halves.

        Most of them at a half's full resolution: where features are joined, while the U-Net's first level has an
        eighth of the voxels, or at the end, where every class has an offset, what the coarse level adds, a logit and a
        probability.

        Raises:
            ValueError: for another size than that of the grid.
        """
        if tuple(size) != self.size:
            raise ValueError(_("the size {size} is not that of the grid, {grid}").format(size=size, grid=self.size))
        classes, fine = len(self.half_classes), self.fine_head.in_features
        joining = self.tissue_count + 3 * fine + (classes + self.tissue_count + 3 + 2 * self.down.out_channels) // 8
        at_end = 2 * self.tissue_count + fine + 4 * classes
        return 4 * (2 if self.pairs else 1) * math.prod(self.half_size) * max(joining, at_end)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, classes, K, J, I] of aligned images [B, 1, K, J, I] of any intensities."""
        return torch.stack([self._logits(image[0].float()) for image in images])

    def _logits(self, image: Tensor) -> Tensor:
        """Return the logits [classes, k, j, i] of one image [k, j, i]."""
        if not self.pairs:
            return self.half_logits(image).reshape(*self.size, self.classes).movedim(-1, 0)
        left, right = self._of_both(image, image.flip(-1))
        return self._join(left, right.flip(-1)).log_()

    def _of_both(self, *images: Tensor) -> list[Tensor]:
        """Return the probabilities [half classes, k, j, i] of the left half of each image [k, j, i]."""
        if self.threads == 1 or torch.is_grad_enabled():
            return [self._half(image) for image in images]
        self._atlas = self.atlas  # made here, so that the threads do not both make it
        with ThreadPoolExecutor(self.threads, initializer=lambda: torch.set_num_threads(1)) as workers:
            return list(workers.map(torch.no_grad()(self._half), images))

    def _half(self, image: Tensor) -> Tensor:
        """Return the probabilities [half classes, k, j, i] of the left half of an image [k, j, i]."""
        half = image[..., self.size[2] - self.half_size[2] :].contiguous()
        return self.half_logits(half).softmax(1).T.reshape(-1, *self.half_size)

    def half_logits(self, image: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return the logits [voxels, half classes] of one half [k, j, i].

        Args:
            chosen: flat indices of voxels; None for all.
        """
        with torch.autocast(image.device.type, enabled=False):
            inputs, likelihood = self.inputs(image)
            offset = self.offset(likelihood, chosen)
        return self.refine(inputs, offset, chosen)

    def border_changes(
        self, logits: Tensor, evidence: Tensor, patches: Tensor, tissues: Tensor, on_left: Tensor
    ) -> Tensor:
        """Return what the border head adds to the logits of places beside the evidence, [classes, n].

        Args:
            logits: [classes, n], interpolated to the places.
            evidence: [classes, n], of guided upsampling.
            patches: [3, 3, 3, n], see `BorderHead`.
            tissues: [2, tissues], see `BorderHead`.
            on_left: bool [n], which places are left of the middle.
        """
        assert self.border is not None
        if not self.pairs:
            return self.border(logits, evidence, patches, tissues)
        partner = dict(self.pairs)
        lefts, rights = list(partner), list(partner.values())
        difference = logits[lefts].amax(0) - logits[rights].amax(0)
        left = torch.where(difference.abs() < ALIKE, on_left, difference > 0)
        result = torch.empty_like(logits)
        for of_side, others, mirrored in ((left, rights, False), (~left, lefts, True)):
            own = [partner.get(label, label) if mirrored else label for label in self.half_classes]
            some = of_side.nonzero()[:, 0]
            there = logits[:, some]
            half = there[own]
            half[0] = there[[0, *others]].logsumexp(0)  # the other side is background
            seen = patches[..., some]
            change = self.border(half, evidence[own][:, some], seen.flip(2) if mirrored else seen, tissues)
            whole = change[:1].repeat(self.classes, 1)
            whole[own] = change
            result[:, some] = whole
        return result

    # --- evidence of atlas and image ---------------------------------------------------------------

    @property
    def atlas(self) -> Atlas:
        """The prior in the forms that the computation needs; made once."""
        if self._atlas is None or self._atlas.classes.device != self.prior.device:
            self._atlas = Atlas(self)
        return self._atlas

    def set_prior(self, probabilities: Tensor) -> None:
        """Take probabilities [half classes - 1, k, j, i] (each 0 to 1) on the stored prior's grid."""
        self.prior.copy_((probabilities[None].clamp(0, 1).sqrt() * 255).round())
        self._atlas = None

    @torch.no_grad()
    def class_prior(self) -> Tensor:
        """Return the prior of all classes, [classes, K, J, I]."""
        half = self.atlas.classes.reshape(-1, *self.half_size)
        if not self.pairs:
            return half / half.sum(0)
        return self._join(half, half.flip(-1))

    @torch.no_grad()
    def inputs(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the channels [tissues, k, j, i] of one half's image [k, j, i], and its log-likelihoods.

        The channels are the intensity in standard deviations (halved) and the posterior of each tissue. Voxels at the
        image's minimum (no tissue, or outside of the field of view) do not count in its statistics. The result is the
        same for image * a + b with any a > 0.
        """
        atlas = self.atlas
        inside = image > image.min()
        x = _standardized(image, inside & (atlas.any > WITHIN))
        likelihood = self._fit_tissues(x, inside)
        posterior = (atlas.log_tissues + likelihood).softmax(0)
        return torch.cat((x[None] * 0.5, posterior[1:])), likelihood

    def _fit_tissues(self, x: Tensor, inside: Tensor) -> Tensor:
        """Tempered log-likelihood [tissues, k, j, i] by EM for a Gaussian of each tissue, from the prior's place."""
        stride = (slice(None, None, EM_STRIDE),) * 3
        prior = self.atlas.tissues[(slice(None), *stride)].flatten(1)
        known = ((self.atlas.any > EM_WITHIN) & inside)[stride].flatten()
        if int(known.sum()) < FEWEST:
            known = torch.ones_like(known)
        prior, y = prior[:, known], x[stride].flatten()[known]
        weight = prior**2  # the first step trusts the places where the prior is sure
        for step in range(EM_STEPS):
            count = weight.sum(1) + 1e-3
            mean = weight @ y / count
            variance = (weight @ (y * y) / count - mean**2).clamp(min=0)
            variance = (variance * count + WIDTH * WIDTH_COUNT) / (count + WIDTH_COUNT) + LEAST_WIDTH
            if step < EM_STEPS - 1:
                weight = prior * (EM_TEMPER * _log_gaussian(y, mean, variance)).exp()
                weight = weight / weight.sum(0).clamp(min=1e-30)
        return (TEMPER * _log_gaussian(x.flatten(), mean, variance)).clamp(min=LOWEST).reshape(-1, *x.shape)

    @torch.no_grad()
    def offset(self, likelihood: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Log of prior times likelihood, normalized: [voxels, half classes].

        The other side is background.
        """
        evidence = likelihood.flatten(1)
        classes, others = self.atlas.classes, self.atlas.others
        if chosen is not None:
            evidence, classes, others = evidence[:, chosen], classes[:, chosen], others[:, chosen]
        evidence = evidence.exp()
        joint = evidence[self.half_tissues].mul_(classes)
        for other, of_tissue in zip(others, evidence, strict=True):
            joint[0].addcmul_(other, of_tissue)
        return joint.div_(joint.sum(0)).clamp_(min=NEVER).log_().T

    # --- what the network adds ---------------------------------------------------------------------

    def refine(self, inputs: Tensor, offset: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return the logits [voxels, half classes] of the chosen voxels.

        Args:
            inputs: channels [tissues, k, j, i].
            offset: of the chosen voxels.
        """
        x = inputs[None].to(self.fine.conv.weight.dtype).contiguous(memory_format=torch.channels_last_3d)
        fine = self.fine(x)
        known = torch.cat((F.avg_pool3d(x, 2), self.atlas.position.to(x.dtype)), 1)
        start = self.down(fine) + self.place(self.atlas.places.to(x.dtype))
        features = self.coarse(known.contiguous(memory_format=torch.channels_last_3d), start)
        for block in self.coarse_blocks:
            features = block(features)
        fine = self.mix(F.interpolate(self.lateral(features), scale_factor=2.0, mode="nearest") + fine)
        for block in self.fine_blocks:
            fine = block(fine)
        coarse = Doubled.apply(self.coarse_head(features))
        fine, coarse = (t.squeeze(0).movedim(0, -1).flatten(0, 2) for t in (fine, coarse))
        if chosen is not None:
            fine, coarse = fine[chosen], coarse[chosen]
        logits = F.linear(fine, self.fine_head.weight, self.fine_head.bias).float()
        logits += coarse
        return logits.addcmul_(self.offset_scale.float(), offset)

    def _join(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the probabilities [classes, K, J, I] of those of both halves [half classes, k, j, i], none 0."""
        width = self.half_size[2]
        result = left.new_zeros(self.classes, *self.size)
        partner = dict(self.pairs)
        share = left.new_zeros(self.size[2])  # where both halves know, each counts half
        share[-width:] += 1
        share[:width] += 1
        for number, label in enumerate(self.half_classes[1:], start=1):
            if label in partner:
                result[label, ..., -width:] = left[number]
                result[partner[label], ..., :width] = right[number]
            else:
                result[label, ..., -width:] += left[number]
                result[label, ..., :width] += right[number]
                result[label] /= share
        result[0] = 1 - result.sum(0)
        result = result.clamp_(min=UNLIKELY)
        return result.div_(result.sum(0))


class Atlas:
    """The prior on the network's own grid [k, j, i], flat where voxels are chosen.

    Args:
        classes: [half classes, voxels] with the background.
        others: [tissues, voxels] of the other side's structures.
        tissues: [tissues, k, j, i].
        log_tissues: [tissues, k, j, i].
        any: probability of any structure.
        places: logarithm of the prior, [1, half classes, k/2, j/2, i/2]; position: -1 to 1 along each axis, [1, 3,
            k/2, j/2, i/2].
    """

    def __init__(self, network: AtlasUNet) -> None:
        stored = (network.prior.float() / 255) ** 2
        structures = F.interpolate(stored, scale_factor=float(network.prior_step), mode="trilinear")[0]
        device = stored.device
        of_tissue = torch.tensor(network.half_tissues, device=device)
        others = structures.new_zeros(network.tissue_count, *network.half_size)
        mirrored = 2 * network.overlap  # columns of a half that its mirror image shares
        lefts = {left for left, _ in network.pairs}
        for number, label in enumerate(network.half_classes[1:]):
            if label in lefts and mirrored:
                tissue = network.half_tissues[number + 1]
                others[tissue, ..., :mirrored] += structures[number, ..., :mirrored].flip(-1)
        background = (1 - structures.sum(0) - others.sum(0)).clamp(min=RARE)
        classes = torch.cat((background[None], structures)).clamp(min=RARE)
        tissues = others.index_add(0, of_tissue, classes)
        self.any = 1 - background
        self.tissues = tissues / tissues.sum(0)
        self.log_tissues = self.tissues.clamp(min=RARE).log()
        axes = [torch.linspace(-1, 1, length // 2, device=device) for length in network.half_size]
        self.position = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
        self.places = (F.avg_pool3d(classes[None], 2) + 1e-3).log() / 4
        self.classes, self.others = classes.flatten(1), others.flatten(1)


def _check_classes(classes: int, tissues: Sequence[int], pairs: Sequence[tuple[int, int]]) -> None:
    """Check the classes of a network.

    Raises:
        ValueError: if tissues or pairs do not fit.
    """
    paired = [label for pair in pairs for label in pair]
    if len(tissues) != classes or min(tissues) < 0 or tissues[0] != 0:
        raise ValueError(_("tissues must contain one number per class, with 0 for the background"))
    if len(set(paired)) != len(paired) or any(not 0 < label < classes for label in paired):
        raise ValueError(_("each entry of pairs must name two different classes, and no class may occur twice"))


def _standardized(image: Tensor, within: Tensor) -> Tensor:
    """Return the image [k, j, i] in standard deviations from the mean.

    Both are those of the middle 98 % of the intensities within a mask.
    """
    values = image[within]
    if len(values) < FEWEST:
        values = image.flatten()
    values = values.sort().values
    margin = len(values) // 100
    values = values[margin : len(values) - margin]
    return ((image - values.mean()) / values.std().clamp(min=1e-12)).clamp(-CLIP, CLIP)


def _log_gaussian(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Log-density [tissues, voxels] of intensities [voxels]; the background's, tissue 0, is constant."""
    density = (
        -((x[None] - mean[:, None]) ** 2) / (2 * variance[:, None]) - 0.5 * (2 * math.pi * variance[:, None]).log()
    )
    density[0] = BACKGROUND
    return density


def _forget_atlas(network: Any, _: Any) -> None:
    """Drop the cached atlas, since its weights have changed."""
    network._atlas = None
