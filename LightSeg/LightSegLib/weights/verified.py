"""Which models were verified on this computer, of which version and with which weights: a small file beside these."""

from __future__ import annotations

import functools
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..catalog.card import Card
from ..catalog.lookup import weights_path
from ..catalog.needed import own_models
from ..core.atomic_io import atomic_write, output_error
from ..core.errors import ModelError
from ..core.file_hash import sha256
from ..core.i18n import tr as _
from ..core.json_file import read_json
from ..core.paths import weights_folder
from ..core.progress import Reporter
from .lock import locked
from .store import WeightStore

FILE = "verified.json"


def was_verified_here(card: Card) -> bool:
    """Return whether this version of a model was verified on this computer with the weights that it has now."""
    found = _records().get(card.id)
    return isinstance(found, dict) and (found.get("version"), found.get("weights")) == (card.version, _hashes(card))


def is_unverified(card: Card) -> bool:
    """Return whether a model is to be marked: not all about it is known, and it was not verified on this computer."""
    return card.unverified and not was_verified_here(card)


def remember_verified(card: Card) -> None:
    """Record that a model was verified on this computer with the weights that it has now.

    Raises:
        OutputError: if the folder of weights cannot be written.
        ValueError: for weights that are not here.
    """
    hashes = _hashes(card)
    if hashes is None:
        raise ValueError(_("{model} has no weights here").format(model=card.id))
    folder = weights_folder()
    path = folder / FILE
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f"{FILE}.lock", Reporter(), FILE):
            records = _records() | {card.id: {"version": card.version, "weights": hashes, "when": when}}
            with atomic_write(path) as part:
                part.write_text(json.dumps(records, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise output_error(path, error) from error


def _records() -> dict[str, Any]:
    """Return what was recorded, by model; nothing where the file cannot be read."""
    path = weights_folder() / FILE
    try:
        found = path.stat()
        return _read(path, found.st_mtime_ns, found.st_size)
    except (OSError, ValueError):
        return {}


@functools.lru_cache(maxsize=4)
def _read(path: Path, _changed: int, _size: int) -> dict[str, Any]:
    """Return the records in a file of this time and size; lists ask for every model."""
    records = read_json(path)
    return records if isinstance(records, dict) else {}


def _hashes(card: Card) -> dict[str, str] | None:
    """Return the SHA-256 of the weights of a model, by model where it consists of several; None if one is not here."""
    hashes = {}
    try:
        for own in own_models(card):
            if (digest := _sha256(own)) is None:
                return None
            hashes[own.id] = digest
    except ModelError:  # a part is missing
        return None
    return hashes


def _sha256(card: Card) -> str | None:
    """Return the SHA-256 of the weights of one model as they are here; None if they are not."""
    local = weights_path(card)
    if local.is_file():
        found = local.stat()
        return _sha256_of(local, found.st_mtime_ns, found.st_size)
    record = WeightStore().record_in_use(card)
    return record.sha256 if record else None


@functools.lru_cache(maxsize=100)
def _sha256_of(path: Path, _changed: int, _size: int) -> str:
    """Return the SHA-256 of a file of this time and size."""
    return sha256(path)
