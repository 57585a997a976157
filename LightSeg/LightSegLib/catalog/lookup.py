"""Which models there are: the cards that ship with LightSeg and those in the user's model folder."""

from __future__ import annotations

import difflib
import functools
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..core.errors import InputError, ModelError, OutputError, UnknownModelError
from ..core.i18n import tr as _
from ..core.leftovers import REPLACED, abandoned
from ..core.paths import resources_folder, user_models_folder, weights_folder
from ..core.plain_text import plain
from .card import Card
from .card_file import read_card
from .families import FAMILIES_FOLDER, family_cards, not_offered

CARDS_FOLDER = Path(__file__).parent / "cards"
CARD_NAME = "model.json"  # in a model folder, beside the weights
SUGGESTED = 3  # ids in the message about one that does not exist


def all_cards() -> list[Card]:
    """Return every model, bundled ones first; a user's card never hides a bundled one.

    Of the bundled ones, those come first that were run with their weights, then others of their own, each group sorted
    by title, then those of the families (see `families`).

    A bundled card is replaced by the one beside its weights if these describe themselves (see `Card`). A user's card
    that cannot be read is left out, so that it does not take the other models with it.
    """
    _put_back(user_models_folder())
    bundled = sorted(map(_read, CARDS_FOLDER.glob("*.json")), key=lambda card: (not card.was_run, card.title))
    cards = {card.id: _completed(card) for card in (*bundled, *family_cards())}
    for path in sorted(user_models_folder().glob(f"*/{CARD_NAME}")):
        card = _readable(path)
        if card and cards.setdefault(card.id, card) is not card:
            logging.getLogger(__name__).warning(
                "The model in %s is not used: its id '%s' is taken. Give it another id.",
                plain(str(path.parent)),
                card.id,
            )
    return list(cards.values())


def _read(path: Path) -> Card:
    """Return the card of a file; it is read and checked once, which takes some milliseconds.

    Raises:
        ModelError: as `read_card`.
    """
    try:
        found = path.stat()
    except OSError:  # which the reader reports
        return read_card(path)
    return _read_once(path, found.st_ino, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=500)
def _read_once(path: Path, file: int, changed: int, size: int) -> Card:
    """Return the card of a file that was changed then and has this size."""
    return read_card(path)


def _put_back(models: Path) -> None:
    """Undo an import that was killed while it replaced a model."""
    for aside in abandoned(models, REPLACED):
        with suppress(OSError):  # another program was quicker, or this one may not
            for model in aside.iterdir():
                if (models / model.name).exists():
                    shutil.rmtree(model)
                else:
                    model.rename(models / model.name)
            aside.rmdir()


def as_shipped(card: Card) -> Card:
    """Return a bundled card without what its weights file states; any other card as it is."""
    if card.folder == FAMILIES_FOLDER:
        return next((shipped for shipped in family_cards() if shipped.id == card.id), card)
    path = CARDS_FOLDER / f"{card.id}.json"
    return _read(path) if card.folder == CARDS_FOLDER and path.is_file() else card


def _completed(card: Card) -> Card:
    """Return the card with what its weights file states, if that was read before."""
    path = weights_folder() / card.id / CARD_NAME
    if not card.metadata_in_weights or not path.is_file():
        return card
    completed = _readable(path)
    if completed is None or (completed.id, completed.version) != (card.id, card.version):
        return card
    return replace(completed, folder=card.folder)  # its weights stay the store's affair


def _readable(path: Path) -> Card | None:
    """Return the card of a file; a warning and None where it cannot be read."""
    try:
        return _read(path)
    except ModelError as error:
        logging.getLogger(__name__).warning("%s", error)
        return None


def bad_cards() -> dict[str, str]:
    """Return the folders of the user's models whose card cannot be used, with the reasons."""
    bad = {}
    for path in sorted(user_models_folder().glob(f"*/{CARD_NAME}")):
        try:
            read_card(path)
        except ModelError as error:
            bad[path.parent.name] = str(error)
    return bad


def bundled_models() -> list[str]:
    """Return the ids of the models whose weights come with LightSeg."""
    models = resources_folder() / "Models"
    cards = map(_read, sorted(CARDS_FOLDER.glob("*.json")))
    return [card.id for card in cards if (models / card.weights.file).is_file()]


def find_card(model: str) -> Card:
    """Return the card of a model.

    Args:
        model: id, or path of a model folder or card file.

    Raises:
        UnknownModelError: if there is no such model; it lists the closest ids.
        ModelError: for a damaged card.
    """
    return card_of(resolve_model(model))


def resolve_model(model: str) -> str:
    """Return a name of a model that every process understands: the absolute path of its folder or card, or its id.

    It is resolved once, since a folder with the model's name may appear later.
    """
    path = Path(model)
    if path.is_dir() and (path / CARD_NAME).is_file():
        return str(path.absolute())
    if path.suffix == ".json" and path.is_file():
        return str(path.absolute())
    return model


def card_of(model: str) -> Card:
    """Return the card of a name that `resolve_model` gave.

    Raises what `find_card` does.
    """
    path = Path(model)
    if path.is_absolute() and path.exists():
        return read_card(path / CARD_NAME if path.is_dir() else path)
    cards = {card.id: card for card in all_cards()}
    if model in cards:
        return cards[model]
    for other in not_offered():
        if other.name == model:
            raise UnknownModelError(
                _(
                    "{model} of {family} is not offered. {reason} Choose another model; 'lightseg models' lists all."
                ).format(model=model, family=other.family, reason=other.reason)
            )
    raise UnknownModelError(
        _(
            "There is no model '{model}'. "
            "Choose one of the closest names ({closest}) or see all with 'lightseg models'."
        ).format(model=model, closest=", ".join(_closest(model, cards)))
    )


def _closest(model: str, cards: Mapping[str, Card]) -> list[str]:
    """Return the ids that are probably meant: a misspelled one, then what can be used at once before what cannot."""
    word = model.casefold()
    misspelled = difflib.get_close_matches(word, cards, n=1, cutoff=0.8)
    within = [name for name in cards if word in name]
    alike = difflib.get_close_matches(word, cards, n=SUGGESTED, cutoff=0.3)
    ready = [sorted(names, key=lambda name: _effort(cards[name], cards)) for names in (within, alike, cards)]
    return list(dict.fromkeys([*misspelled, *ready[0], *ready[1], *(() if alike else ready[2])]))[:SUGGESTED]


def _effort(card: Card, cards: Mapping[str, Card]) -> int:
    """Return what a model's first use needs: 0 nothing, its weights are here, 1 a download, 2 a person."""
    if card.parts:
        return max((_effort(cards[part.model], cards) if part.model in cards else 2) for part in card.parts)
    if weights_path(card).is_file() or (weights_folder() / card.id / card.weights.file).is_file():
        return 0
    return 1 if any(source.kind != "page" for file in card.weights.published for source in file.sources) else 2


def remove_model(card: Card) -> None:
    """Delete an imported model, card and weights.

    Raises:
        InputError: for any other one.
        OutputError: if it stays.
    """
    folder = user_models_folder() / card.id
    if card.folder != folder:
        raise InputError(
            _(
                "{model} was not imported, so it cannot be removed. To delete its downloaded weights, "
                "use 'lightseg weights remove {id}'."
            ).format(model=card.title, id=card.id)
        )
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(
            _("The model in {folder} could not be removed ({reason}). Delete the folder by hand.").format(
                folder=folder, reason=error.strerror or error
            )
        ) from error


def weights_path(card: Card) -> Path:
    """Return the path of a card's weights: beside the card, else in `Resources/Models`."""
    return _beside(card, card.weights.file)


def template_path(card: Card) -> Path | None:
    """Return the path of a card's template, or None if it does not align images."""
    alignment = card.preprocessing.alignment
    return None if alignment is None else _beside(card, alignment.template)


def _beside(card: Card, name: str) -> Path:
    """Return the path of a file beside the card, or else among the bundled ones."""
    beside = (card.folder or Path()) / name
    return beside if beside.is_file() else resources_folder() / "Models" / name
