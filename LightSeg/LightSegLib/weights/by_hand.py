"""What a person has to do for weights that are not on this computer."""

from __future__ import annotations

from pathlib import Path

from ..catalog.card import Card, Source
from ..core.errors import ModelError
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from .sources import origin


def only_pages(sources: list[Source]) -> bool:
    """Return whether only a person can download from the sources."""
    return all(source.kind == "page" for source in sources)


def nowhere(card: Card, weights: Path) -> ModelError:
    """Return the error for weights that LightSeg cannot download itself."""
    if any(file.sources for file in card.weights.published):
        return ModelError(
            _("The weights of {model} cannot be downloaded automatically. To get them, {by_hand}.").format(
                model=card.title, by_hand=by_hand(card, weights)
            )
        )
    return ModelError(
        _(
            "The weights file {file} of {model} is missing, and the model card names no source for it. "
            "Import the model again, or save the file as {path}."
        ).format(file=card.weights.file, model=card.title, path=weights / card.id / card.weights.file)
    )


def by_hand(card: Card, weights: Path) -> Message:
    """Return how a person gets the file to this computer, into the folder `weights` of all models."""
    if card.weights.parts:
        origins = [origin(file.sources[0]) for file in card.weights.parts if file.sources]
        return _(
            "download {sources} with a browser, on any computer, into one folder, and add it with Use a File in Slicer "
            "or with 'lightseg weights add {model} FOLDER'"
        ).format(sources=joined(_(" and "), origins), model=card.id)
    origins = [origin(source) for source in card.weights.sources] or [card.homepage or _("their authors")]
    return _(
        "download the weights from {sources} with a browser, on any computer, and add them with Use a File in Slicer "
        "or with 'lightseg weights add {model} FILE', or save them as {file}"
    ).format(sources=joined(_(" or "), origins), model=card.id, file=weights / card.id / card.weights.file)
