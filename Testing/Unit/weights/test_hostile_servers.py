"""A malicious server or listener gets nothing: the disk is not filled, the next source has its turn, and no
password is written anywhere.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from http_server import Answer, Server
from LightSegLib.catalog.card import Card, Source
from LightSegLib.cli.main import main
from LightSegLib.core.errors import DownloadError, OutputError
from LightSegLib.weights import download
from LightSegLib.weights.store import WeightStore
from stored_weights import CONTENT, url_of, with_weights


@pytest.mark.parametrize("length", [10**15, 10**12, 40 * 10**9])
def test_a_false_length_goes_on_to_the_next_source(
    store: WeightStore, card: Card, server: Server, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    server.answers["/false"] = Answer(CONTENT, length=length)
    both = with_weights(card, sources=(url_of(server, "/false"), url_of(server, "/file")))
    assert store.ensure(both).read_bytes() == CONTENT


def test_no_source_that_fits_on_the_disk_is_reported(
    store: WeightStore, card: Card, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match="too full"):
        store.ensure(card)


def test_an_answer_without_end_stops_and_the_next_source_has_its_turn(
    store: WeightStore, card: Card, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "UNSTATED", 100_000)
    server.answers["/endless"] = Answer(CONTENT * 10, framing="chunked")
    endless = with_weights(card, sources=(url_of(server, "/endless"),))
    with pytest.raises(DownloadError, match="the server sends more than 0 MB"):
        store.ensure(endless)
    assert not (store.folder / "tiny" / "download.part").exists()
    both = with_weights(card, sources=(url_of(server, "/endless"), url_of(server, "/file")))
    assert store.ensure(both).read_bytes() == CONTENT


def test_an_answer_without_end_stops_before_the_disk_is_full(
    store: WeightStore, card: Card, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LOOK", 50_000)
    folder = store.folder / "tiny"

    def left(_: object) -> SimpleNamespace:
        return SimpleNamespace(free=10**9 if len(list(folder.glob("*.part"))) == 0 else 1000)

    monkeypatch.setattr(download.shutil, "disk_usage", left)
    server.answers["/endless"] = Answer(CONTENT * 10, framing="chunked")
    with pytest.raises(OutputError, match="too full"):
        store.ensure(with_weights(card, sources=(url_of(server, "/endless"),)))
    assert sum(path.stat().st_size for path in folder.glob("*.part")) < 200_000


SECRET = "geheim"


@pytest.mark.parametrize(
    "address",
    [
        "http://bob:geheim@HOST/nothing",
        "http://bob:ge@geheim@HOST/nothing",
        "http://bob:x/geheim@HOST/nothing",
        "http://bob:geheim@127.0.0.1:99999/file",
        "http://bob:geheim@[::1/file",
        "http://HOST/nothing?token=geheim",
        "http://HOST/cut?token=geheim",
        "http://bob:geheim@HOST/cut",
        "http://HOST/leads",
    ],
)
def test_a_password_is_written_nowhere(
    store: WeightStore,
    card: Card,
    server: Server,
    caplog: pytest.LogCaptureFixture,
    address: str,
) -> None:
    host = server.url.removeprefix("http://")
    server.answers["/cut"] = Answer(CONTENT, etag='"1"', cut=100_000)
    server.answers["/leads"] = Answer(status=302, headers={"Location": "http://bob:geheim@[::1/file"})
    source = Source("url", url=address.replace("HOST", host))
    with caplog.at_level(logging.DEBUG), pytest.raises(DownloadError) as caught:
        store.ensure(with_weights(card, sources=(source,)))
    chain: BaseException | None = caught.value
    while chain is not None:  # what a log shows of an error
        assert SECRET not in str(chain)
        chain = chain.__cause__
    assert SECRET not in caplog.text
    for path in store.folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path.name


def test_a_password_is_in_no_record_and_in_no_list(
    store: WeightStore, card: Card, server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    host = server.url.removeprefix("http://")
    source = Source("url", url=f"http://bob:geheim@{host}/file?token=geheim")
    named = replace(with_weights(card, sources=(source,)), folder=tmp_path / "card")
    assert store.ensure(named).read_bytes() == CONTENT
    assert SECRET not in (store.folder / "tiny" / "record.json").read_text(encoding="utf-8")
    from LightSegLib.catalog.card_file import write_card

    (tmp_path / "card").mkdir()
    write_card(replace(named, network_arguments={"in_channels": 1, "classes": 2}), tmp_path / "card" / "model.json")
    for words in (["info", str(tmp_path / "card")], ["info", str(tmp_path / "card"), "--json"]):
        main(words)
        captured = capsys.readouterr()
        assert SECRET not in captured.out + captured.err


@pytest.mark.parametrize("length", ["-5", "abc", "9" * 5000])
def test_an_invalid_length_is_not_a_fault_of_the_program(
    store: WeightStore, card: Card, server: Server, length: str
) -> None:
    server.answers["/odd"] = Answer(CONTENT, framing="none", headers={"Content-Length": length})
    both = with_weights(card, sources=(url_of(server, "/odd"), url_of(server, "/file")))
    assert store.ensure(both).read_bytes() == CONTENT
