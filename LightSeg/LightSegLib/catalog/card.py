"""The model card: everything LightSeg knows about one model.

The dataclasses below state what each field means to the program, `schema.json` what an author may write;
`card_file.read_card` reads one from its JSON file. Adding a model means adding a card (see `catalog/cards`), never
editing code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .terminology import Terminology


@dataclass(frozen=True)
class Label:
    """One class of the network's output; the background, value 0, is not listed.

    Attributes:
        original: what the authors of the model call it, where that differs from the name.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    terminology: Terminology | None = None
    original: str | None = None


@dataclass(frozen=True)
class Normalization:
    """How the intensities of one channel become network input.

    zscore: (x - mean) / standard deviation, within `lower`..`upper` percentiles where given; ct: clip to [lower, upper]
    HU, then subtract `mean` and divide by `std` of the training set; percentile: the `lower` and `upper` percentiles
    become 0 and 1, and values outside of them too, unless `clip` is False; minmax: minimum and maximum become 0 and
    1; unknown: it is not published, so the model cannot run before the card is filled in.

    Attributes:
        masked: take statistics over the non-zero voxels alone and set all others to 0.
    """

    method: str
    lower: float | None = None
    upper: float | None = None
    mean: float | None = None
    std: float | None = None
    masked: bool = False
    clip: bool = True


@dataclass(frozen=True)
class Resampling:
    """How values come from one grid to another.

    Attributes:
        interpolation: "nearest", "linear" or "cubic".
        separate_axis: whether the coarsest axis is interpolated on its own, after the others: "never", "always", or
            "anisotropic" where its spacing, before or else after the resampling, is more than 3 times the finest,
            as nnU-Net does it.
        separate_axis_interpolation: the interpolation along that axis.
    """

    interpolation: str = "cubic"
    separate_axis: str = "never"
    separate_axis_interpolation: str = "nearest"


@dataclass(frozen=True)
class Alignment:
    """How an image is brought into the position of the training images.

    By an affine registration of a template to it.

    The network then sees one grid, whose axes run along L, P and S of the template: size in voxels, spacing in mm, and
    origin, the place of the first voxel in mm (LPS), each along x, y, z. Its input is not normalized beforehand.

    Attributes:
        template: file beside the weights (see `inference.alignment.template`), with its SHA-256.
        subject: what the template shows.
        second_look: the map is fitted again to what the network has found through it; for a network with a prior.
    """

    template: str
    template_sha256: str
    subject: str
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    second_look: bool = False


@dataclass(frozen=True)
class Total:
    """A volume that is the sum of labels, for tables: its name and the labels' values."""

    name: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Chamber:
    """A chamber of the heart, whose function is computed from the frames of a series.

    Attributes:
        cavity: value of the label of the blood in it.
        myocardium: value of the label of its muscle, whose mass is stated; None for no mass.
    """

    cavity: int
    myocardium: int | None = None


@dataclass(frozen=True)
class RegionFrom:
    """Another model whose labels show the place of a model that was made for a region.

    Attributes:
        model: its id.
        labels: values of its labels, around which the box is.
        margin_mm: between them and the sides of the box.
        by_side: the labels of either side have a box of their own, and what is found in it is named left or right.
        whole_numbers: the image in the box is truncated to whole numbers.
    """

    model: str
    labels: tuple[int, ...]
    margin_mm: float
    by_side: bool = False
    whole_numbers: bool = False


@dataclass(frozen=True)
class Rough:
    """A quick model that shows, by labels of the same names, where single structures of another one are.

    Attributes:
        model: its id.
        margin_mm: between its labels and the sides of the box.
        whole_numbers: the image in the box is truncated to whole numbers.
    """

    model: str
    margin_mm: float
    whole_numbers: bool = False


@dataclass(frozen=True)
class ModelPart:
    """One of several models whose labels make up those of another.

    Attributes:
        model: its id.
        labels: what its values 1, 2, ... become; 0 for those that are left out.
    """

    model: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One step after the network, which changes labels (see `inference.postprocessing`).

    Attributes:
        step: its name.
        labels: values that it changes, none for all; of vertebrae, from the highest to the lowest.
        volume_mm3: a limit, for the steps that have one.
        distance_mm: a distance, for the steps that have one.
        reference: values that it looks at, of the finder's labels where the card has `region_from`.
        together: pieces are those of all these labels together, and not of each label.
        grid: on which it runs: "model", the one on which the model's labels are, before an outer resampling is undone,
            or "image", at the end.
    """

    step: str
    labels: tuple[int, ...] = ()
    volume_mm3: float | None = None
    distance_mm: float | None = None
    reference: tuple[int, ...] = ()
    together: bool = False
    grid: str = "model"

    @property
    def stated(self) -> dict[str, Any]:
        """The parameters that differ from those of a step without any."""
        default = Step(self.step)
        return {name: value for name, value in vars(self).items() if name == "step" or value != getattr(default, name)}


@dataclass(frozen=True)
class OuterResampling:
    """A resampling around all other steps: the model takes a resampled image, and its labels come back as nearest.

    The first and the last voxels of both grids are at the same places, as in TotalSegmentator.

    Attributes:
        spacing: mm along the i, j, k axes.
        whole_numbers: the resampled image is truncated to whole numbers.
        default: whether it takes place unless an option overrides it.
    """

    spacing: tuple[float, float, float]
    whole_numbers: bool = False
    default: bool = True


@dataclass(frozen=True)
class Preprocessing:
    """Steps before the network, in this order: orientation, crop, resampling, normalization.

    Attributes:
        orientation: world directions in which the i, j, k axes run, for example "RAS" (i to the right), or "input"
            to leave the array as it is stored, for networks that saw no directions of the body but slices along the
            heart, for example. Oblique images are turned to the nearest directions.
        transpose: then the array axes that become k, j, i.
        spacing: mm along the resulting i, j, k axes; None, for all or for one of them, keeps the input's.
        normalize_first: normalize before resampling, as nnU-Net v2 does.
        alignment: in place of all that, where a model needs its images in one position.
        conform: before the normalization, in place of all else, FreeSurfer's grid and intensities (see
            `inference.conformed`); the network then sees the whole of it.
        outer_resampling: around all of these steps, and the network.
    """

    orientation: str = "RAS"
    crop: str = "none"
    spacing: tuple[float | None, float | None, float | None] | None = None
    normalization: tuple[Normalization, ...] = (Normalization("zscore"),)
    transpose: tuple[int, int, int] = (0, 1, 2)
    resampling: Resampling = Resampling()
    normalize_first: bool = False
    alignment: Alignment | None = None
    conform: bool = False
    outer_resampling: OuterResampling | None = None


@dataclass(frozen=True)
class Calibration:
    """What Dice a result probably has, by the probabilities of the network; fitted on images with known labels.

    Attributes:
        soft_dice: of a network's probabilities with the labels that they give (see `inference.expected_dice`).
        dice: what was measured at each of these.
        offsets: how much more it was of each label, in the order of the card's labels; none for 0.
        large: values of labels; a low mean of what is expected of them is a doubt about the whole image.
        least_dice: mean over these from which there is no doubt.
        least_information: the same of what an alignment explains of the image, both figures together, in nats.
        pairs: labels of the left and the right side; where much less is expected of one than of the other, there is a
            doubt about it.
        most_difference: up to which there is none.
    """

    soft_dice: tuple[float, ...]
    dice: tuple[float, ...]
    large: tuple[int, ...]
    least_dice: float
    least_information: float = 0.0
    offsets: tuple[float, ...] = ()
    pairs: tuple[tuple[int, ...], ...] = ()
    most_difference: float = 1.0


@dataclass(frozen=True)
class Inference:
    """How the network is run: patch_size in voxels [k, j, i], overlap of neighboring tiles as a fraction.

    A two-dimensional network has a patch of one slice, (1, j, i).

    Attributes:
        mirror_axes: array axes (0=k, 1=j, 2=i) that may be flipped for test-time averaging.
        largest_component: "whole" keeps one connected piece of all labels together, "label" one of every label.
        pad_to_patch: tiles always have patch_size, and a smaller image is padded with zeros, as nnU-Net does.
        average: what overlapping tiles and flips average, "logits" or "probabilities" (nnU-Net v1).
        regions: for overlapping classes, the label that output n writes where its sigmoid exceeds 0.5, later
            outputs over earlier ones; empty where the classes exclude each other (softmax).
        resampling: how logits come back to the grid of the input.
        paired: labels that hold the structures of both sides, which an option separates afterwards.
        calibration: what Dice to expect of a result; None where that was not measured.
        guided_upsampling: the image's own voxels place the borders between labels that were found on a coarser grid;
            for an aligned network.
    """

    patch_size: tuple[int, int, int]
    overlap: float = 0.5
    mirror_axes: tuple[int, ...] = ()
    largest_component: str = "none"
    pad_to_patch: bool = False
    average: str = "logits"
    regions: tuple[int, ...] = ()
    resampling: Resampling = Resampling("linear")
    paired: tuple[int, ...] = ()
    calibration: Calibration | None = None
    guided_upsampling: bool = False


@dataclass(frozen=True)
class Source:
    """One place to get the weights from.

    huggingface: `repository`, `revision`, `path` of a folder whose listing is asked for the weights file; github:
    `repository`, `revision` (a commit), `path`; google_drive: `id`; url: `url`; page: `url` of a page from which a
    person downloads the file.
    """

    kind: str
    repository: str = ""
    revision: str = ""
    path: str = ""
    id: str = ""
    url: str = ""


@dataclass(frozen=True)
class Part:
    """One of several files that make up a model's weights."""

    file: str
    size: int
    sha256: str
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Archive:
    """Where an nnU-Net v2 model is in an archive of its authors.

    Attributes:
        folder: path in the archive of the folder with plans.json, or how it ends; empty where the archive has only one.
        folds: those that are used, by number or "all"; empty for all that are there.
    """

    folder: str = ""
    folds: tuple[str, ...] = ()

    @property
    def choice(self) -> str:
        """Folder and folds as one text."""
        return f"{self.folder}: {', '.join(self.folds) or 'all'}"


@dataclass(frozen=True)
class Weights:
    """The weights file: its name, and what is known beforehand of its size in bytes, SHA-256 and git blob id.

    A file without sources is beside the card or in `Resources/Models`; others are downloaded. A card with parts has no
    file of its own.

    Attributes:
        parts: where a model is published as several files, these; `file` is then the archive that LightSeg makes of
            them.
        archive: where the file is a zip or tar.gz with a folder of nnU-Net v2, what is used of it.
    """

    file: str
    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None
    sources: tuple[Source, ...] = ()
    parts: tuple[Part, ...] = ()
    archive: Archive | None = None

    @property
    def published(self) -> tuple[Weights, ...] | tuple[Part, ...]:
        """The files as their authors publish them."""
        return self.parts or (self,)


@dataclass(frozen=True)
class Measured:
    """Time and memory of one run of a model.

    Attributes:
        volume: what was segmented.
        seconds: with the model in memory; cold_seconds: of a new process, which reads program and weights.
        memory_mb: the most that the process took, program and volume included.
        cores: what computed, and in which form (see `inference.backends.forms`).
        processor: what computed, and in which form (see `inference.backends.forms`).
        form: what computed, and in which form (see `inference.backends.forms`).
    """

    volume: str
    seconds: float
    cold_seconds: float
    memory_mb: int
    cores: int
    processor: str
    form: str


@dataclass(frozen=True)
class Card:
    """One model.

    `folder` is where the card was read from and not part of the JSON.

    Attributes:
        network: its family; empty where only the weights state it (`metadata_in_weights`), or where there are `parts`.
        roi_mm: how large a region the model was made for, along i, j, k of its orientation; None for any size.
        assumptions: what the authors have not stated, one sentence each; such a model is "unverified".
        metadata_in_weights: the weights file carries preprocessing, inference and labels, which replace the card's.
        non_commercial: the license forbids commercial use, so it must be accepted before a download.
        totals: sums of labels that tables list after the labels.
        chambers: of the heart, whose ejection fraction a series over time shows.
        region_from: how the place is found in an image larger than `roi_mm`; None where the user must show it.
        rough: how the place is found of the structures that a user chose; None to look everywhere.
        parts: other models whose labels make up those of this one, which then has no network of its own; where two
            have a label at one voxel, the later one's counts.
        postprocessing: steps after the network, in their order.
        kept: with `metadata_in_weights`, fields of the card that the weights do not replace.
        measured: time and memory of a run with these weights, as `Testing/Benchmarks/measure_cards.py` found them;
            None for a model that was never run with its weights.
        family: the collection that the model is of, for example "TotalSegmentator"; empty for a model of its own.
        task: what it does, in the words of its family; models of one family and task differ in quality alone.
        quality: "normal", "fast" or "fastest".
    """

    id: str
    title: str
    version: str
    description: str
    modality: str
    channels: tuple[str, ...]
    network: str
    network_arguments: dict[str, Any]
    preprocessing: Preprocessing
    inference: Inference
    labels: tuple[Label, ...]
    weights: Weights
    license: str
    citation: str
    limitations: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    performance: dict[str, Any] = field(default_factory=dict)
    sample: str = ""
    roi_mm: tuple[float, float, float] | None = None
    homepage: str = ""
    assumptions: tuple[str, ...] = ()
    metadata_in_weights: bool = False
    non_commercial: bool = False
    totals: tuple[Total, ...] = ()
    chambers: tuple[Chamber, ...] = ()
    measured: Measured | None = None
    region_from: RegionFrom | None = None
    rough: Rough | None = None
    parts: tuple[ModelPart, ...] = ()
    postprocessing: tuple[Step, ...] = ()
    kept: tuple[str, ...] = ()
    family: str = ""
    task: str = ""
    quality: str = "normal"
    folder: Path | None = field(default=None, compare=False)

    @property
    def classes(self) -> int:
        """Number of label values, background included."""
        return max(label.value for label in self.labels) + 1

    @property
    def result_labels(self) -> tuple[Label, ...]:
        """Labels that a result may have: those of the network without those that a step removes."""
        removed = {value for step in self.postprocessing if step.step == "remove_labels" for value in step.labels}
        return tuple(label for label in self.labels if label.value not in removed)

    @property
    def outputs(self) -> int:
        """Number of network outputs: one per region, or one per class with the background."""
        return len(self.inference.regions) or self.classes

    @property
    def unnamed_outputs(self) -> tuple[int, ...]:
        """Network outputs that are of no label: the values may have gaps."""
        values = {0, *(label.value for label in self.labels)}
        return () if self.inference.regions else tuple(n for n in range(self.classes) if n not in values)

    @property
    def was_run(self) -> bool:
        """Whether the model was run here with its weights: they are bundled, or the card has what was measured."""
        bundled = not self.parts and not any(file.sources for file in self.weights.published)
        return bundled or self.measured is not None or "agreement" in self.performance

    @property
    def unverified(self) -> bool:
        """Whether something that the result depends on is not known."""
        return bool(self.assumptions)
