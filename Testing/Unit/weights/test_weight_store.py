"""The weights of a model get onto a computer once, verified, and stay: with a bad line, a crash, two programs at
once, without internet, and with a file that somebody brings on a stick."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from http_server import PROXY_VARIABLES, Answer, Server
from LightSegLib.catalog.card import Card, Inference, Label, Preprocessing, Source, Weights
from LightSegLib.core.errors import Cancelled, DownloadError, InputError, ModelError, OutputError
from LightSegLib.core.progress import Progress, Reporter
from LightSegLib.weights import lock
from LightSegLib.weights.connection import Patience
from LightSegLib.weights.sources import Endpoints
from LightSegLib.weights.store import Entry, WeightStore
from waiting import PATIENCE, wait_until

LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"
CONTENT = b"PK\x03\x04" + np.random.default_rng(0).bytes(299_996)  # begins as a file of torch
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = b"PK\x03\x04" + np.random.default_rng(1).bytes(299_996)
QUICK = Patience(tries=2, first_wait=0.01)  # between tries: a busy machine's server may be slow
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


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    ours = ("LIGHTSEG_MIRROR", "LIGHTSEG_OFFLINE", "LIGHTSEG_WEIGHTS", "HF_ENDPOINT")
    for name in (*PROXY_VARIABLES, *ours):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):  # the user's own settings must not take part
        monkeypatch.setenv(name, str(tmp_path / "home"))
    with Server() as running:
        running.answers["/file"] = Answer(CONTENT, etag='"1"')
        yield running


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    return WeightStore(tmp_path / "Gewichte für alle", patience=QUICK)


@pytest.fixture
def card(server: Server, tmp_path: Path) -> Card:
    """A card that knows nothing of its file but one address."""
    return Card(
        id="tiny", title="Tiny", version="1", description="", modality="MR", channels=("T1",), network="lightmedseg",
        network_arguments={}, preprocessing=Preprocessing(), inference=Inference((32, 32, 32)),
        labels=(Label(1, "a", (1, 2, 3)),), weights=Weights("final.pth", sources=(url_of(server, "/file"),)),
        licence="CC0-1.0", citation="", folder=tmp_path / "card",
    )  # fmt: skip


def url_of(server: Server, path: str) -> Source:
    return Source("url", url=server.url + path)


def with_weights(card: Card, **changes: object) -> Card:
    return replace(card, weights=replace(card.weights, **changes))  # type: ignore[arg-type]


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def record_of(store: WeightStore) -> dict:
    return json.loads((store.folder / "tiny" / "record.json").read_text(encoding="utf-8"))


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
    with pytest.raises(InputError, match="has its weights already"):
        store.use_file(card, beside)
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
    assert f"{server.url}/file: it has another file (SHA-256 {SHA256} instead of {'a' * 64})." in message
    assert f"{server.url}/busy: the server is overloaded or out of order (status 503)." in message
    assert "https://example.org/weights: a person must open this page and download the file." in message
    assert "Try again later, name a mirror with LIGHTSEG_MIRROR, or fetch the weights from" in message
    assert f"put them at {store.folder / 'tiny' / 'final.pth'}." in message
    assert store.entries() == []


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_the_user_is_told_what_to_fetch_and_where_to_put_it(
    server: Server, store: WeightStore, card: Card, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if offline:
        monkeypatch.setenv("LIGHTSEG_OFFLINE", "1")
    by_hand = f"{server.url}/file with a browser.*'lightseg weights use tiny FILE'.*final.pth"
    with pytest.raises(ModelError, match=f"not on this computer.*'lightseg weights download tiny'.*{by_hand}"):
        store.path(card)
    if offline:
        with pytest.raises(DownloadError, match=f"LIGHTSEG_OFFLINE forbids.*Unset it, or .*{by_hand}"):
            store.ensure(card)
    assert server.asked == []
    for get in (store.path, store.ensure):
        with pytest.raises(ModelError, match=r"cannot download .* itself; fetch .*https://example.org/weights"):
            get(with_weights(card, sources=(PAGE,)))
        with pytest.raises(ModelError, match=r"final\.pth of Tiny is missing, and its card names no source"):
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
    before = everything_in(stick)
    pinned = with_weights(card, size=len(CONTENT), sha256=SHA256, sources=(PAGE,))
    for name, words in [
        ("other.pth", "does not hold the weights of Tiny: SHA-256"),
        ("page.pth", "15 bytes instead of 300000"),
        ("missing.pth", "cannot be read .No such file"),
        (".", "does not hold|cannot be read"),
    ]:
        with pytest.raises(InputError, match=words):
            store.use_file(pinned, stick / name)
    for name, words in [("page", "a web page"), ("pointer", "a Git LFS pointer"), ("empty", "it is empty")]:
        with pytest.raises(InputError, match=words):
            store.use_file(card, stick / f"{name}.pth")
    assert store.entries() == []

    reports: list[Progress] = []
    path = store.use_file(pinned, stick / "final.pth", progress=reports.append)
    assert path.read_bytes() == CONTENT and store.state(pinned) == "downloaded"
    assert reports[-1].received == reports[-1].size == len(CONTENT)
    assert record_of(store)["source"] == str(stick / "final.pth")
    assert store.use_file(pinned, path) == path  # its own file changes nothing
    with pytest.raises(Cancelled):
        store.use_file(card, stick / "other.pth", cancelled=lambda: True)
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
        with pytest.raises(ModelError, match=r"final\.pth does not hold the weights of Tiny: SHA-256"):
            get(pinned)
    assert path.read_bytes() == OTHER
    path.write_bytes(CONTENT)
    assert store.path(pinned) == path
    assert store.state(pinned) == "downloaded"
    assert server.asked == []


def test_a_wrong_file_in_its_place_gives_way_to_the_right_one(server: Server, store: WeightStore, card: Card) -> None:
    path = store.folder / "tiny" / "final.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(OTHER)
    assert store.ensure(with_weights(card, sha256=SHA256)) == path
    assert path.read_bytes() == CONTENT


def test_a_licence_is_shown_and_accepted_once(server: Server, store: WeightStore, card: Card, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    strict = replace(card, non_commercial=True, licence="CC-BY-NC-4.0")
    for ask in (store.ensure, lambda card: store.use_file(card, file)):
        with pytest.raises(InputError, match=r"forbids commercial use.*CC-BY-NC-4.0.*--accept-license"):
            ask(strict)
    assert server.asked == [] and not store.folder.exists()

    server.answers["/file"] = [Answer(status=404), Answer(CONTENT)]
    with pytest.raises(DownloadError):
        store.ensure(strict, accept_license=True)
    assert store.licence_accepted(strict)
    assert store.ensure(strict).read_bytes() == CONTENT
    store.remove(strict)
    assert store.ensure(strict).read_bytes() == CONTENT
    other = replace(strict, licence="CC-BY-NC-ND-4.0")
    with pytest.raises(InputError, match=r"CC-BY-NC-ND-4\.0"):
        store.ensure(other)
    assert store.ensure(other, accept_license=True) == store.path(other) == store.ensure(other)
    store.remove(other, forget=True)
    with pytest.raises(InputError, match="must be accepted once"):
        store.ensure(other)


def test_a_silent_change_at_the_source_is_noticed(server: Server, store: WeightStore, card: Card) -> None:
    """Nobody has published a hash, so the first download is what later ones are held to."""
    store.ensure(card)
    store.remove(card)
    assert store.state(card) == "available"
    server.answers["/file"] = Answer(OTHER)
    with pytest.raises(
        DownloadError, match=r"not the file of the first download.*'lightseg weights remove tiny --forget'"
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


def test_a_download_is_held_to_what_a_newer_card_says_of_it(server: Server, store: WeightStore, card: Card) -> None:
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
    with pytest.raises(Cancelled):
        store.verify(card, cancelled=lambda: True)


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
    assert store.state(pinned) == "available"
    assert store.record(pinned) is None
    assert [entry.path for entry in store.entries()] == [None]
    assert store.ensure(pinned).read_bytes() == CONTENT
    assert store.state(pinned) == "downloaded"


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
    with pytest.raises(ModelError, match="no download of Tiny to be replaced"):
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


@pytest.mark.parametrize("step", ["fingerprint", "move", "write_record", "_delete_if_unused"])
def test_a_crash_while_replacing_leaves_a_file_that_works(
    server: Server, store: WeightStore, card: Card, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.ensure(card)
    slim = tmp_path / "slim.pt"
    slim.write_bytes(b"slim")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"LightSegLib.weights.model_folder.{'shutil.' if step == 'move' else ''}{step}", crash)
        with pytest.raises(KeyboardInterrupt):
            store.replace(card, slim)
    assert store.state(card) == "downloaded"
    assert store.path(card).read_bytes() == (b"slim" if step == "_delete_if_unused" else CONTENT)
    store.verify(card)
    slim.write_bytes(b"slim")
    assert store.replace(card, slim).read_bytes() == b"slim"


def test_a_crash_before_the_record_costs_no_second_download(
    server: Server, store: WeightStore, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("LightSegLib.weights.model_folder.write_record", crash)
        with pytest.raises(KeyboardInterrupt):
            store.ensure(card)
    assert store.state(card) == "available"
    assert store.ensure(card).read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_download_continues_where_it_was(server: Server, store: WeightStore, card: Card) -> None:
    server.answers["/file"] = [Answer(CONTENT, etag='"1"', stall=200_000), Answer(CONTENT, etag='"1"')]
    command = [sys.executable, "-c", PROGRAM, str(store.folder), f"{server.url}/file"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
        part = store.folder / "tiny" / "download.part"
        wait_until(lambda: part.is_file() and part.stat().st_size > 100_000)
        program.send_signal(signal.SIGKILL)
    assert store.state(card) == "available"
    assert store.ensure(card).read_bytes() == CONTENT  # so the lock of the dead one is free
    assert int(server.ranges()[-1].removeprefix("bytes=").removesuffix("-")) > 100_000


def test_two_programs_at_once_download_once(server: Server, store: WeightStore, card: Card) -> None:
    """The server does not answer the first before the second has found it at work."""
    waiting = "Waiting for another LightSeg that is at work on Tiny"
    server.answers["/file"] = Answer(CONTENT, hold=threading.Event())
    command = [sys.executable, "-c", PROGRAM, str(store.folder), f"{server.url}/file"]
    utf8 = {"encoding": "utf-8", "env": os.environ | {"PYTHONUTF8": "1"}}  # whatever the terminal speaks
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, **utf8) for _ in range(2)]
    outputs: list[list[str]] = [[], []]

    def listen(number: int) -> None:
        for line in programs[number].stdout:
            outputs[number].append(line.rstrip("\n"))

    listening = [threading.Thread(target=listen, args=(number,)) for number in range(2)]
    for thread in listening:
        thread.start()
    wait_until(lambda: [waiting] in outputs)
    server.answers["/file"].hold.set()
    for thread in listening:
        thread.join()
    assert [program.wait() for program in programs] == [0, 0]
    assert {output[-1] for output in outputs} == {str(store.path(card))}
    assert sorted(output[0] for output in outputs) == ["Looking up Tiny", waiting]
    assert len(server.asked) == 1
    store.verify(card)


def hold(path: Path, release: threading.Event) -> threading.Thread:
    """A thread that has the lock until it is told to let go."""

    def run() -> None:
        with lock.locked(path, Reporter(), "Tiny"):
            held.set()
            release.wait()

    held = threading.Event()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert held.wait(PATIENCE)
    return thread


@pytest.mark.parametrize("locks", ["on the disk", "on this computer only"])
def test_who_waits_for_another_download_can_cancel(
    server: Server, store: WeightStore, card: Card, locks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network disks know no locks; then one in the temporary folder keeps the programs of one computer apart."""
    store.folder.mkdir(parents=True)
    if locks == "on this computer only":
        refuse_locks_in(store.folder, monkeypatch)
    release = threading.Event()
    thread = hold(store.folder / "tiny.lock", release)
    steps: list[str] = []

    def cancelled() -> bool:
        return "Waiting for another LightSeg that is at work on Tiny" in steps

    with pytest.raises(Cancelled):
        store.ensure(card, progress=lambda report: steps.append(report.step), cancelled=cancelled)
    (store.folder / "tiny").mkdir(exist_ok=True)
    with pytest.raises(InputError, match="Another LightSeg is at work on tiny"):
        store.remove(card)
    release.set()
    thread.join()
    assert store.ensure(card).read_bytes() == CONTENT


def refuse_locks_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What some network file systems do."""
    real = lock._try_lock

    def refuse(descriptor: int) -> bool:
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_relative_to(folder):
            raise OSError(37, "No locks available")
        return real(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs the names of open files")
    monkeypatch.setattr(lock, "_try_lock", refuse)


def test_a_cancelled_download_continues_the_next_time(server: Server, store: WeightStore, card: Card) -> None:
    part = store.folder / "tiny" / "download.part"
    server.answers["/file"] = [Answer(CONTENT, etag='"1"', stall=200_000), Answer(CONTENT, etag='"1"')]
    with pytest.raises(Cancelled):
        store.ensure(card, cancelled=lambda: part.is_file() and part.stat().st_size > 100_000)
    (entry,) = store.entries()
    assert entry.partial > 100_000
    assert store.ensure(card).read_bytes() == CONTENT
    assert server.ranges() == ["", f"bytes={entry.partial}-"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that even root cannot write to")
def test_a_folder_that_cannot_be_written_is_told(server: Server, card: Card, tmp_path: Path) -> None:
    store = WeightStore("/proc/weights", patience=QUICK)
    (tmp_path / "file").write_bytes(CONTENT)
    for get in (store.ensure, lambda card: store.use_file(card, tmp_path / "file")):
        with pytest.raises(OutputError, match=r"weights folder /proc/weights cannot be used.*LIGHTSEG_WEIGHTS"):
            get(card)
    assert store.entries() == [] and store.state(card) == "available"
    assert server.asked == []


def test_ready_weights_are_used_from_a_read_only_folder(
    server: Server, store: WeightStore, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an administrator may share them: nothing but reading takes place."""
    path = store.ensure(card)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("mkdir", "write_text", "touch", "unlink", "replace"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr("os.open", refuse)
    assert store.ensure(card) == store.path(card) == path
    assert store.state(card) == "downloaded"
    with pytest.raises(OutputError, match="Permission denied"):
        store.remove(card)


def test_a_file_that_another_program_has_open_is_told(
    server: Server, store: WeightStore, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Windows does."""
    path, unlink = store.ensure(card), Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self == path:
            raise PermissionError(13, "Access is denied")
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OutputError, match=r"final.pth cannot be deleted \(Access is denied\). Close the programs"):
        store.remove(card)
    assert store.state(card) == "downloaded"


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
    with pytest.raises(DownloadError, match="slimunetrv2/tree/main/mmwhs-ct: it has another file"):
        store.ensure(heart)
    assert store.ensure(heart) == tmp_path / "weights" / "tiny" / "final.pth"
    assert record_of(store)["source"] == "https://huggingface.co/deepang/slimunetrv2/tree/main/mmwhs-ct"
