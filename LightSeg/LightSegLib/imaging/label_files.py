"""NRRD and NIfTI files of labels, written byte by byte: complete or with the system's own error.

ITK writes decimal commas into NRRD headers where the user's locale has them, and does not say why a file could not be
written. The formats are those of `nrrd.py` and `nifti_header.py`.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np

from .affine import LARGEST_MOVE
from .geometry import Geometry
from .nifti_forms import NiftiForms
from .nifti_header import LABEL_INTENT

LEVEL = 4  # of compression: label maps take little of any
TYPES = {"u1": ("unsigned char", 2), "u2": ("unsigned short", 512)}  # names and codes in the two formats
MILLIMETERS, MILLISECONDS = 2, 16
BEGINNING = 352  # byte at which the voxels of a single NIfTI file begin


def write_nrrd(path: Path, voxels: np.ndarray, geometry: Geometry, pairs: Mapping[str, str]) -> None:
    """Write uint8 or uint16 voxels [k, j, i] and key/value pairs.

    Raises:
        OSError: if the file cannot be read or written.
    """
    with path.open("wb") as stream:
        stream.write(_nrrd_text(_nrrd_fields(voxels, geometry), pairs))
        with gzip.GzipFile("", "wb", LEVEL, stream, mtime=0) as packed:
            _write(packed, voxels)


def nrrd_header(
    voxels: np.ndarray, geometry: Geometry, name: str, unit: str, values: Sequence[str], node_class: str
) -> bytes:
    """Return the header of an NRRD file with several frames.

    Args:
        voxels: one of them.
        name: of the axis of the frames; unit: of it.
        values: one for each frame.
        node_class: of the frames in Slicer's scene.
    """
    fields = _nrrd_fields(voxels, geometry)
    fields["dimension"] = "4"
    fields["sizes"] += f" {len(values)}"
    fields["space directions"] += " none"
    fields["kinds"] += " list"
    fields["labels"] = f'"" "" "" "{name}"'
    fields["units"] = f'"" "" "" "{unit}"'
    pairs = {"axis 3 index type": "numeric", "axis 3 index values": " ".join(values), "DataNodeClassName": node_class}
    return _nrrd_text(fields, pairs)


def _nrrd_fields(voxels: np.ndarray, geometry: Geometry) -> dict[str, str]:
    """Return the fields of an NRRD file of one frame."""
    matrix = geometry.index_to_world
    return {
        "type": TYPES[voxels.dtype.str[1:]][0],
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, geometry.shape[::-1])),
        "space directions": " ".join(_vector(matrix[:3, axis]) for axis in range(3)),
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "gzip",
        "space origin": _vector(matrix[:3, 3]),
    }


def _nrrd_text(fields: Mapping[str, str], pairs: Mapping[str, str]) -> bytes:
    """Return the bytes of an NRRD header."""
    lines = ["NRRD0004", *(f"{name}: {value}" for name, value in fields.items())]
    lines += [f"{key}:={_escaped(value)}" for key, value in pairs.items()]
    return "\n".join([*lines, "", ""]).encode()


def write_nifti(path: Path, voxels: np.ndarray, geometry: Geometry) -> None:
    """Write uint8 or uint16 voxels [k, j, i] on a grid with right angles, packed if the name's ending asks for it.

    Raises:
        OSError: if the file cannot be read or written.
    """
    header = nifti_header(voxels, geometry)
    with path.open("wb") as stream:
        if not path.name.lower().endswith(".gz"):
            stream.write(header)
            _write(stream, voxels)
            return
        with gzip.GzipFile("", "wb", LEVEL, stream, mtime=0) as packed:
            packed.write(header)
            _write(packed, voxels)


def nifti_header(
    voxels: np.ndarray, geometry: Geometry, frames: int = 1, first_ms: float = 0, step_ms: float = 0
) -> bytes:
    """Return the first 352 bytes of a NIfTI-1 file of labels.

    The place is stated as in the NIfTI file of the image, if that is where it is from: programs that choose between its
    sform and qform in different ways then show the labels where they show the image. Else it is both.

    Args:
        voxels: of one frame.
        frames: how many there are, step_ms apart; 0 where that is not known.
    """
    forms = geometry.nifti
    if forms is None or not forms.places(geometry.index_to_world, geometry.shape, LARGEST_MOVE):
        forms = NiftiForms.of_matrix(geometry.index_to_world)
    header = bytearray(BEGINNING)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3 if frames == 1 else 4, *geometry.shape[::-1], frames, 1, 1, 1)
    struct.pack_into("<h", header, 68, LABEL_INTENT)  # so that the file is not taken for an image
    struct.pack_into("<2h", header, 70, TYPES[voxels.dtype.str[1:]][1], 8 * voxels.dtype.itemsize)
    struct.pack_into("<8f", header, 76, *forms.pixdim, step_ms, 0, 0, 0)
    struct.pack_into("<3f", header, 108, BEGINNING, 1, 0)  # offset, slope, intercept
    struct.pack_into("<B", header, 123, MILLIMETERS | (MILLISECONDS if step_ms else 0))
    struct.pack_into("<f", header, 136, first_ms)
    struct.pack_into("<2h", header, 252, forms.qform_code, forms.sform_code)
    struct.pack_into("<6f", header, 256, *forms.quaternion)
    struct.pack_into("<12f", header, 280, *forms.rows)
    struct.pack_into("<4s", header, 344, b"n+1\0")
    return bytes(header)


def _write(stream: IO[bytes] | gzip.GzipFile, voxels: np.ndarray) -> None:
    """A slice at a time, little endian."""
    for part in voxels:
        cast(IO[bytes], stream).write(np.ascontiguousarray(part, part.dtype.newbyteorder("<")).tobytes())


def _vector(values: np.ndarray) -> str:
    """Return a vector as NRRD writes it."""
    return f"({','.join(repr(float(value)) for value in values)})"


def _escaped(text: str) -> str:
    """NRRD's definition, "key/value pairs"."""
    return text.replace("\\", "\\\\").replace("\r", "").replace("\n", "\\n")
