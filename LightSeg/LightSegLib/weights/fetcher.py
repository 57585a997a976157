"""From the sources of a model's weights to their file in its folder."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ..catalog.card import Card, Part, Source, Weights
from ..core.errors import DownloadError
from ..core.i18n import joined
from ..core.i18n import tr as _
from ..core.progress import Reporter
from .by_hand import by_hand
from .connection import Connection, RetryPolicy, SourceError
from .download import ROOM, NotEnoughSpace, RemoteFile, WrongFile, copied, download
from .model_folder import ModelFolder
from .records import Fingerprint
from .sources import FOLDER, Endpoints, locate, origin, sources_of


class Fetcher:
    """Downloads into the folders of the models below `weights`, whose locks the caller holds."""

    def __init__(self, weights: Path, endpoints: Endpoints | None, patience: RetryPolicy | None) -> None:
        self._weights, self._endpoints, self._patience = weights, endpoints, patience

    def fetch(self, card: Card, mirror: str, reporter: Reporter) -> Path:
        """Download the weights from the first source that has them, and return their file.

        Raises:
            DownloadError: if no source gives the right file.
            OutputError: if the folder cannot be written.
            Canceled: through the reporter.
        """
        folder = self._folder(card)
        with closing(Connection(reporter, self._patience)) as connection:
            if not card.weights.parts:
                return self._from_any(card, card.weights, mirror, connection)
            parts = [part for part in card.weights.parts if not folder.part(part)]
            for part in parts:  # those of an earlier attempt are kept
                self._from_any(card, part, mirror, connection)
        return folder.pack_in(card, folder.path)

    def _folder(self, card: Card) -> ModelFolder:
        """Return the folder of a model."""
        return ModelFolder(self._weights / card.id)

    def _from_any(self, card: Card, file: Weights | Part, mirror: str, connection: Connection) -> Path:
        """Return a file of a card's weights from the first source that has it."""
        failures, no_room = [], None
        for source in sources_of(card, mirror, file):
            try:
                return self._from(card, file, source, connection)
            except SourceError as error:
                failures.append(joined(": ", (origin(source), error)))
            except NotEnoughSpace as error:  # perhaps only by what the server states
                no_room = no_room or error
        if no_room is not None:
            raise no_room
        raise DownloadError(
            _(
                "The weights of {model} could not be downloaded. {failures}. Try again later, "
                "name a mirror with LIGHTSEG_MIRROR, or {by_hand}."
            ).format(model=card.title, failures=joined(". ", failures), by_hand=by_hand(card, self._weights))
        )

    def _from(self, card: Card, file: Weights | Part, source: Source, connection: Connection) -> Path:
        """Fetch a file from one source and install it; what is unknown is held to the first download."""
        folder, name = self._folder(card), origin(source)
        expected = Fingerprint(file.size, file.sha256, file.git_blob if isinstance(file, Weights) else None)
        known = None if expected.certain else folder.first_download(card)
        endpoints = self._endpoints or Endpoints.from_environment()
        try:
            room = ROOM if card.weights.archive else 1
            if source.kind == FOLDER:
                remote = RemoteFile(name, source.path, expected, room)
                found = copied(remote, folder.partial, connection.reporter, card.title)
            else:
                connection.reporter.step(_("Looking up {model}").format(model=card.title))
                remote = locate(source, expected.completed(Fingerprint(sha256=known)), endpoints, connection)
                found = download(replace(remote, room=room), folder.partial, connection, card.title)
            return folder.keep_part(file) if isinstance(file, Part) else folder.install(card, found, name)
        except WrongFile as error:
            if known is None:
                raise
            raise SourceError(
                _(
                    "{reason}: the file differs from the first download; to accept it, "
                    "press Delete in Slicer or run 'lightseg weights remove {model} --forget' first"
                ).format(reason=error, model=card.id)
            ) from error
