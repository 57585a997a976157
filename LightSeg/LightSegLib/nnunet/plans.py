"""What nnU-Net v2's own files say about a model, as fields of a card.

`plans.json` holds preprocessing and network of every configuration ("3d_fullres" and others), `dataset.json` channels
and labels; a checkpoint carries both. Format: nnU-Net's documentation (github.com/MIC-DKFZ/nnUNet, plans files).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..catalog.anatomy import split_words
from ..catalog.card import Card, Inference, Label, Normalization, Preprocessing, Resampling
from ..catalog.channels import OTHER_MODALITY
from ..core.errors import ModelError
from ..core.i18n import tr as _
from ..core.schema import FieldError, conform
from .dataset import modality_of, read_channels, read_labels
from .fields import AXES, NUMBER, OBJECT, SIZE, TEXT, object_of, unsupported
from .network import read_network
from .resampling import read_resampling

if TYPE_CHECKING:
    from ..weights.checkpoint import Checkpoint

PLANS = {"configurations": OBJECT, "transpose_forward": {**AXES, "minItems": 3}, "image_reader_writer": TEXT}
CONFIGURATION = {
    "patch_size": SIZE,
    "spacing": {**SIZE, "items": {"type": "number", "minimum": 1e-4, "maximum": 1e4}},  # mm, as a card's
    "normalization_schemes": {"type": "array", "items": TEXT},
    "use_mask_for_norm": {"type": "array", "items": {"type": "boolean"}},
    "resampling_fn_data": TEXT,
    "resampling_fn_probabilities": TEXT,
}
INTENSITIES = {
    "percentile_00_5": NUMBER,
    "percentile_99_5": NUMBER,
    "mean": NUMBER,
    "std": {"type": "number", "minimum": 1e-12, "maximum": 1e12},
}
# World directions of the array axes k, j, i that nnU-Net's readers hand over; "" where they are as stored.
READERS = {"SimpleITKIO": "", "NibabelIO": "", "SimpleITKIOWithReorient": "SAR", "NibabelIOWithReorient": "SAR"}
NORMALIZATIONS = {
    "NoNormalization": Normalization("none"),
    "RescaleTo01Normalization": Normalization("minmax"),
    "RGBTo01Normalization": Normalization("ct", lower=0.0, upper=255.0, mean=0.0, std=255.0),
}


@dataclass(frozen=True)
class Settings:
    """The settings of nnU-Net's files, under the names of a card's fields."""

    modality: str
    channels: tuple[str, ...]
    network: str
    network_arguments: dict[str, Any]
    preprocessing: Preprocessing
    inference: Inference
    labels: tuple[Label, ...]


def settings_from_plans(
    plans: Any,
    dataset: Any,
    configuration: str,
    trainer: str,
    mirror_axes: Sequence[int] | None,
    gaps: bool = False,
) -> Settings:
    """Return settings of one configuration from the contents of plans.json and dataset.json.

    Args:
        trainer: nnU-Net's class that trained the network. What nnU-Net's own ones and those of Slim UNETRV2 make of
            it is known; any other may have changed it too, which shows when its weights do not fit.
        mirror_axes: axes of the patch whose flips were trained.
        gaps: as for `read_labels`.

    Raises:
        ModelError: which names the field, where one is missing, wrong, or asks for what LightSeg cannot do.
    """
    try:
        plans = conform(plans, object_of(PLANS), "plans")
        where = f"plans.configurations.{configuration}"
        rules = conform(_inherited(plans["configurations"], configuration), object_of(CONFIGURATION), where)
        _check_kind(plans, rules, configuration)
        channels = read_channels(dataset)
        labels, regions = read_labels(dataset, gaps)
        network, arguments, patch_size = read_network(rules, trainer, where)
        *slices, j, i = patch_size
        images, results = _resampling(rules, where)
        return Settings(
            modality_of(channels),
            channels,
            network,
            {"in_channels": len(channels), "classes": len(regions) or len(labels) + 1, **arguments},
            _preprocessing(plans, rules, channels, where, images),
            Inference(
                (slices[0] if slices else 1, j, i),
                mirror_axes=_mirror_axes(mirror_axes, len(patch_size)),
                pad_to_patch=True,
                regions=regions,
                resampling=results,
            ),
            labels,
        )
    except FieldError as error:
        raise ModelError(
            _(
                "The nnU-Net description of this model is incomplete or wrong: {reason}. Use plans.json, "
                "dataset.json and the checkpoint unmodified, as nnU-Net v2 wrote them."
            ).format(reason=error)
        ) from error


def complete(card: Card, checkpoint: Checkpoint) -> Card:
    """Return the card of a self-describing model with the settings of its weights file.

    Modality, texts, what nnU-Net's plans do not know and what the card names as `kept` stay.

    Raises:
        ModelError: for a file that does not describe itself, holds another network, or has other classes than a card
            that keeps its labels.
    """
    if checkpoint.plans is None or checkpoint.dataset is None or checkpoint.configuration is None:
        raise ModelError(
            _(
                "The weights file of '{model}' does not contain the preprocessing and labels that an nnU-Net v2 "
                "checkpoint has. "
                "Use the unmodified file from the authors."
            ).format(model=card.id)
        )
    settings = settings_from_plans(
        checkpoint.plans,
        checkpoint.dataset,
        checkpoint.configuration,
        checkpoint.trainer or "",
        checkpoint.mirror_axes,
        gaps="labels" in card.kept,
    )
    if card.network and settings.network != card.network:
        raise ModelError(
            _(
                "The weights file contains the network '{network}', but '{model}' needs '{needed}'. "
                "Use the file of this model, or import it as a new model with 'lightseg import FILE'."
            ).format(network=settings.network, model=card.id, needed=card.network)
        )
    name = checkpoint.plans.get("dataset_name", "a dataset without name")
    if card.network and settings.modality not in (OTHER_MODALITY, card.modality):  # else its channels have any names
        raise ModelError(
            _(
                "The weights file was trained on {modality} ({name}), but '{model}' is for {needed}. "
                "Use the file of this model, or import it as a new model with 'lightseg import FILE'."
            ).format(modality=settings.modality, name=name, model=card.id, needed=card.modality)
        )
    training = {**card.training, "weights_file": name}
    stated = {**vars(settings), "modality": card.modality, "training": training}
    kept = {"preprocessing": _preprocessing_of(card, settings, checkpoint), "inference": _inference_of(card, settings)}
    stay = () if card.network else card.assumptions  # of a card that states no network: they are about more than that
    if "labels" in card.kept:
        _check_classes(card, settings, name)
        return dataclasses.replace(card, **stated | kept | {"labels": card.labels}, assumptions=stay)
    return dataclasses.replace(card, **stated | kept, assumptions=(*stay, *_doubts(card, settings, name)))


def turned(steps: Preprocessing, orientation: str, plans: dict[str, Any]) -> Preprocessing:
    """Return the preprocessing of plans for images in an orientation that a card or user states.

    The plans' own order of axes follows it.
    """
    return dataclasses.replace(steps, orientation=orientation, transpose=tuple(plans["transpose_forward"]))


def _preprocessing_of(card: Card, settings: Settings, checkpoint: Checkpoint) -> Preprocessing:
    """Return the preprocessing of a weights file, with what the card knows of it."""
    own, steps = card.preprocessing, settings.preprocessing
    stated = _stated_orientation(checkpoint.dataset)
    # nnU-Net may take images as they are stored; the card may know how those were.
    if "orientation" in card.kept or (steps.orientation == "input" and not stated):
        steps = turned(steps, own.orientation, checkpoint.plans or {})
    elif stated:
        steps = turned(steps, stated, checkpoint.plans or {})
    return dataclasses.replace(steps, outer_resampling=own.outer_resampling)


def _stated_orientation(dataset: Any) -> str:
    """Return the directions of i, j, k in a field that VIBESegmentator and others of TPTBox add to dataset.json.

    It is ["R", "A", "S"] or the like, in which their program turns images before nnU-Net sees them; nothing without it.
    """
    stated = dataset.get("orientation") if isinstance(dataset, dict) else None
    letters = "".join(stated) if isinstance(stated, list) and all(isinstance(one, str) for one in stated) else ""
    known = len(letters) == 3 and all(len(set(pair) & set(letters)) == 1 for pair in ("RL", "AP", "SI"))
    return letters if known else ""


def _inference_of(card: Card, settings: Settings) -> Inference:
    """Return how a weights file is to be run, with what the card keeps; plans know nothing of pieces and pairs."""
    own, rules = card.inference, settings.inference
    kept: dict[str, Any] = {name: getattr(own, name) for name in ("overlap", "mirror_axes") if name in card.kept}
    if "labels" in card.kept:
        kept |= {"largest_component": own.largest_component, "paired": own.paired}
    return dataclasses.replace(rules, **kept)


def _check_classes(card: Card, settings: Settings, name: str) -> None:
    """Check that the labels that a card keeps are those of the network's outputs.

    Raises:
        ModelError: if there are more or fewer, or a region writes a label that the card does not have.
    """
    regions, outputs = settings.inference.regions, settings.network_arguments["classes"]
    if regions and not set(regions) <= {label.value for label in card.labels}:
        raise ModelError(
            _(
                "The network of the weights file ({name}) writes the labels {values}, which the card of '{model}' does "
                "not all have. Correct labels in the card, or use the file of this model."
            ).format(name=name, values=", ".join(map(str, sorted(regions))), model=card.id)
        )
    if not regions and card.classes != outputs:
        raise ModelError(
            _(
                "The network of the weights file ({name}) has {count} classes with the background, but the labels of "
                "'{model}' end at {value}. Correct labels in the card, whose values are the numbers of the network's "
                "outputs, or use the file of this model."
            ).format(name=name, count=outputs, model=card.id, value=card.classes - 1)
        )


def _doubts(card: Card, settings: Settings, name: str) -> tuple[str, ...]:
    """Return a sentence if no label of a weights file has the name of one that the model should have."""
    expected, found = (
        {tuple(split_words(label.original or label.name)) for label in one.labels} for one in (card, settings)
    )
    if expected & found:
        return ()
    return (f"None of the labels in the weights file ({name}) has the name of one that the model should have.",)


def _inherited(configurations: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the configuration with what it takes over from others; the first of them to state a field decides."""
    rules: dict[str, Any] = {}
    chain: list[str] = []
    following: Any = name
    while following is not None:
        if following in chain:
            raise FieldError(
                _("plans.configurations.{configuration}.inherits_from is circular ({circle})").format(
                    configuration=chain[-1], circle=" -> ".join(chain)
                )
            )
        if not isinstance(following, str) or following not in configurations:
            raise FieldError(
                _("plans.configurations.{configuration} is missing (available: {available})").format(
                    configuration=following, available=", ".join(configurations)
                )
            )
        chain.append(following)
        own = conform(configurations[following], OBJECT, f"plans.configurations.{following}")
        rules = {**own, **rules}
        following = own.get("inherits_from")
    return rules


def _check_kind(plans: dict[str, Any], rules: dict[str, Any], configuration: str) -> None:
    """Check that a configuration is one that LightSeg can run.

    Raises:
        ModelError: if it is not.
    """
    if rules.get("previous_stage") is not None:
        unsupported(
            _("The configuration '{configuration}' is the second stage of a cascade").format(
                configuration=configuration
            )
        )
    if len(rules["spacing"]) != len(rules["patch_size"]):
        raise FieldError(
            _("plans.configurations.{configuration}.spacing must have as many entries as the patch_size").format(
                configuration=configuration
            )
        )
    for name, value, usual in (
        ("preprocessor", rules.get("preprocessor_name"), "DefaultPreprocessor"),
        ("label manager", plans.get("label_manager"), "LabelManager"),
    ):
        if value not in (None, usual):
            unsupported(_("The model was trained with the {name} '{value}'").format(name=name, value=value))


def _preprocessing(
    plans: dict[str, Any], rules: dict[str, Any], channels: Sequence[str], where: str, resampling: Resampling | None
) -> Preprocessing:
    """Return the preprocessing of a configuration."""
    directions = READERS.get(plans["image_reader_writer"])
    if directions is None:
        unsupported(_("The model was trained on images read by '{reader}'").format(reader=plans["image_reader_writer"]))
    transpose: tuple[int, int, int] = plans["transpose_forward"]
    turned = "".join(directions[axis] for axis in reversed(transpose)) if directions else ""
    i, j, k = (*reversed(rules["spacing"]), None)[:3]  # of the axes after the transposition; slices keep theirs in 2D
    return Preprocessing(
        orientation=turned or "input",
        crop="nonzero",
        spacing=None if resampling is None else (i, j, k),
        normalization=_normalizations(plans, rules, len(channels), where),
        transpose=(0, 1, 2) if turned else transpose,
        resampling=resampling or Resampling(),
        normalize_first=True,
    )


def _resampling(rules: dict[str, Any], where: str) -> tuple[Resampling | None, Resampling]:
    """Return the resampling of images, None for none, and that of results."""
    images = read_resampling(rules, "resampling_fn_data", where)
    results = read_resampling(rules, "resampling_fn_probabilities", where)
    if images is None:
        return None, Resampling("linear")
    if results is None:
        unsupported(_("The model does not resample its results, although it resamples its images"))
    if "cubic" in (results.interpolation, results.separate_axis_interpolation):
        unsupported(_("The model resamples its results with cubic splines"))
    return images, results


def _mirror_axes(trained_axes: Sequence[int] | None, dimensions: int) -> tuple[int, ...]:
    """Return the array axes of the volume, from those of a patch of two or three dimensions."""
    where = "inference_allowed_mirroring_axes"
    axes: tuple[int, ...] = conform(list(trained_axes or ()), AXES, where)
    if any(axis >= dimensions for axis in axes):
        raise FieldError(
            _("{where} must be below {dimensions}, the dimensions of the patch_size").format(
                where=where, dimensions=dimensions
            )
        )
    return tuple(axis + 3 - dimensions for axis in axes)


def _normalizations(
    plans: dict[str, Any], rules: dict[str, Any], channels: int, where: str
) -> tuple[Normalization, ...]:
    """Return the normalization of every channel."""
    schemes, masks = rules["normalization_schemes"], rules["use_mask_for_norm"]
    for name, entries in (("normalization_schemes", schemes), ("use_mask_for_norm", masks)):
        if len(entries) != channels:
            raise FieldError(
                _("{where}.{name} must have one entry per channel, {channels} in all").format(
                    where=where, name=name, channels=channels
                )
            )
    return tuple(
        _normalization(plans, str(channel), scheme, masked)
        for channel, (scheme, masked) in enumerate(zip(schemes, masks, strict=True))
    )


def _normalization(plans: dict[str, Any], channel: str, scheme: str, masked: bool) -> Normalization:
    """nnU-Net's rule for one channel; a mask changes z-scores alone."""
    if scheme == "ZScoreNormalization":
        return Normalization("zscore", masked=masked)
    if scheme == "CTNormalization":
        old = "foreground_intensity_properties_by_modality"
        field = old if old in plans else "foreground_intensity_properties_per_channel"
        schema = object_of({field: object_of({channel: object_of(INTENSITIES)})})
        known = conform(plans, schema, "plans")[field][channel]
        return Normalization(
            "ct",
            lower=known["percentile_00_5"],
            upper=known["percentile_99_5"],
            mean=known["mean"],
            std=known["std"],
        )
    if scheme not in NORMALIZATIONS:
        unsupported(
            _("Channel {channel} of the model is normalized with '{scheme}'").format(channel=channel, scheme=scheme)
        )
    return NORMALIZATIONS[scheme]
