"""Whether volumes fit a model: what is refused, and what gets a notice because it may spoil the result."""

from __future__ import annotations

from collections.abc import Sequence

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
AXIAL = (0, 1, 2)  # order of the array axes in an image that is stored as axial slices
DICOM = "LPS"  # directions of the axes of axial slices in DICOM
# In NIfTI files of these by dcm2niix, and in most public data sets but for the first axis, of which both directions
# occur: nnU-Net takes NIfTI files as they are stored, so a model of which nothing more is known has seen this.
NIFTI = "LAS"


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
    if doubt := other_modality(card, volume):
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
            "the option --orientation {usual} reorients the image."
        ).format(volume=volume.name, usual=NIFTI)
    learned = {steps.transpose[axis] for axis in card.inference.mirror_axes}
    reversed_axes = set(orientation_steps(volume.geometry, NIFTI)[1])
    if reversed_axes <= learned:
        return None
    opposite = dict(zip("LRAPSI", "RLPAIS", strict=True))
    stored = "".join(opposite[way] if 2 - n in reversed_axes else way for n, way in enumerate(NIFTI))
    return _(
        "{volume} is stored with its axes in the directions {stored}, and this model uses images as they are stored "
        "and has not learned mirrored ones. Most such models were trained on NIfTI files with the directions "
        "{usual}: if this one was, the option --orientation {usual} turns the image so, "
        "and with 'lightseg import' every image."
    ).format(volume=volume.name, stored=stored, usual=NIFTI)


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


def is_ct(volume: Volume) -> bool:
    """Return whether a volume is a CT by its attributes or its values."""
    return bool(volume.reading.get("modality") == "CT" or volume.voxels.min() < HOUNSFIELD)


def likely_cause(card: Card, volume: Volume) -> Message | None:
    """Return why a model probably does not find its subject in a volume, and what to do; None where nothing shows it.

    Looks at every voxel, which takes a moment: for an error that is reported anyway.
    """
    if card.modality == "MR" and is_ct(volume):
        return _(
            "It is a CT by its attributes or its values, in Hounsfield units, but the model was made for MR: "
            "choose an MR volume, or a model for CT."
        )
    if is_label_map(volume.voxels):
        return _(
            "Its voxels are whole numbers in pieces of one value each, as those of a label map: "
            "choose the image from which the labels were made."
        )
    return None
