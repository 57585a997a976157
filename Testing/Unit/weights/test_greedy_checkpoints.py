"""A small file cannot ask for much memory or time, nor be read in another way than it was checked."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import LEGACY
from LightSegLib.core.errors import ModelError
from LightSegLib.weights.checkpoint import read_checkpoint
from torch import nn

LIBRARY = Path(__file__).resolve().parents[3] / "LightSeg"
ROOM = 1 << 30  # bytes that reading may take, torch included once it is imported


# --- pickles by hand (protocol 2; pickletools has the operations) -----------------------------------


def text(words: str) -> bytes:
    content = words.encode("utf-8")
    return b"X" + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    content = pickle.encode_long(value)
    return b"\x8a" + bytes([len(content)]) + content


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def row(*entries: bytes) -> bytes:
    return b"(" + b"".join(entries) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + row(*arguments) + b"R"


def table(**entries: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def tensor(size: int = 4, stride: int = 1, device: str = "cpu", count: int = 4, other_folds: bytes = b"") -> bytes:
    """Of a storage with `count` numbers. further: of a legacy file's storage."""
    kind = name("torch", "FloatStorage")
    storage = row(text("storage"), kind, text("0"), text(device), number(count), other_folds) + b"Q"
    hooks = call(name("collections", "OrderedDict"))
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, storage, number(0), row(number(size)), row(number(stride)), b"\x89", hooks)


def put(slot: int) -> bytes:
    return b"r" + struct.pack("<I", slot)


def get(slot: int) -> bytes:
    return b"j" + struct.pack("<I", slot)


def write_zip(path: Path, content: bytes, more: dict[str, bytes] | None = None, compression: int = 0) -> None:
    entries = {"data.pkl": content, "byteorder": b"little", "data/0": struct.pack("<4f", 1, 2, 3, 4), "version": b"3\n"}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry, data in (entries | (more or {})).items():
            archive.writestr(f"archive/{entry}", data)


def program(*operations: bytes) -> bytes:
    return b"\x80\x02" + b"".join(operations) + b"."


def with_plans(plans: bytes, before: bytes = b"") -> bytes:
    """A checkpoint of nnU-Net v2. before: operations whose results are put aside."""
    return program(before, table(network_weights=table(w=tensor()), init_args=table(plans=plans)))


def doubled(entry: bytes, levels: int) -> bytes:
    """A list of twice the list below: few bytes for 2 ** levels entries."""
    operations = entry + put(0)
    for level in range(levels):
        operations += b"](" + get(level) * 2 + b"e" + put(level + 1)
    return operations


LONG = "a" * 200_000
GREEDY = {
    "a number repeated without end": program(table(w=tensor(10**9, 0))),
    "a number repeated in the plans": with_plans(tensor(10**9, 0)),
    "lists of lists": with_plans(doubled(b"]", 40)),
    "a long text in many places": with_plans(b"](" + text(LONG) + put(1) + get(1) * 100 + b"e"),
    "a long text as bytes, again and again": with_plans(
        b"](" + call(name("_codecs", "encode") + put(1), text(LONG) + put(2), text("latin1") + put(3))
        + (get(1) + b"(" + get(2) + get(3) + b"tR") * 20_000 + b"e"
    ),
    "bytes in a slow encoding": with_plans(call(name("_codecs", "encode"), text(LONG), text("punycode"))),
    "bytes of bytes": with_plans(call(name("_codecs", "encode"), text(LONG), text("utf-32"))),
    "a key that takes ages to hash": with_plans(
        b"}(" + b")" + b"".join(put(n) + get(n) + b"\x86" for n in range(60)) + b"Nu"
    ),
    "an array of no size": with_plans(
        call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), row(number(0)), text("b"))
        + row(
            number(1),
            row(number(10**9), number(0)),
            call(name("numpy", "dtype"), text("f4"), number(0), number(1)),
            b"\x89",
            call(name("_codecs", "encode"), text(""), text("latin1")),
        )
        + b"b"
    ),
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of memory")
def test_small_files_take_little_memory_and_time(tmp_path: Path) -> None:
    """In a process that may take a gigabyte and some seconds more than torch has taken."""
    for what, content in GREEDY.items():
        write_zip(tmp_path / f"{what}.pth", content)
    write_legacy(tmp_path / "more than a legacy file holds.pth", ["0"], bytes(24), count=10**8)
    script = (
        f"import sys; sys.path.insert(0, {str(LIBRARY)!r})\n"
        "import pathlib, resource, torch\n"
        "from LightSegLib.core.errors import ModelError\n"
        "from LightSegLib.weights.checkpoint import read_checkpoint\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {ROOM}, used + {ROOM}))\n"
        "used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (used + 20, used + 21))\n"
        f"for path in pathlib.Path({str(tmp_path)!r}).glob('*.pth'):\n"
        "    try:\n"
        "        read_checkpoint(path)\n"
        "        print('was read:', path.name)\n"
        "    except ModelError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    lines = done.stdout.splitlines()
    assert len(lines) == len(GREEDY) + 1
    for line in lines:
        assert "is damaged" in line and "MemoryError" not in line and "allocate" not in line


def test_packed_entries_are_refused_before_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pickle itself among them: a megabyte of a file can hold a gigabyte of it."""
    write_zip(tmp_path / "w.pth", program(table(w=tensor())), {"data/1": bytes(10_000_000)}, zipfile.ZIP_DEFLATED)

    def unpacking(*_: object) -> None:
        pytest.fail("an entry was unpacked")

    monkeypatch.setattr(zipfile.ZipFile, "open", unpacking)
    with pytest.raises(ModelError, match="its entries are larger than the file"):
        read_checkpoint(tmp_path / "w.pth")


# --- what was checked is what torch reads -----------------------------------------------------------


@pytest.mark.parametrize("other", ["DATA.PKL", "Data.pkl", "data.pkl"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_pickles_none_is_read(tmp_path: Path, other: str) -> None:
    """Python finds one by its exact name, torch the first one in whatever letters."""
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"archive/{other}", program(call(name("posix", "system"), text("true"))))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data.pkl", program(table(w=tensor())))
        archive.writestr("archive/data/0", bytes(16))
    with pytest.raises(ModelError, match=r"two of its entries have the same name|refers to posix\.system"):
        read_checkpoint(path)


def test_the_pickle_of_another_folder_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ARCHIVE/version", b"3\n")  # the first entry names the folder in which torch looks
        archive.writestr("archive/data.pkl", program(table(w=tensor())))
        archive.writestr("archive/data/0", bytes(16))
    with pytest.raises(ModelError):
        read_checkpoint(path)


# --- tensors without numbers ------------------------------------------------------------------------


def write_legacy(path: Path, keys: list[str], numbers: bytes, count: int = 4) -> None:
    legacy = tensor(count, count=count, other_folds=b"N")
    start = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    path.write_bytes(
        b"".join(pickle.dumps(entry, 2) for entry in start) + program(table(w=legacy)) + pickle.dumps(keys, 2) + numbers
    )


def test_a_zip_must_have_the_numbers_of_its_tensors(tmp_path: Path) -> None:
    """Else the bytes that follow in the file would become weights."""
    path = tmp_path / "w.pth"
    write_zip(path, program(table(w=tensor(4, count=4))))
    assert read_checkpoint(path).state["w"].tolist() == [1, 2, 3, 4]
    write_zip(path, program(table(w=tensor(5, count=5))))
    with pytest.raises(ModelError, match="there is too little data for 1 of its tensors"):
        read_checkpoint(path)


def test_a_legacy_file_must_have_the_numbers_of_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    write_legacy(path, ["0"], struct.pack("<q4f", 4, 1, 2, 3, 4))
    assert read_checkpoint(path).state["w"].tolist() == [1, 2, 3, 4]
    write_legacy(path, [], b"")
    with pytest.raises(ModelError, match="there is no data for 1 of its tensors"):
        read_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_meta_tensor_is_refused(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "w.pth"
    if legacy:
        torch.save({"w": torch.zeros(4, device="meta")}, path, **LEGACY)
    else:
        write_zip(path, program(table(w=tensor(device="meta"))))
    with pytest.raises(ModelError):
        read_checkpoint(path)


# --- containers that are not what they seem ---------------------------------------------------------


@pytest.mark.parametrize("kind", ["OrderedDict", "Counter"])
def test_a_dict_with_other_functions_is_refused(tmp_path: Path, kind: str) -> None:
    """Asking it for its items would give what the file holds."""
    other = table(items=name("builtins", "dict"))
    weights = call(name("collections", kind)) + b"(" + text("w") + tensor() + b"u"
    write_zip(tmp_path / "w.pth", program(weights, other, b"b"))
    with pytest.raises(ModelError, match="it changes what a dict can do"):
        read_checkpoint(tmp_path / "w.pth")


# --- what is sound stays so -------------------------------------------------------------------------


def test_shared_and_transposed_tensors_stay_as_they_are(network: nn.Module, tmp_path: Path) -> None:
    state: dict[str, Any] = OrderedDict(network.state_dict())
    first = next(iter(state.values()))
    state["again"], state["turned"] = first, first.transpose(0, 2)
    torch.save(state, tmp_path / "w.pth")
    found = read_checkpoint(tmp_path / "w.pth").state
    assert found["again"] is found[next(iter(state))]
    assert torch.equal(found["turned"], first.transpose(0, 2))
