"""Model cards as JSON: read and checked, also in the names of older versions, and written.

`schema.json` states what an author may write; what it cannot express is checked here. An error names the field.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from dataclasses import asdict
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..core.atomic_io import atomic_write
from ..core.errors import ModelError
from ..core.figures import distinct
from ..core.i18n import tr as _
from ..core.json_file import read_json
from ..core.plain_text import ACTING
from ..core.schema import FieldError, conform
from .card import (
    Alignment,
    Archive,
    Calibration,
    Card,
    Chamber,
    Inference,
    Label,
    Measured,
    ModelPart,
    Normalization,
    OuterResampling,
    Part,
    Preprocessing,
    RegionFrom,
    Resampling,
    Rough,
    Source,
    Step,
    Total,
    Weights,
)
from .terminology import Code, Terminology

SCHEMA_VERSION = 1
PARTS = "parts"  # in place of the name of a weights file, where a model consists of others
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
STEPS = {  # after the network, and the parameters that each needs
    "keep_largest": ("labels",),
    "remove_small": ("volume_mm3",),
    "remove_labels": ("labels",),
    "keep_within": ("reference", "distance_mm"),
    "dilate": ("distance_mm",),
    "number_vertebrae": ("labels", "volume_mm3"),
}
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
        found, most = distinct(size / 1e6, MOST_BYTES / 1e6, digits=1)
        raise ValueError(_("it has {size} MB of text, and a card has at most {most} MB").format(size=found, most=most))
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
    if card.parts:
        del data["weights"]
    return dict(_without_none(data))


def card_from_dict(data: Any, folder: Path | None = None) -> Card:
    """Return the card of a JSON object; raises a ValueError that names the field."""
    fields = conform(_renewed(data), card_schema())
    del fields["schema"]
    _check(fields)
    card = assembled(fields | {"labels": tuple(map(label_from_dict, fields["labels"]))}, folder)
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


def assembled(fields: dict[str, Any], folder: Path | None) -> Card:
    """Return the card of fields that were checked: the objects of a card's JSON, lists as tuples, and its labels."""
    preprocessing, weights = _with_resampling(fields["preprocessing"]), fields.get("weights", {"file": PARTS})
    rules = tuple(Normalization(**rule) for rule in preprocessing["normalization"])
    if alignment := preprocessing.get("alignment"):
        preprocessing = preprocessing | {"alignment": Alignment(**alignment)}
    if outer := preprocessing.get("outer_resampling"):
        preprocessing = preprocessing | {"outer_resampling": OuterResampling(**outer)}
    inference = _with_resampling(fields["inference"])
    if calibration := inference.get("calibration"):
        inference = inference | {"calibration": Calibration(**calibration)}
    if archive := weights.get("archive"):
        weights = weights | {"archive": Archive(**archive)}
    parts = tuple(Part(**_with_sources(part)) for part in weights.get("parts", ()))
    changed = {
        "preprocessing": Preprocessing(**preprocessing | {"normalization": rules}),
        "inference": Inference(**inference),
        "weights": Weights(**_with_sources(weights) | {"parts": parts}),
        "totals": tuple(Total(**total) for total in fields.get("totals", ())),
        "chambers": tuple(Chamber(**chamber) for chamber in fields.get("chambers", ())),
        "parts": tuple(ModelPart(**part) for part in fields.get("parts", ())),
        "postprocessing": tuple(Step(**step) for step in fields.get("postprocessing", ())),
        "measured": Measured(**fields["measured"]) if "measured" in fields else None,
    }
    if region_from := fields.get("region_from"):
        changed["region_from"] = RegionFrom(**region_from)
    if rough := fields.get("rough"):
        changed["rough"] = Rough(**rough)
    return Card(**fields | changed, folder=folder)


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
    _check_parts(fields, values)
    _check_steps(fields, values)
    names = [label["name"] for label in fields["labels"]]
    for n, name in enumerate(names):
        if not name.strip() or ACTING.search(name) or "\n" in name or "\t" in name:  # results hold it in their headers
            raise FieldError(_("labels[{n}].name must be text without control characters").format(n=n))
        if name in names[:n]:  # tables have a column for each name
            raise FieldError(_("labels[{n}].name must differ from the other labels' names").format(n=n))
    for n, total in enumerate(fields.get("totals", ())):
        if total["name"] in names + [other["name"] for other in fields["totals"][:n]]:
            raise FieldError(_("totals[{n}].name must differ from the names of labels and other totals").format(n=n))
        if not set(total["labels"]) <= set(values):
            raise FieldError(_("totals[{n}].labels must be values of labels").format(n=n))
    for n, chamber in enumerate(fields.get("chambers", ())):
        for name, value in chamber.items():
            if value not in values:
                raise FieldError(_("chambers[{n}].{name} must be the value of a label").format(n=n, name=name))
    for n, value in enumerate(fields["inference"].get("paired", ())):
        if value not in values:
            raise FieldError(_("inference.paired[{n}] must be the value of a label").format(n=n))
    if calibration := fields["inference"].get("calibration"):
        _check_calibration(calibration, values, bool(fields["inference"].get("regions")))
    _check_upsampling(fields)
    if alignment := fields["preprocessing"].get("alignment"):
        _check_file_name(alignment["template"], "preprocessing.alignment.template")
        if alignment.get("second_look") and (
            fields["network"] != "atlas_unet" or fields["inference"].get("mirror_axes")
        ):
            raise FieldError(_("preprocessing.alignment.second_look needs the network atlas_unet, without mirror_axes"))
        if fields["inference"]["patch_size"] != alignment["size"][::-1]:
            raise FieldError(_("inference.patch_size must be preprocessing.alignment.size in reverse order"))
    if fields.get("sample"):
        _check_file_name(fields["sample"], "sample")


def _check_upsampling(fields: dict[str, Any]) -> None:
    """Check that what guided upsampling and a border head need is there.

    Raises:
        FieldError: if it is not.
    """
    rules = fields["inference"]
    if not rules.get("guided_upsampling"):
        if fields["network_arguments"].get("border_channels"):
            raise FieldError(_("network_arguments.border_channels needs inference.guided_upsampling"))
        return
    if not fields["preprocessing"].get("alignment"):
        raise FieldError(_("inference.guided_upsampling needs preprocessing.alignment"))
    if rules.get("regions") or rules.get("average", "logits") != "logits":
        raise FieldError(_("inference.guided_upsampling needs logits of classes that exclude each other"))


def _check_calibration(calibration: dict[str, Any], values: list[int], regions: bool) -> None:
    """Check what the schema cannot express about what Dice to expect.

    Raises:
        FieldError: for the first field that does not fit.
    """
    where = "inference.calibration"
    if regions:
        raise FieldError(_("{where} must be left out where there are regions").format(where=where))
    soft_dice, dice = calibration["soft_dice"], calibration["dice"]
    if any(low >= high for low, high in itertools.pairwise(soft_dice)):
        raise FieldError(_("{where}.soft_dice must increase").format(where=where))
    if len(dice) != len(soft_dice) or any(low > high for low, high in itertools.pairwise(dice)):
        raise FieldError(_("{where}.dice must have one number for each of soft_dice, and not fall").format(where=where))
    if len(calibration.get("offsets", ())) not in (0, len(values)):
        raise FieldError(_("{where}.offsets must have one number for each label").format(where=where))
    named = {"large": calibration["large"], "pairs": itertools.chain(*calibration.get("pairs", ()))}
    for name, labels in named.items():
        if not set(labels) <= set(values):
            raise FieldError(_("{where}.{name} must be values of labels").format(where=where, name=name))


def _check_parts(fields: dict[str, Any], values: list[int]) -> None:
    """Check that a model has either weights of its own or parts.

    Args:
        fields: of the card.
        values: of its labels.

    Raises:
        FieldError: for the first field that does not fit.
    """
    parts = fields.get("parts", ())
    if "weights" in fields:
        _check_weights(fields["weights"])
    if bool(parts) == ("weights" in fields):
        raise FieldError(_("weights must be there unless there are parts, which have their own"))
    if parts and (fields["network"] or fields["network_arguments"]):
        raise FieldError(_("network and network_arguments must be empty where there are parts"))
    if not (parts or fields["network"] or fields.get("metadata_in_weights")):
        raise FieldError(_("network must not be empty without parts or metadata_in_weights"))
    for n, part in enumerate(parts):
        if not set(part["labels"]) <= {0, *values}:
            raise FieldError(_("parts[{n}].labels must be values of labels, or 0").format(n=n))
    for name in ("metadata_in_weights", "alignment", "conform"):
        if parts and (fields.get(name) or fields["preprocessing"].get(name)):
            raise FieldError(_("{name} must be left out where there are parts").format(name=name))
    if fields.get("rough") and fields.get("region_from"):
        raise FieldError(_("rough must be left out where there is region_from, which shows the place already"))


def _check_steps(fields: dict[str, Any], values: list[int]) -> None:
    """Check what the schema cannot express about the steps after the network.

    Raises:
        FieldError: for the first field that does not fit.
    """
    before = "model"
    for n, step in enumerate(fields.get("postprocessing", ())):
        where = f"postprocessing[{n}]"
        stated = {name: value for name, value in step.items() if value != ()}
        _require(stated, STEPS[step["step"]], where, step["step"])
        if step["step"] != "remove_labels" and not set(step.get("labels", ())) <= set(values):
            raise FieldError(_("{where}.labels must be values of labels").format(where=where))
        grid = step.get("grid", "model")
        if grid != before == "image":
            raise FieldError(_("{where}.grid must be image, as that of the step before").format(where=where))
        if grid == "model" and step.get("reference") and fields.get("region_from"):
            raise FieldError(
                _("{where}.grid must be image, as its reference are labels of another model").format(where=where)
            )
        before = grid


def _check_weights(weights: dict[str, Any]) -> None:
    """Check what the schema cannot express about weights.

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
    return Label(fields["value"], fields["name"], (red, green, blue), terminology, fields.get("original"))


def _without_none(value: Any) -> Any:
    """Return a JSON value without the fields that are None, at all depths."""
    if isinstance(value, dict):
        return {key: _without_none(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(entry) for entry in value]
    return value
