"""What is known of a weights file beforehand, and what the store remembers of one that it has had."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..catalog.card import Card
from ..core.atomic_io import atomic_write
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.json_file import read_json
from ..core.progress import Reporter

SCHEMA_VERSION = 1
BLOCK = 1 << 20


@dataclass(frozen=True)
class Fingerprint:
    """Size in bytes, SHA-256 and git blob id of a file, each where it is known."""

    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None

    @classmethod
    def of_card(cls, card: Card) -> Fingerprint:
        """Return what a card states about its weights."""
        return cls(card.weights.size, card.weights.sha256, card.weights.git_blob)

    @property
    def certain(self) -> bool:
        """Whether it distinguishes the file from every other one."""
        return self.sha256 is not None or self.git_blob is not None

    def difference(self, other: Fingerprint) -> Message | None:
        """Return how another file differs, for a message; empty if all that both know agrees."""
        if None not in (self.size, other.size) and self.size != other.size:
            return _("{found} bytes instead of {expected}").format(found=other.size, expected=self.size)
        if None not in (self.sha256, other.sha256) and self.sha256 != other.sha256:
            return _("SHA-256 {found} instead of {expected}").format(found=other.sha256, expected=self.sha256)
        if None not in (self.git_blob, other.git_blob) and self.git_blob != other.git_blob:
            return _("git blob id {found} instead of {expected}").format(found=other.git_blob, expected=self.git_blob)
        return None

    def completed(self, other: Fingerprint) -> Fingerprint:
        """Return this fingerprint, completed from another one."""
        return Fingerprint(
            self.size if self.size is not None else other.size,
            self.sha256 or other.sha256,
            self.git_blob or other.git_blob,
        )


def fingerprint(path: Path, reporter: Reporter | None = None) -> Fingerprint:
    """Return the fingerprint of a file on disk.

    Source of the git blob id: SHA-1 of "blob <size>", a zero byte and the content (Pro Git, chapter 10.2).

    Raises:
        OSError: if the file cannot be read or written.
        Canceled: through the reporter.
    """
    size = path.stat().st_size
    sha256, git_blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            sha256.update(block)
            git_blob.update(block)
            if reporter is not None:
                reporter.check_canceled()
    return Fingerprint(size, sha256.hexdigest(), git_blob.hexdigest())


@dataclass(frozen=True)
class Record:
    """The store's record of one model: the file it has, and what identifies it later.

    Attributes:
        version: of the card for which the file was fetched.
        file: its name in the model's folder, empty after a removal; current: its fingerprint.
        original: fingerprint of the file as published, where `file` is a smaller copy of it.
        source: where the file came from; when: in ISO 8601.
        archive: what of the authors' archive `file` holds (`Archive.choice`); empty for a file that is no copy of it.
        known: fingerprints of files that this version has brought, by source, so that a silent change there is
            noticed.
        license: which terms the user has accepted, and when.
        accepted: which terms the user has accepted, and when.
    """

    card: str
    version: str
    file: str = ""
    current: Fingerprint = Fingerprint()
    original: Fingerprint | None = None
    source: str = ""
    when: str = ""
    archive: str = ""
    known: dict[str, str] = field(default_factory=dict)
    license: str = ""
    accepted: str = ""

    @property
    def published(self) -> Fingerprint:
        """Fingerprint of the file as its authors published it; nothing is known of it where a folder was added."""
        return self.original or self.current

    @property
    def sha256(self) -> str | None:
        """SHA-256 that identifies the weights: of the file as published, else of the copy of a folder."""
        return self.published.sha256 or self.current.sha256


def read_record(path: Path) -> Record | None:
    """Return the record in a file, or None if there is none that can be read."""
    try:
        data = read_json(path, nan=True)
        if data.pop("schema") != SCHEMA_VERSION:
            return None
        original = data.pop("original")
        if "licence" in data:  # as this field was once spelled
            data["license"] = data.pop("licence")
        record = Record(
            current=_read_fingerprint(data.pop("current")),
            original=None if original is None else _read_fingerprint(original),
            known={str(source): str(digest) for source, digest in data.pop("known").items()},
            **{name: str(value) for name, value in data.items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    described = not record.file or (record.current.size is not None and record.current.sha256 is not None)
    return record if described and Path(record.file).name == record.file else None


def write_record(record: Record, path: Path) -> None:
    """Write a record as JSON, whole or not at all.

    Raises:
        OutputError: if the file or folder cannot be written.
    """
    text = json.dumps({"schema": SCHEMA_VERSION, **asdict(record)}, indent=2, ensure_ascii=False)
    with atomic_write(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def _read_fingerprint(data: dict[str, object]) -> Fingerprint:
    """Return the fingerprint of a record's JSON."""
    size, sha256, git_blob = data["size"], data["sha256"], data["git_blob"]
    if not isinstance(size, int | None) or not isinstance(sha256, str | None) or not isinstance(git_blob, str | None):
        raise TypeError(_("not a fingerprint"))
    return Fingerprint(size, sha256, git_blob)
