"""The model card: everything LightSeg knows about one model, read from one JSON file.

`read_card` checks every field and names the one that is wrong; the dataclasses below say what each
field means. Adding a model means adding a card (see `catalog/cards`), never editing code.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..files import whole_file

SCHEMA_VERSION = 1
ORIENTATION = re.compile(r"[RL][AP][SI]|[RL][SI][AP]|[AP][RL][SI]|[AP][SI][RL]|[SI][RL][AP]|[SI][AP][RL]")
NORMALIZATIONS = ("zscore", "ct", "percentile", "minmax", "none")
CROPS = ("none", "nonzero")
COMPONENTS = ("none", "label", "whole")


@dataclass(frozen=True)
class Code:
    """A coded concept as DICOM writes it, for example ("SCT", "5366008", "Hippocampus")."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Terminology:
    """What a label is in standard terms: DICOM segmentation category and type, with modifier and region."""

    category: Code
    type: Code
    modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None


@dataclass(frozen=True)
class Label:
    """One class of the network's output; value 0 is the background and never listed."""

    value: int
    name: str
    color: tuple[int, int, int]
    terminology: Terminology | None = None


@dataclass(frozen=True)
class Normalization:
    """How the intensities of one channel become network input.

    zscore: (x - mean) / standard deviation, within `lower`..`upper` percentiles where given;
    ct: clip to [lower, upper] HU, then subtract `mean` and divide by `std` of the training set;
    percentile: the `lower` and `upper` percentiles become 0 and 1; minmax: minimum and maximum become 0 and 1;
    unknown: nobody has published it, so the model cannot run before the card is filled in.
    masked: take statistics over the non-zero voxels alone and set all others to 0.
    """

    method: str
    lower: float | None = None
    upper: float | None = None
    mean: float | None = None
    std: float | None = None
    masked: bool = False


@dataclass(frozen=True)
class Preprocessing:
    """Steps before the network, in this order: orientation, crop, resampling, normalisation.

    orientation: world directions in which the i, j, k axes run, for example "RAS" (i to the right), or
    "input" to leave the array as it is stored. transpose: then the array axes that become k, j, i.
    spacing: mm along the resulting i, j, k axes, None to keep the input's. interpolation: "cubic" or "linear".
    normalize_first: normalise before resampling, as nnU-Net v2 does.
    """

    orientation: str = "RAS"
    crop: str = "none"
    spacing: tuple[float, float, float] | None = None
    normalization: tuple[Normalization, ...] = (Normalization("zscore"),)
    transpose: tuple[int, int, int] = (0, 1, 2)
    interpolation: str = "cubic"
    normalize_first: bool = False


@dataclass(frozen=True)
class Inference:
    """How the network is run: patch_size in voxels [k, j, i], overlap of neighbouring tiles as a fraction.

    mirror_axes: array axes (0=k, 1=j, 2=i) that may be flipped for test-time averaging.
    largest_component: "whole" keeps one connected piece of all labels together, "label" one of every label.
    pad_to_patch: tiles always have patch_size, and a smaller image is padded with zeros, as nnU-Net does.
    average: what overlapping tiles and flips average, "logits" or "probabilities" (nnU-Net v1).
    regions: for overlapping classes, the label that output n writes where its sigmoid exceeds 0.5, later
    outputs over earlier ones; empty where the classes exclude each other (softmax).
    """

    patch_size: tuple[int, int, int]
    overlap: float = 0.5
    mirror_axes: tuple[int, ...] = ()
    largest_component: str = "none"
    pad_to_patch: bool = False
    average: str = "logits"
    regions: tuple[int, ...] = ()


@dataclass(frozen=True)
class Source:
    """One place to get the weights from.

    huggingface: `repository`, `revision`, `path` of a folder whose listing is asked for the weights file;
    github: `repository`, `revision` (a commit), `path`; google_drive: `id`; url: `url`;
    page: `url` of a page from which a person downloads the file.
    """

    kind: str
    repository: str = ""
    revision: str = ""
    path: str = ""
    id: str = ""
    url: str = ""


@dataclass(frozen=True)
class Weights:
    """The weights file: its name, and what is known beforehand of its size in bytes, SHA-256 and git blob id.

    A file without sources lies beside the card or in `Resources/Models`; others are downloaded.
    """

    file: str
    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Card:
    """One model. `folder` is where the card was read from and not part of the JSON.

    region_mm: how large a region the model was made for, along i, j, k of its orientation; None for any size.
    not_known: what the authors have not stated, one sentence each; such a model is "unverified".
    self_describing: the weights file carries preprocessing, inference and labels, which replace the card's.
    non_commercial: the licence forbids commercial use, so it must be accepted before a download.
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
    licence: str
    citation: str
    limitations: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    performance: dict[str, Any] = field(default_factory=dict)
    sample: str = ""
    region_mm: tuple[float, float, float] | None = None
    homepage: str = ""
    not_known: tuple[str, ...] = ()
    self_describing: bool = False
    non_commercial: bool = False
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
    def unverified(self) -> bool:
        """Whether something that the result depends on is not known."""
        return bool(self.not_known)


def read_card(path: str | Path) -> Card:
    """Read and check a card. Raises ModelError naming the file and the field."""
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"The model card {path} cannot be read ({error}). Restore the file or import the model again."
        ) from error
    try:
        return card_from_dict(data, path.parent)
    except _FieldError as error:
        raise ModelError(f"The model card {path} is not valid: {error}. Correct this field.") from error


def write_card(card: Card, path: str | Path) -> None:
    """Write `card` as JSON, whole or not at all. Raises OutputError where that fails."""
    text = json.dumps(card_to_dict(card), indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def card_to_dict(card: Card) -> dict[str, Any]:
    """The JSON object of a card, without what was left at None."""
    data = {"schema": SCHEMA_VERSION, **asdict(card)}
    del data["folder"]
    return dict(_without_none(data))


def card_from_dict(data: Any, folder: Path | None = None) -> Card:
    """Card of a JSON object; raises a ValueError that names the field."""
    root = _Fields(data, "")
    if root.get("schema", int) != SCHEMA_VERSION:
        raise _FieldError(f"schema must be {SCHEMA_VERSION}")
    identifier = root.get("id", str)
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", identifier):
        raise _FieldError("id must be lower-case letters, digits, '-', '_' or '.'")
    labels = tuple(_label(entry) for entry in root.items("labels"))
    if not labels or len({label.value for label in labels}) != len(labels):
        raise _FieldError("labels must have at least one entry and no value twice")
    card = Card(
        id=identifier,
        title=root.get("title", str),
        version=root.get("version", str),
        description=root.get("description", str),
        modality=root.get("modality", str),
        channels=tuple(root.sequence("channels", str)),
        network=root.get("network", str),
        network_arguments=root.get("network_arguments", dict),
        preprocessing=_preprocessing(root.child("preprocessing")),
        inference=_inference(root.child("inference")),
        labels=labels,
        weights=_weights(root.child("weights")),
        licence=root.get("licence", str),
        citation=root.get("citation", str),
        limitations=root.get("limitations", str, ""),
        training=root.get("training", dict, {}),
        performance=root.get("performance", dict, {}),
        sample=root.get("sample", str, ""),
        region_mm=_size_mm(root, "region_mm"),
        folder=folder,
    )
    if not card.channels:
        raise _FieldError("channels must name at least one input")
    if len(card.preprocessing.normalization) != len(card.channels):
        raise _FieldError("preprocessing.normalization must have one entry per channel")
    return card


class _FieldError(ValueError):
    """A field of a card is missing or wrong; the message starts with its name."""


class _Fields:
    """Typed access to a JSON object that names the field in every complaint."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise _FieldError(f"{where or 'the file'} must be a JSON object")
        self.data, self.where = data, where

    def path(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def get(self, name: str, kind: Any, default: Any = ...) -> Any:
        value = self.data.get(name, default)
        if value is ...:
            raise _FieldError(f"{self.path(name)} is missing")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if value is not default and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise _FieldError(f"{self.path(name)} must be of type {kind.__name__}")
        return value

    def sequence(self, name: str, kind: type, length: int | None = None) -> list[Any]:
        values = self.get(name, list)
        if length is not None and len(values) != length:
            raise _FieldError(f"{self.path(name)} must have {length} entries")
        return [_Fields({"x": value}, self.path(name)).get("x", kind) for value in values]

    def child(self, name: str) -> _Fields:
        return _Fields(self.get(name, dict), self.path(name))

    def items(self, name: str) -> list[_Fields]:
        return [_Fields(entry, f"{self.path(name)}[{n}]") for n, entry in enumerate(self.get(name, list))]


def _code(fields: _Fields, name: str, optional: bool = False) -> Code | None:
    if optional and fields.data.get(name) is None:
        return None
    child = fields.child(name)
    return Code(child.get("scheme", str), child.get("value", str), child.get("meaning", str))


def _label(fields: _Fields) -> Label:
    terminology = None
    if fields.data.get("terminology") is not None:
        child = fields.child("terminology")
        category, kind = _code(child, "category"), _code(child, "type")
        assert category is not None and kind is not None
        terminology = Terminology(
            category,
            kind,
            _code(child, "modifier", optional=True),
            _code(child, "region", optional=True),
            _code(child, "region_modifier", optional=True),
        )
    value = fields.get("value", int)
    if not 1 <= value <= 32767:
        raise _FieldError(f"{fields.path('value')} must be between 1 and 32767")
    red, green, blue = fields.sequence("color", int, 3)
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise _FieldError(f"{fields.path('color')} must hold numbers from 0 to 255")
    return Label(value, fields.get("name", str), (red, green, blue), terminology)


def _preprocessing(fields: _Fields) -> Preprocessing:
    orientation = fields.get("orientation", str, "RAS")
    if not ORIENTATION.fullmatch(orientation):
        raise _FieldError(f"{fields.path('orientation')} must be three letters such as RAS or LPS")
    crop = fields.get("crop", str, "none")
    if crop not in CROPS:
        raise _FieldError(f"{fields.path('crop')} must be one of {', '.join(CROPS)}")
    spacing = _size_mm(fields, "spacing")
    return Preprocessing(orientation, crop, spacing, tuple(map(_normalization, fields.items("normalization"))))


def _size_mm(fields: _Fields, name: str) -> tuple[float, float, float] | None:
    if fields.data.get(name) is None:
        return None
    x, y, z = fields.sequence(name, float, 3)
    if min(x, y, z) <= 0:
        raise _FieldError(f"{fields.path(name)} must be positive")
    return x, y, z


def _normalization(fields: _Fields) -> Normalization:
    method = fields.get("method", str)
    if method not in NORMALIZATIONS:
        raise _FieldError(f"{fields.path('method')} must be one of {', '.join(NORMALIZATIONS)}")
    names = ("lower", "upper", "mean", "std")
    numbers = [fields.get(name, float, None) for name in names]
    needed = {"ct": names, "percentile": names[:2]}.get(method, ())
    for name, number in zip(names, numbers, strict=True):
        if name in needed and number is None:
            raise _FieldError(f"{fields.path(name)} is needed by the method {method}")
    return Normalization(method, *numbers)


def _inference(fields: _Fields) -> Inference:
    k, j, i = fields.sequence("patch_size", int, 3)
    if min(k, j, i) < 1:
        raise _FieldError(f"{fields.path('patch_size')} must be positive")
    overlap = fields.get("overlap", float, 0.5)
    if not 0 <= overlap < 1:
        raise _FieldError(f"{fields.path('overlap')} must be at least 0 and below 1")
    mirror = tuple(fields.sequence("mirror_axes", int)) if "mirror_axes" in fields.data else ()
    if not set(mirror) <= {0, 1, 2}:
        raise _FieldError(f"{fields.path('mirror_axes')} must hold axes out of 0, 1 and 2")
    largest = fields.get("largest_component", str, "none")
    if largest not in COMPONENTS:
        raise _FieldError(f"{fields.path('largest_component')} must be one of {', '.join(COMPONENTS)}")
    return Inference((k, j, i), overlap, mirror, largest)


def _weights(fields: _Fields) -> Weights:
    name = fields.get("file", str)
    if Path(name).name != name:
        raise _FieldError(f"{fields.path('file')} must be a plain file name")
    return Weights(name, fields.get("size", int), fields.get("sha256", str))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(entry) for entry in value]
    return value
