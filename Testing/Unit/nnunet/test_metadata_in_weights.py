"""What a card leaves open, the weights file of its model completes."""

from __future__ import annotations

import dataclasses

import pytest
from LightSegLib.catalog.card import (
    Card,
    Inference,
    Label,
    Normalization,
    OuterResampling,
    Preprocessing,
    Weights,
)
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


def described_by(plans: dict, labels: dict[str, object] | None = None, **dataset: object) -> Checkpoint:
    """A checkpoint of the tiny model with these plans and labels."""
    facts = {**DATASET, **({"labels": labels} if labels else {}), **dataset}
    return Checkpoint({}, "nnU-Net v2", plans, facts, "3d_fullres", "nnUNetTrainer", (0, 1, 2))


def keeping(card: Card, *kept: str, values: tuple[int, ...] = (1, 2), **changes: object) -> Card:
    """The card with labels of its own, some of whose fields stay."""
    labels = tuple(Label(value, f"Organ {value}", (value, 0, 0)) for value in values)
    return dataclasses.replace(card, kept=kept, labels=labels, **changes)  # type: ignore[arg-type]


def test_an_orientation_that_a_card_keeps_survives_plans_that_turn_images_themselves(vague_card: Card) -> None:
    """In nnU-Net's reader the axes run to R, A, S; the card knows better, and the plans' order of axes follows."""
    plans = {**make_plans(), "image_reader_writer": "NibabelIOWithReorient", "transpose_forward": [2, 0, 1]}
    lps = Preprocessing("LPS")
    open_card = complete(keeping(vague_card, preprocessing=lps), described_by(plans))
    assert (open_card.preprocessing.orientation, open_card.preprocessing.transpose) == ("ASR", (0, 1, 2))
    kept = complete(keeping(vague_card, "orientation", preprocessing=lps), described_by(plans))
    assert (kept.preprocessing.orientation, kept.preprocessing.transpose) == ("LPS", (2, 0, 1))
    assert kept.preprocessing.spacing == open_card.preprocessing.spacing == (1.25, 1.5, 3.0)


def test_a_card_keeps_its_overlap_and_mirrors(vague_card: Card) -> None:
    rules = Inference((64, 64, 64), overlap=0.2, mirror_axes=(2,))
    assert complete(dataclasses.replace(vague_card, inference=rules), described_by(make_plans())).inference == (
        Inference((8, 16, 16), 0.5, (0, 1, 2), pad_to_patch=True, resampling=read().inference.resampling)
    )
    kept = complete(keeping(vague_card, "overlap", "mirror_axes", inference=rules), described_by(make_plans()))
    assert (kept.inference.overlap, kept.inference.mirror_axes) == (0.2, (2,))
    assert kept.inference.patch_size == (8, 16, 16)


def test_what_plans_do_not_know_stays_the_cards(vague_card: Card) -> None:
    outer = OuterResampling((1.5, 1.5, 1.5), whole_numbers=True)
    steps = dataclasses.replace(vague_card.preprocessing, outer_resampling=outer)
    card = keeping(vague_card, "labels", preprocessing=steps, inference=Inference((64, 64, 64), paired=(2,)))
    completed = complete(card, described_by(make_plans()))
    assert completed.preprocessing.outer_resampling == outer
    assert completed.inference.paired == (2,)


def test_labels_that_a_card_keeps_are_not_doubted(vague_card: Card) -> None:
    completed = complete(keeping(vague_card, "labels"), described_by(make_plans()))
    assert [label.name for label in completed.labels] == ["Organ 1", "Organ 2"]
    assert not completed.unverified and completed.network_arguments["classes"] == 3


@pytest.mark.parametrize("values", [(1,), (1, 2, 3), (1, 5)])
def test_labels_of_a_card_that_are_not_those_of_the_network_are_refused(
    vague_card: Card, values: tuple[int, ...]
) -> None:
    with pytest.raises(ModelError, match=rf"has 3 classes with the background, but .* end at {values[-1]}\. Correct"):
        complete(keeping(vague_card, "labels", values=values), described_by(make_plans()))


def test_a_network_may_have_outputs_that_the_card_does_not_name(vague_card: Card) -> None:
    numbered = {"background": 0, **{f"part {value}": value for value in range(1, 6)}}
    completed = complete(keeping(vague_card, "labels", values=(1, 2, 5)), described_by(make_plans(), numbered))
    assert completed.unnamed_outputs == (3, 4) and completed.network_arguments["classes"] == 6


def test_labels_with_gaps_need_a_card_that_says_what_the_outputs_are(vague_card: Card) -> None:
    """nnU-Net's network has an output for each label, and its answer the outputs' numbers: 1, 2, 3, not 1, 2, 5."""
    gaps = {"background": 0, "one": 1, "two": 2, "five": 5}
    with pytest.raises(ModelError, match="must number the labels 1, 2, 3"):
        complete(keeping(vague_card, values=(1, 2, 3)), described_by(make_plans(), gaps))
    completed = complete(keeping(vague_card, "labels", values=(1, 2, 3)), described_by(make_plans(), gaps))
    assert completed.network_arguments["classes"] == 4
    with pytest.raises(ModelError, match="has 4 classes with the background, but the labels of 'heart-ct' end at 5"):
        complete(keeping(vague_card, "labels", values=(1, 2, 5)), described_by(make_plans(), gaps))


def test_regions_write_labels_that_the_card_must_have(vague_card: Card) -> None:
    regions = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3}
    checkpoint = described_by(make_plans(), regions, regions_class_order=[1, 2, 3])
    assert complete(keeping(vague_card, "labels", values=(1, 2, 3)), checkpoint).inference.regions == (1, 2, 3)
    with pytest.raises(ModelError, match=r"writes the labels 1, 2, 3, which the card of 'heart-ct' does not all have"):
        complete(keeping(vague_card, "labels", values=(1, 2)), checkpoint)


def test_an_orientation_in_a_field_of_the_authors_own_is_taken(vague_card: Card) -> None:
    """VIBESegmentator's dataset.json has one; its program turns images so before nnU-Net sees them."""
    checkpoint = described_by(make_plans(), orientation=["P", "I", "R"])
    assert complete(keeping(vague_card, "labels"), checkpoint).preprocessing.orientation == "PIR"
    lps = Preprocessing("LPS")
    assert (
        complete(keeping(vague_card, "orientation", preprocessing=lps), checkpoint).preprocessing.orientation == "LPS"
    )
    for nonsense in (["R", "A"], ["R", "L", "S"], "RAS", [1, 2, 3], None):
        completed = complete(keeping(vague_card, preprocessing=lps), described_by(make_plans(), orientation=nonsense))
        assert completed.preprocessing.orientation == "LPS"


def test_a_card_that_leaves_the_network_open_takes_what_there_is_and_stays_unverified(vague_card: Card) -> None:
    """Opening its weights does not change that such a model was not run by the developers."""
    nobody = ("Nobody has run this model here with its real weights.",)
    card = dataclasses.replace(vague_card, network="", network_arguments={}, assumptions=nobody, modality="MR")
    completed = complete(keeping(card, "labels"), described_by(make_plans(), channel_names={"0": "CT"}))
    assert completed.network == "plain_conv_unet" and completed.network_arguments["classes"] == 3
    assert completed.assumptions == nobody and completed.modality == "MR"
    named = Label(1, "Right organ", (1, 0, 0), original=read().labels[0].name)
    assert complete(dataclasses.replace(card, labels=(named,)), described_by(make_plans())).assumptions == nobody
