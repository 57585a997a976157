"""NRRD files: positions and values of their voxels.

Fields are those of the definition of NRRD (G. Kindlmann, https://teem.sourceforge.net/nrrd/format.html). It has no
place by default: a file that states no space, direction or origin is refused. Numbers are read by Python, whatever the
locale's decimal point is.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.i18n import Message
from ..core.i18n import tr as _
from .detached import Layout, number_blocks, read_header, read_numbers
from .frame_file import FrameLayout
from .geometry import FARTHEST, Geometry
from .headers import check_spacing, converted, finite, not_scalar, other_format, several_images, whole
from .nrrd_times import nrrd_moments
from .packed import BZIP2, GZIP, RAW
from .segmentation_file import segment_names

MAGIC = re.compile(rb"NRRD000[1-5]\r?$")
PACKINGS = {"raw": RAW, "gzip": GZIP, "gz": GZIP, "bzip2": BZIP2, "bz2": BZIP2}
TEXT = ("ascii", "text", "txt")
KINDS = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
TYPES = {name: kind for kind, names in KINDS.items() for name in names.split(", ")}
TO_LPS = {  # by which x, y, z of a space become those of LPS
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
}
UNITS = {"mm": 1.0, "": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "µm": 0.001, "micron": 0.001}
IN_SPACE = ("domain", "space", "time", "none", "???")  # kinds of axes along which there are several voxels
OVER_TIME = ("time", "list")  # kinds of axes along which there may be frames
KNOWN = (
    *("type", "dimension", "sizes", "encoding", "endian", "space", "spacedimension", "spacedirections", "spaceorigin"),
    *("spaceunits", "spacings", "kinds", "centers", "centerings", "labels", "units", "thicknesses", "axismins"),
    *("axismaxs", "content", "number", "min", "max", "oldmin", "oldmax", "blocksize", "datafile", "lineskip"),
    *("byteskip", "sampleunits", "measurementframe"),
)


@dataclass(frozen=True)
class Nrrd:
    """A header: fields by their names without blanks, in small letters, and the key/value pairs."""

    name: str
    fields: dict[str, str]
    pairs: dict[str, str]

    @property
    def is_segmentation(self) -> bool:
        """Whether it is 3D Slicer's file of a segmentation, by the pairs that describe its segments."""
        return "Segment0_ID" in self.pairs or "Segmentation_MasterRepresentation" in self.pairs

    @property
    def units(self) -> list[str]:
        """Units of the space's axes, none if they are not stated."""
        return [unit.strip().lower() for unit in re.findall(r'"([^"]*)"', self.fields.get("spaceunits", ""))]

    @property
    def notices(self) -> tuple[Message, ...]:
        """What a user should know about the position."""
        others = sorted({unit for unit in self.units if UNITS[unit] != 1})
        return (converted(self.name, ", ".join(others)),) if others else ()

    def words(self, field: str) -> list[str]:
        """Return the words of a field, none if it is missing."""
        return self.fields.get(field, "").split()


def read_nrrd(path: Path) -> tuple[np.ndarray, Geometry, Nrrd]:
    """Return the voxels [k, j, i], geometry and header.

    Raises:
        InputError: for what is not a complete file with one scalar 3D image at a known place.
        OSError: if the file cannot be read or written.
    """
    content, start = read_header(path)
    header = _parsed(path.name, content)
    lengths, spatial = _axes(header)
    geometry = _geometry(header, tuple(lengths[axis] for axis in spatial))
    return _voxels(path, header, start).reshape(geometry.shape), geometry, header


def nrrd_segment_names(path: Path) -> dict[int, str]:
    """Return the names that 3D Slicer's file of a segmentation gives its label values; only the header is read.

    Raises:
        InputError: for what is not an NRRD header.
        OSError: if the file cannot be read or written.
    """
    return segment_names(_parsed(path.name, read_header(path)[0]).pairs)


def nrrd_frames(path: Path) -> FrameLayout | None:
    """Return what a file states about its frames over time, or None for an image of three dimensions.

    The frames are along an axis of the kind "time" or, as in Slicer's sequences, "list", before or after the spatial
    axes.

    Raises as `read_nrrd`.
    """
    content, start = read_header(path)
    header = _parsed(path.name, content)
    axis = _frame_axis(header)
    if axis is None:
        return None
    lengths, spatial = _axes(header, axis)
    count, last = lengths[axis], axis == len(lengths) - 1
    layout = _layout(header, start)
    return FrameLayout(
        path,
        _geometry(header, tuple(lengths[one] for one in spatial)),
        np.dtype(layout.kind),
        lambda: number_blocks(path, layout),
        nrrd_moments(header.fields, header.pairs, axis, count),
        inner=0 if last else math.prod(lengths[:axis]),
        notices=header.notices,
    )


def _frame_axis(header: Nrrd) -> int | None:
    """Return the axis along which frames are, or None."""
    lengths = [whole(word) or 0 for word in header.words("sizes")]
    kinds = [word.lower() for word in header.words("kinds")]
    if header.is_segmentation or len(lengths) != len(kinds):
        return None
    found = [axis for axis, kind in enumerate(kinds) if kind in OVER_TIME and lengths[axis] > 1]
    return found[0] if len(found) == 1 else None


def _parsed(name: str, content: bytes) -> Nrrd:
    """Return the fields of an NRRD header.

    Raises:
        InputError: for what is not an NRRD header.
    """
    first, *lines = content.split(b"\n")
    if not MAGIC.match(first):
        raise other_format(name, content, _("an NRRD file"))
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for line in (one.decode("utf-8", "replace").rstrip("\r") for one in lines):
        if not line or line[0] == "#":
            continue
        field, pair, value = line.partition(":=")
        if pair:
            pairs[field] = value
            continue
        field, colon, value = line.partition(":")
        known = re.sub(r"[ \t]", "", field).lower()
        if not colon or known not in KNOWN or known in fields:
            why = _("occurs twice") if known in fields else _("is not a field of the format")
            raise _wrong(name, _("'{field}' in its header {reason}").format(field=field[:60], reason=why))
        fields[known] = value.strip()
        if known == "datafile" and value.split()[:1] == ["LIST"]:
            break
    return Nrrd(name, fields, pairs)


def _axes(header: Nrrd, frames: int | None = None) -> tuple[list[int], list[int]]:
    """Return the lengths of all axes, and the three spatial axes, the fastest first.

    Args:
        frames: an axis along which there are frames over time, if any.
    """
    name = header.name
    lengths = [whole(word) or 0 for word in header.words("sizes")]
    count = whole(header.fields.get("dimension", ""))
    if not lengths or min(lengths) < 1 or count != len(lengths):
        raise _wrong(name, _("its header gives no valid size"))
    if "spacings" in header.fields:
        steps = zip(header.words("spacings"), lengths, strict=False)  # nan: stated in another way, or not at all
        check_spacing(name, [finite(word) for word, length in steps if length > 1 and word.lower() != "nan"])
    vectors = _vectors(header)
    kinds = [word.lower() for word in header.words("kinds")] or ["domain"] * count
    if len(kinds) != count or (vectors is not None and len(vectors) != count):
        raise _wrong(name, _("its header does not define the axes of all {count} dimensions").format(count=count))
    inside = [kind in IN_SPACE for kind in kinds] if vectors is None else [one is not None for one in vectors]
    others = [axis for axis in range(count) if axis != frames]
    spatial = [axis for axis in others if inside[axis]]
    for axis in others:
        if lengths[axis] > 1 and not inside[axis] and header.is_segmentation:
            raise InputError(
                _(
                    "{file} has segments that overlap, in {count} layers. "
                    "Save those that do not overlap as a file of their own."
                ).format(file=name, count=lengths[axis])
            )
        if lengths[axis] > 1 and not inside[axis]:
            if axis != _frame_axis(header):
                raise not_scalar(name, lengths[axis])
            timed = nrrd_moments(header.fields, header.pairs, axis, lengths[axis])[0].ms is not None
            raise several_images(name, lengths[axis], timed or kinds[axis] == "time")
    while len(spatial) > 3 and lengths[spatial[-1]] == 1:  # one point in time
        spatial.pop()
    if len(spatial) != 3:
        raise not_scalar(name, dimensions=len(spatial))
    return lengths, spatial


def _vectors(header: Nrrd) -> list[np.ndarray | None] | None:
    """Return the steps along the axes as stated, None for an axis that is not spatial; None without any."""
    text = header.fields.get("spacedirections")
    return None if text is None else [_vector(header, one) for one in re.findall(r"\([^)]*\)|[^\s()]+", text)]


def _vector(header: Nrrd, text: str) -> np.ndarray | None:
    """Return a vector of a header, or None for "none"."""
    if text.lower() == "none":
        return None
    values = [finite(word) for word in text.strip("()").split(",")]
    if not text.startswith("(") or not np.isfinite(values).all():
        raise _wrong(header.name, _("'{value}' in its header is not a position").format(value=text[:60]))
    return np.array(values)


def _geometry(header: Nrrd, lengths: tuple[int, ...]) -> Geometry:
    """Return the geometry of an NRRD header.

    Raises:
        InputError: if it does not say where the voxels are.
    """
    name, space = header.name, header.fields.get("space", "").lower()
    if space not in TO_LPS:
        stated = _("is in the space '{space}'").format(space=space[:60]) if space else _("does not name a space")
        raise InputError(
            _(
                "{file} {reason}, so left and right cannot be distinguished. "
                "Save it with a space such as left-posterior-superior."
            ).format(file=name, reason=stated)
        )
    vectors = [one for one in _vectors(header) or () if one is not None]
    origin = _vector(header, header.fields.get("spaceorigin", "none"))
    if origin is None or len(vectors) < 3:
        missing = "space directions" if len(vectors) < 3 else "space origin"
        raise InputError(
            _("{file} has no {missing}, so its position is unknown. Save it again with its position.").format(
                file=name, missing=missing
            )
        )
    units = [UNITS.get(unit) for unit in header.units]
    units = units if "spaceunits" in header.fields else [1.0, 1.0, 1.0]
    if any(len(one) != 3 for one in (*vectors, origin)):
        raise _wrong(name, _("its header does not define a position in three dimensions"))
    if len(units) != 3 or None in units:
        raise _wrong(
            name, _("its header has the unsupported space units {units}").format(units=header.fields["spaceunits"][:60])
        )
    if max(np.abs(one).max() for one in (*vectors, origin)) > FARTHEST:
        raise _wrong(name, _("its spacing or origin is not plausible for a medical image"))
    scale = np.array(units, float) * TO_LPS[space]
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(vectors[:3]).T * scale[:, None]
    matrix[:3, 3] = origin * scale
    check_spacing(name, np.linalg.norm(matrix[:3, :3], axis=0).tolist())
    i, j, k = lengths
    return Geometry.from_index_to_world(matrix, (k, j, i))


def _voxels(path: Path, header: Nrrd, start: int) -> np.ndarray:
    """Return all numbers in storage order."""
    return read_numbers(path, _layout(header, start))


def _layout(header: Nrrd, start: int) -> Layout:
    """Return how the numbers are stored.

    Raises:
        InputError: for a way that is not read.
    """
    name, fields = header.name, header.fields
    count = math.prod(int(word) for word in header.words("sizes"))
    kind = TYPES.get(" ".join(header.words("type")).lower())
    encoding = fields.get("encoding", "").lower()
    lines, skipped = whole(fields.get("lineskip", "0")), whole(fields.get("byteskip", "0"))
    if kind is None:
        raise _wrong(name, _("voxels of the type '{type}' are not supported").format(type=fields.get("type", "")[:60]))
    if encoding not in (*PACKINGS, *TEXT):
        raise _wrong(name, _("the encoding '{encoding}' is not supported").format(encoding=encoding[:60]))
    packing = PACKINGS.get(encoding, RAW)
    if lines is None or skipped is None or lines < 0 or skipped < -1 or ((lines or skipped) and packing != RAW):
        raise _wrong(name, _("its header uses line skip or byte skip in an unsupported way"))
    text = encoding in TEXT
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower(), "")
    if not order and not text and kind[1] != "1":
        raise _wrong(name, _("its header does not define the byte order (endian)"))
    return Layout(order + kind, count, start, packing, lines, skipped, text)


def _wrong(name: str, what: str) -> InputError:
    """Return the error for a header that makes no sense."""
    return InputError(
        _("{file} cannot be read as an image ({reason}). Save it again, for example with 3D Slicer.").format(
            file=name, reason=what
        )
    )
