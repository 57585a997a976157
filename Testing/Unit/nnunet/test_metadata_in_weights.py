"""What a card leaves open, the weights file of its model completes."""

from __future__ import annotations

import dataclasses

import pytest
from LightSegLib.catalog.card import Card, Inference, Label, Normalization, Preprocessing, Weights
from LightSegLib.core.errors import ModelError
from LightSegLib.nnunet.plans import complete
from LightSegLib.weights.checkpoint import Checkpoint
from nnunet_models import DATASET, make_plans
from nnunet_settings import read


@pytest.fixture
def vague_card() -> Card:
    """What is known of a model before its weights are there."""
    return Card(
        id="heart-ct",
        title="Heart",
        version="1",
        description="Not much is known.",
        modality="CT",
        channels=("?",),
        network="plain_conv_unet",
        network_arguments={},
        preprocessing=Preprocessing("input", normalization=(Normalization("unknown"),)),
        inference=Inference((64, 64, 64)),
        labels=(Label(1, "?", (1, 2, 3)),),
        weights=Weights("checkpoint_final.pth"),
        license="CC0-1.0",
        citation="None.",
        assumptions=("The labels.",),
        metadata_in_weights=True,
    )


def test_a_checkpoint_fills_in_what_the_card_did_not_know(vague_card: Card) -> None:
    described = Checkpoint({}, "nnU-Net v2", make_plans(), DATASET, "3d_fullres", "nnUNetTrainer", (0, 1))
    card = complete(vague_card, described)
    settings = read(mirror_axes=(0, 1))
    assert (card.network_arguments, card.preprocessing) == (settings.network_arguments, settings.preprocessing)
    assert (card.inference, card.labels, card.channels) == (settings.inference, settings.labels, settings.channels)
    assert (card.id, card.title, card.weights) == (vague_card.id, vague_card.title, vague_card.weights)
    assert card.assumptions == (
        "None of the labels in the weights file (Dataset042_Tiny) has the name of one that the model should have.",
    )
    agreeing = dataclasses.replace(vague_card, labels=settings.labels[:1])
    assert not complete(agreeing, described).unverified


def test_the_card_may_know_in_which_directions_the_images_were_stored(vague_card: Card) -> None:
    """What nnU-Net takes as it is stored; its own order of the axes follows."""
    described = Checkpoint({}, "nnU-Net v2", make_plans(), DATASET, "3d_fullres", "nnUNetTrainer", ())
    stated = dataclasses.replace(vague_card, preprocessing=Preprocessing("LPS"))
    expected = dataclasses.replace(complete(vague_card, described).preprocessing, orientation="LPS")
    assert complete(stated, described).preprocessing == expected


def test_a_file_for_another_modality_is_refused(vague_card: Card) -> None:
    described = Checkpoint({}, "nnU-Net v2", make_plans(), DATASET, "3d_fullres", "nnUNetTrainer", ())
    with pytest.raises(ModelError, match=r"trained on CT \(Dataset042_Tiny\), but 'heart-ct' is for MR"):
        complete(dataclasses.replace(vague_card, modality="MR"), described)


def test_weights_that_do_not_describe_themselves_complete_nothing(vague_card: Card) -> None:
    with pytest.raises(ModelError, match="does not contain the preprocessing and labels"):
        complete(vague_card, Checkpoint({}, "state dict"))


def test_a_file_of_another_network_is_not_taken_for_the_models_own(vague_card: Card) -> None:
    described = Checkpoint({}, "nnU-Net v2", make_plans(), DATASET, "3d_fullres", "nnUNetTrainer", ())
    card = dataclasses.replace(vague_card, network="slim_unetrv2")
    with pytest.raises(ModelError, match="contains the network 'plain_conv_unet', but 'heart-ct' needs 'slim_unetrv2'"):
        complete(card, described)
