"""What the tests of the weight store share: two files, cards that name them, and a second program."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from http_server import Server
from LightSegLib.catalog.card import Card, Part, Source, Weights
from LightSegLib.weights.bundle import pack
from LightSegLib.weights.connection import RetryPolicy
from LightSegLib.weights.store import WeightStore

LIBRARY = Path(__file__).resolve().parents[1] / "LightSeg"
CONTENT = b"PK\x03\x04" + np.random.default_rng(0).bytes(299_996)  # begins as a file of torch
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = b"PK\x03\x04" + np.random.default_rng(1).bytes(299_996)
QUICK = RetryPolicy(tries=2, first_wait=0.01)  # between tries: a busy machine's server may be slow
PAGE = Source("page", url="https://example.org/weights")
# What a second LightSeg on the same computer does: ensure the weights of the test's card.
PROGRAM = f"""
import sys
sys.path.insert(0, {str(LIBRARY)!r})
from LightSegLib.catalog.card import Card, Inference, Label, Preprocessing, Source, Weights
from LightSegLib.weights.store import WeightStore
folder, url = sys.argv[1:]
card = Card("tiny", "Tiny", "1", "", "MR", ("T1",), "lightmedseg", {{}}, Preprocessing(), Inference((32, 32, 32)),
            (Label(1, "a", (1, 2, 3)),), Weights("final.pth", sources=(Source("url", url=url),)), "CC0-1.0", "")
print(WeightStore(folder).ensure(card, progress=lambda report: print(report.step, flush=True)))
"""


def url_of(server: Server, path: str) -> Source:
    return Source("url", url=server.url + path)


def with_weights(card: Card, **changes: object) -> Card:
    return replace(card, weights=replace(card.weights, **changes))  # type: ignore[arg-type]


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def record_of(store: WeightStore) -> dict:
    return json.loads((store.folder / "tiny" / "record.json").read_text(encoding="utf-8"))


def in_parts(files: Sequence[Path], name: str, sources: Callable[[Path], tuple[Source, ...]] = lambda _: ()) -> Weights:
    """What a card says of weights that are published as these files and kept as an archive of this name."""
    parts = [
        Part(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest(), sources(path))
        for path in files
    ]
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / name
        pack(files, [path.name for path in files], archive)
        return Weights(
            name, archive.stat().st_size, hashlib.sha256(archive.read_bytes()).hexdigest(), parts=tuple(parts)
        )
