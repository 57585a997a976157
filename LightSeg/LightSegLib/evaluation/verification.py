"""Whether a model works on this computer: its weights, their fit with the card, and labels that can be right.

How exact the labels are this cannot show: that takes images with expert labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..catalog.card import Card
from ..catalog.needed import needed_models, own_models
from ..catalog.sides import possible_labels
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.progress import CancelCallback, ProgressCallback
from ..imaging.volume import Segmentation, Volume
from ..inference.options import InferenceOptions
from ..inference.segmenter import Segmenter
from ..models.opening import LoadedModel, open_model
from ..weights.records import Record
from ..weights.store import WeightStore
from ..weights.verified import remember_verified
from .trial_images import trial_images

MOST_FILLED = 0.98  # share of an image that one label may fill
COHERENT = 0.35  # share of neighbors of labeled voxels that are labeled alike: 1/3 in noise, 1/2 in tubes 2 voxels wide
SHOWN = 3  # labels in a finding


@dataclass(frozen=True)
class Verification:
    """What a verification has found, in sentences.

    Attributes:
        model: that was verified.
        found: what was checked and is right.
        doubts: what speaks against the model, or was not to be seen; none where it is verified.
        not_checked: what remains unknown.
        segmentation: of the image.
    """

    model: Card
    found: tuple[Message, ...]
    doubts: tuple[Message, ...]
    not_checked: tuple[Message, ...]
    segmentation: Segmentation

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the model."""
        return not self.doubts


def verify_model(
    card: Card,
    volumes: Sequence[Volume] = (),
    options: InferenceOptions | None = None,
    progress: ProgressCallback | None = None,
    canceled: CancelCallback | None = None,
) -> Verification:
    """Check a model: download its weights if needed, compare their hashes, load them, and segment an image.

    A model that passes is remembered as verified on this computer, with these weights (see `weights.verified`).

    Args:
        card: of the model.
        volumes: an image of the user's, one volume for each channel; by default `trial_images`.
        options: how the image is segmented; `accept_license` is needed as for any download.
        progress: called with a `Progress` at every step.
        canceled: called now and then; the work ends when it returns True.

    Raises:
        LightSegError: with what is wrong, where the model cannot be downloaded, is another file, does not fit its card
            or cannot be run.
    """
    options = options or InferenceOptions()
    found: list[Message] = []
    doubts: list[Message] = []
    not_checked: list[Message] = []
    opened: list[Card] = []
    WeightStore().check_obtainable(needed_models(card))
    for part in own_models(card):
        model = open_model(part, progress, canceled, options.accept_license)
        (not_checked if _of_a_folder(part) else found).append(_weights_finding(part))
        found.append(_fit_finding(model))
        doubts += _number_doubts(model)
        opened.append(model.card)
        del model  # before the next one takes its memory
    images = tuple(volumes) or trial_images(opened[0])
    segmenter = Segmenter(card, options)
    result = segmenter.segment(images, progress=progress, canceled=canceled)
    found.append(_run_finding(images[0], result))
    doubts += _label_doubts(segmenter.card, result, bool(volumes))
    not_checked += _not_checked(card, bool(volumes))
    verification = Verification(segmenter.card, tuple(found), tuple(doubts), tuple(not_checked), result)
    if verification.passed:
        remember_verified(card)
    return verification


def _record(card: Card) -> Record | None:
    """Return the record of weights that were downloaded or added; None for bundled ones and the user's own."""
    store = WeightStore()
    return store.record(card) if store.state(card) == "downloaded" else None


def _of_a_folder(card: Card) -> bool:
    """Return whether the card states the hash of an archive that was never here, only what was unpacked from it."""
    record = _record(card)
    return bool(card.weights.sha256 and record and not record.published.sha256)


def _weights_finding(card: Card) -> Message:
    """Return what is known of the weights on this computer, which were read and compared where that can be."""
    record = _record(card)
    if record is None and card.weights.sha256:
        stated = _("{model}: the weights have the SHA-256 {sha256} that the card states.")
        return stated.format(model=card.id, sha256=card.weights.sha256)
    if record is None:
        return _("{model}: the weights are here; the card states no hash of them.").format(model=card.id)
    if not card.weights.sha256:
        unknown = _("{model}: the weights came from {source}; the card states no hash, theirs is the SHA-256 {sha256}.")
        return unknown.format(model=card.id, source=record.source, sha256=record.sha256)
    if _of_a_folder(card):
        made = _("{model}: the weights were made of the folder {source}; the authors' hash cannot be compared.")
        return made.format(model=card.id, source=record.source)
    whose = _("{model}: the weights are the authors' file, by its SHA-256 {sha256}.")
    return whose.format(model=card.id, sha256=card.weights.sha256)


def _fit_finding(model: LoadedModel) -> Message:
    """Return that the weights fit, which opening them has checked."""
    return _(
        "{model}: the weights fill the network without remainder (networks: {networks}), "
        "and its {outputs} outputs fit the {labels} labels of the card."
    ).format(
        model=model.card.id,
        networks=len(model.networks),
        outputs=model.card.outputs,
        labels=len(model.card.labels),
    )


def _number_doubts(model: LoadedModel) -> Iterator[Message]:
    """Yield whether weights are no numbers."""
    import torch

    for network in model.networks:
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                yield _("{model}: the weights {tensor} have values that are NaN or infinite.").format(
                    model=model.card.id, tensor=name
                )
                return


def _run_finding(image: Volume, result: Segmentation) -> Message:
    """Return what was segmented, and the largest labels."""
    ml = sorted(((volume, label.name) for label in result.labels if (volume := _ml(result, label.value))), reverse=True)
    return _("{image} was segmented in {seconds:.1f} s on {device}: {count} of {all} labels, {largest}.").format(
        image=image.name,
        seconds=result.provenance["seconds"],
        device=result.provenance["device"],
        count=len(ml),
        all=len(result.labels),
        largest=", ".join(f"{name} {volume:.1f} ml" for volume, name in ml[:SHOWN]) or _("none found"),
    )


def _ml(result: Segmentation, value: int) -> float:
    """Return the volume of a label."""
    return float(np.count_nonzero(result.voxels == value)) * result.geometry.voxel_volume_ml


def _label_doubts(card: Card, result: Segmentation, own_image: bool) -> Iterator[Message]:
    """Yield what is not plausible about labels, whatever the image shows."""
    values, counts = np.unique(result.voxels, return_counts=True)
    if unknown := set(values.tolist()) - {0, *(label.value for label in possible_labels(card) + result.labels)}:
        yield _("The result has the values {values}, which are none of the model's labels.").format(
            values=", ".join(map(str, sorted(unknown)))
        )
    if values.tolist() == [0]:
        if own_image:
            yield _("No structure was found in your image. Use one that shows what the model segments.")
        else:
            yield _(
                "No structure was found. In a generated image or the head of the sample that need not mean much: "
                "verify the model with an image of yours, 'lightseg verify {model} FILE'."
            ).format(model=card.id)
        return
    largest = int(counts.argmax())
    if values[largest] and counts[largest] > MOST_FILLED * result.voxels.size:
        yield _("A single label fills {share:.0%} of the image.").format(share=counts[largest] / result.voxels.size)
    if (share := _coherence(result.voxels)) < COHERENT:
        yield _(
            "The labels are scattered: of the neighbors of labeled voxels only {share:.0%} have the same label. "
            "So do networks without a training."
        ).format(share=share)


def _coherence(voxels: np.ndarray) -> float:
    """Return the share of neighbors, along the three axes, of labeled voxels [k, j, i] that have the same label."""
    alike = pairs = 0
    for axis in range(3):
        first, second = np.moveaxis(voxels, axis, 0)[:-1], np.moveaxis(voxels, axis, 0)[1:]
        alike += int(np.count_nonzero((first == second) & (first > 0)))
        pairs += int(np.count_nonzero((first > 0) | (second > 0)))
    return alike / pairs if pairs else 1.0


def _not_checked(card: Card, own_image: bool) -> Iterator[Message]:
    """Yield what this verification leaves open."""
    yield _("How exact the labels are (Dice): that takes images with expert labels, 'lightseg evaluate'.")
    if not own_image:
        yield _("Images of patients: look at the result of one, 'lightseg segment' with --preview.")
    for sentence in card.assumptions:
        yield _("Stated in the card: {sentence}").format(sentence=sentence)
