"""What the store remembers of a file, and what it makes of one that changed, is damaged or is gone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from http_server import Answer, Server
from LightSegLib.catalog.card import Card
from LightSegLib.core.errors import Canceled, DownloadError, ModelError
from LightSegLib.weights.store import Entry, WeightStore
from stored_weights import CONTENT, OTHER, SHA256, everything_in, record_of, url_of, with_weights


def test_a_silent_change_at_the_source_is_noticed(server: Server, store: WeightStore, card: Card) -> None:
    """There is not a published hash, so the first download is what later ones are held to."""
    store.ensure(card)
    store.remove(card)
    assert store.state(card) == "available"
    server.answers["/file"] = Answer(OTHER)
    with pytest.raises(
        DownloadError, match=r"the file differs from the first download.*'lightseg weights remove tiny --forget'"
    ):
        store.ensure(card)
    assert store.entries() == []
    newer = replace(card, version="2")  # whose author has looked at the new file
    assert store.ensure(newer).read_bytes() == OTHER
    store.remove(newer, forget=True)
    assert not (store.folder / "tiny").exists()
    assert store.ensure(card).read_bytes() == OTHER


def test_the_file_of_an_older_card_is_replaced(server: Server, store: WeightStore, card: Card) -> None:
    store.ensure(card)
    server.answers["/file"] = Answer(OTHER)
    other_sha256 = hashlib.sha256(OTHER).hexdigest()
    newer = with_weights(replace(card, version="2"), sha256=other_sha256)
    assert store.state(newer) == "available"
    assert store.ensure(newer).read_bytes() == OTHER
    assert store.state(with_weights(replace(card, version="3"), sha256=other_sha256)) == "downloaded"
    assert store.state(replace(card, version="3")) == "available"


def test_a_download_is_held_to_what_a_newer_card_states_of_it(server: Server, store: WeightStore, card: Card) -> None:
    """The file is as it was downloaded, but the card now knows that the authors' has another hash."""
    store.ensure(card)
    store.verify(with_weights(card, sha256=SHA256))
    with pytest.raises(ModelError, match=r"damaged or was replaced \(SHA-256 .*lightseg weights remove tiny"):
        store.verify(with_weights(card, sha256="0" * 64))


def test_verify_finds_a_changed_byte_and_a_missing_end(server: Server, store: WeightStore, card: Card) -> None:
    with pytest.raises(ModelError, match="not on this computer"):
        store.verify(card)
    path = store.ensure(card)
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"damaged or was replaced \(SHA-256 .*lightseg weights remove tiny"):
        store.verify(card)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ModelError, match="299999 bytes instead of 300000"):
        store.verify(card)
    assert store.state(card) == "available"
    with pytest.raises(Canceled):
        store.verify(card, canceled=lambda: True)


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": 1}', b'{"schema": 99}', b"[" * 100_000, "../../home", "size"],
    ids=["empty", "cut", "list", "null", "binary", "fields missing", "future", "deep", "outside", "types"],
)
def test_a_damaged_record_is_as_good_as_none(
    server: Server, store: WeightStore, card: Card, damage: bytes | str
) -> None:
    pinned = with_weights(card, sha256=SHA256)
    store.ensure(pinned)
    if isinstance(damage, str):
        record = record_of(store)
        record = record | {"file": damage} if damage != "size" else record | {"current": {"size": "1"}}
        damage = json.dumps(record).encode()
    (store.folder / "tiny" / "record.json").write_bytes(damage)
    assert store.state(pinned) == "downloaded", "the file is there, and is checked when it is used"
    assert store.record(pinned) is store.record_in_use(pinned) is None
    assert [entry.path for entry in store.entries()] == [None]
    assert store.ensure(pinned).read_bytes() == CONTENT
    assert store.state(pinned) == "downloaded"


def test_a_record_with_the_old_spelling_of_license_is_read(server: Server, store: WeightStore, card: Card) -> None:
    store.ensure(card)
    record = record_of(store)
    record["licence"] = record.pop("license")
    (store.folder / "tiny" / "record.json").write_text(json.dumps(record), encoding="utf-8")
    assert store.state(card) == "downloaded"


def test_a_missing_file_is_downloaded_again(server: Server, store: WeightStore, card: Card) -> None:
    store.ensure(card).unlink()
    assert store.state(card) == "available"
    assert store.ensure(card).read_bytes() == CONTENT


def test_what_is_on_disk_is_listed_and_removed(server: Server, store: WeightStore, card: Card) -> None:
    server.answers["/half"] = [Answer(CONTENT, etag='"1"', cut=200_000), Answer(status=404)]
    half = with_weights(replace(card, id="half"), sources=(url_of(server, "/half"),))
    path = store.ensure(card)
    with pytest.raises(DownloadError):
        store.ensure(half)
    (store.folder / "stray file").touch()

    unfinished, whole = store.entries()
    assert whole == Entry("tiny", path, len(CONTENT), 0, store.record(card))
    assert unfinished.model == "half" and unfinished.path is None and unfinished.record is None
    assert 180_000 < unfinished.partial <= 200_000 < unfinished.size < 201_000

    assert store.remove("half") == unfinished.size  # by name, as its card may be gone
    assert store.remove(card) == len(CONTENT)
    assert store.entries() == [] and store.remove(card) == 0
    assert store.remove("../tiny") == store.remove("nothing") == 0


def test_a_smaller_copy_takes_the_place_of_the_original(
    server: Server, store: WeightStore, card: Card, tmp_path: Path
) -> None:
    pinned = with_weights(card, sha256=SHA256)
    with pytest.raises(ModelError, match="Tiny has no downloaded weights to replace"):
        store.replace(pinned, tmp_path / "slim.pt")
    original = store.ensure(pinned)
    slim = tmp_path / "slim.pt"
    for content in (b"slim", b"slimmer"):
        slim.write_bytes(content)
        path = store.replace(pinned, slim)
        assert path == store.path(pinned) == store.ensure(pinned)
        assert path.read_bytes() == content
        assert not slim.exists() and not original.exists()
        assert sorted(everything_in(path.parent)) == ["record.json", path.name]
        store.verify(pinned)
    record = record_of(store)
    assert record["original"]["sha256"] == SHA256
    assert (record["current"]["size"], record["current"]["sha256"]) == (7, hashlib.sha256(b"slimmer").hexdigest())
    assert store.state(with_weights(pinned, sha256="0" * 64)) == "available"
    store.remove(pinned)
    assert store.ensure(pinned).read_bytes() == CONTENT
