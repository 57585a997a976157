"""A file comes through every kind of bad line, and otherwise a sentence gives the reason: never half a file, never a
wrong one, never a wait without end. The server is a real one, on this computer.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from http_server import PROXY_VARIABLES, Answer, Server, nobody_listening
from LightSegLib.core.errors import Canceled, OutputError
from LightSegLib.core.progress import Progress, Reporter
from LightSegLib.weights import download as download_module
from LightSegLib.weights.connection import Connection, RetryPolicy, SourceError
from LightSegLib.weights.download import PartialDownload, RemoteFile, download
from LightSegLib.weights.records import Fingerprint
from waiting import PATIENCE

LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"
CONTENT = np.random.default_rng(0).bytes(300_000)
RIGHT = Fingerprint(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
UNKNOWN = Fingerprint()
QUICK = RetryPolicy(tries=4, first_wait=0.01, longest_wait=0.3)  # between tries: a busy machine's server may be slow


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with Server() as running:
        yield running


@pytest.fixture
def partial(tmp_path: Path) -> PartialDownload:
    return PartialDownload(tmp_path / "download.part")


def fetch(
    server: Server,
    partial: PartialDownload,
    *answers: Answer,
    expected: Fingerprint = RIGHT,
    reporter: Reporter | None = None,
) -> Fingerprint:
    """Download /file, which is answered as given."""
    server.answers["/file"] = list(answers)
    remote = RemoteFile("https://example.org/file", f"{server.url}/file", expected)
    return download(remote, partial, Connection(reporter or Reporter(), QUICK), "Tiny")


def continued(server: Server, arrived: int) -> bool:
    """Whether the last request went on after `arrived` bytes; of a broken one, up to a block of 16 KiB may be lost."""
    first = server.ranges()[-1].removeprefix("bytes=").removesuffix("-")
    return arrived - 16384 < int(first or -1) <= arrived


def has_everything(partial: PartialDownload) -> bool:
    return partial.path.read_bytes() == CONTENT


def test_a_file_arrives_with_its_fingerprint_and_progress(server: Server, partial: PartialDownload) -> None:
    reports: list[Progress] = []
    found = fetch(server, partial, Answer(CONTENT), expected=UNKNOWN, reporter=Reporter(reports.append))
    assert has_everything(partial)
    # `git hash-object` of the same bytes, in git's own words: "blob", size, zero byte, content
    git_blob = hashlib.sha1(b"blob 300000\0" + CONTENT).hexdigest()
    assert found == Fingerprint(300_000, RIGHT.sha256, git_blob)
    arrived = [report for report in reports if report.size]
    assert arrived[0].received == 0 and arrived[-1].received == arrived[-1].size == 300_000
    assert arrived[-1].bytes_per_second > 0
    assert server.asked[0].headers["accept-encoding"] == "identity"


def test_a_broken_connection_is_continued_where_it_broke(server: Server, partial: PartialDownload) -> None:
    fetch(server, partial, Answer(CONTENT, etag='"1"', cut=100_000), Answer(CONTENT, etag='"1"'))
    assert has_everything(partial)
    assert len(server.asked) == 2 and continued(server, 100_000)
    assert server.asked[1].headers["if-range"] == '"1"'


def test_a_line_that_breaks_again_and_again_still_brings_the_file(server: Server, partial: PartialDownload) -> None:
    """Three times as many breaks as there are tries, but each time another megabyte has arrived."""
    large = np.random.default_rng(1).bytes(13_000_000)
    expected = Fingerprint(sha256=hashlib.sha256(large).hexdigest())
    fetch(server, partial, Answer(large, cut=1_100_000), expected=expected)
    assert partial.path.read_bytes() == large
    assert len(server.asked) == 12


def test_a_connection_that_always_breaks_gives_up_and_keeps_what_it_has(
    server: Server, partial: PartialDownload
) -> None:
    with pytest.raises(SourceError, match="the connection was lost"):
        fetch(server, partial, Answer(CONTENT, etag='"1"', ranges=False, cut=100_000))
    assert len(server.asked) == QUICK.tries
    assert CONTENT[:100_000].startswith(partial.path.read_bytes())


def test_a_later_attempt_continues_what_an_earlier_one_left(server: Server, partial: PartialDownload) -> None:
    with pytest.raises(SourceError, match="the file does not exist"):
        fetch(server, partial, Answer(CONTENT, etag='"1"', cut=200_000), Answer(status=404), expected=UNKNOWN)
    fetch(server, PartialDownload(partial.path), Answer(CONTENT, etag='"1"'), expected=UNKNOWN)
    assert has_everything(partial)
    assert continued(server, 200_000)


def test_another_file_than_the_one_begun_starts_from_nothing(server: Server, partial: PartialDownload) -> None:
    with pytest.raises(SourceError):
        fetch(server, partial, Answer(CONTENT, etag='"1"', cut=200_000), Answer(status=404))
    assert continued(server, 200_000)
    other = RemoteFile("https://example.org/other", f"{server.url}/file", RIGHT)
    server.answers["/file"] = Answer(CONTENT, etag='"1"')
    download(other, partial, Connection(Reporter(), QUICK), "Tiny")
    assert server.ranges()[-1] == ""


def test_a_server_without_ranges_starts_over(server: Server, partial: PartialDownload) -> None:
    fetch(server, partial, Answer(CONTENT, etag='"1"', cut=100_000), Answer(CONTENT, ranges=False))
    assert has_everything(partial)


@pytest.mark.parametrize("if_range", [True, False], ids=["If-Range understood", "If-Range ignored"])
def test_a_file_that_changes_meanwhile_is_fetched_anew(
    server: Server, partial: PartialDownload, if_range: bool
) -> None:
    old = Answer(bytes(300_000), etag='"old"', cut=100_000)
    fetch(server, partial, old, Answer(CONTENT, etag='"new"', if_range=if_range), expected=UNKNOWN)
    assert has_everything(partial)


def test_pieces_of_two_files_are_noticed_by_the_hash(server: Server, partial: PartialDownload) -> None:
    """The server has no ETag, so that only the hash can show that the beginning is that of an older file."""
    fetch(server, partial, Answer(bytes(300_000), cut=100_000), Answer(CONTENT))
    assert has_everything(partial)
    assert len(server.asked) == 3 and server.ranges()[-1] == ""


def test_without_etag_and_hash_nothing_is_continued(server: Server, partial: PartialDownload) -> None:
    fetch(server, partial, Answer(CONTENT, cut=100_000), Answer(CONTENT), expected=UNKNOWN)
    assert server.ranges() == ["", ""]
    assert has_everything(partial)


@pytest.mark.parametrize(
    ("kept", "ranges"),
    [(CONTENT, ["bytes=300000-"]), (CONTENT + b"more", ["bytes=300004-", ""])],
    ids=["all of it", "more than all of it"],
)
def test_a_range_beyond_the_end(server: Server, partial: PartialDownload, kept: bytes, ranges: list[str]) -> None:
    expected = Fingerprint(sha256=RIGHT.sha256)
    partial.begin(RemoteFile("https://example.org/file", "", expected), '"1"')
    partial.path.write_bytes(kept)
    fetch(server, partial, Answer(CONTENT, etag='"1"'), expected=expected)
    assert has_everything(partial)
    assert server.ranges() == ranges


@pytest.mark.parametrize("damage", [b"", b"[1", b"[]", b"\xff", b'{"origin": 5}'])
def test_a_damaged_note_beside_the_partial_file_starts_over(
    server: Server, partial: PartialDownload, damage: bytes
) -> None:
    partial.path.write_bytes(CONTENT[:1000])
    partial.facts_path.write_bytes(damage)
    fetch(server, partial, Answer(CONTENT))
    assert has_everything(partial)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_out_of_order_is_tried_again(server: Server, partial: PartialDownload, status: int) -> None:
    fetch(server, partial, Answer(status=status), Answer(status=status), Answer(CONTENT))
    assert has_everything(partial)


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize(("asked", "given"), [(1000, 1000), (36_000, 3000)])
def test_a_server_that_asks_for_time_gets_it_within_limits(
    server: Server, partial: PartialDownload, form: str, asked: int, given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=asked), usegmt=True)
    busy = Answer(status=429, headers={"Retry-After": str(asked) if form == "seconds" else later})
    waits: list[tuple[float, str]] = []
    monkeypatch.setattr(Connection, "pause", lambda self, *waited: waits.append(waited))
    monkeypatch.setattr(sys.modules[__name__], "QUICK", replace(QUICK, longest_wait=3000))
    fetch(server, partial, busy, Answer(CONTENT))
    ((seconds, reason),) = waits
    assert given - PATIENCE < seconds <= given  # of a date, less what has passed since
    assert reason == "the server is overloaded or out of order (status 429)"


@pytest.mark.parametrize("asked", ["", "soon", "31 Dec 99999 23:59:59 GMT", "31 Dec 99999999999 23:59:59 GMT"])
def test_a_wait_that_cannot_be_understood_has_the_usual_length(
    server: Server, partial: PartialDownload, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(Connection, "pause", lambda self, seconds, reason: waits.append(seconds))
    fetch(server, partial, Answer(status=503, headers={"Retry-After": asked}), Answer(CONTENT))
    assert has_everything(partial)
    assert waits == [pytest.approx(QUICK.first_wait, rel=0.26)]


def test_a_wait_is_reported_and_has_the_length_it_shall_have() -> None:
    steps: list[str] = []
    started = time.monotonic()
    Connection(Reporter(lambda report: steps.append(report.step))).pause(0.3, "the server is overloaded")
    assert time.monotonic() - started >= 0.3
    assert steps == ["Trying again in 0 s: the server is overloaded"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "requires a login"),
        (403, "access is denied"),
        (404, "the file does not exist"),
        (407, "proxy requires a user name"),
        (410, "no longer exists"),
        (418, "refuses the request"),
    ],
)
def test_a_refusal_is_reported_at_once(server: Server, partial: PartialDownload, status: int, words: str) -> None:
    with pytest.raises(SourceError, match=rf"{words}.*\(status {status}\)"):
        fetch(server, partial, Answer(status=status), Answer(CONTENT))
    assert len(server.asked) == 1


def test_redirects_are_followed_and_loops_are_reported(server: Server, partial: PartialDownload) -> None:
    server.answers["/cdn?key=1"] = Answer(CONTENT)
    fetch(server, partial, Answer(status=302, headers={"Location": "/cdn?key=1"}))
    assert has_everything(partial)
    with pytest.raises(SourceError, match="redirects too many times"):
        fetch(server, PartialDownload(partial.path.with_name("b")), Answer(status=302, headers={"Location": "/file"}))


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (Answer(CONTENT[:-1]), RIGHT, r"a different file \(299999 bytes instead of 300000\)"),
        (Answer(bytes(300_000)), RIGHT, rf"a different file \(SHA-256 [0-9a-f]{{64}} instead of {RIGHT.sha256}\)"),
        (Answer(CONTENT), Fingerprint(git_blob="0" * 40), "git blob id [0-9a-f]{40} instead of 0{40}"),
        (Answer(CONTENT, length=300_001), UNKNOWN, "the connection was lost"),
        (Answer(CONTENT, framing="chunked", cut=100_000), UNKNOWN, "the connection was lost"),
        (Answer(CONTENT, framing="none"), UNKNOWN, "does not give the size of the file"),
        (Answer(CONTENT[:-1], framing="none"), RIGHT, "299999 bytes instead of 300000"),
        (Answer(CONTENT + CONTENT, framing="chunked"), RIGHT, r"a different file \(\d+ bytes instead of 300000\)"),
        (Answer(CONTENT, headers={"Content-Encoding": "gzip"}), RIGHT, "the server compressed the file"),
        (Answer(b"\r\n<!DOCTYPE html><html>Log in"), UNKNOWN, "a web page was received instead of the file"),
        (Answer(b""), UNKNOWN, "the file is empty"),
        (Answer(CONTENT, headers={f"X-{n}": "" for n in range(200)}), RIGHT, "not answer as a web server does"),
    ],
    ids=[
        "size", "content", "git blob", "longer than it is", "chunks cut", "no length", "no length and cut", "too long",
        "gzip", "web page", "empty", "endless headers",
    ],
)  # fmt: skip
def test_a_wrong_answer_is_never_taken_for_the_file(
    server: Server, partial: PartialDownload, answer: Answer, expected: Fingerprint, words: str
) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        fetch(server, partial, answer, expected=expected)
    assert str(caught.value)[-1] not in ".?!", "the message that names the source goes on after it"


def test_a_wrong_file_does_not_stay(server: Server, partial: PartialDownload) -> None:
    with pytest.raises(SourceError):
        fetch(server, partial, Answer(bytes(300_000)))
    assert list(partial.path.parent.iterdir()) == []


def test_of_a_body_without_end_no_more_is_read_than_the_file_has(server: Server, partial: PartialDownload) -> None:
    """Who runs the server must not fill the user's disk."""
    reports: list[Progress] = []
    endless = Answer(CONTENT * 50, framing="chunked")
    with pytest.raises(SourceError, match="a different file"):
        fetch(server, partial, endless, reporter=Reporter(reports.append))
    assert max(report.received for report in reports) < 2 * len(CONTENT)


@pytest.mark.parametrize("framing", ["chunked", "none"])
def test_a_file_without_length_is_taken_where_its_end_or_hash_is_known(
    server: Server, partial: PartialDownload, framing: str
) -> None:
    fetch(server, partial, Answer(CONTENT, framing=framing), expected=UNKNOWN if framing == "chunked" else RIGHT)
    assert has_everything(partial)


@pytest.mark.parametrize(
    ("answer", "arrives"),
    [
        (Answer(CONTENT, stall=-1), 0),
        (Answer(CONTENT, stall=0), 0),
        (Answer(CONTENT, stall=100_000), 80_000),
        (Answer(CONTENT, drip=0.05), 0),
    ],
    ids=["no header", "no body", "half a body", "a byte at a time"],
)
def test_a_silent_server_can_be_canceled_and_is_given_up(
    server: Server, partial: PartialDownload, answer: Answer, arrives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def canceled() -> bool:
        arrived = partial.path.stat().st_size if partial.path.exists() else 0
        return bool(server.asked) and arrived >= arrives

    with pytest.raises(Canceled):
        fetch(server, partial, answer, reporter=Reporter(canceled=canceled))

    monkeypatch.setattr(sys.modules[__name__], "QUICK", RetryPolicy(2, 0.01, 0.3, connect=0.1, silence=0.3))
    with pytest.raises(SourceError, match=r"stopped responding|connection was lost|cannot be reached"):
        fetch(server, partial, answer)


def test_a_server_that_is_not_there_is_reported(partial: PartialDownload, server: Server) -> None:
    with nobody_listening() as address:
        remote = RemoteFile("https://example.org/file", f"{address}/file", RIGHT)
        with pytest.raises(SourceError, match="cannot be reached, or this computer is offline"):
            download(remote, partial, Connection(Reporter(), QUICK), "Tiny")
    for address in ("file:///etc/passwd", "no address", "http://"):
        with pytest.raises(SourceError, match=r"the address cannot be used \(.+\)$"):
            download(RemoteFile("a", address, RIGHT), partial, Connection(Reporter(), QUICK), "Tiny")


def test_proxies_of_the_environment_are_used(
    server: Server, partial: PartialDownload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    server.answers["http://weights.example/file"] = Answer(CONTENT)
    server.answers["CONNECT weights.example:443"] = Answer(status=407)
    connection = Connection(Reporter(), QUICK)
    download(RemoteFile("a", "http://weights.example/file", RIGHT), partial, connection, "Tiny")
    assert has_everything(partial)
    with pytest.raises(SourceError, match="proxy requires a user name and password"):
        download(RemoteFile("b", "https://weights.example/file", RIGHT), partial, connection, "Tiny")
    assert len(server.asked) == 2


@pytest.mark.parametrize("name", ["file", "model-407.pt"])
def test_a_proxy_that_is_not_there_is_reported(
    name: str, partial: PartialDownload, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = RemoteFile("a", f"http://weights.example/{name}", RIGHT)
    with nobody_listening() as address:
        monkeypatch.setenv("HTTP_PROXY", address)
        with pytest.raises(SourceError, match="proxy cannot be reached"):
            download(remote, partial, Connection(Reporter(), QUICK), "Tiny")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one file."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -keyout key -out certificate"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1"], cwd=folder, check=True, capture_output=True
    )
    both = folder / "both.pem"
    both.write_text((folder / "certificate").read_text() + (folder / "key").read_text())
    return both


def test_an_untrusted_certificate_is_explained_and_can_be_trusted(
    server: Server, partial: PartialDownload, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(certificate) as secure:
        with pytest.raises(SourceError, match=r"the certificate is not trusted.* set REQUESTS_CA_BUNDLE"):
            fetch(secure, partial, Answer(CONTENT))
        assert secure.asked == []

        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_name("missing.pem")))
        with pytest.raises(SourceError, match="named by REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE does not exist"):
            fetch(secure, partial, Answer(CONTENT))

        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        server.answers["/plain"] = Answer(CONTENT)
        with pytest.raises(SourceError, match="an address without encryption"):
            fetch(secure, partial, Answer(status=302, headers={"Location": f"{server.url}/plain"}))
        fetch(secure, partial, Answer(CONTENT))
        assert has_everything(partial)


def test_a_disk_without_room_is_reported_before_the_download(
    server: Server, partial: PartialDownload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(OutputError, match=r"67 MB are needed, but only 1 MB are free. Free some space"):
        fetch(server, partial, Answer(CONTENT))
    assert not partial.path.exists()


def test_a_disk_that_nearly_has_the_room_is_not_said_to_have_it(
    server: Server, partial: PartialDownload, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = len(CONTENT) + download_module.MARGIN
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1000))
    with pytest.raises(OutputError, match=rf"too full: {needed / 1e6:.3f} MB are needed, but only "):
        fetch(server, partial, Answer(CONTENT))


def test_room_that_the_half_of_another_file_takes_is_not_missing(
    server: Server, partial: PartialDownload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that never ends has been given up; the next one begins anew, in its place."""
    partial.path.write_bytes(bytes(len(CONTENT)))
    free = SimpleNamespace(free=download_module.MARGIN + len(CONTENT) // 2)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: free)
    fetch(server, partial, Answer(CONTENT))
    assert partial.path.read_bytes() == CONTENT


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_disk_that_fills_up_is_reported_and_the_download_continues_later(
    server: Server, partial: PartialDownload
) -> None:
    """A process that may write files of 100 kB only simulates a full disk."""
    server.answers["/file"] = Answer(CONTENT, etag='"1"')
    program = f"""
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {str(LIBRARY)!r})
from LightSegLib.core.errors import OutputError
from LightSegLib.core.progress import Reporter
from LightSegLib.weights.connection import Connection
from LightSegLib.weights.download import PartialDownload, RemoteFile, download
from LightSegLib.weights.records import Fingerprint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
remote = RemoteFile("https://example.org/file", "{server.url}/file", Fingerprint({RIGHT.size}, "{RIGHT.sha256}"))
try:
    download(remote, PartialDownload(Path({str(partial.path)!r})), Connection(Reporter()), "Tiny")
except OutputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "could not be written completely because the disk of" in done.stdout
    assert partial.path.read_bytes() == CONTENT[:100_000]
    fetch(server, partial, Answer(CONTENT, etag='"1"'))
    assert has_everything(partial)
    assert server.ranges()[-1] == "bytes=100000-"
