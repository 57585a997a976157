"""Channels, modality, labels and regions of nnU-Net's dataset.json; of a training set, the names alone.

Format: nnU-Net's documentation (github.com/MIC-DKFZ/nnUNet: dataset format, region-based training, ignore label).
Complaints are FieldErrors that name the field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..catalog.anatomy import look_up
from ..catalog.card import Label
from ..catalog.channels import OTHER_MODALITY
from ..core.i18n import tr as _
from ..core.plain_text import plain
from ..core.schema import FieldError, conform
from .fields import OBJECT, TEXT, Schema, object_of

DATASET_NAME = "dataset.json"
CHANNEL_FIELDS = ("modality", "channel_names")  # the old name comes first, as in nnU-Net
MOST_REGIONS = 100  # each is compared with all others; the largest known has about ten
NUMBER_AS_TEXT = "[0-9]{1,5}"
LABEL: Schema = {"type": "integer", "minimum": 0, "maximum": 32767}
ORDER: Schema = {"type": "array", "uniqueItems": True, "items": {**LABEL, "minimum": 1}}
MODALITIES = {
    "CT": r"ct|ncct|cbct|cta|cect",
    "MR": r"mri?|t1\w*|t2\w*|flair|adc|dwi|swi|pdw?|cine|lge|bssfp",
    "PT": r"pet|pt|suv|fdg",
    "US": r"us|ultrasound",
}


@dataclass(frozen=True)
class Names:
    """Name, channels and labels that a training set states; each is empty where it is not stated."""

    dataset: str
    channels: tuple[str, ...]
    labels: dict[int, str]


def read_names(dataset: Any) -> Names:
    """Return the names in the description of a training set, which need none, and whose labels may have gaps.

    Labels are {"name": 1}, or {"1": "name"} as in nnU-Net v1 and the Medical Segmentation Decathlon.

    Raises:
        FieldError: for a region of several values, too.
    """
    # Others have words about the modality there, which name no channels.
    named = next((dataset[field] for field in CHANNEL_FIELDS if field in dataset), None)
    channels = read_channels(dataset) if named and not isinstance(named, str) else ()
    labels = {}
    for key, entry in conform(dataset.get("labels", {}), OBJECT, "dataset.labels").items():
        name, value = (entry, key) if re.fullmatch(NUMBER_AS_TEXT, key) else (key, entry)
        values = _values(value, f"dataset.labels.{name}")
        if len(values) > 1:
            raise FieldError(
                _(
                    "dataset.labels.{name} is a region with several values, but training needs one value per label"
                ).format(name=name)
            )
        if values[0] in labels:
            raise FieldError(
                _("{field} has the value {value}, as another label does").format(
                    field=f"dataset.labels.{name}", value=values[0]
                )
            )
        labels[values[0]] = str(name)
    labels.pop(0, None)
    return Names(str(dataset.get("name", "")), channels, labels)


def read_channels(dataset: Any) -> tuple[str, ...]:
    """Return the names of the input channels in the order of their numbers."""
    dataset = conform(dataset, OBJECT, "dataset")
    field = next((name for name in CHANNEL_FIELDS if name in dataset), CHANNEL_FIELDS[-1])
    named = _field(dataset, field, OBJECT)
    numbers = [str(number) for number in range(len(named))]
    if not named or set(named) != set(numbers):
        raise FieldError(_("dataset.{field} must number the channels 0, 1, 2, ... without gaps").format(field=field))
    return tuple(conform(named[number], TEXT, f"dataset.{field}.{number}") for number in numbers)


def modality_of(channels: Sequence[str]) -> str:
    """Return the DICOM modality of channels; "OT" (other) if their names are unknown or do not agree."""
    found = set()
    for channel in channels:
        words = re.split(r"[^a-z0-9]+", channel.casefold())
        found.add(next((kind for kind, form in MODALITIES.items() if any(re.fullmatch(form, w) for w in words)), None))
    return (found.pop() if len(found) == 1 else None) or OTHER_MODALITY


def read_labels(dataset: Any, gaps: bool = False) -> tuple[tuple[Label, ...], tuple[int, ...]]:
    """Return the labels by value, and, for overlapping regions, the label that each output writes.

    Args:
        gaps: take labels whose values are not 1, 2, 3, ..., for who names the outputs by himself: there is one for each
            label, in the order of their values, and its number is what the network's answer has, not that value.
    """
    entries = _field(dataset, "labels", OBJECT)
    members = {name: _values(value, f"dataset.labels.{name}") for name, value in entries.items()}
    if members.get("background") != [0]:
        raise FieldError(_("dataset.labels must include a background with the value 0"))
    ignored = members.pop("ignore", None)  # voxels without labels; the network has no output for them
    if ignored is not None and ignored != [max(max(values) for values in members.values()) + 1]:
        raise FieldError(_("dataset.labels.ignore must be the highest value"))
    foreground = {name: values for name, values in members.items() if set(values) != {0}}
    if any(len(values) > 1 for values in foreground.values()):
        return _regions(foreground, dataset)
    names = {value: name for name, (value,) in foreground.items()}
    if not names or len(names) != len(foreground) or (max(names) != len(names) and not gaps):
        # Output n of the network becomes label n: after a gap all labels would be named wrongly.
        raise FieldError(_("dataset.labels must number the labels 1, 2, 3, ... without gaps, each once"))
    return tuple(_label(value, names[value]) for value in sorted(names)), ()


def _regions(members: dict[str, list[int]], dataset: dict[str, Any]) -> tuple[tuple[Label, ...], tuple[int, ...]]:
    """Regions in the order of the network's outputs; each is painted over those before it."""
    order: tuple[int, ...] = _field(dataset, "regions_class_order", ORDER)
    if len(order) != len(members):
        raise FieldError(_("dataset.regions_class_order must have one entry per region of dataset.labels"))
    if len(members) > MOST_REGIONS:
        raise FieldError(_("dataset.labels must have at most {MOST_REGIONS} regions").format(MOST_REGIONS=MOST_REGIONS))
    names = list(members)
    labels = []
    for number, (name, value) in enumerate(zip(names, order, strict=True), start=1):
        over = [other for other in names[number:] if set(members[other]) & set(members[name])]
        outer = [one for one in over if not any(set(members[one]) < set(members[other]) for other in over)]
        labels.append(_label(value, f"{name} without {' and '.join(outer)}" if outer else name))
    return tuple(sorted(labels, key=lambda label: label.value)), order


def _field(dataset: dict[str, Any], name: str, schema: Schema) -> Any:
    """Return a field of dataset.json that conforms to its schema."""
    return conform(dataset, object_of({name: schema}), "dataset")[name]


def _values(value: Any, where: str) -> list[int]:
    """Return the values of a label or of a region's labels; some files write numbers as text."""
    if value == []:
        raise FieldError(_("{where} must have at least one value").format(where=where))
    entries = {f"{where}[{n}]": v for n, v in enumerate(value)} if isinstance(value, list) else {where: value}
    return [
        conform(int(v) if isinstance(v, str) and re.fullmatch(NUMBER_AS_TEXT, v) else v, LABEL, place)
        for place, v in entries.items()
    ]


def _label(value: int, name: str) -> Label:
    """Return a label with the terminology and color of its name."""
    name = plain(name, lines=False) or f"Label {value}"
    terminology, color = look_up(name, value)
    return Label(value, name, color, terminology)
