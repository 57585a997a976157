"""From a card to a network that is ready to run: weights fetched, verified, read safely and loaded strictly."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..catalog.card import Card
from ..catalog.card_file import write_card
from ..catalog.lookup import CARD_NAME
from ..core.errors import ModelError, OutputError
from ..core.progress import CancelCallback, ProgressCallback
from ..weights.checkpoint import read_checkpoint, write_slim
from ..weights.store import WeightStore
from .archived import completed_card, ensure_weights, with_remedy
from .matching import fitting_networks

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run.

    Attributes:
        card: with what a self-describing file added.
        sha256: of the authors' file, where it is known.
        networks: one for each fold, whose logits are averaged.
    """

    card: Card
    networks: tuple[nn.Module, ...]
    sha256: str | None


def open_model(
    card: Card,
    progress: ProgressCallback | None = None,
    canceled: CancelCallback | None = None,
    accept_license: bool = False,
) -> LoadedModel:
    """Return the networks of `card` with their weights, downloaded first where they are not on this computer.

    After the first read of a downloaded file a slim copy without optimizer state takes its place, and beside it the
    completed card of a self-describing file.

    Also raises what `ensure_weights` raises.

    Raises:
        ModelError: for a file that is not the card's.
    """
    store = WeightStore()
    path = ensure_weights(card, progress, canceled, accept_license)
    store.verify(card, progress, canceled)
    record = store.record_in_use(card)
    try:
        if not path.is_file():  # another LightSeg has put its slim copy there meanwhile
            path = ensure_weights(card, progress, canceled, accept_license)
        checkpoint = read_checkpoint(path)
        completed = completed_card(card, checkpoint)
        networks = tuple(fitting_networks(completed, checkpoint, path.name))
    except ModelError as error:
        if record is None:
            raise
        raise with_remedy(error, card) from error
    if record is None:
        return LoadedModel(completed, networks, card.weights.sha256)
    slim = path.with_name(f".{uuid.uuid4().hex}.pt")  # of our own: others may be at the same
    try:
        if record.original is None:
            write_slim(checkpoint, slim)
            store.replace(card, slim)
        if completed != card:  # for lists and windows; the next use asks the file again
            write_card(completed, path.with_name(CARD_NAME))
    except (OutputError, ModelError):
        pass  # a shared folder may be read-only, or the download just removed: the model runs all the same
    finally:
        with suppress(OSError):  # Linux refuses it on a read-only disk even for a file that is not there
            slim.unlink(missing_ok=True)
    return LoadedModel(completed, networks, record.sha256)
