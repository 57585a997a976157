"""The card of a model that nnU-Net v2 has trained, from what its checkpoint states."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..catalog.card import Card, Weights
from ..catalog.lookup import all_cards
from ..core.paths import user_models_folder
from ..weights.checkpoint import Checkpoint
from .network import is_known_trainer
from .plans import settings_from_plans

NOT_STATED = "Not stated."
NOT_TRIED = "Imported from nnU-Net as it is; LightSeg's authors have not tried it."
NNUNET = (
    "Isensee F et al. nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation. "
    "Nature Methods 18, 203-211 (2021)."
)
PLACEHOLDER = "Whoever converted this dataset was lazy"  # what nnU-Net writes if no license was given
USUAL = ("nnUNetPlans", "nnUNetTrainer")  # need no mention
LONGEST_ID = 120


def describe(checkpoint: Checkpoint, folds: Sequence[int | str] = (), remark: str = "") -> Card:
    """Return the card of a checkpoint that describes itself, apart from the facts of its weights file.

    Args:
        folds: those whose weights it holds, if other than its own one.
        remark: what to know about the choice of them.

    Raises:
        ModelError: as `settings_from_plans` does.
    """
    plans, dataset = checkpoint.plans or {}, checkpoint.dataset or {}
    configuration, trainer = checkpoint.configuration or "", checkpoint.trainer or ""
    settings = settings_from_plans(plans, dataset, configuration, trainer, checkpoint.mirror_axes)
    name = _text(plans, "dataset_name") or _text(dataset, "name") or "model"
    plain_name = _text(dataset, "name") or re.sub(r"^Dataset\d+_", "", name).replace("_", " ")
    structures = ", ".join(label.name for label in settings.labels)
    return Card(
        id=_identifier(name, configuration, _text(plans, "plans_name"), trainer),
        title=f"{plain_name} ({configuration})",
        version=_text(dataset, "release") or "1",
        description=_text(dataset, "description") or f"Segments {structures} in {', '.join(settings.channels)} images.",
        **vars(settings),
        weights=Weights("weights.pt"),
        license=_license(dataset),
        citation=_citation(dataset),
        limitations=" ".join(filter(None, (NOT_TRIED, _about_ensemble(folds), remark, _about_trainer(trainer)))),
        training={
            "framework": "nnU-Net v2",
            "dataset": name,
            "plans": _text(plans, "plans_name"),
            "configuration": configuration,
            "trainer": trainer,
            "folds": list(folds) or [checkpoint.fold],
        },
    )


def _about_ensemble(folds: Sequence[int | str]) -> str:
    """Return the sentence on folds, or nothing for one fold."""
    if len(folds) < 2:
        return ""
    return (
        f"As in nnU-Net, the mean of {len(folds)} networks is taken (folds {', '.join(map(str, folds))}), which needs "
        f"{len(folds)} times the time of one; 'lightseg import PATH --fold {folds[0]}' imports one alone."
    )


def _about_trainer(trainer: str) -> str:
    """Return the sentence on a trainer that LightSeg does not know, or nothing."""
    if is_known_trainer(trainer):
        return ""
    return (
        f"It was trained by the class '{trainer}', which LightSeg does not know: if that changed more of the network "
        "than its weights show, such as its activations, the results are not those of the authors."
    )


def _identifier(dataset: str, configuration: str, plans: str, trainer: str) -> str:
    """Unlike that of any model of the list; the usual names of plans and trainer do not take part."""
    parts = [dataset, configuration, *(name for name in (plans, trainer) if name and name not in USUAL)]
    plain = unicodedata.normalize("NFKD", "-".join(parts)).encode("ascii", "ignore").decode().lower()
    identifier = re.sub(r"[^a-z0-9_.-]+", "-", plain)[:LONGEST_ID].strip("-_.") or "model"
    listed = {card.id for card in all_cards() if (card.folder or Path()).parent != user_models_folder()}
    return f"{identifier}-imported" if identifier in listed else identifier


def _license(dataset: dict[str, Any]) -> str:
    """Return the license that dataset.json states."""
    terms = _text(dataset, "licence", "license")
    if not terms or terms.startswith(PLACEHOLDER):
        return NOT_STATED
    return f"Not stated for the weights; of the training data: {terms}"


def _citation(dataset: dict[str, Any]) -> str:
    """Return what to cite."""
    data = _text(dataset, "reference", "citation")
    return f"{NNUNET} Training data: {data}" if data else NNUNET


def _text(facts: dict[str, Any], *names: str) -> str:
    """Return the first of these fields that holds text, or a list of texts."""
    for name in names:
        value = facts.get(name)
        entries = value if isinstance(value, list) else [value]
        if text := "; ".join(entry.strip() for entry in entries if isinstance(entry, str) and entry.strip()):
            return text
    return ""
