"""The weights of a model get onto a computer once, verified: from a server, a mirror, or a stick that is brought."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from http_server import Answer, Server
from LightSegLib.catalog.card import Card, Source
from LightSegLib.core.errors import Canceled, DownloadError, InputError, ModelError
from LightSegLib.core.progress import Progress
from LightSegLib.weights.sources import Endpoints
from LightSegLib.weights.store import WeightStore
from stored_weights import CONTENT, LIBRARY, OTHER, PAGE, QUICK, SHA256, everything_in, record_of, url_of, with_weights


def test_weights_are_downloaded_once_and_then_need_no_network(server: Server, store: WeightStore, card: Card) -> None:
    assert store.state(card) == "available"
    reports: list[Progress] = []
    path = store.ensure(card, progress=reports.append)
    assert path == store.folder / "tiny" / "final.pth"
    assert path.read_bytes() == CONTENT
    assert sorted(everything_in(path.parent)) == ["final.pth", "record.json"]
    assert list(dict.fromkeys(report.step for report in reports)) == [
        "Looking up Tiny",
        "Downloading Tiny",
        "Checking Tiny",
    ]
    record = record_of(store)
    assert record["current"] == {
        "size": len(CONTENT),
        "sha256": SHA256,
        "git_blob": hashlib.sha1(b"blob 300000\0" + CONTENT).hexdigest(),
    }
    assert (record["card"], record["version"], record["source"]) == ("tiny", "1", f"{server.url}/file")

    server.answers.clear()
    assert store.state(card) == "downloaded"
    assert store.ensure(card) == store.path(card) == path
    store.verify(card)
    assert len(server.asked) == 1


def test_looking_at_the_store_needs_neither_torch_nor_requests() -> None:
    program = f"""
import sys
sys.path.insert(0, {str(LIBRARY)!r})
from LightSegLib.weights.store import WeightStore
assert WeightStore("nowhere").entries() == []
print(sorted({{"torch", "requests", "urllib3", "numpy"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_folder_may_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Server) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert WeightStore().folder == tmp_path / "home" / "LightSeg" / "weights"
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "elsewhere"))
    assert WeightStore().folder == tmp_path / "elsewhere"


def test_weights_beside_a_card_or_bundled_are_used_as_they_are(
    server: Server, store: WeightStore, card: Card, tmp_path: Path
) -> None:
    beside = tmp_path / "card" / "final.pth"
    beside.parent.mkdir()
    beside.write_bytes(CONTENT)
    bundled = with_weights(card, file="hippocampus-mr-lightmedseg.pt", sources=())
    assert store.state(card) == "user" and store.ensure(card) == store.path(card) == beside
    assert store.state(bundled) == "bundled" and store.ensure(bundled).is_file()
    with pytest.raises(InputError, match="already has its weights"):
        store.add_file(card, beside)
    with pytest.raises(ModelError, match=r"damaged or was replaced \(SHA-256"):
        store.verify(with_weights(card, sha256="0" * 64))
    assert store.remove(card) == store.remove(bundled) == 0
    assert beside.read_bytes() == CONTENT and not store.folder.exists()


def test_sources_are_tried_in_order_until_one_has_the_right_file(
    server: Server, store: WeightStore, card: Card
) -> None:
    server.answers["/mirror/tiny/final.pth"] = Answer(b"<html>Log in to the hospital</html>")
    server.answers["/wrong"] = Answer(OTHER)
    sources = (PAGE, url_of(server, "/gone"), url_of(server, "/wrong"), url_of(server, "/file"))
    pinned = with_weights(card, sha256=SHA256, sources=sources)
    assert store.ensure(pinned, mirror=f"{server.url}/mirror").read_bytes() == CONTENT
    assert [asked.path for asked in server.asked] == ["/mirror/tiny/final.pth", "/gone", "/wrong", "/file"]


def test_a_mirror_serves_what_only_a_person_could_download(server: Server, store: WeightStore, card: Card) -> None:
    lung = with_weights(card, sources=(PAGE,))
    assert store.state(lung) == "manual"
    server.answers["/tiny/final.pth"] = Answer(CONTENT)
    assert store.ensure(lung, mirror=server.url).read_bytes() == CONTENT
    assert store.state(lung) == "downloaded"


def test_when_all_sources_fail_each_is_named_with_its_reason(server: Server, store: WeightStore, card: Card) -> None:
    server.answers["/busy"] = Answer(status=503)
    failing = with_weights(card, sha256="a" * 64, sources=(*card.weights.sources, url_of(server, "/busy"), PAGE))
    with pytest.raises(DownloadError) as caught:
        store.ensure(failing)
    message = str(caught.value)
    assert f"{server.url}/file: it has a different file (SHA-256 {SHA256} instead of {'a' * 64})." in message
    assert f"{server.url}/busy: the server is overloaded or out of order (status 503)." in message
    assert "https://example.org/weights: the file must be downloaded from this page with a browser." in message
    assert "Try again later, name a mirror with LIGHTSEG_MIRROR, or download the weights from" in message
    assert f"save them as {store.folder / 'tiny' / 'final.pth'}." in message
    assert store.entries() == []


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_the_user_learns_what_to_fetch_and_where_to_put_it(
    server: Server, store: WeightStore, card: Card, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if offline:
        monkeypatch.setenv("LIGHTSEG_OFFLINE", "1")
    by_hand = f"{server.url}/file with a browser.*'lightseg weights add tiny FILE'.*final.pth"
    with pytest.raises(ModelError, match=f"not on this computer.*'lightseg weights download tiny'.*{by_hand}"):
        store.path(card)
    if offline:
        with pytest.raises(DownloadError, match=f"LIGHTSEG_OFFLINE forbids.*Unset it, or .*{by_hand}"):
            store.ensure(card)
    assert server.asked == []
    for get in (store.path, store.ensure):
        with pytest.raises(
            ModelError, match=r"cannot be downloaded automatically.*download .*https://example.org/weights"
        ):
            get(with_weights(card, sources=(PAGE,)))
        with pytest.raises(ModelError, match=r"final\.pth of Tiny is missing, and the model card names no source"):
            get(with_weights(card, sources=()))
    assert store.state(with_weights(card, sources=())) == "missing"


def test_a_file_brought_by_hand_is_checked_and_copied(
    server: Server, store: WeightStore, card: Card, tmp_path: Path
) -> None:
    stick = tmp_path / "USB-Stick ü"
    stick.mkdir()
    (stick / "final.pth").write_bytes(CONTENT)
    (stick / "other.pth").write_bytes(OTHER)
    (stick / "page.pth").write_bytes(b"<!doctype html>")
    (stick / "pointer.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    (stick / "empty.pth").touch()
    (stick / "pickle.pth").write_bytes(pickle.dumps({"weights": [1.0, 2.0]}, protocol=2))
    before = everything_in(stick)
    pinned = with_weights(card, size=len(CONTENT), sha256=SHA256, sources=(PAGE,))
    for name, words in [
        ("other.pth", "does not contain the weights of Tiny: SHA-256"),
        ("page.pth", "15 bytes instead of 300000"),
        ("missing.pth", "does not exist. Check the path"),
        (".", "does not contain|cannot be read"),
    ]:
        with pytest.raises(InputError, match=words):
            store.add_file(pinned, stick / name)
    for name, words in [
        ("page", "a web page"),
        ("pointer", "a Git LFS pointer"),
        ("empty", "it is empty"),
        ("pickle", "it was not written by PyTorch"),
    ]:
        with pytest.raises(InputError, match=words):
            store.add_file(card, stick / f"{name}.pth")
    assert store.entries() == []

    reports: list[Progress] = []
    path = store.add_file(pinned, stick / "final.pth", progress=reports.append)
    assert path.read_bytes() == CONTENT and store.state(pinned) == "downloaded"
    assert reports[-1].received == reports[-1].size == len(CONTENT)
    assert record_of(store)["source"] == str(stick / "final.pth")
    assert store.add_file(pinned, path) == path  # its own file changes nothing
    with pytest.raises(Canceled):
        store.add_file(card, stick / "other.pth", canceled=lambda: True)
    store.verify(pinned)
    assert everything_in(stick) == before
    assert server.asked == []


def test_a_file_put_into_its_place_is_taken_up(
    server: Server, store: WeightStore, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTSEG_OFFLINE", "1")
    path = store.folder / "tiny" / "final.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(OTHER)
    pinned = with_weights(card, sha256=SHA256)
    for get in (store.path, store.ensure):
        with pytest.raises(ModelError, match=r"final\.pth does not contain the weights of Tiny: SHA-256"):
            get(pinned)
    assert path.read_bytes() == OTHER
    path.write_bytes(CONTENT)
    assert store.path(pinned) == path
    assert store.state(pinned) == "downloaded"
    assert server.asked == []


def test_a_file_put_into_its_place_is_listed_as_here_before_its_first_use(
    server: Server, store: WeightStore, card: Card
) -> None:
    """Unless its size shows that it is another one, or a part of it."""
    manual = with_weights(card, size=len(CONTENT), sha256=SHA256, sources=(PAGE,))
    path = store.folder / "tiny" / "final.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    assert store.state(manual) == "manual" and store.state(with_weights(manual, sources=())) == "missing"
    path.write_bytes(CONTENT)
    assert store.state(manual) == "downloaded" and store.to_download([card]) == ()
    assert store.state(with_weights(card, sources=(PAGE,))) == "downloaded", "whose size no one knows"
    assert store.record_in_use(manual) is None
    assert store.ensure(manual) == path
    record = store.record_in_use(manual)
    assert record is not None and record.sha256 == SHA256


def test_a_wrong_file_in_its_place_gives_way_to_the_right_one(server: Server, store: WeightStore, card: Card) -> None:
    path = store.folder / "tiny" / "final.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(OTHER)
    assert store.ensure(with_weights(card, sha256=SHA256)) == path
    assert path.read_bytes() == CONTENT


def test_a_license_is_shown_and_accepted_once(server: Server, store: WeightStore, card: Card, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    strict = replace(card, non_commercial=True, license="CC-BY-NC-4.0")
    for get_file in (store.ensure, lambda card: store.add_file(card, file)):
        with pytest.raises(InputError, match=r"forbids commercial use.*CC-BY-NC-4.0\. If you agree.*--accept-license"):
            get_file(strict)
    assert server.asked == [] and not store.folder.exists()

    server.answers["/file"] = [Answer(status=404), Answer(CONTENT)]
    with pytest.raises(DownloadError):
        store.ensure(strict, accept_license=True)
    assert store.license_accepted(strict)
    assert store.ensure(strict).read_bytes() == CONTENT
    store.remove(strict)
    assert store.ensure(strict).read_bytes() == CONTENT
    other = replace(strict, license="CC-BY-NC-ND-4.0")
    with pytest.raises(InputError, match=r"CC-BY-NC-ND-4\.0"):
        store.ensure(other)
    assert store.ensure(other, accept_license=True) == store.path(other) == store.ensure(other)
    store.remove(other, forget=True)
    with pytest.raises(InputError, match="must be accepted once"):
        store.ensure(other)


def test_all_services_can_be_put_somewhere_else(server: Server, tmp_path: Path, card: Card) -> None:
    """The whole way for a model on Hugging Face whose file name and hash its card does not know."""
    lfs = {"oid": SHA256, "size": len(CONTENT)}
    entry = {"type": "file", "oid": "0" * 40, "size": len(CONTENT), "path": "mmwhs-ct/fold_0/checkpoint_final.pth"}
    server.answers["/api/models/deepang/slimunetrv2/tree/main/mmwhs-ct"] = Answer(
        json.dumps([entry | {"lfs": lfs}]).encode()
    )
    resolved = "/deepang/slimunetrv2/resolve/main/mmwhs-ct/fold_0/checkpoint_final.pth"
    server.answers[resolved] = [Answer(OTHER), Answer(CONTENT)]
    source = Source("huggingface", "deepang/slimunetrv2", "main", "mmwhs-ct")
    store = WeightStore(tmp_path / "weights", Endpoints(huggingface=server.url), QUICK)
    heart = with_weights(card, sources=(source,))
    with pytest.raises(DownloadError, match="slimunetrv2/tree/main/mmwhs-ct: it has a different file"):
        store.ensure(heart)
    assert store.ensure(heart) == tmp_path / "weights" / "tiny" / "final.pth"
    assert record_of(store)["source"] == "https://huggingface.co/deepang/slimunetrv2/tree/main/mmwhs-ct"
