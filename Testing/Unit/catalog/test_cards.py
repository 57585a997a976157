"""The cards that ship: their facts, their networks, and the terms of their labels."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from containing import assert_contains
from LightSegLib.catalog import card as card_module
from LightSegLib.catalog.anatomy import look_up
from LightSegLib.catalog.card import Card, Resampling
from LightSegLib.catalog.card_file import card_schema, card_to_dict, read_card
from LightSegLib.networks import build
from snomed import is_snomed

REPOSITORY = Path(__file__).resolve().parents[3]
CARDS = sorted((Path(card_module.__file__).parent / "cards").glob("*.json"))
assert CARDS, "no card ships, so nothing here would be tested"
NAMES = [path.stem for path in CARDS]

# Models of others that were run with their weights; what their networks compute is tested with these weights.
RUN = (
    "brain-atlas-104",
    "brain-mask-mindgrab",
    "brain-structures-meshnet",
    "brain-tissue",
    "brain-tissue-tiny",
    "hippodeep",
)


@pytest.fixture(params=CARDS, ids=NAMES)
def shipped(request: pytest.FixtureRequest) -> Card:
    return read_card(request.param)


@pytest.mark.parametrize("path", CARDS, ids=NAMES)
def test_the_cards_that_ship_fit_the_schema_and_lose_nothing_when_read(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(content, card_schema(), jsonschema.Draft202012Validator)
    card = read_card(path)
    assert card.id == path.stem and card.folder == path.parent
    assert_contains(card_to_dict(card), content)


LIGHTMEDSEG, FLARE24 = "hippocampus-mr-lightmedseg", "wholebody-tumor-ct-flare24"
OURS = (LIGHTMEDSEG, "hippocampus-mr-unet", "brain-mr-atlas-unet")  # trained by LightSeg, bundled with it


def test_there_is_a_card_for_every_published_model() -> None:
    assert set(NAMES) == {*OURS, *AUTHORS, *RUN}


def test_a_card_that_is_not_sure_of_something_states_why(shipped: Card) -> None:
    assert shipped.unverified == (shipped.id not in (*OURS, FLARE24, *RUN))
    for sentence in shipped.assumptions:
        assert sentence[0].isupper() and sentence.endswith(".") and len(sentence.split()) > 8
    stated = " ".join(shipped.assumptions)
    if any(rule.method == "unknown" for rule in shipped.preprocessing.normalization):
        assert "cannot run" in stated
    if shipped.unverified and shipped.preprocessing.spacing is None:
        assert "target spacing is" in stated.lower() and "own spacing is kept" in stated


def test_a_card_that_is_not_sure_of_the_axes_says_so(shipped: Card) -> None:
    """None of the authors has published in which directions the axes ran that the network saw."""
    words = " ".join((*shipped.assumptions, shipped.limitations))
    assert shipped.id in (*OURS, *RUN) or "directions of the axes" in words or "order of the axes" in words


def test_every_card_states_license_citation_limits_and_whether_it_was_ever_run(shipped: Card) -> None:
    assert shipped.license and shipped.citation and shipped.limitations.startswith("Research use, not for diagnosis.")
    if shipped.id in RUN:
        assert "publish no Dice" in shipped.limitations and shipped.training["dice_published"].startswith("none")
        assert shipped.homepage.startswith("https://github.com/") and shipped.weights.size and shipped.weights.sha256
    elif shipped.id not in OURS:
        assert "have never run the model with it" in shipped.limitations
        assert shipped.homepage.startswith("https://github.com/")
        assert shipped.weights.size is None and shipped.weights.sha256 is None
    assert shipped.non_commercial == ("BY-NC" in shipped.license)


PUBLISHED = {
    "wholebody-tumor-ct-flare24": (
        "github",
        (
            "Ziyan-Huang/FLARE24 5df5e7618a8c26b14b964e8aa128ed3693f97a0c nnUNet_results/Dataset024_FLARE24_Task1/"
            "nnUNetTrainer_Epoch2000_Lr1e3__nnUNetPlans__3d_fullres_S4D2W32/fold_all/checkpoint_final.pth"
        ),
    ),
    "brain-tumor-mr-slim-unetrv2": ("huggingface", "deepang/slimunetrv2 main brats23"),
    "heart-ct-slim-unetrv2": ("huggingface", "deepang/slimunetrv2 main mmwhs-ct"),
    "heart-mr-slim-unetrv2": ("huggingface", "deepang/slimunetrv2 main mmwhs-mri"),
    "abdomen-ct-unetrpp": ("google_drive", "13JuLMeDQRR_a3c3tr2V2oav6I29fJoBa"),
    "heart-mr-unetrpp": ("google_drive", "15YXiHai1zLc1ycmXaiSHetYbLGum3tV5"),
    "brain-tumor-mr-unetrpp": ("google_drive", "1LiqnVKKv3DrDKvo6J0oClhIFirhaz5PG"),
    "lung-tumor-ct-unetrpp": ("page", "https://github.com/Amshaker/unetr_plus_plus"),
}


def test_weights_come_from_where_the_authors_put_them(shipped: Card) -> None:
    if shipped.id in OURS:
        assert not shipped.weights.sources
        return
    if shipped.id in RUN:
        sources = [source for part in shipped.weights.parts for source in part.sources]
        assert len(sources) == len(shipped.weights.parts) >= 2
        assert all(source.kind == "github" and len(source.revision) == 40 for source in sources)
        return
    (source,) = shipped.weights.sources
    facts = (source.repository, source.revision, source.path, source.id, source.url)
    assert (source.kind, " ".join(filter(None, facts))) == PUBLISHED[shipped.id]
    assert (shipped.weights.git_blob == "d2502b8774665abe7f2150a36ae80f23d701369e") == (shipped.id == FLARE24)


def test_the_tumor_model_prepares_ct_as_its_plans_say() -> None:
    """plans.json of the authors: spacing [3, 2, 2] for k, j, i; intensities of 5000 cases; patch [96, 128, 128]."""
    card = read_card(CARDS[NAMES.index(FLARE24)])
    (rule,) = card.preprocessing.normalization
    assert card.preprocessing.spacing == (2.0, 2.0, 3.0) and card.inference.patch_size == (96, 128, 128)
    assert (rule.lower, rule.upper, rule.mean, rule.std) == (-900, 619, -52.2320181037366, 268.7993885716853)
    assert card.preprocessing.normalize_first
    # Not so in the plans: the authors' preprocessor and export call torch's trilinear interpolation themselves.
    assert card.preprocessing.resampling == card.inference.resampling == Resampling("linear", separate_axis="never")


def test_families_average_and_pad_as_their_frameworks_do(shipped: Card) -> None:
    if shipped.id in (*OURS, *RUN):
        return
    version_1 = shipped.network == "unetrpp"  # nnU-Net v1: resample, then normalize; average probabilities
    assert shipped.inference.average == ("probabilities" if version_1 else "logits")
    assert shipped.preprocessing.normalize_first != version_1
    if version_1:  # preprocessing/preprocessing.py and inference/segmentation_export.py of the authors
        assert shipped.preprocessing.resampling == Resampling("cubic", "anisotropic", "nearest")
        assert shipped.inference.resampling == Resampling("linear", "anisotropic", "nearest")
    assert shipped.inference.pad_to_patch and shipped.inference.mirror_axes == (0, 1, 2)
    assert shipped.preprocessing.crop == "nonzero"
    assert shipped.metadata_in_weights == (shipped.network == "slim_unetrv2")


def test_cards_state_the_directions_of_the_axes(shipped: Card) -> None:
    """But for hearts in MR: slices along the heart, and a set whose directions are not stated."""
    stated = {"brain-tumor-mr-unetrpp": "RAS", "lung-tumor-ct-unetrpp": "RAS", "hippodeep": "LAS"}
    stated |= {LIGHTMEDSEG: "RAS", "hippocampus-mr-unet": "RAS"}
    expected = "input" if shipped.id.startswith("heart-mr") else stated.get(shipped.id, "LPS")
    if shipped.preprocessing.conform:  # has directions of its own
        return
    assert shipped.preprocessing.orientation == expected
    if expected == "input":
        assert any("taken as stored" in words for words in shipped.assumptions)


# Facts about the authors' networks, independent of LightSeg, in Data/reference.
AUTHORS = {
    "wholebody-tumor-ct-flare24": "flare24_unet",
    "brain-tumor-mr-slim-unetrv2": "slim_unetrv2_128",
    "heart-ct-slim-unetrv2": "slim_unetrv2_128",
    "heart-mr-slim-unetrv2": "slim_unetrv2_128",
    "abdomen-ct-unetrpp": "unetrpp_synapse",
    "heart-mr-unetrpp": "unetrpp_acdc",
    "brain-tumor-mr-unetrpp": "unetrpp_tumor",
    "lung-tumor-ct-unetrpp": "unetrpp_lung",
}


def test_every_network_builds_as_its_card_states_and_has_the_cards_outputs(
    shipped: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if shipped.id == "hippodeep":  # three networks, one after the other
        return
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # knows no device "meta"
    numbers = shipped.network == "atlas_unet"  # which counts voxels by their values
    with torch.device("cpu" if numbers else "meta"):  # shapes without numbers
        network = build(shipped.network, shipped.network_arguments).eval()
        patch = torch.zeros(1, len(shipped.channels), *shipped.inference.patch_size)
        with torch.inference_mode():
            assert network(patch).shape == (1, shipped.outputs, *shipped.inference.patch_size)


def test_networks_are_those_of_the_authors_with_the_same_keys_and_parameters(shipped: Card) -> None:
    """Slim UNETRV2 is published for 1 input and 3 outputs; the cards have those of their data sets."""
    import torch

    if shipped.id in (*OURS, *RUN):
        return
    path = REPOSITORY / "Testing" / "Data" / "reference" / AUTHORS[shipped.id]
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    arguments, other = shipped.network_arguments, facts["arguments"]
    assert shipped.network == facts["network"]
    parameters = facts["parameters"]
    if shipped.network == "slim_unetrv2":
        assert {**arguments, "in_channels": 1, "classes": 3} == other
        width = 48 * arguments["first_kernel"] ** 3  # weights of one input in the first, one output in the last layer
        parameters += (arguments["in_channels"] - 1) * width + (arguments["classes"] - 3) * (width + 1)
    else:
        assert arguments == other
    with torch.device("meta"):
        network = build(shipped.network, arguments)
    assert sum(weight.numel() for weight in network.parameters()) == parameters
    kept = getattr(network, "canonical_key", str)
    with np.load(path.with_suffix(".npz")) as table:  # lines of a key and its shape
        assert set(network.state_dict()) == {kept(str(line).split()[0]) for line in table["keys"]}


def test_labels_have_the_terms_and_colors_of_the_anatomy_list(shipped: Card) -> None:
    for label in shipped.labels:
        if shipped.id == "brain-atlas-104":  # parts of the cortex have no entries, and the atlas' own colors
            assert label.terminology is not None, label.name
            continue
        assert (label.terminology, label.color) == look_up(label.name), label.name


def test_codes_are_well_formed_and_each_has_one_meaning() -> None:
    meanings: dict[str, str] = {}
    for card in map(read_card, CARDS):
        for label in card.labels:
            codes = [getattr(label.terminology, field.name) for field in dataclasses.fields(label.terminology)]
            for code in filter(None, codes):
                # SNOMED CT has no ventral diencephalon; DICOM gave it a code of its own (PS3.16, context group 7140)
                assert is_snomed(code) if code.scheme == "SCT" else (code.scheme, code.value) == ("DCM", "110700"), code
                assert meanings.setdefault(code.value, code.meaning) == code.meaning
    assert len(set(meanings.values())) == len(meanings) >= 25
