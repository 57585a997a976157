"""The cases of a cohort: which files belong together, and how a case is called.

A folder: images, one case for each file, or for a model with several channels nnU-Net's names (CASE_0000, CASE_0001,
...) or one folder for each case with files whose names speak of the channels; and DICOM series (`dicom.py`).
A manifest: a CSV file with the column `case` and one for each channel; paths are relative to its folder.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..catalog.card import Card
from ..catalog.channels import matched
from ..errors import InputError
from ..evaluation import IMAGE_ENDINGS, case_name
from ..volume import Volume, read_volume

RECORDS = ".records"  # a folder that has it was written by a batch: its images are results
SEGMENTATION = ".seg.nrrd"
HEADERS = (".mhd", ".nhdr")  # files whose voxels lie in another one of the same name
LONGEST_NAME = 180  # bytes, so that with an ending every file system takes it
BLOCK = 1 << 20


@dataclass(frozen=True)
class Source:
    """One image: a file, a folder with one DICOM series, or the files of a series in the order of its slices."""

    paths: tuple[Path, ...]

    def read(self) -> Volume:
        """Raises InputError as `read_volume`."""
        first, *others = self.paths
        return read_volume(first.parent, self.paths) if others else read_volume(first)

    def files(self) -> list[Path]:
        """All that its content depends on."""
        first, *others = self.paths
        if others:
            return list(self.paths)
        if first.is_dir():
            return sorted(path for path in first.iterdir() if path.is_file())
        if first.suffix.lower() in HEADERS:
            return sorted(path for path in first.parent.iterdir() if _belongs(path, first))
        return [first]


def _belongs(path: Path, header: Path) -> bool:
    """Whether a file may hold the voxels of a header: by its name, or because the header names it."""
    if not path.is_file():
        return False
    words = header.read_bytes()[:BLOCK].decode("utf-8", "replace")
    named = re.search(r"^(?:ElementDataFile\s*=|data ?file:)\s*(.+?)\s*$", words, re.MULTILINE | re.IGNORECASE)
    return path.name.startswith(f"{header.stem}.") or (named is not None and path.name == named[1])


@dataclass(frozen=True)
class Case:
    """id: unique, and fit for a file name. channels: one source for each channel of the model."""

    id: str
    channels: tuple[Source, ...]

    @property
    def where(self) -> str:
        """The files, or the folder of a series, of each channel."""
        places = (source.paths[0].parent if len(source.paths) > 1 else source.paths[0] for source in self.channels)
        return _written("; ".join(map(str, places)))

    def sha256(self) -> str:
        """Of the bytes of all files. Raises InputError for one that cannot be read."""
        digest = hashlib.sha256()
        for source in self.channels:
            try:
                for path in source.files():
                    digest.update(b"file")  # so that bytes that move from one file to the next change it
                    with path.open("rb") as stream:
                        while block := stream.read(BLOCK):
                            digest.update(block)
            except ValueError as error:
                raise InputError(f"{self.where!r} is no path ({error}). Check the spelling.") from error
            except FileNotFoundError as error:
                raise InputError(f"{error.filename} does not exist. Check the path and the spelling.") from error
            except OSError as error:
                raise InputError(
                    f"{error.filename} cannot be read ({error.strerror}). Check its permissions."
                ) from error
        return digest.hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "channels": [[str(path) for path in source.paths] for source in self.channels]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Case:
        return cls(data["id"], tuple(Source(tuple(map(Path, paths))) for paths in data["channels"]))


@dataclass(frozen=True)
class Misfit:
    """What was found and is no case for this model, and why."""

    what: str
    reason: str


def find_cases(given: Path, card: Card) -> Iterator[Case | Misfit]:
    """One after the other, with little in memory. Raises InputError for what is neither a folder nor a manifest."""
    if given.is_dir():
        found = _in_folder(given, card)
    elif given.suffix.lower() == ".csv" and given.is_file():
        found = _in_manifest(given, card)
    else:
        raise InputError(f"{given} is neither a folder nor a CSV file. Check the path and the spelling.")
    return _uniquely_named(found)


def _uniquely_named(found: Iterable[Case | Misfit]) -> Iterator[Case | Misfit]:
    """A name that is taken gets a number; capitals and the form of accents do not tell names apart on every disk."""
    taken: set[bytes] = set()
    for one in found:
        if isinstance(one, Misfit):
            yield Misfit(_written(one.what), one.reason)
            continue
        name = wanted = file_name(one.id)
        number = 1
        while (key := _key(name)) in taken:
            number += 1
            name = f"{wanted} ({number})"
        taken.add(key)
        yield Case(name, one.channels)


def _written(text: str) -> str:
    """A path as it can be written: names of files may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def _key(name: str) -> bytes:
    return hashlib.blake2b(unicodedata.normalize("NFC", name).casefold().encode(), digest_size=16).digest()


def file_name(text: str) -> str:
    """As close to the text as every file system allows."""
    name = text.encode("utf-8", "replace").decode()
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).strip(". ")
    name = name.encode("utf-8", "replace")[:LONGEST_NAME].decode("utf-8", "ignore").strip(". ")
    reserved = re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name, re.IGNORECASE)
    return f"_{name}" if reserved or not name else name


# --- a manifest --------------------------------------------------------------------------------


def _in_manifest(manifest: Path, card: Card) -> Iterator[Case | Misfit]:
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as stream:
            header = stream.readline()
            stream.seek(0)
            rows = csv.reader(stream, delimiter=";" if ";" in header and "," not in header else ",")
            columns = _columns(next(rows, []), card, manifest)
            for row in rows:
                if any(row):
                    yield _case_of(row, columns, card, manifest.parent)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{manifest.name} cannot be read ({error}). Save it as CSV in UTF-8.") from error


def _columns(header: Sequence[str], card: Card, manifest: Path) -> list[int]:
    """Numbers of the columns of the case's name and of each channel: by the channels' names, or else by their order."""
    names = [name.strip().casefold() for name in header]
    channels = [channel.casefold() for channel in card.channels]
    if "case" in names:
        others = [number for number, name in enumerate(names) if name != "case"]
        if set(channels) <= set(names):
            return [names.index(name) for name in ("case", *channels)]
        if len(others) == len(channels):
            return [names.index("case"), *others]
    raise InputError(
        f"{manifest.name} has the columns {', '.join(header) or 'none'}. "
        f"Name them case, {', '.join(card.channels)} in its first line."
    )


def _case_of(row: Sequence[str], columns: Sequence[int], card: Card, folder: Path) -> Case | Misfit:
    case, *paths = (row[column].strip() if column < len(row) else "" for column in columns)
    if not all(paths):
        return Misfit(case or ", ".join(row), f"has no file for {card.channels[paths.index('')]}")
    return Case(case or case_name(Path(paths[0])), tuple(Source((folder / path,)) for path in paths))


# --- a folder ----------------------------------------------------------------------------------


def _in_folder(top: Path, card: Card) -> Iterator[Case | Misfit]:
    from .dicom import Series, studies

    series: list[Series] = []
    unreadable: list[OSError] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(top, onerror=unreadable.append, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != "." and not (Path(place, name) / RECORDS).is_dir())
        visible = [Path(place, name) for name in sorted(names) if name[0] != "."]
        images = [path for path in visible if path.name.lower().endswith(IMAGE_ENDINGS)]
        prefix = "".join(f"{part}_" for part in Path(place).relative_to(top).parts)
        yield from _images(images, prefix, card)
        if len(images) < len(visible):
            for one in Series.in_folder(Path(place), card, prefix):
                if isinstance(one, Series) and len(card.channels) > 1:
                    series.append(one)  # the channels of a study may lie in several folders
                else:
                    yield Case(one.case, (one.source,)) if isinstance(one, Series) else one
    yield from studies(series, card)
    yield from (Misfit(str(error.filename), f"cannot be read ({error.strerror})") for error in unreadable)


def _images(images: Sequence[Path], prefix: str, card: Card) -> Iterator[Case | Misfit]:
    """The cases among the images of one folder."""
    numbered: dict[str, dict[int, Path]] = {}
    single: list[Path] = []
    for path in images:
        parts = re.fullmatch(r"(.+)_(\d{4})", case_name(path))
        if path.name.lower().endswith(SEGMENTATION):
            yield Misfit(str(path), "is a segmentation")
        elif parts and (int(parts[2]) < len(card.channels) or len(card.channels) > 1):
            same = numbered.setdefault(parts[1], {}).setdefault(int(parts[2]), path)
            if same != path:
                yield Misfit(str(path), f"has the name of {same.name}, which is taken")
        else:
            single.append(path)
    wanted = range(len(card.channels))
    for name, files in numbered.items():
        if sorted(files) == list(wanted):
            yield Case(prefix + name, tuple(Source((files[number],)) for number in wanted))
        else:
            missing = [f"{name}_{number:04d} ({card.channels[number]})" for number in wanted if number not in files]
            yield Misfit(str(min(files.values())), f"belongs to a case without {', '.join(missing) or 'all its files'}")
    if len(card.channels) == 1:
        yield from (Case(prefix + case_name(path), (Source((path,)),)) for path in single)
    elif single:
        yield from _by_names(single, prefix, card)


def _by_names(images: Sequence[Path], prefix: str, card: Card) -> Iterator[Case | Misfit]:
    """One case in a folder of its own: each channel is the file whose name speaks of it."""
    numbers = matched(card.channels, [case_name(path) for path in images])
    chosen = [images[number] for number in numbers if number is not None]
    if len(chosen) == len(card.channels):
        yield Case(prefix.rstrip("_") or images[0].parent.name, tuple(Source((path,)) for path in chosen))
    for path in images:
        if len(chosen) < len(card.channels) or path not in chosen:
            yield Misfit(
                str(path), f"is not clearly one of {', '.join(card.channels)}: end its name in _0000, _0001, ..."
            )
