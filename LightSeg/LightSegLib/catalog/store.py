"""Which models there are: the cards that ship with LightSeg and those in the user's model folder."""

from __future__ import annotations

import difflib
import logging
import os
import sys
from pathlib import Path

from ..errors import ModelError, UnknownModelError
from .card import Card, read_card

CARD_NAME = "model.json"  # in a model folder, beside the weights


def resources_folder() -> Path:
    """`Resources` of the module: beside the library in Slicer and in a checkout, inside it when pip-installed."""
    library = Path(__file__).resolve().parent.parent
    beside = library.parent / "Resources"
    return beside if (beside / "Models").is_dir() else library / "resources"


def user_models_folder() -> Path:
    """Where the user's own models live, one folder each; LIGHTSEG_MODELS overrides it."""
    if configured := os.environ.get("LIGHTSEG_MODELS"):
        return Path(configured)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
    return base / "LightSeg" / "models"


def all_cards() -> list[Card]:
    """Every model, bundled ones first, each group sorted by id; a user's card never hides a bundled one.

    A user's card that cannot be read is left out, so that it does not take the other models with it.
    """
    cards = {card.id: card for card in map(read_card, sorted((Path(__file__).parent / "cards").glob("*.json")))}
    for path in sorted(user_models_folder().glob(f"*/{CARD_NAME}")):
        try:
            card = read_card(path)
        except ModelError as error:
            logging.getLogger(__name__).warning("%s", error)
            continue
        cards.setdefault(card.id, card)
    return list(cards.values())


def find_card(model: str) -> Card:
    """The card of a model id, or of a model folder or card file given by its path.

    Raises UnknownModelError, which lists the closest ids, and ModelError for a damaged card.
    """
    path = Path(model)
    if path.is_dir() and (path / CARD_NAME).is_file():
        return read_card(path / CARD_NAME)
    if path.suffix == ".json" and path.is_file():
        return read_card(path)
    cards = {card.id: card for card in all_cards()}
    if model in cards:
        return cards[model]
    closest = difflib.get_close_matches(model, cards, n=3, cutoff=0.3) or sorted(cards)[:3]
    raise UnknownModelError(
        f"There is no model '{model}'. Choose one of the closest names ({', '.join(closest)}) "
        "or see all with 'lightseg models'."
    )


def weights_path(card: Card) -> Path:
    """Where the card's weights should lie: beside the card, else in `Resources/Models`."""
    beside = (card.folder or Path()) / card.weights.file
    return beside if beside.is_file() else resources_folder() / "Models" / card.weights.file
