"""A download survives a crash, a kill, a cancel, a second program at the same time, and a closed folder."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from http_server import Answer, Server
from LightSegLib.catalog.card import Card
from LightSegLib.core.errors import Canceled, InputError, OutputError
from LightSegLib.core.progress import Reporter
from LightSegLib.weights import lock
from LightSegLib.weights.store import WeightStore
from locks import refuse_locks_in
from stored_weights import CONTENT, PROGRAM, QUICK
from waiting import PATIENCE, wait_until


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
    assert store.state(card) == "downloaded"
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
    waiting = "Waiting for another LightSeg process that is using Tiny"
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
    """A thread that has the lock until it is released."""

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

    def canceled() -> bool:
        return "Waiting for another LightSeg process that is using Tiny" in steps

    with pytest.raises(Canceled):
        store.ensure(card, progress=lambda report: steps.append(report.step), canceled=canceled)
    (store.folder / "tiny").mkdir(exist_ok=True)
    with pytest.raises(InputError, match="Another LightSeg process is using tiny"):
        store.remove(card)
    release.set()
    thread.join()
    assert store.ensure(card).read_bytes() == CONTENT


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permissions of this kind")
@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o600), (0o770, 0o660), (0o2775, 0o660), (0o1777, 0o666)])
def test_a_lock_can_be_written_by_all_who_can_write_to_its_folder(tmp_path: Path, folder: int, file: int) -> None:
    """As Linux's NFS client wants it before it locks a file, whatever the umask of the one who came first."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(folder)
    path, umask = tmp_path / "shared" / "lock", os.umask(0o077)
    try:
        with lock.locked(path, Reporter(), "Tiny") as everywhere:
            assert everywhere
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == file
    path.chmod(0o640)
    with lock.locked(path, Reporter(), "Tiny"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, "what someone chose since"


def test_a_canceled_download_continues_the_next_time(server: Server, store: WeightStore, card: Card) -> None:
    part = store.folder / "tiny" / "download.part"
    server.answers["/file"] = [Answer(CONTENT, etag='"1"', stall=200_000), Answer(CONTENT, etag='"1"')]
    with pytest.raises(Canceled):
        store.ensure(card, canceled=lambda: part.is_file() and part.stat().st_size > 100_000)
    (entry,) = store.entries()
    assert entry.partial > 100_000
    assert store.ensure(card).read_bytes() == CONTENT
    assert server.ranges() == ["", f"bytes={entry.partial}-"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that even root cannot write to")
def test_a_folder_that_cannot_be_written_is_reported(server: Server, card: Card, tmp_path: Path) -> None:
    store = WeightStore("/proc/weights", patience=QUICK)
    (tmp_path / "file").write_bytes(CONTENT)
    for get in (store.ensure, lambda card: store.add_file(card, tmp_path / "file")):
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


def test_a_file_that_another_program_has_open_is_reported(
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
