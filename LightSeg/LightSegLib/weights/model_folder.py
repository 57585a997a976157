"""One model's folder in the weight store: its file, its record, and the steps from one state to the next.

Each step leaves the folder in a state that can be used if the computer stops in the middle of it. Who changes
something holds the model's lock; reading needs none.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from ..catalog.card import Card, Part
from ..catalog.lookup import CARD_NAME
from ..core.atomic_io import atomic_write
from ..core.errors import InputError, ModelError, OutputError
from ..core.file_hash import sha256
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.leftovers import FOLDER, part_name, remove_abandoned
from ..core.progress import Reporter
from .bundle import pack
from .connection import SourceError, is_html
from .download import ROOM, PartialDownload, TransferProgress, check_space
from .files import GZIP_START, LEGACY_START, ZIP_START
from .records import BLOCK, Fingerprint, Record, fingerprint, read_record, write_record
from .sources import POINTER, origin

PART = "part-"  # begins the name of a file that waits for the others of its model
BY_HAND = "a file put into its place"  # the source of a file that no download brought


class ModelFolder:
    """The folder of one model id; `path` need not exist to be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = PartialDownload(path / "download.part")
        self._record_path = path / "record.json"

    def record(self) -> Record | None:
        """Return the record, or None if there is none that can be read."""
        return read_record(self._record_path)

    def record_for(self, card: Card) -> Record:
        """Return the record to continue; of an older version of the card, only the license is remembered."""
        record = self.record()
        if record and record.version == card.version:
            return record
        return replace(
            Record(card.id, card.version),
            license=record.license if record else "",
            accepted=record.accepted if record else "",
        )

    def first_download(self, card: Card) -> str | None:
        """Return SHA-256 of the file that this version of the card first brought, from wherever that was."""
        return next(iter(self.record_for(card).known.values()), None)

    def recorded_file(self) -> Path | None:
        """Return the recorded file if it exists, in whatever state."""
        record = self.record()
        path = self.path / record.file if record and record.file else None
        return path if path and path.is_file() else None

    def complete_file(self) -> Path | None:
        """Return the recorded file if it has the recorded size."""
        path, record = self.recorded_file(), self.record()
        return path if path and record and path.stat().st_size == record.current.size else None

    def usable_file(self, card: Card) -> Path | None:
        """Return the complete recorded file if it is the one of this version of the card."""
        record, expected = self.record(), Fingerprint.of_card(card)
        if record is None or expected.difference(record.published):
            return None
        if record.original is not None and record.archive != _choice(card):  # the card was changed since
            return None
        compared = expected.certain and record.published.certain  # nothing is known of an archive that was unpacked
        return self.complete_file() if record.version == card.version or compared else None

    def unrecorded(self, card: Card) -> Path | None:
        """Return a file that was put into its place by hand, or left there by a crash before it was recorded."""
        path = self.path / card.weights.file
        return path if path.is_file() and path != self.complete_file() else None

    def put_by_hand(self, card: Card) -> bool:
        """Return whether an unrecorded file may be the model's, by its size; its content is checked when it is used."""
        path = self.unrecorded(card)
        if path is None or path == self.recorded_file():  # whose size shows that it is damaged
            return False
        return card.weights.size in (None, path.stat().st_size)

    def files(self) -> dict[str, int]:
        """Return the bytes of each file in the folder, apart from the record."""
        try:
            paths = [path for path in self.path.iterdir() if path != self._record_path and path.is_file()]
            return {path.name: path.stat().st_size for path in paths}
        except OSError:
            return {}

    def accept_license(self, card: Card) -> None:
        """Remember that the user agrees to the card's license.

        Raises:
            OutputError: if the file or folder cannot be written.
        """
        record = self.record() or Record(card.id, card.version)
        if record.license != card.license:
            write_record(replace(record, license=card.license, accepted=_now()), self._record_path)

    def adopt(self, card: Card, reporter: Reporter) -> Path:
        """Record an unrecorded file and return its path.

        Raises:
            ModelError: if it is not the model's.
            OSError: if the file cannot be read or written.
        """
        path = self.path / card.weights.file
        reporter.step(_("Checking {model}").format(model=card.title))
        found = fingerprint(path, reporter)
        if difference := self._difference(card, found) or _sniffed(card, path):
            raise ModelError(
                _("{file} does not contain the weights of {model}: {difference}. Delete or replace the file.").format(
                    file=path, model=card.title, difference=difference
                )
            )
        return self._enter(card, found, BY_HAND)

    def copy_in(self, card: Card, file: Path, reporter: Reporter) -> Path:
        """Copy and record the user's own file.

        Raises:
            InputError: if it is not the model's.
            OutputError: if the file or folder cannot be written.
        """
        expected, target = Fingerprint.of_card(card), self.path / card.weights.file
        try:
            size = file.stat().st_size
            if difference := expected.difference(Fingerprint(size)) or _sniffed(card, file):
                raise _not_the_weights(card, file, difference)
            if target.is_file() and target.samefile(file):
                return self.adopt(card, reporter)
            stream = file.open("rb")
        except OSError as error:
            raise _unreadable(file, error) from error
        check_space(self.path, size if card.weights.archive is None else size * ROOM)
        transfer = TransferProgress(reporter, _("Copying {model}").format(model=card.title), 0, size)
        with stream, atomic_write(target) as part:
            with part.open("wb") as copy:
                while block := stream.read(BLOCK):
                    copy.write(block)
                    transfer.add(len(block))
            found = fingerprint(part, reporter)
            if difference := self._difference(card, found):
                raise _not_the_weights(card, file, difference)
        return self._enter(card, found, str(file))

    def checked(self, card: Card, file: Path, reporter: Reporter) -> Fingerprint:
        """Return the fingerprint of the user's own file, which stays as it is.

        Raises:
            InputError: if it is not the model's.
        """
        reporter.step(_("Checking {model}").format(model=card.title))
        try:
            found = fingerprint(file, reporter)
            difference = self._difference(card, found) or _sniffed(card, file)
        except OSError as error:
            raise _unreadable(file, error) from error
        if difference:
            raise _not_the_weights(card, file, difference)
        return found

    def part(self, part: Part) -> Path | None:
        """Return a part that was fetched already and is whole."""
        path = self.path / f"{PART}{part.file}"
        complete = path.is_file() and path.stat().st_size == part.size and sha256(path) == part.sha256
        return path if complete else None

    def keep_part(self, part: Part) -> Path:
        """Move the finished download of a part to where it waits for the others.

        Raises:
            OSError: if the file cannot be read or written.
        """
        target = self.path / f"{PART}{part.file}"
        self.partial.path.replace(target)
        self.partial.discard()
        return target

    def pack_in(self, card: Card, folder: Path) -> Path:
        """Make the weights file of its parts, which are in `folder`: this one, or the user's own, by plain names.

        Raises:
            InputError: if one is missing or another file.
            OutputError: if the file or folder cannot be written.
        """
        parts, ours = card.weights.parts, folder == self.path
        if not parts:
            raise _not_the_weights(card, folder, _("it is a folder"))
        paths = [folder / f"{PART if ours else ''}{part.file}" for part in parts]
        for path, part in zip(paths, parts, strict=True):
            if not path.is_file():
                raise _not_the_weights(card, folder, _("the file {file} is missing").format(file=part.file))
            if difference := Fingerprint(part.size, part.sha256).difference(fingerprint(path)):
                raise _not_the_weights(card, path, difference)
        target = self.path / card.weights.file
        with atomic_write(target) as packed:
            pack(paths, [part.file for part in parts], packed)
            found = fingerprint(packed)
            if difference := Fingerprint.of_card(card).difference(found):
                raise _not_the_weights(card, folder, difference)
        origins = [origin(part.sources[0]) for part in parts if part.sources]
        entered = self._enter(card, found, ", ".join(origins) if ours and origins else str(folder))
        for path in paths if ours else ():
            _delete_if_unused(path)
        return entered

    def install(self, card: Card, found: Fingerprint, source: str) -> Path:
        """Move the finished download into its place and record it.

        Raises:
            SourceError: for what cannot be weights.
            OSError: if the file cannot be read or written.
            OutputError: if the file or folder cannot be written.
        """
        if trouble := _sniffed(card, self.partial.path):
            self.partial.discard()
            raise SourceError(trouble)
        with self.partial.path.open("rb+") as stream:
            os.fsync(stream.fileno())  # the record must not outlive the file when the power fails
        self.partial.path.replace(self.path / card.weights.file)
        return self._enter(card, found, source, known={source: str(found.sha256)})

    def swap(self, card: Card, new_file: Path) -> Path:
        """Move `new_file` into the place of the recorded one.

        It gets a name of its own, so that the record always names a file that is whole.

        Raises:
            ModelError: for a model that cannot be used.
            OSError: if the file cannot be read or written.
            OutputError: if the file or folder cannot be written.
        """
        record, old = self.record(), self.usable_file(card)
        if record is None or old is None:
            raise ModelError(
                _("{model} has no downloaded weights to replace. Download them first.").format(model=card.title)
            )
        target, found = self._move_in(new_file)
        copy = replace(record, file=target.name, current=found, original=record.published, archive=_choice(card))
        write_record(copy, self._record_path)
        if old != target:
            _delete_if_unused(old)
        return target

    @contextmanager
    def new_file(self) -> Iterator[Path]:
        """The path of a file that may be written; what was not moved is gone afterwards."""
        path = self.path / part_name(".pt")
        try:
            yield path
        finally:
            _delete_if_unused(path)

    def put(self, card: Card, new_file: Path, original: Fingerprint, source: str) -> Path:
        """Move in what was made of an archive that stays elsewhere.

        Args:
            original: of the archive; nothing is known of it where it was unpacked.

        Raises:
            OSError: if the file cannot be read or written.
            OutputError: if the file or folder cannot be written.
        """
        old = self.recorded_file()
        target, found = self._move_in(new_file)
        (self.path / CARD_NAME).unlink(missing_ok=True)  # what an earlier file stated
        made = replace(self.record_for(card), file=target.name, current=found, original=original)
        write_record(replace(made, source=source, when=_now(), archive=_choice(card)), self._record_path)
        if old and old != target:
            _delete_if_unused(old)
        return target

    def _move_in(self, new_file: Path) -> tuple[Path, Fingerprint]:
        """Move a slim copy into the folder, under a name of its own."""
        found = fingerprint(new_file)
        target = self.path / f"slim-{str(found.sha256)[:12]}{new_file.suffix}"
        with atomic_write(target) as part:
            shutil.move(new_file, part)
        return target, found

    def clear(self, forget: bool) -> int:
        """Delete all files, and with `forget` the record; returns the bytes freed.

        Raises:
            OutputError: if the file or folder cannot be written.
        """
        freed = 0
        remove_abandoned(self.path, FOLDER)
        for name, size in self.files().items():
            try:
                (self.path / name).unlink()
            except OSError as error:
                raise OutputError(
                    _("{file} cannot be deleted ({reason}). Close the programs that use it and try again.").format(
                        file=self.path / name, reason=error.strerror
                    )
                ) from error
            freed += size
        record = self.record()
        if record and not forget:
            write_record(replace(record, file="", current=Fingerprint(), original=None), self._record_path)
            return freed
        self._record_path.unlink(missing_ok=True)
        with suppress(OSError):  # something else is there
            self.path.rmdir()
        return freed

    def _difference(self, card: Card, found: Fingerprint) -> Message | None:
        """Return how a file differs from the card's, or else from the first download; empty if it does not."""
        expected, first = Fingerprint.of_card(card), self.first_download(card)
        if not expected.certain and first not in (None, found.sha256):
            return _("it differs from the first download, whose SHA-256 is {sha256}").format(sha256=first)
        return expected.difference(found)

    def _enter(self, card: Card, found: Fingerprint, source: str, known: dict[str, str] | None = None) -> Path:
        """Record a file that is in its place, and return its path.

        Args:
            known: checksums that the source must keep.
        """
        (self.path / CARD_NAME).unlink(missing_ok=True)  # what an earlier file stated
        before = self.record_for(card)
        entered = replace(before, current=found, original=None, source=source, when=_now(), archive="")
        write_record(
            replace(entered, file=card.weights.file, known={**before.known, **(known or {})}), self._record_path
        )
        self.partial.discard()
        for path in self.path.glob("slim-*"):
            _delete_if_unused(path)
        return self.path / card.weights.file


def _choice(card: Card) -> str:
    """Return what the card uses of its archive; empty where it has none."""
    return card.weights.archive.choice if card.weights.archive else ""


def _sniffed(card: Card, path: Path) -> Message | None:
    """Return what a file is instead of weights, by its first bytes; empty if it may be weights."""
    with path.open("rb") as stream:
        beginning = stream.read(512)
    if is_html(beginning):
        return _("it is a web page")
    if beginning.startswith(POINTER):
        return _("it is a Git LFS pointer, not the file itself")
    if not beginning:
        return _("it is empty")
    if card.weights.archive is not None:
        whole = beginning.startswith(GZIP_START) or zipfile.is_zipfile(path)  # a zip's directory is at its end
        return None if whole else _("it is not a zip or tar.gz file, or only the beginning of one")
    return None if beginning.startswith((ZIP_START, LEGACY_START)) else _("it was not written by PyTorch")


def _not_the_weights(card: Card, file: Path, difference: Message) -> InputError:
    """Return the error for a file that is not the model's."""
    return InputError(
        _(
            "{file} does not contain the weights of {model}: {difference}. Choose the correct file, "
            "or download it again."
        ).format(file=file, model=card.title, difference=difference)
    )


def _unreadable(file: Path, error: OSError) -> InputError:
    """Return the error for a file of the user's that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return InputError(_("{file} does not exist. Check the path and the spelling.").format(file=file))
    return InputError(
        _("{file} cannot be read ({reason}). Choose another file, or copy it to this computer first.").format(
            file=file, reason=error.strerror or error
        )
    )


def _delete_if_unused(path: Path) -> None:
    """Delete a file unless another program uses it."""
    with suppress(OSError):  # Windows keeps what another program has open; `clear` gets it later
        path.unlink()


def _now() -> str:
    """Return the time now in UTC, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
