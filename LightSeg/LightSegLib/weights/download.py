"""One file from one address, whole and verified, however often the connection breaks.

What has arrived is kept in a partial file beside a small JSON that identifies the whole, so the next attempt
continues there: after a broken connection, or days later after a restart. It is continued only where the server
states that the file is still the same (RFC 9110: Range, If-Range), or if its hash will show it in the end.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ..core.atomic_io import atomic_write
from ..core.errors import OutputError
from ..core.figures import distinct_sizes, gigabytes
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.json_file import read_json
from ..core.progress import Reporter
from .connection import Connection, RetryCounter, SourceError, Stream, is_html
from .records import BLOCK, Fingerprint, fingerprint

MARGIN = 64 << 20  # bytes that stay free on the disk
ROOM = 3  # times the size of an archive: for itself, what is unpacked of it, and the copy that takes its place
PROGRESS = 1 << 20  # bytes that make a try count as progress
LARGEST = 64 << 30  # bytes; no weights file is larger, whatever a server states
UNSTATED = 8 << 30  # bytes of a file whose size is not stated
LOOK = 64 << 20  # bytes between two looks at the disk
SMOOTHING = 3.0  # seconds over which the speed is averaged
REPORT_INTERVAL = 0.1  # seconds


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded.

    Attributes:
        origin: the address that names it for good and for people; address: where it is today, possibly with a key
            that expires; expected: what is known of it.
        room: times its size that must be free on the disk, for what is made of it.
    """

    origin: str
    address: str
    expected: Fingerprint
    room: int = 1


class NotEnoughSpace(OutputError):
    """The file of one source would fill the disk; that of another may be smaller."""


class WrongFile(SourceError):
    """A source has a file, but not the expected one."""


def check_fingerprint(expected: Fingerprint, found: Fingerprint) -> None:
    """Check that a source's file is the expected one, by what is known of both.

    Raises:
        WrongFile: if what is known of a source's file is not what is expected.
    """
    if difference := expected.difference(found):
        raise WrongFile(_("it has a different file ({difference})").format(difference=difference))


class PartialDownload:
    """A download that has begun: the bytes so far at `path`, what they are part of in the JSON beside them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts_path = path.with_name(path.name + ".json")

    def offset(self, remote: RemoteFile) -> int:
        """Return how many bytes can be kept of `remote`."""
        facts = self.facts()
        same = facts.get("origin") == remote.origin and facts.get("sha256") == remote.expected.sha256
        if not same or not (facts.get("validator") or remote.expected.certain):
            return 0
        return self.size()

    def size(self) -> int:
        """Bytes so far, of whatever file; they are removed when another download begins."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def facts(self) -> dict[str, object]:
        """Origin, validator (ETag or date) and SHA-256, as far as known; empty for a damaged file."""
        try:
            facts = read_json(self.facts_path)
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def begin(self, remote: RemoteFile, validator: str) -> None:
        """An empty partial file of `remote`.

        Raises:
            OutputError: if the file or folder cannot be written.
            OSError: if the file cannot be read or written.
        """
        self.discard()
        facts = {"origin": remote.origin, "validator": validator, "sha256": remote.expected.sha256}
        with atomic_write(self.facts_path) as part:
            part.write_text(json.dumps(facts, indent=2), encoding="utf-8")
        self.path.touch()

    def discard(self) -> None:
        """Remove both files.

        Raises:
            OSError: if the file cannot be read or written.
        """
        self.path.unlink(missing_ok=True)
        self.facts_path.unlink(missing_ok=True)


def download(remote: RemoteFile, partial: PartialDownload, connection: Connection, title: str) -> Fingerprint:
    """Fetch `remote` until `partial.path` is the whole, verified file; returns its fingerprint.

    Raises:
        SourceError: if this source does not give it (a wrong file is removed, an incomplete one kept).
        OutputError: if it cannot be written.
        Canceled: if `canceled` returns True.
    """
    try:
        stitched, found = _attempt(remote, partial, connection, title)
        if stitched and remote.expected.difference(found):  # perhaps pieces of two files
            partial.discard()
            _, found = _attempt(remote, partial, connection, title)
        if remote.expected.difference(found):
            partial.discard()
    except OSError as error:
        raise write_error(partial.path.parent, error) from error
    check_fingerprint(remote.expected, found)
    return found


def copied(remote: RemoteFile, partial: PartialDownload, reporter: Reporter, title: str) -> Fingerprint:
    """Copy a file of another folder, whose path is the address, like `download`."""
    file, expected = Path(remote.address), remote.expected
    try:
        size = file.stat().st_size
        check_fingerprint(expected, Fingerprint(size))
        check_space(partial.path.parent, size * remote.room)
        partial.discard()
        meter = TransferProgress(reporter, _("Copying {model}").format(model=title), 0, size)
        with file.open("rb") as source, partial.path.open("wb") as target:
            while block := source.read(BLOCK):
                target.write(block)
                meter.add(len(block))
                reporter.check_canceled()
    except OSError as error:
        if error.filename == str(file):
            raise SourceError(_("the file cannot be read ({strerror})").format(strerror=error.strerror)) from error
        raise write_error(partial.path.parent, error) from error
    found = fingerprint(partial.path, reporter)
    if expected.difference(found):
        partial.discard()
    check_fingerprint(expected, found)
    return found


def check_space(folder: Path, needed: int) -> None:
    """Raise NotEnoughSpace where `needed` bytes would fill the disk of `folder`."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # some network disks do not report it
    if free < needed + MARGIN:
        size, rest = distinct_sizes(needed + MARGIN, free)
        raise NotEnoughSpace(
            _(
                "The disk of {folder} is too full: {needed} are needed, but only {free} are free. "
                "Free some space, or set LIGHTSEG_WEIGHTS to another folder."
            ).format(folder=folder, needed=size, free=rest)
        )


def write_error(folder: Path, error: OSError) -> OutputError:
    """Return the error for the user of an OSError in the weights folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(
            _(
                "The weights could not be written completely because the disk of {folder} is full "
                "or a quota is reached. "
                "Free some space, or set LIGHTSEG_WEIGHTS to another folder; "
                "the download then continues where it stopped."
            ).format(folder=folder)
        )
    return OutputError(
        _(
            "The weights folder {folder} cannot be used ({reason}). "
            "Set LIGHTSEG_WEIGHTS to another folder or change its permissions."
        ).format(folder=folder, reason=error.strerror or error)
    )


def _attempt(
    remote: RemoteFile, partial: PartialDownload, connection: Connection, title: str
) -> tuple[bool, Fingerprint]:
    """Fetch the file; whether it was put together from several answers, and its fingerprint."""
    stitched = _fetch(remote, partial, connection, title)
    connection.reporter.step(_("Checking {model}").format(model=title))
    return stitched, fingerprint(partial.path, connection.reporter)


def _fetch(remote: RemoteFile, partial: PartialDownload, connection: Connection, title: str) -> bool:
    """Fetch until the partial file has every byte; returns whether they come from several answers."""
    tries, furthest, resumed = RetryCounter(connection), 0, False
    while True:
        offset = partial.offset(remote)
        furthest = max(furthest, offset)
        if offset and offset == remote.expected.size:
            return True
        try:
            with connection.open(remote.address, _range(partial, offset)) as stream:
                resumed = offset > 0 and stream.status != 200
                if not _is_complete(stream, offset):
                    _receive(stream, remote, partial, offset, title, connection.reporter)
            return resumed
        except SourceError as error:
            arrived = partial.offset(remote)
            if arrived >= furthest + PROGRESS:
                tries.progressed()
            tries.wait_after(error)


def _range(partial: PartialDownload, offset: int) -> dict[str, str]:
    """Headers that ask for the rest, and for everything where the file is not the same any more."""
    if not offset:
        return {}
    validator = str(partial.facts().get("validator") or "")
    return {"Range": f"bytes={offset}-"} | ({"If-Range": validator} if validator else {})


def _is_complete(stream: Stream, offset: int) -> bool:
    """Return whether the server refuses a range because nothing is missing."""
    return stream.status == 416 and stream.headers.get("Content-Range", "").strip() == f"bytes */{offset}"


def _receive(
    stream: Stream, remote: RemoteFile, partial: PartialDownload, offset: int, title: str, reporter: Reporter
) -> None:
    """Append an answer to the partial file, or begin it anew with a full one."""
    if stream.status == 200:
        offset = 0
    elif _range_start(stream) != offset or _has_changed(stream, partial):
        partial.discard()
        raise SourceError(_("the server did not send the missing part of the file"), retry=True)
    if stream.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise SourceError(_("the server compressed the file, although the original was requested"))
    size = None if stream.length is None else offset + stream.length
    check_fingerprint(remote.expected, Fingerprint(size))
    if not stream.ends_marked and not remote.expected.certain:
        raise SourceError(
            _("the server does not give the size of the file, so an incomplete download could not be noticed")
        )
    size = size or remote.expected.size or 0
    if size > LARGEST:
        raise SourceError(
            _("the server gives the size of the file as {size}, which is too large for a model").format(
                size=gigabytes(size)
            )
        )
    check_space(partial.path.parent, max(size * remote.room - offset, 0) - (0 if offset else partial.size()))

    transfer = TransferProgress(reporter, _("Downloading {model}").format(model=title), offset, size)
    blocks = stream.blocks()
    if not offset:
        first = next(blocks, b"")
        if not first:
            raise SourceError(_("the file is empty"), retry=True)
        if is_html(first):
            raise SourceError(_("a web page was received instead of the file, as in a network that requires a login"))
        partial.begin(remote, _validator(stream))
        blocks = chain((first,), blocks)
    with partial.path.open("ab") as file:
        for block in blocks:
            file.write(block)
            transfer.add(len(block))
            if remote.expected.size is not None and file.tell() > remote.expected.size:
                return  # it is wrong already, as the check will show; how much more might come is unknown
            if file.tell() > (size or UNSTATED):
                break
            if not size and file.tell() // LOOK > (file.tell() - len(block)) // LOOK:
                check_space(partial.path.parent, LOOK)
        else:
            return
    partial.discard()
    raise SourceError(_("the server sends more than {size}").format(size=gigabytes(size or UNSTATED)))


def _has_changed(stream: Stream, partial: PartialDownload) -> bool:
    """Return whether a part belongs to another state of the file; not every server understands If-Range."""
    before, now = partial.facts().get("validator"), _validator(stream)
    return bool(before and now and before != now)


def _range_start(stream: Stream) -> int | None:
    """Return the first byte of a partial answer, or None if the server does not state it."""
    match = re.match(r"bytes (\d{1,18})-", stream.headers.get("Content-Range", ""))
    return int(match[1]) if match and stream.status == 206 else None


def _validator(stream: Stream) -> str:
    """Return the validator of If-Range: a strong ETag, else the date, else an empty text."""
    etag = stream.headers.get("ETag", "")
    return etag if etag.startswith('"') else stream.headers.get("Last-Modified", "")


class TransferProgress:
    """Reports what has arrived, some times a second, with a speed averaged over the last seconds."""

    def __init__(self, reporter: Reporter, name: Message, received: int, size: int) -> None:
        self._reporter, self._name = reporter, name
        self._received, self._size = received, size
        self._speed: float | None = None
        self._reported, self._reported_at = received, time.monotonic()
        reporter.transfer(name, received, size, 0.0)

    def add(self, count: int) -> None:
        """`count` bytes more have arrived."""
        self._received += count
        now = time.monotonic()
        elapsed = now - self._reported_at
        if elapsed < REPORT_INTERVAL and self._received != self._size:
            return
        current = (self._received - self._reported) / max(elapsed, 1e-3)
        share = min(elapsed / SMOOTHING, 1.0)
        self._speed = current if self._speed is None else self._speed + share * (current - self._speed)
        self._reported, self._reported_at = self._received, now
        self._reporter.transfer(self._name, self._received, self._size, self._speed)
