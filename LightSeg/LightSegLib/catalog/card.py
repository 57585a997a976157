"""The model card: everything LightSeg knows about one model, read from one JSON file.

The dataclasses below say what each field means to the program, `schema.json` what an author may write;
`read_card` checks every field and names the one that is wrong. Adding a model means adding a card (see
`catalog/cards`), never editing code.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..core.atomic_io import atomic_write
from ..core.errors import ModelError
from ..core.i18n import tr as _
from ..core.json_file import read_json
from ..core.plain_text import ACTING
from ..core.schema import FieldError, conform

SCHEMA_VERSION = 1
# Fields of cards, and of their resampling, by the names that they once had.
RENAMED = {
    "licence": "license",
    "not_known": "assumptions",
    "self_describing": "metadata_in_weights",
    "region_mm": "roi_mm",
}
RENAMED_RESAMPLING = {"separate": "separate_axis", "across": "separate_axis_interpolation"}
MOST_BYTES = 1 << 20  # of a card; the longest has some twenty thousand
LONGEST_NAME = 200  # bytes of a file's name; most file systems have 255, and temporary names need some
NEEDED_NUMBERS = {"ct": ("lower", "upper", "mean", "std"), "percentile": ("lower", "upper")}
PERCENTILES = ("zscore", "percentile")  # methods whose limits are these
NEEDED_FACTS = {
    "huggingface": ("repository", "revision", "path"),
    "github": ("repository", "revision", "path"),
    "google_drive": ("id",),
    "url": ("url",),
    "page": ("url",),
}


@functools.cache
def card_schema() -> dict[str, Any]:
    """Return the schema of model cards."""
    return dict(json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Code:
    """A coded concept as DICOM writes it, for example ("SCT", "5366008", "Hippocampus")."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Terminology:
    """A label in standard terms: DICOM segmentation category and type, with modifier and region."""

    category: Code
    type: Code
    modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None


@dataclass(frozen=True)
class Label:
    """One class of the network's output; the background, value 0, is not listed."""

    value: int
    name: str
    color: tuple[int, int, int]
    terminology: Terminology | None = None


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
    """

    template: str
    template_sha256: str
    subject: str
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]


@dataclass(frozen=True)
class Total:
    """A volume that is the sum of labels, for tables: its name and the labels' values."""

    name: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class RegionFrom:
    """Another model whose labels show the place of a model that was made for a region.

    Attributes:
        model: its id.
        labels: values of its labels, around which the box is.
        margin_mm: between them and the sides of the box.
        by_side: the labels of either side have a box of their own, and what is found in it is named left or right.
    """

    model: str
    labels: tuple[int, ...]
    margin_mm: float
    by_side: bool = False


@dataclass(frozen=True)
class Preprocessing:
    """Steps before the network, in this order: orientation, crop, resampling, normalization.

    Attributes:
        orientation: world directions in which the i, j, k axes run, for example "RAS" (i to the right), or "input"
            to leave the array as it is stored, for networks that saw no directions of the body but slices along the
            heart, say. Oblique images are turned to the nearest directions.
        transpose: then the array axes that become k, j, i.
        spacing: mm along the resulting i, j, k axes; None, for all or for one of them, keeps the input's.
        normalize_first: normalize before resampling, as nnU-Net v2 does.
        alignment: in place of all that, where a model needs its images in one position.
        conform: before the normalization, in place of all else, FreeSurfer's grid and intensities (see
            `inference.conformed`); the network then sees the whole of it.
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
class Weights:
    """The weights file: its name, and what is known beforehand of its size in bytes, SHA-256 and git blob id.

    A file without sources is beside the card or in `Resources/Models`; others are downloaded.

    Attributes:
        parts: where a model is published as several files, these; `file` is then the archive that LightSeg makes of
            them.
    """

    file: str
    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None
    sources: tuple[Source, ...] = ()
    parts: tuple[Part, ...] = ()

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
        roi_mm: how large a region the model was made for, along i, j, k of its orientation; None for any size.
        assumptions: what the authors have not stated, one sentence each; such a model is "unverified".
        metadata_in_weights: the weights file carries preprocessing, inference and labels, which replace the card's.
        non_commercial: the license forbids commercial use, so it must be accepted before a download.
        totals: sums of labels that tables list after the labels.
        region_from: how the place is found in an image larger than `roi_mm`; None where the user must show it.
        measured: time and memory of a run with these weights, as `Testing/Benchmarks/measure_cards.py` found them;
            None for a model that was never run with its weights.
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
    measured: Measured | None = None
    region_from: RegionFrom | None = None
    folder: Path | None = field(default=None, compare=False)

    @property
    def classes(self) -> int:
        """Number of label values, background included."""
        return max(label.value for label in self.labels) + 1

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
        bundled = not any(file.sources for file in self.weights.published)
        return bundled or self.measured is not None or "agreement" in self.performance

    @property
    def unverified(self) -> bool:
        """Whether something that the result depends on is not known."""
        return bool(self.assumptions)


def read_card(path: str | Path) -> Card:
    """Read and check a card.

    Raises:
        ModelError: naming the file and the field.
    """
    path = Path(path)
    try:
        data = read_json(path, MOST_BYTES, nan=True)  # the field is named below
    except (OSError, ValueError) as error:
        raise ModelError(
            _("The model card {file} cannot be read ({reason}). Restore the file or import the model again.").format(
                file=path, reason=error
            )
        ) from error
    try:
        card = card_from_dict(data, path.parent)
        json.dumps(data, allow_nan=False)  # what a card leaves open must be JSON, too
        return card
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:  # FieldError, and what no rule thought of
        raise ModelError(
            _("The model card {file} is not valid: {reason}. Correct this field.").format(file=path, reason=error)
        ) from error


def write_card(card: Card, path: str | Path) -> None:
    """Write `card` as JSON, whole or not at all.

    Raises:
        OutputError: if that fails.
    """
    text = _as_text(card)
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def check_readable(card: Card) -> None:
    """Check that a card could be read again after it is written.

    Raises:
        ValueError: a FieldError where a field can be named, for a card that could not be read again.
    """
    text = _as_text(card)
    size = len(text.encode("utf-8"))
    if size > MOST_BYTES:
        raise ValueError(
            _("it has {size:.1f} MB of text, and a card has at most {MOST_BYTES:.0f} MB").format(
                size=size / 1000000.0, MOST_BYTES=MOST_BYTES / 1000000.0
            )
        )
    card_from_dict(json.loads(text), card.folder)


def _as_text(card: Card) -> str:
    """Return the JSON text of a card."""
    return json.dumps(card_to_dict(card), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def card_to_dict(card: Card) -> dict[str, Any]:
    """Return the JSON object of a card, without what was left at None."""
    data = {"schema": SCHEMA_VERSION, **asdict(card)}
    del data["folder"]
    for file in (data["weights"], *data["weights"]["parts"]):
        file["sources"] = [{k: v for k, v in source.items() if v} for source in file["sources"]]
    if not data["weights"]["parts"]:
        del data["weights"]["parts"]
    return dict(_without_none(data))


def card_from_dict(data: Any, folder: Path | None = None) -> Card:
    """Return the card of a JSON object; raises a ValueError that names the field."""
    fields = conform(_renewed(data), card_schema())
    del fields["schema"]
    _check(fields)
    preprocessing, weights = _with_resampling(fields["preprocessing"]), fields["weights"]
    rules = tuple(Normalization(**rule) for rule in preprocessing["normalization"])
    if alignment := preprocessing.get("alignment"):
        preprocessing = preprocessing | {"alignment": Alignment(**alignment)}
    parts = tuple(Part(**_with_sources(part)) for part in weights.get("parts", ()))
    changed = {
        "preprocessing": Preprocessing(**preprocessing | {"normalization": rules}),
        "inference": Inference(**_with_resampling(fields["inference"])),
        "labels": tuple(label_from_dict(label) for label in fields["labels"]),
        "weights": Weights(**_with_sources(weights) | {"parts": parts}),
        "totals": tuple(Total(**total) for total in fields.get("totals", ())),
        "measured": Measured(**fields["measured"]) if "measured" in fields else None,
    }
    if region_from := fields.get("region_from"):
        changed["region_from"] = RegionFrom(**region_from)
    card = Card(**fields | changed, folder=folder)
    for name, number, things in (
        ("in_channels", len(card.channels), _("channels")),
        ("classes", card.outputs, _("regions") if card.inference.regions else _("label values with the background")),
    ):
        if card.network_arguments.get(name, number) != number:
            raise FieldError(
                _("network_arguments.{name} must be {number}, the number of {things}").format(
                    name=name, number=number, things=things
                )
            )
    return card


def _with_sources(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields of a weights file with its sources as `Source`."""
    return fields | {"sources": tuple(Source(**source) for source in fields.get("sources", ()))}


def _renewed(data: Any) -> Any:
    """Return a card in today's names: fields that LightSeg once called otherwise, `interpolation` in a `resampling`."""
    if not isinstance(data, dict):
        return data
    data = _in_new_names(data, RENAMED)
    for step in ("preprocessing", "inference"):
        if isinstance(data.get(step), dict) and isinstance(data[step].get("resampling"), dict):
            data[step] = data[step] | {"resampling": _in_new_names(data[step]["resampling"], RENAMED_RESAMPLING)}
    preprocessing = data.get("preprocessing")
    if not isinstance(preprocessing, dict) or "interpolation" not in preprocessing or "resampling" in preprocessing:
        return data
    others = {name: value for name, value in preprocessing.items() if name != "interpolation"}
    resampling = {"interpolation": preprocessing["interpolation"]}
    return data | {"preprocessing": others | {"resampling": resampling}}


def _in_new_names(fields: dict[str, Any], renamed: dict[str, str]) -> dict[str, Any]:
    """Return fields under their new names; a field that has both names keeps the new one."""
    return {name if renamed.get(name, name) in fields else renamed.get(name, name): fields[name] for name in fields}


def _with_resampling(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields with their resampling, if any, as `Resampling`."""
    given = fields.get("resampling")
    return fields if given is None else fields | {"resampling": Resampling(**given)}


def _check(fields: dict[str, Any]) -> None:
    """Check what the schema cannot express.

    Raises:
        FieldError: for the first field that does not fit.
    """
    rules = fields["preprocessing"]["normalization"]
    if len(rules) != len(fields["channels"]):
        raise FieldError(_("preprocessing.normalization must have one entry per channel"))
    for n, rule in enumerate(rules):
        where = f"preprocessing.normalization[{n}]"
        _require(rule, NEEDED_NUMBERS.get(rule["method"], ()), where, rule["method"])
        for limit in ("lower", "upper") if rule["method"] in PERCENTILES else ():
            if not 0 <= rule.get(limit, 0) <= 100:
                raise FieldError(
                    _("{where}.{limit} must be a percentile, from 0 to 100").format(where=where, limit=limit)
                )
        if rule.get("lower", -math.inf) >= rule.get("upper", math.inf):
            raise FieldError(_("{where}.lower must be below upper").format(where=where))
    values = [label["value"] for label in fields["labels"]]
    for n, value in enumerate(values):
        if value in values[:n]:
            raise FieldError(_("labels[{n}].value must differ from the other labels' values").format(n=n))
    for n, region in enumerate(fields["inference"].get("regions", ())):
        if region not in values:
            raise FieldError(_("inference.regions[{n}] must be the value of a label").format(n=n))
    _check_weights(fields["weights"])
    names = [label["name"] for label in fields["labels"]]
    for n, name in enumerate(names):
        if not name.strip() or ACTING.search(name) or "\n" in name or "\t" in name:  # results hold it in their headers
            raise FieldError(_("labels[{n}].name must be text without control characters").format(n=n))
    for n, total in enumerate(fields.get("totals", ())):
        if total["name"] in names + [other["name"] for other in fields["totals"][:n]]:
            raise FieldError(_("totals[{n}].name must differ from the names of labels and other totals").format(n=n))
        if not set(total["labels"]) <= set(values):
            raise FieldError(_("totals[{n}].labels must be values of labels").format(n=n))
    for n, value in enumerate(fields["inference"].get("paired", ())):
        if value not in values:
            raise FieldError(_("inference.paired[{n}] must be the value of a label").format(n=n))
    if alignment := fields["preprocessing"].get("alignment"):
        _check_file_name(alignment["template"], "preprocessing.alignment.template")
        if fields["inference"]["patch_size"] != alignment["size"][::-1]:
            raise FieldError(_("inference.patch_size must be preprocessing.alignment.size in reverse order"))
    if fields.get("sample"):
        _check_file_name(fields["sample"], "sample")


def _check_weights(weights: dict[str, Any]) -> None:
    """Check what the schema cannot say about weights.

    Raises:
        FieldError: for the first field that does not fit.
    """
    files = {"weights": weights} | {f"weights.parts[{n}]": part for n, part in enumerate(weights.get("parts", ()))}
    for where, file in files.items():
        _check_file_name(file["file"], f"{where}.file")
        for n, source in enumerate(file.get("sources", ())):
            _require(source, NEEDED_FACTS[source["kind"]], f"{where}.sources[{n}]", source["kind"])
    if len({file["file"].casefold() for file in files.values()}) != len(files):
        raise FieldError(_("weights.parts must have files of different names, none of them that of weights.file"))
    if weights.get("parts"):
        _require(weights, ("size", "sha256"), "weights", "a file that is made of parts")
    if weights.get("parts") and weights.get("sources"):
        raise FieldError(_("weights.sources must be left out where there are weights.parts, which have their own"))


def _require(entry: dict[str, Any], names: tuple[str, ...], where: str, what: str) -> None:
    """Check that an entry has fields that another of its fields needs.

    Raises:
        FieldError: for the first that is missing.
    """
    for name in names:
        if name not in entry:
            raise FieldError(_("{where}.{name} is required by {what}").format(where=where, name=name, what=what))


def _check_file_name(name: str, where: str) -> None:
    """Check that a name is a plain file name that every file system takes.

    Raises:
        FieldError: if it is not.
    """
    if not name.isprintable() or len(name.encode()) > LONGEST_NAME:
        raise FieldError(
            _("{where} must be printable and have at most {limit} bytes").format(where=where, limit=LONGEST_NAME)
        )
    if name in ("", ".", "..") or not name == PurePosixPath(name).name == PureWindowsPath(name).name:
        raise FieldError(_("{where} must be a plain file name").format(where=where))


def label_to_dict(label: Label) -> dict[str, Any]:
    """Return the JSON object of a label, without what was left at None."""
    return dict(_without_none(asdict(label)))


def label_from_dict(fields: dict[str, Any]) -> Label:
    """Return the label of its JSON object."""
    terminology = fields.get("terminology")
    if terminology is not None:
        terminology = Terminology(**{name: Code(**code) for name, code in terminology.items()})
    red, green, blue = fields["color"]
    return Label(fields["value"], fields["name"], (red, green, blue), terminology)


def _without_none(value: Any) -> Any:
    """Return a JSON value without the fields that are None, at all depths."""
    if isinstance(value, dict):
        return {key: _without_none(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(entry) for entry in value]
    return value
