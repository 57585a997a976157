"""Whether volumes fit a model: what is refused, and what gets a notice because it may spoil the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..catalog.card import Card
from ..catalog.channels import OTHER_MODALITY
from ..catalog.orientations import AS_STORED
from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import Volume, check_voxels, is_label_map
from ..weights.verified import is_unverified
from .options import InferenceOptions

HOUNSFIELD = -500  # a voxel below is CT's air or fat next to it; MR has magnitudes
NO_AIR = -200  # HU below which is air or lung: no CT but a piece from within the body is without
SHIFTED = (850, 1200)  # fat to muscle in a CT whose values count from -1024; in HU, dense bone and metal
DENSE = 200  # above the air of such a CT, and in HU above soft tissue
DENSE_SHARE = 0.1  # of the voxels: a calcification, metal and cement have less
SAMPLED = 1_000_000  # voxels that are looked at
FIRST = 2  # array axis of the first axis of a file
AXIAL = (0, 1, 2)  # order of the array axes in an image that is stored as axial slices
DICOM = "LPS"  # directions of the axes of axial slices in DICOM
# In NIfTI files of these, by dcm2niix and as in the Medical Segmentation Decathlon: nnU-Net takes NIfTI files as they
# are stored, so a model of which nothing more is known has seen one of the two.
NIFTI, NIFTI_MIRRORED = "LAS", "RAS"


def check_volumes(card: Card, volumes: Sequence[Volume]) -> None:
    """Check that the volumes fit the card.

    Raises:
        InputError: if they do not.
    """
    wanted = card.channels
    if len(volumes) != len(wanted):
        wrong = _("The model '{model}' needs a single volume ({channels}), but got {given}. Give one volume.")
        if len(wanted) > 1:
            wrong = _(
                "The model '{model}' needs {count} volumes, one per channel ({channels}), but got {given}. "
                "Give one volume per channel, in this order."
            )
        raise InputError(
            wrong.format(model=card.title, count=len(wanted), channels=", ".join(wanted), given=len(volumes))
        )
    for volume in volumes:
        check_voxels(volume.voxels, volume.name)
        if not volume.geometry.matches(volumes[0].geometry):
            raise InputError(
                _(
                    "{volume} and {other} do not have the same grid. Resample {volume} to the grid of {other} first."
                ).format(volume=volume.name, other=volumes[0].name)
            )


def input_notices(card: Card, options: InferenceOptions, volume: Volume, roi: RegionOfInterest | None) -> list[Message]:
    """Return notices about what may spoil the result with this input."""
    notices: list[Message] = []
    if is_unverified(card):
        notices.append(unverified_notice(card))
    if doubt := _other_directions(card, options, volume):
        notices.append(doubt)
    if doubt := other_modality(card, volume) or _other_units(card, volume):
        notices.append(doubt)
    of_image = any(rule.method not in ("ct", "none") for rule in card.preprocessing.normalization)
    if roi is not None and of_image and card.roi_mm is None and card.region_from is None:
        notices.append(
            _(
                "The intensities were normalized within the region of interest, "
                "but the model was trained on whole images. If the result is poor, "
                "choose a larger region or none."
            )
        )
    return notices


def _other_directions(card: Card, options: InferenceOptions, volume: Volume) -> Message | None:
    """Return what speaks against a model that takes images as they are stored; None if nothing does.

    Axes along which it was trained with mirrored images, as nnU-Net does along all unless its trainer is another, may
    run either way.
    """
    from .processing.orientation import orientation_steps

    steps = options.preprocessing(card)
    if steps.orientation != AS_STORED:
        return None
    if orientation_steps(volume.geometry, DICOM)[0] != AXIAL:
        return _(
            "{volume} is not stored as axial slices, "
            "and this model uses images as they are stored. "
            "The result is probably wrong unless the model was trained on such slices; "
            "the option --orientation {usual} or {mirrored}, as the training images were stored, reorients the image."
        ).format(volume=volume.name, usual=NIFTI, mirrored=NIFTI_MIRRORED)
    learned = {steps.transpose[axis] for axis in card.inference.mirror_axes}
    reversed_axes = set(orientation_steps(volume.geometry, NIFTI)[1])
    if reversed_axes <= learned:
        return None
    opposite = dict(zip("LRAPSI", "RLPAIS", strict=True))
    stored = "".join(opposite[way] if 2 - n in reversed_axes else way for n, way in enumerate(NIFTI))
    advice = _(
        "{volume} is stored with its axes in the directions {stored}, and this model uses images as they are stored "
        "and has not learned mirrored ones. Most such models were trained on NIfTI files with the directions {usual} "
        "or {mirrored}: the option --orientation with those of the training images turns the image so; "
        "'lightseg import --orientation' states it for every image."
    )
    if reversed_axes - learned == {FIRST}:  # LAS would mirror what a model knows that was trained on RAS
        advice = _(
            "{volume} is stored with its axes in the directions {stored}, and this model uses images as they are "
            "stored and has not learned mirrored ones. Both directions of the first axis are common, so the training "
            "images decide: if they had the other one, the option --orientation {usual} turns the image so; "
            "'lightseg import --orientation' states it for every image."
        )
    return advice.format(volume=volume.name, stored=stored, usual=NIFTI, mirrored=NIFTI_MIRRORED)


def unverified_notice(card: Card) -> Message:
    """Return the notice about an unverified model."""
    return _(
        "This model is unverified because some of its properties are not known: "
        "check the result. 'lightseg info {model}' lists what is not known, "
        "'lightseg verify {model}' checks the model on this computer."
    ).format(model=card.id)


def other_modality(card: Card, volume: Volume) -> Message | None:
    """Return what speaks for another modality than the model's; None if nothing does."""
    stated = volume.reading.get("modality", card.modality)
    if stated != card.modality and OTHER_MODALITY not in (stated, card.modality):
        return _(
            "{volume} is {stated} according to its DICOM attributes, "
            "but this model was made for {needed}. The result is probably wrong: "
            "choose a model for {stated}."
        ).format(volume=volume.name, stated=stated, needed=card.modality)
    if card.modality == "MR" and is_ct(volume):
        return _(
            "{volume} has voxels far below 0, as a CT in Hounsfield units has, "
            "but this model was made for MR. The result is probably wrong unless it is an MR image."
        ).format(volume=volume.name)
    return None


def _other_units(card: Card, volume: Volume) -> Message | None:
    """Return what speaks against Hounsfield units in the image for a model that needs them; None if nothing does."""
    needs_units = any(rule.method in ("ct", "unknown") for rule in card.preprocessing.normalization)
    if card.modality != "CT" or not needs_units:
        return None
    step = max(1, round((volume.voxels.size / SAMPLED) ** (1 / 3)))
    seen = volume.voxels[::step, ::step, ::step].astype(np.float32)
    low, high = float(np.quantile(seen, 0.005)), float(volume.voxels.max())
    unscaled, slices = volume.reading.get("without_rescale_intercept", 0), volume.reading.get("frames", 0)
    if low > NO_AIR:
        dense = seen[(seen > DENSE) & (seen < seen.max())]  # without what was clipped
        if dense.size > DENSE_SHARE * seen.size and np.mean((dense > SHIFTED[0]) & (dense < SHIFTED[1])) > 0.5:
            return _(
                "Most of what is not air in {volume} has values near {value:.0f}, so the values seem to count from the "
                "lowest one and not in Hounsfield units, in which water has 0. The result is probably wrong: "
                "subtract 1024 from the image, or export it again with RescaleIntercept."
            ).format(volume=volume.name, value=float(np.median(dense)))
        if volume.voxels.min() >= 0 and (high <= 1 or high == 255):
            return _(
                "{volume} has values from 0 to {high:g}, as a picture has, but this model was made for a CT "
                "in Hounsfield units. The result is probably wrong: choose the image from which this one was made."
            ).format(volume=volume.name, high=high)
    if unscaled and (low > NO_AIR or unscaled < slices):
        return _(
            "RescaleIntercept is missing in {count} of {slices} slices of {volume}, so values there may not be in "
            "Hounsfield units. The result is probably wrong if air has not about -1000: "
            "export the series again with all attributes."
        ).format(volume=volume.name, count=unscaled, slices=max(unscaled, slices))
    return None


def is_ct(volume: Volume) -> bool:
    """Return whether a volume is a CT by its attributes or its values."""
    return bool(volume.reading.get("modality") == "CT" or volume.voxels.min() < HOUNSFIELD)


def likely_cause(card: Card, volume: Volume) -> Message | None:
    """Return why a model probably does not find its subject in a volume, and what to do; None where nothing shows it.

    Looks at every voxel, which takes a moment: for an error that is reported anyway.
    """
    if card.modality == "MR" and is_ct(volume):
        return _(
            "{volume} is a CT by its attributes or its values, in Hounsfield units, but the model was made for MR: "
            "choose an MR volume, or a model for CT."
        ).format(volume=volume.name)
    if is_label_map(volume.voxels):
        return _(
            "The voxels of {volume} are whole numbers in pieces of one value each, as those of a label map: "
            "choose the image from which the labels were made."
        ).format(volume=volume.name)
    return None
