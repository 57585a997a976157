"""From a card's sources to addresses that can be downloaded.

Facts about the services: Hugging Face Hub API (`/api/models/{repository}/tree/{revision}/{path}`; answers come in
pages joined by Link headers, and `lfs.oid` is the SHA-256), Git LFS specification (pointer files), and the form with
which Google Drive asks for confirmation before a large file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlencode, urljoin, urlsplit

from ..catalog.card import Card, Part, Source, Weights
from ..core.errors import InputError
from ..core.i18n import tr as _
from ..core.json_file import read_json
from ..core.paths import user_folder
from ..core.plain_text import public_address
from .connection import Connection, Page, SourceError
from .download import RemoteFile, check_fingerprint
from .records import Fingerprint

WEIGHTS_ENDINGS = (".pth", ".pt", ".model", ".bin")
PREFERRED_NAMES = ("checkpoint_final.pth", "checkpoint_best.pth")
LISTING_LIMIT = 16 << 20  # bytes
PAGE_LIMIT = 64 << 10
LISTING_PAGES = 20  # of a thousand files each
POINTER = b"version https://git-lfs.github.com/spec/"
DRIVE_PAGES = 3  # the warning comes once; more means that it goes round in circles
SETTINGS_NAME = "settings.json"
FOLDER = "folder"  # kind of a source that is a file on this computer or its network, in a mirror; no card has it


@dataclass(frozen=True)
class Endpoints:
    """Base addresses of the services."""

    huggingface: str = "https://huggingface.co"
    github_raw: str = "https://raw.githubusercontent.com"
    github_media: str = "https://media.githubusercontent.com/media"
    google_drive: str = "https://drive.google.com"

    @classmethod
    def from_environment(cls) -> Endpoints:
        """Return the usual addresses, Hugging Face's from HF_ENDPOINT where set, as its own tools have it."""
        return cls(huggingface=(os.environ.get("HF_ENDPOINT") or cls.huggingface).rstrip("/"))


def mirror_address(mirror: str | None = None) -> str:
    """Return the address or folder of a mirror: the argument, LIGHTSEG_MIRROR, or "mirror" in settings.json.

    Raises:
        InputError: for settings that cannot be read.
    """
    if mirror or (mirror := os.environ.get("LIGHTSEG_MIRROR")):
        return mirror.rstrip("/")
    path = user_folder() / SETTINGS_NAME
    if not path.exists():
        return ""
    try:
        settings = read_json(path)
        if not isinstance(settings, dict) or not isinstance(settings.get("mirror", ""), str):
            raise ValueError(_("it must be a JSON object with an address as its entry mirror"))
    except (OSError, ValueError) as error:
        raise InputError(
            _("The settings {file} cannot be read ({reason}). Correct the file or delete it.").format(
                file=path, reason=error
            )
        ) from error
    return settings.get("mirror", "").rstrip("/")


def sources_of(card: Card, mirror: str, file: Weights | Part | None = None) -> list[Source]:
    """Return the sources of a file of a card's weights, in order: the mirror, if there is one, then its own.

    Args:
        file: one of `card.weights.published`; the first where it is left out. A mirror may be a folder.
    """
    file = file or card.weights.published[0]
    if mirror and (folder := Path(mirror)).is_dir():
        path = folder / card.id / file.file
        return [Source(FOLDER, path=str(path))] * path.is_file() + list(file.sources)
    address = f"{mirror}/{quote(card.id)}/{quote(file.file)}"
    return [Source("url", url=address)] * bool(mirror) + list(file.sources)


def origin(source: Source) -> str:
    """Return the permanent address of a source, for people."""
    if source.kind == "huggingface":
        return _joined("https://huggingface.co", source.repository, "tree", source.revision, quote(source.path))
    if source.kind == "github":
        return _joined("https://github.com", source.repository, "blob", source.revision, quote(source.path))
    if source.kind == "google_drive":
        return f"https://drive.google.com/file/d/{source.id}/view"
    return source.path if source.kind == FOLDER else public_address(source.url)


def locate(source: Source, expected: Fingerprint, endpoints: Endpoints, connection: Connection) -> RemoteFile:
    """Return the address of a source's file, with what the source states about it added to `expected`.

    Raises:
        SourceError: if the source does not have the file.
    """
    if source.kind == "huggingface":
        return _on_huggingface(source, expected, endpoints, connection)
    if source.kind == "github":
        return _on_github(source, expected, endpoints, connection)
    if source.kind == "google_drive":
        return _on_google_drive(source, expected, endpoints, connection)
    if source.kind == "url":
        return RemoteFile(origin(source), source.url, expected)
    if source.kind == "page":
        raise SourceError(_("the file must be downloaded from this page with a browser"))
    raise SourceError(
        _("this version of LightSeg does not support sources of the kind '{kind}'").format(kind=source.kind)
    )


def _joined(*parts: str) -> str:
    """Return the parts of a path joined by slashes, without empty ones."""
    return "/".join(part for part in parts if part)


def _on_huggingface(source: Source, expected: Fingerprint, endpoints: Endpoints, connection: Connection) -> RemoteFile:
    """Locate a file on Hugging Face, by the listing of its folder."""
    folder = quote(source.path.strip("/"))
    listing = _joined(
        endpoints.huggingface, "api/models", source.repository, "tree", quote(source.revision, ""), folder
    )
    file = _choose(list(_listed_files(f"{listing}?recursive=true", connection)))
    revision = quote(source.revision, "")
    address = _joined(endpoints.huggingface, source.repository, "resolve", revision, quote(file.path))
    check_fingerprint(expected, file.fingerprint)
    return RemoteFile(origin(source), address, expected.completed(file.fingerprint))


@dataclass(frozen=True)
class _ListedFile:
    """A file in a listing on Hugging Face."""

    path: str
    fingerprint: Fingerprint


def _listed_files(address: str, connection: Connection) -> Iterator[_ListedFile]:
    """Yield the files of a folder on Hugging Face, page by page."""
    for _page in range(LISTING_PAGES):
        page = connection.page(address, LISTING_LIMIT)
        try:
            for entry in json.loads(page.content):
                if entry["type"] == "file":
                    yield _listed_file(entry)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SourceError(_("its list of files is invalid")) from error
        following = re.search(r'<([^>]+)>\s*;[^,]*\brel="?next\b', page.headers.get("Link", ""))
        if not following:
            return
        address = urljoin(page.address, following[1])
    raise SourceError(_("its list of files is too long"))


def _listed_file(entry: dict[str, object]) -> _ListedFile:
    """Return a file of a listing.

    For a file in Git LFS, these are SHA-256 and size of its content; `oid` is the blob id of its pointer.
    """
    path, size, lfs = str(entry["path"]), entry["size"], entry.get("lfs")
    if isinstance(lfs, dict):
        return _ListedFile(path, Fingerprint(int(lfs["size"]), str(lfs["oid"])))
    return _ListedFile(path, Fingerprint(int(str(size)), git_blob=str(entry["oid"])))


def _choose(files: list[_ListedFile]) -> _ListedFile:
    """Return the weights file of a listing: the final checkpoint, else the best, else the only candidate.

    Of several folds it is the one trained on all data, else the first.
    """
    possible = [file for file in files if file.path.endswith(WEIGHTS_ENDINGS)]
    for name in PREFERRED_NAMES:
        if named := [file for file in possible if PurePosixPath(file.path).name == name]:
            best = min(map(_fold, named))
            possible = [file for file in named if _fold(file) == best]
            break
    if len(possible) == 1:
        return possible[0]
    found = ", ".join(file.path for file in (possible or files)[:10]) or _("nothing")
    raise SourceError(_("it is not clear which file contains the weights; found: {found}").format(found=found))


def _fold(file: _ListedFile) -> int:
    """-1 for fold_all, the number of a fold, and a large number outside of any."""
    match = re.search(r"(?:^|/)fold_(all|\d+)/", file.path)
    return 1 << 30 if not match else -1 if match[1] == "all" else int(match[1])


def _on_github(source: Source, expected: Fingerprint, endpoints: Endpoints, connection: Connection) -> RemoteFile:
    """Return a file at a commit.

    For one in Git LFS, git holds a pointer only, which pins the content by size and SHA-256.
    """
    tail = _joined(source.repository, source.revision, quote(source.path))
    address = f"{endpoints.github_raw}/{tail}"
    beginning = connection.page(address, PAGE_LIMIT).content
    if not beginning.startswith(POINTER):
        return RemoteFile(origin(source), address, expected)
    pointer = re.search(rb"^oid sha256:([0-9a-f]{64})\nsize (\d{1,18})$", beginning, re.MULTILINE)
    if not pointer:
        raise SourceError(_("its Git LFS pointer is invalid"))
    content = Fingerprint(int(pointer[2]), pointer[1].decode())
    check_fingerprint(expected, content)
    return RemoteFile(origin(source), f"{endpoints.github_media}/{tail}", expected.completed(content))


def _on_google_drive(source: Source, expected: Fingerprint, endpoints: Endpoints, connection: Connection) -> RemoteFile:
    """Locate a file on Google Drive, past its warning page."""
    address = f"{endpoints.google_drive}/uc?" + urlencode({"export": "download", "id": source.id})
    for _page in range(DRIVE_PAGES):
        page = connection.page(address, PAGE_LIMIT)
        if not page.is_html:
            return RemoteFile(origin(source), address, expected)
        address = _confirmed(page, address, connection)
    raise SourceError(_("Google Drive keeps asking for confirmation"))


def _confirmed(page: Page, address: str, connection: Connection) -> str:
    """Return the address behind Google Drive's warning that a file is too large for its virus scan."""
    text = page.content.decode("utf-8", "replace")
    if "Too many users have viewed or downloaded" in text or "Quota exceeded" in text:
        raise SourceError(_("the daily limit of Google Drive for this file is reached; try again tomorrow"))
    if urlsplit(page.address).hostname == "accounts.google.com" or "ServiceLogin" in page.address:
        raise SourceError(_("Google Drive asks for a login; the file is no longer shared publicly"))
    reader = _DrivePage()
    reader.feed(text)
    if reader.action and "id" in reader.fields:
        return f"{urljoin(page.address, reader.action)}?{urlencode(reader.fields)}"
    if reader.link:
        return urljoin(page.address, reader.link)
    for cookie in connection.session.cookies:
        if cookie.name.startswith("download_warning") and cookie.value:
            return f"{address}&{urlencode({'confirm': cookie.value})}"
    raise SourceError(_("Google Drive returned an unexpected page; download the file with a browser"))


class _DrivePage(HTMLParser):
    """The form of today's warning page, or the link of older ones."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.link = ""
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the form of the warning page and its fields."""
        values = {name: value or "" for name, value in attrs}
        if tag == "form" and values.get("id") == "download-form":
            self.action, self._inside = values.get("action", ""), True
        elif tag == "input" and self._inside and values.get("type") == "hidden":
            self.fields[values.get("name", "")] = values.get("value", "")
        elif tag == "a" and "confirm=" in values.get("href", ""):
            self.link = values["href"]

    def handle_endtag(self, tag: str) -> None:
        """Note the end of the form."""
        if tag == "form":
            self._inside = False
