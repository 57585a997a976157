"""Weights on this computer: fetched once, verified, remembered, and never needed from the network again.

One folder per model id holds the weights file and `record.json`. All that is here works without torch, and without
network once a model's file is here. A file that a person puts into a model's folder, under the name that the card
gives it, is taken up when the model is next used, after the same checks as a download.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from ..catalog.card import Card
from ..catalog.lookup import weights_path
from ..catalog.needed import Cards, all_models, own_models, own_size, size_of
from ..core.errors import DownloadError, InputError, ModelError
from ..core.i18n import joined
from ..core.i18n import tr as _
from ..core.paths import resources_folder, weights_folder
from ..core.progress import CancelCallback, ProgressCallback, Reporter
from .by_hand import by_hand, nowhere, only_pages
from .connection import RetryPolicy
from .download import write_error
from .fetcher import Fetcher
from .lock import locked
from .model_folder import ModelFolder
from .records import Fingerprint, Record, fingerprint
from .sources import Endpoints, mirror_address, sources_of

Converter = Callable[[Path, Path, Reporter], object]  # writes the second path from an archive or folder at the first
Found = TypeVar("Found")
State = Literal["bundled", "user", "downloaded", "available", "manual", "missing"]
NEEDS_MOST: tuple[State, ...] = ("missing", "manual", "available", "downloaded", "user", "bundled")


@dataclass(frozen=True)
class Entry:
    """What the store has of one model.

    The weights file if it is complete, bytes of all files, bytes of an unfinished download among them, and the
    record.
    """

    model: str
    path: Path | None
    size: int
    partial: int
    record: Record | None


class WeightStore:
    """The weights of all models, in `folder`: by default LIGHTSEG_WEIGHTS or `weights` in the user's LightSeg folder.

    progress and canceled of its methods are those of a Reporter, called in the caller's thread; a cancel takes effect
    within a fraction of a second and keeps what has arrived of a download.
    """

    def __init__(
        self, folder: str | Path | None = None, endpoints: Endpoints | None = None, patience: RetryPolicy | None = None
    ) -> None:
        self.folder = Path(folder or weights_folder())
        self._fetcher = Fetcher(self.folder, endpoints, patience)

    def state(self, card: Card, cards: Cards | None = None) -> State:
        """Return where a card's weights are.

        "bundled" with LightSeg, "user" beside the user's own card, "downloaded" or put into their place by hand,
        "available" for download, "manual" if a person must fetch them, or "missing" if no source is known. Of a model
        that consists of others, this is the state of the one that needs the most.

        Args:
            card: of the model.
            cards: all that there are, by id; saves reading them for each model of a list.
        """
        if card.parts:
            try:
                states = {self.state(part) for part in own_models(card, cards)}
            except ModelError:  # a part is missing, which is reported when it is needed
                return "missing"
            return next(state for state in NEEDS_MOST if state in states)
        local = weights_path(card)
        if local.is_file():
            return "bundled" if local.is_relative_to(resources_folder()) else "user"
        folder = self._folder(card.id)
        if folder.usable_file(card) or folder.put_by_hand(card):
            return "downloaded"
        try:
            sources = sources_of(card, mirror_address())
        except InputError:  # problems of the settings are reported when they are needed
            sources = sources_of(card, "")
        if not sources:
            return "missing"
        return "manual" if only_pages(sources) else "available"

    def path(self, card: Card) -> Path:
        """Return the path of a card's weights, without network.

        Also raises what `ensure` raises of license and folder where a person has just put it into its place.

        Raises:
            ModelError: with how to get it, if it is not here.
        """
        folder, local = self._folder(card.id), weights_path(card)
        if path := local if local.is_file() else folder.usable_file(card):
            return path
        if folder.unrecorded(card):
            return self._adopt(card)
        if self.state(card) != "available":
            raise nowhere(card, self.folder)
        raise ModelError(
            _(
                "The weights of {model} are not on this computer. "
                "Download them with 'lightseg weights download {id}'; without internet, {by_hand}."
            ).format(model=card.title, id=card.id, by_hand=by_hand(card, self.folder))
        )

    def paths(self, cards: Iterable[Card]) -> list[Path]:
        """Return the path of each model's weights, as `path`; an error names all models whose weights are not here."""
        return _of_all(cards, self.path)

    def check_obtainable(self, cards: Iterable[Card], mirror: str | None = None) -> None:
        """Check that the weights of all models are here or can be downloaded, before the first of them is.

        Args:
            cards: of the models that a run needs.
            mirror: as `ensure` takes it.

        Raises:
            DownloadError: if the network may not be used; names all models whose weights are not here.
            ModelError: if there is none to download one from; names these models, too.
        """
        _of_all(cards, lambda card: self._check_obtainable(card, mirror))

    def record(self, card: Card) -> Record | None:
        """Return the record of a model's download, with size and SHA-256 of its file, or None."""
        return self._folder(card.id).record()

    def record_in_use(self, card: Card) -> Record | None:
        """Return the record of the file that a run uses now.

        None for a file that is bundled or beside the user's own card, and for one that was put into its place by hand
        and not used yet.
        """
        folder = self._folder(card.id)
        return folder.record() if not weights_path(card).is_file() and folder.usable_file(card) else None

    def to_download(self, cards: Iterable[Card]) -> tuple[Card, ...]:
        """Return those of the models whose weights are not here but can be downloaded."""
        return tuple(card for card in cards if self.state(card) == "available")

    def download_size(self, card: Card, cards: Cards | None = None) -> int | None:
        """Return how many bytes a download of all that any run of a model may need would bring now.

        That is what its parts, what finds their places and its rough model lack; None where a size is not known.

        Args:
            card: of the model.
            cards: all that there are, by id; saves reading them for each model of a list.
        """
        try:
            return size_of(self.to_download(all_models(card, cards)))
        except ModelError:  # a model is missing, which is reported when it is needed
            return None

    def listed_size(self, card: Card, cards: Cards | None = None) -> int | None:
        """Return the bytes that a list of models states: of a download now, or else of the model's own weights.

        Args:
            card: of the model.
            cards: all that there are, by id.
        """
        available = self.state(card, cards) == "available"
        return self.download_size(card, cards) if available else own_size(card, cards)

    def sha256(self, card: Card) -> str | None:
        """Return the SHA-256 of the weights as their authors published them, or of what was made of their folder."""
        record = self.record(card)
        return record.sha256 if record and record.file else card.weights.sha256

    def held_to_first(self, card: Card) -> bool:
        """Return whether only the file that was here first is accepted, since the card states no hash."""
        return not Fingerprint.of_card(card).certain and self._folder(card.id).first_download(card) is not None

    def license_accepted(self, card: Card) -> bool:
        """Return whether the license needs no acceptance before a download, or has it."""
        record = self.record(card)
        return not card.non_commercial or (record is not None and record.license == card.license)

    def ensure(
        self,
        card: Card,
        progress: ProgressCallback | None = None,
        canceled: CancelCallback | None = None,
        accept_license: bool = False,
        mirror: str | None = None,
    ) -> Path:
        """Return the weights file; download and verify it first if it is not here.

        Args:
            mirror: base address that is tried first; the file is at MIRROR/MODEL/FILE.
            accept_license: the user agrees to a license that forbids commercial use, which is remembered. Two
                callers at once download once.

        Raises:
            InputError: for a license that was not accepted.
            DownloadError: if no source gives the right file.
            ModelError: if there is none to download from.
            OutputError: if the folder cannot be written.
            Canceled: if `canceled` returns True.
        """
        folder, local = self._folder(card.id), weights_path(card)
        if local.is_file():
            return local
        self._check_license(card, accept_license)
        if self.license_accepted(card) and (path := folder.usable_file(card)):
            return path
        self._check_obtainable(card, mirror)
        sources = sources_of(card, mirror_address(mirror))
        reporter = Reporter(progress, canceled)
        with self._locked(card.id, card.title, reporter):
            if card.non_commercial:
                folder.accept_license(card)
            if path := folder.usable_file(card):
                return path
            if folder.unrecorded(card):
                try:
                    return folder.adopt(card, reporter)
                except ModelError:
                    if not sources or only_pages(sources) or _offline():
                        raise
            return self._fetcher.fetch(card, mirror_address(mirror), reporter)

    def add_file(
        self,
        card: Card,
        file: str | Path,
        progress: ProgressCallback | None = None,
        canceled: CancelCallback | None = None,
        accept_license: bool = False,
    ) -> Path:
        """Copy what the user has fetched by hand into the store; `file` itself stays as it is.

        Args:
            file: the weights file, or a folder with the files of a model that is published as several.

        Raises:
            InputError: for a file that is not the model's, as far as its card knows, or a license that was not
                accepted.
            OutputError: if the folder cannot be written.
            Canceled: if `canceled` returns True.
        """
        if weights_path(card).is_file():
            raise InputError(
                _("{model} already has its weights, in {path}. There is nothing to do.").format(
                    model=card.title, path=weights_path(card)
                )
            )
        self._check_license(card, accept_license)
        reporter = Reporter(progress, canceled)
        with self._locked(card.id, card.title, reporter):
            folder = self._folder(card.id)
            if card.non_commercial:
                folder.accept_license(card)
            if Path(file).is_dir():
                return folder.pack_in(card, Path(file))
            if Path(file).name in (names := [part.file for part in card.weights.parts]):
                raise InputError(
                    _(
                        "{file} is only one of the files of {model}. Choose the folder that has all of them: {files}."
                    ).format(file=file, model=card.title, files=", ".join(names))
                )
            return folder.copy_in(card, Path(file), reporter)

    def verify(
        self, card: Card, progress: ProgressCallback | None = None, canceled: CancelCallback | None = None
    ) -> None:
        """Read the whole file again.

        Raises:
            ModelError: if it is not what was downloaded, or not the card's.
        """
        reporter = Reporter(progress, canceled)
        reporter.step(_("Checking {model}").format(model=card.title))
        local, folder, expected = weights_path(card), self._folder(card.id), Fingerprint.of_card(card)
        path = local if local.is_file() else folder.recorded_file() or self.path(card)
        record = None if local.is_file() else folder.record()
        try:
            found = fingerprint(path, reporter)
        except OSError as error:
            raise ModelError(
                _(
                    "The weights file {file} cannot be read ({reason}). Check the disk, or download the file again."
                ).format(file=path, reason=error.strerror or error)
            ) from error
        if record:
            difference = record.current.difference(found) or expected.difference(record.published)
        else:
            difference = expected.difference(found)
        if difference:
            remedy = _("Delete it in Slicer or with 'lightseg weights remove {model}', and download it again").format(
                model=card.id
            )
            if local.is_file():
                remedy = _("Install the model again")
            raise ModelError(
                _("The weights file {file} is damaged or was replaced ({difference}). {remedy}.").format(
                    file=path, difference=difference, remedy=remedy
                )
            )

    def remove(self, model: Card | str, forget: bool = False) -> int:
        """Delete the downloaded files of a model, unfinished ones included, and return the bytes freed.

        What is bundled or is beside a user's own card is not touched.

        Args:
            forget: also forget which file the sources had and that the license was accepted.

        Raises:
            InputError: while another LightSeg is at work on the model.
            OutputError: if a file cannot be deleted.
        """
        identifier = model if isinstance(model, str) else model.id
        if identifier not in self._models():
            return 0
        with self._locked(identifier, identifier, Reporter(), wait=False):
            return self._folder(identifier).clear(forget)

    def entries(self) -> list[Entry]:
        """Return what is on disk, by model id; also of models whose card is gone, and unfinished downloads."""
        entries = []
        for model in self._models():
            folder = self._folder(model)
            if files := folder.files():
                partial = files.get(folder.partial.path.name, 0)
                entries.append(Entry(model, folder.complete_file(), sum(files.values()), partial, folder.record()))
        return entries

    def replace(self, card: Card, new_file: str | Path) -> Path:
        """Put `new_file`, which is moved, in the place of the downloaded file, of which it is a smaller copy.

        The record keeps the fingerprint of the original. A crash leaves either the old state or the new one.

        Raises:
            ModelError: if there is nothing to replace.
            OutputError: if the file or folder cannot be written.
        """
        with self._locked(card.id, card.title, Reporter()):
            return self._folder(card.id).swap(card, Path(new_file))

    def convert(self, card: Card, write: Converter, reporter: Reporter) -> Path:
        """Put what `write` makes of a downloaded archive in its place, as `replace`; return its path.

        Raises:
            ModelError: if the archive was removed meanwhile.
            OutputError: if the file or folder cannot be written.
            Canceled: through the reporter.
        """
        with self._locked(card.id, card.title, reporter):
            folder = self._folder(card.id)
            path = folder.usable_file(card)
            if path is not None and path.name != card.weights.file:
                return path  # another LightSeg was quicker
            with folder.new_file() as new:
                if path is not None:
                    write(path, new, reporter)
                return folder.swap(card, new)

    def put(self, card: Card, source: Path, write: Converter, reporter: Reporter, accept_license: bool = False) -> Path:
        """Keep what `write` makes of the user's own archive or folder, which stays as it is; return its path.

        Raises:
            InputError: for a file that is not the model's, as far as its card knows, or a license that was not
                accepted.
            OutputError: if the file or folder cannot be written.
            Canceled: through the reporter.
        """
        self._check_license(card, accept_license)
        with self._locked(card.id, card.title, reporter):
            folder = self._folder(card.id)
            original = folder.checked(card, source, reporter) if source.is_file() else Fingerprint()
            if card.non_commercial:
                folder.accept_license(card)
            with folder.new_file() as new:
                write(source, new, reporter)
                return folder.put(card, new, original, str(source))

    def put_from_download(self, card: Card, downloaded: Card, write: Converter, reporter: Reporter) -> None:
        """Keep what `write` makes of the archive that was downloaded for another model, unless a usable file is here.

        Raises what `put` raises, ModelError where the archive is not there, and InputError, too, while another LightSeg
        is using the model: it is not waited for, since it gets the weights itself, and two may not wait for each other.
        """
        self._check_license(card, False)
        archive, record = self.path(downloaded), self.record(downloaded)
        with self._locked(card.id, card.title, reporter, wait=False):
            folder = self._folder(card.id)
            if record is not None and not folder.usable_file(card):
                with folder.new_file() as new:
                    write(archive, new, reporter)
                    folder.put(card, new, record.current, record.source)

    def _folder(self, model: str) -> ModelFolder:
        """Return the folder of a model."""
        return ModelFolder(self.folder / model)

    def _models(self) -> list[str]:
        """Return the ids of all models with a folder."""
        try:
            return sorted(path.name for path in self.folder.iterdir() if path.is_dir())
        except OSError:
            return []

    @contextmanager
    def _locked(self, model: str, title: str, reporter: Reporter, wait: bool = True) -> Iterator[None]:
        """Hold a model's lock; what goes wrong with the folder becomes an OutputError."""
        try:
            (self.folder / model).mkdir(parents=True, exist_ok=True)
            with locked(self.folder / f"{model}.lock", reporter, title, wait):
                yield
        except OSError as error:
            raise write_error(self.folder, error) from error

    def _adopt(self, card: Card) -> Path:
        """Record a file that was put into the folder by hand, and return its path."""
        self._check_license(card, False)
        with self._locked(card.id, card.title, Reporter()):
            folder = self._folder(card.id)
            return folder.usable_file(card) or folder.adopt(card, Reporter())

    def _check_license(self, card: Card, accept: bool) -> None:
        """Check that the license is accepted.

        Raises:
            InputError: if it is not.
        """
        if not accept and not self.license_accepted(card):
            raise InputError(
                _(
                    "The license of {model} forbids commercial use and must be accepted once: "
                    "{license} If you agree, repeat the command with --accept-license (in Python: "
                    "accept_license=True)."
                ).format(model=card.title, license=f"{card.license.rstrip('.')}.")
            )

    def _check_obtainable(self, card: Card, mirror: str | None) -> None:
        """Check that weights are here, or that there is a source and downloads are allowed.

        Settings that name a mirror are read only where there is something to download.

        Raises:
            DownloadError: if the network may not be used.
            ModelError: if there is no source.
        """
        folder = self._folder(card.id)
        if weights_path(card).is_file() or folder.unrecorded(card) or folder.usable_file(card):
            return
        sources = sources_of(card, mirror_address(mirror))
        if not sources or only_pages(sources):
            raise nowhere(card, self.folder)
        if _offline():
            raise DownloadError(
                _(
                    "The weights of {model} are not on this computer, "
                    "and LIGHTSEG_OFFLINE forbids using the network. Unset it, or {by_hand}."
                ).format(model=card.title, by_hand=by_hand(card, self.folder))
            )


def _of_all(cards: Iterable[Card], look: Callable[[Card], Found]) -> list[Found]:
    """Return what `look` finds for each model; what it raises for several of them becomes one error."""
    found: list[Found] = []
    errors: list[DownloadError | ModelError] = []
    for card in cards:
        try:
            found.append(look(card))
        except (DownloadError, ModelError) as error:
            errors.append(error)
    if len(errors) > 1:
        message = _("The weights of {count} models cannot be used. Get or correct each of them:\n{models}")
        kind = DownloadError if any(isinstance(error, DownloadError) for error in errors) else ModelError
        raise kind(message.format(count=len(errors), models=joined("\n", errors)))
    if errors:
        raise errors[0]
    return found


def _offline() -> bool:
    """Return whether LIGHTSEG_OFFLINE forbids connections."""
    return os.environ.get("LIGHTSEG_OFFLINE", "") not in ("", "0")
