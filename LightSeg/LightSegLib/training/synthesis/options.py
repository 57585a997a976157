"""How images are synthesized: every number with its default and where it comes from.

[S] is SynthSeg (Billot et al. 2023, doi:10.1016/j.media.2023.102789, and the defaults of its published training
program); [R] is what an affine registration leaves, for the aligned grid; [P] is physics of magnetic resonance
imaging or of the scanner; [M] was chosen by looking at generated images beside real ones.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from ...core.errors import InputError
from ...core.i18n import tr as _

Span = tuple[float, float]


@dataclass(frozen=True)
class SynthesisOptions:
    """Spans are (least, largest) of a uniform distribution; shares are probabilities.

    Pose and shape, relative to a subject that is aligned with the template: pose: factor on all of pose and shape,
    drawn for each image [R].

    Contrast, intensities between 0 and 1: first_contrast, other_contrasts: shares of images that look like the
    settings' first contrast, and like another one of them; tissue_contrast: share in which each tissue has a random
    mean; in the rest each value of the label maps has one of its own, as in [S].

    Scanner: bias, bias_nodes: standard deviation of the logarithm of the bias field at its nodes; [S] has 0.5. Number
    of nodes along each axis; [S] has 4.

    Attributes:
        rotation: degrees about each axis, either way; without alignment [S] has 15 [R].
        scaling: relative change of all axes together, and of each, either way; [S] has 0.15 [R].
        stretching: relative change of all axes together, and of each, either way; [S] has 0.15 [R].
        shearing: either way; [S] has 0.012, affine registration leaves more [R].
        shift: mm along each axis, either way [R].
        bending: standard deviation in mm of a smooth random displacement, and mm between its nodes; [S] has 3 mm at
            25 nodes' distance of 160 mm / 25 [M].
        bending_nodes: see `bending`.
        wrinkling: the same, finer [M].
        wrinkling_nodes: the same, finer [M].
        mirrored: share of mirror images [S].
        tissue_jitter: relative standard deviation of a tissue's and of a value's mean [M].
        value_jitter: relative standard deviation of a tissue's and of a value's mean [M].
        outside_jitter: the same for what is around the structures [M].
        texture: standard deviation within a tissue; [S] has 5 to 25 of 255.
        merged: share of images in which all around the structures looks alike [M].
        stripped: share of images without anything around the structures [M].
        empty_background: share of images whose background is zero; else it is up to background [S].
        spot: share of images with a spot of another intensity, as a lesion is, and its radius in mm [M].
        spot_radius: see `spot`.
        halo: share of images with the settings' halos, and how far these reach in mm [M].
        halo_width: share of images with the settings' halos, and how far these reach in mm [M].
        thick: share of images with thick slices along one axis.
        thickness: mm; [S] has 1 to 9, or 8 for an axis alone.
        gap: share of the distance between slices that no slice sees [P].
        coarse: share of images with large voxels along all axes, in mm; [S] has up to 4.
        coarse_voxel: share of images with large voxels along all axes, in mm; [S] has up to 4.
        blur: standard deviation in voxels, which are half as large for a border head, of the head's motion and the
            reader's resampling [M].
        noise: standard deviation, Rician as in magnitude images (Gudbjartsson and Patz 1995,
            doi:10.1002/mrm.1910340618) [P]; the span is [M].
        cut: share of images whose field of view ends within the grid, and the share of the grid that is lost [M].
        cut_share: see `cut`.
        gamma: standard deviation of the logarithm of the exponent applied to the intensities; [S] has 0.4 [M].
    """

    pose: Span = (0.15, 1.0)
    rotation: float = 6.0
    scaling: float = 0.05
    stretching: float = 0.04
    shearing: float = 0.03
    shift: float = 6.0
    bending: Span = (0.0, 3.0)
    bending_nodes: Span = (22.0, 50.0)
    wrinkling: Span = (0.0, 1.2)
    wrinkling_nodes: float = 14.0
    mirrored: float = 0.5

    first_contrast: float = 0.35
    other_contrasts: float = 0.2
    tissue_contrast: float = 0.3
    tissue_jitter: float = 0.07
    value_jitter: float = 0.035
    outside_jitter: float = 0.3
    texture: Span = (0.005, 0.1)
    merged: float = 0.1
    stripped: float = 0.25
    empty_background: float = 0.6
    background: float = 0.2
    spot: float = 0.1
    spot_radius: Span = (2.0, 9.0)
    halo: float = 0.3
    halo_width: Span = (1.0, 6.0)

    bias: Span = (0.0, 0.4)
    bias_nodes: tuple[int, int] = (2, 5)
    thick: float = 0.5
    thickness: Span = (0.5, 8.0)
    gap: Span = (0.0, 0.3)
    coarse: float = 0.1
    coarse_voxel: Span = (1.0, 4.0)
    blur: Span = (0.0, 0.6)
    noise: Span = (0.0, 0.06)
    cut: float = 0.15
    cut_share: Span = (0.05, 0.35)
    gamma: float = 0.3

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: for a span the wrong way round, a share beyond 0 to 1 or a negative number.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = value if isinstance(value, tuple) else (0, value)
            if not 0 <= low <= high:
                raise InputError(
                    _(
                        "{field} is {value}, but must be positive and ordered from smallest to largest. "
                        "Choose another value."
                    ).format(field=field.name, value=value)
                )
        for name in ("mirrored", "merged", "stripped", "empty_background", "spot", "halo", "thick", "coarse", "cut"):
            if getattr(self, name) > 1:
                raise InputError(
                    _("{name} is {value}, but must be at most 1. Choose another value.").format(
                        name=name, value=getattr(self, name)
                    )
                )
        if self.first_contrast + self.other_contrasts + self.tissue_contrast > 1:
            raise InputError(
                _(
                    "The sum of first_contrast, other_contrasts and tissue_contrast is more than 1. "
                    "Choose smaller values."
                )
            )

    def at(self, progress: float) -> SynthesisOptions:
        """Return options of a training that is `progress` (0 to 1) done: the first contrast alone, then wider.

        In the first half the shares of contrasts and the disturbances grow to what they are here.
        """
        wide = min(1.0, progress / 0.5)
        hard = min(1.0, 0.3 + wide)
        return replace(
            self,
            first_contrast=1 - wide * (1 - self.first_contrast),
            other_contrasts=wide * self.other_contrasts,
            tissue_contrast=wide * self.tissue_contrast,
            texture=(self.texture[0], self.texture[1] * (0.4 + 0.6 * hard)),
            bias=(self.bias[0], self.bias[1] * (0.4 + 0.6 * hard)),
            noise=(self.noise[0], self.noise[1] * hard),
            spot=self.spot * hard,
            halo=self.halo * hard,
            thick=self.thick * hard,
            coarse=self.coarse * hard,
            cut=self.cut * hard,
        )
