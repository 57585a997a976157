"""Open a torch file without executing anything of the file's choice.

A torch file is a pickle with raw tensors beside it, and a pickle names the functions that rebuild its objects.
Two locks keep that harmless. First the names are read, without importing or building anything, and every one
must be known here; what the calls would take is added up, and must fit the size of the file (`pickle_scan`). Then
torch's restricted reader (`weights_only=True`) builds the content; its allow-list is replaced by ours meanwhile, so
that what other programs in this process have allowed does not count.

File formats: torch.save's zip archive (torch >= 1.6) and the row of pickles before it; both are pickle protocol 2.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ModelError
from ..core.i18n import Message
from ..core.i18n import tr as _
from .files import LEGACY_START, ZIP_START
from .pickle_scan import Scan, names

LEGACY_PICKLES = 5  # magic number, protocol, machine, content, names of the storages


class _Refused(Exception):
    """The file refers to something that no weights file needs; the text is its name."""


class _DType:
    """Stand-in for numpy.dtype that allows plain numbers only.

    A file can give numpy's dtype fields beyond the end of its items, and reading those reads other memory.
    """

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch("b1|[iu][1248]|f[248]", code):
            raise _Refused(f"numpy.dtype('{code}')")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])  # the rest concerns structures


class _Array:
    """Stand-in for numpy.ndarray: its bytes must fill its shape exactly, or reshaping fails."""

    values = np.empty(0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.values.shape

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_column, content = state
        self.values = np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if by_column else "C")

    def tolist(self) -> Any:
        """Return the values as nested lists."""
        return self.values.tolist()


def _empty_array(*_: object) -> _Array:
    """Stand-in for numpy's _reconstruct, which would create a type that the file names."""
    return _Array()


def _number(dtype: _DType, content: bytes) -> bool | int | float:
    """Stand-in for numpy's scalar: return a Python number."""
    (value,) = np.frombuffer(content, dtype.dtype).tolist()
    return value


def _empty_dict(*_: object) -> dict[Any, Any]:
    """Stand-in for defaultdict; its factory is not needed and never called."""
    return {}


# Our own functions under the names that files use for numpy's: numpy is never asked to rebuild anything, and its
# versions (numpy.core before 2.0, numpy._core since) read alike.
STAND_INS: dict[str, Any] = {
    **{f"numpy.{core}.multiarray.scalar": _number for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _empty_array for core in ("core", "_core")},
    "numpy.dtype": _DType,
    "numpy.ndarray": _Array,
    "collections.defaultdict": _empty_dict,  # an optimizer's state, with one of the two below as the factory
    "builtins.dict": _empty_dict,
    "builtins.list": _empty_dict,
}
STORED = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
# What torch allows by itself and weights files need; its own list is longer.
FROM_TORCH = {
    "collections.OrderedDict",  # containers that only hold what they are given
    "collections.Counter",
    "_codecs.encode",  # bytes, written as text: turns text into bytes by one of Python's own encodings
    "torch._utils._rebuild_tensor_v2",  # a tensor as a view of a storage, whose size torch checks
    "torch._utils._rebuild_parameter",  # the same, marked as trainable
    "torch.device",  # plain values
    "torch.Size",
    *(f"torch.{t}Storage" for t in STORED),
}


def safe_load(path: Path) -> Any:
    """Return the containers, numbers, strings and CPU tensors that `torch.save` wrote into a file.

    Tensors of a zip archive are views of the file, read when they are used; copy those that are to stay.

    Raises:
        ModelError: for whatever is not at a whole torch file, or refers to anything that weights do not need.
    """
    import torch

    if path.suffix.lower() in (".pkl", ".pickle"):
        raise ModelError(
            _(
                "{file} is a pickle of Python objects, which LightSeg never opens because it can run code. "
                "Use the checkpoint itself (.pth or .model); the model card contains the plans."
            ).format(file=path.name)
        )
    start = _start(path)
    zipped = start.startswith(ZIP_START)
    if not zipped and not start.startswith(LEGACY_START):
        raise _not_torch(path, start)
    try:
        for name in _names_in_zip(path) if zipped else _names_in_legacy(path):
            if name not in STAND_INS and name not in FROM_TORCH:
                raise _Refused(name)
        if zipped:
            _check_zip(path)
        else:
            _check_legacy(path)
        with _only_stand_ins():
            # Mapped, a storage ends where the file ends. torch before 2.10 believed any size (CVE-2026-24747).
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except ModelError:
        raise
    except _Refused as error:
        raise ModelError(
            _(
                "The weights file {file} refers to {name}, which weights do not need; "
                "it was not opened because that could run code. Use a file with a plain state dict: "
                "torch.save(model.state_dict(), 'weights.pth')."
            ).format(file=path.name, name=error)
        ) from error
    except Exception as error:  # broken bytes can break any line of the readers
        raise ModelError(
            _("The weights file {file} is damaged or incomplete ({reason}). Download or copy it again.").format(
                file=path.name, reason=first_line(error)
            )
        ) from error


def _start(path: Path) -> bytes:
    """Return the first bytes of a file."""
    try:
        with path.open("rb") as stream:
            return stream.read(1024)
    except OSError as error:
        if path.is_dir():
            raise ModelError(
                _("{file} is a folder, not a weights file. Choose the checkpoint inside.").format(file=path)
            ) from error
        if not path.exists():
            raise ModelError(
                _("The weights file {file} is missing. Install the model again or put the file back.").format(file=path)
            ) from error
        raise ModelError(
            _("The weights file {file} cannot be read ({reason}). Check the disk and its permissions.").format(
                file=path, reason=error.strerror or error
            )
        ) from error


def _check_zip(path: Path) -> None:
    """Check that torch reads the pickle whose names were read here, and that each tensor has its data.

    torch takes the first entry's folder, and of names that differ in capitals alone whichever it finds first. A zip
    archive has a checksum of every tensor; torch does not look at them. Mapped, a tensor with less data than it has
    numbers would go on with whatever follows in the file.
    """
    import torch

    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        folded = {entry.filename.casefold() for entry in entries}
        if len(folded) != len(entries):
            raise zipfile.BadZipFile(_("two of its entries have the same name"))
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(_("the checksum of {entry} does not match").format(entry=damaged))
        ours = [archive.read(entry) for entry in entries if entry.filename.endswith("/data.pkl")]
    theirs = torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
    if theirs not in ours:
        raise zipfile.BadZipFile(_("its content is ambiguous"))
    folder, _slash, _name = entries[0].filename.partition("/")
    records = {entry.filename: entry.file_size for entry in entries}
    storages = Scan(io.BytesIO(theirs), size).storages
    if short := [key for key, length in storages.items() if length > records.get(f"{folder}/data/{key}", 0)]:
        raise ValueError(_("there is too little data for {count} of its tensors").format(count=len(short)))


def _check_legacy(path: Path) -> None:
    """Check that the file has the numbers of every tensor; torch would leave others as uninitialized memory."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        *_others, content, keys = (Scan(stream, size) for _ in range(LEGACY_PICKLES))
    if missing := set(content.storages) - set(keys.texts):
        raise ValueError(_("there is no data for {count} of its tensors").format(count=len(missing)))


@contextmanager
def _only_stand_ins() -> Iterator[None]:
    """Torch's allow-list holds for the whole process: ours alone meanwhile, the others' again afterwards."""
    from torch import serialization

    others = serialization.get_safe_globals()
    serialization.clear_safe_globals()
    try:
        with serialization.safe_globals([(function, name) for name, function in STAND_INS.items()]):
            yield
    finally:
        serialization.add_safe_globals(others)


# --- the names in a pickle ---------------------------------------------------------------------


def _names_in_zip(path: Path) -> Iterator[str]:
    """Yield the names that the pickles in a zip archive import."""
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise ModelError(
                _("{file} is a TorchScript program, which contains code. Use a file with a plain state dict.").format(
                    file=path.name
                )
            )
        if not pickles:
            raise ModelError(
                _(
                    "{file} is a zip archive that torch did not write, not a weights file. "
                    "Unpack it and use the checkpoint (.pth or .model) inside."
                ).format(file=path.name)
            )
        _check_sizes(archive, path.stat().st_size)
        for name in pickles:
            with archive.open(name) as stream:
                yield from names(stream)


def _check_sizes(archive: zipfile.ZipFile, size: int) -> None:
    """Check that the entries are as torch writes them, unpacked and side by side, before any of them is read.

    Raises:
        BadZipFile: for packed entries, of which a file of a megabyte can hold gigabytes, or for overlapping ones.
    """
    entries = archive.infolist()
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if not stored or sum(entry.file_size for entry in entries) > size:
        raise zipfile.BadZipFile(_("its entries are larger than the file"))


def _names_in_legacy(path: Path) -> Iterator[str]:
    """Yield the names that the pickles in a file of torch before 1.6 import."""
    with path.open("rb") as stream:
        for _ in range(LEGACY_PICKLES):
            yield from names(stream)


# --- what else a file may be -------------------------------------------------------------------


def _not_torch(path: Path, start: bytes) -> ModelError:
    """Return the error for a file that begins neither as a zip archive nor with torch's magic number."""
    text = start.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if not text:
        return ModelError(_("The weights file {file} is empty. Download or copy it again.").format(file=path.name))
    if re.match(r"<(!doctype html|html|head|\?xml|!--)", text, re.IGNORECASE):
        return ModelError(
            _(
                "{file} is a web page, not a weights file: the download page was saved instead of the file. "
                "Open the page in a browser and use its download button."
            ).format(file=path.name)
        )
    names = _names_in_pickle(path)
    if names or start[0] == 0x80:  # binary pickles, of protocol 2 and later, begin with this byte
        kind = _("a Python pickle that refers to {name}").format(name=names[0]) if names else _("a Python pickle")
        return ModelError(
            _(
                "{file} is {kind}, not a torch file; it was not opened because that could run code. "
                "Use a file that torch.save wrote."
            ).format(file=path.name, kind=kind)
        )
    if "\ufffd" not in text[:-3] and " ".join(text.split()).isprintable():
        return ModelError(
            _(
                "{file} is a text file, not a weights file; it begins with '{beginning}'. "
                "Download the checkpoint itself."
            ).format(file=path.name, beginning=text.splitlines()[0][:60])
        )
    return ModelError(
        _("{file} was not written by torch.save. Use a checkpoint (.pth, .pt or .model).").format(file=path.name)
    )


def _names_in_pickle(path: Path) -> list[str]:
    """Return the names that a plain pickle imports; none if the file is not one."""
    try:
        with path.open("rb") as stream:
            return list(names(stream, newest_protocol=255))
    except Exception:  # whatever the bytes mean, they are no pickle
        return []


def first_line(error: Exception) -> str:
    """Return the first line of a reader's message, without torch's advice for trusted files."""
    if error.args and isinstance(error.args[0], Message):
        return error.args[0]
    lines = str(error).split("WeightsUnpickler error: ")[-1].strip().splitlines()
    if lines and "weights_only" in lines[0]:
        return _("it contains objects that weights do not need")
    return lines[0].rstrip(". ") if lines else type(error).__name__
