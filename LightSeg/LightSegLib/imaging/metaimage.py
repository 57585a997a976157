"""MetaImage files: positions and values of their voxels.

Fields are those of MetaIO's documentation (https://itk.org/Wiki/ITK/MetaIO/Documentation). Its coordinates are LPS, as
ITK reads them; what it states by default, where a file states nothing, is reported by a notice. Numbers are read by
Python, whatever the locale's decimal point is.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.i18n import Message, joined
from ..core.i18n import tr as _
from .detached import Layout, read_header, read_numbers
from .geometry import FARTHEST, Geometry
from .headers import check_spacing, converted, finite, not_scalar, other_format, whole
from .packed import RAW, ZLIB

TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
UNITS = {"": 1.0, "?": 1.0, "mm": 1.0, "cm": 10.0, "um": 0.001}
MATRIX = ("transformmatrix", "rotation", "orientation")  # names of the same field, as the next ones
OFFSET = ("offset", "origin", "position")
FLAGS = dict.fromkeys(("true", "t", "1"), True) | dict.fromkeys(("false", "f", "0"), False)
LPS = ("", "rai", "???", "??")  # AnatomicalOrientation of a file without matrix, from where its axes run


def read_metaimage(path: Path) -> tuple[np.ndarray, Geometry, tuple[Message, ...]]:
    """Voxels [k, j, i], geometry and notices.

    Raises:
        InputError: for what is not a complete file with one scalar 3D image at a known place.
        OSError: if the file cannot be read or written.
    """
    name = path.name
    content, start = read_header(path)
    fields = _parsed(name, content)
    lengths = _lengths(name, fields)
    geometry, notices = _geometry(name, fields, lengths)
    return _voxels(path, fields, start, lengths).reshape(geometry.shape), geometry, notices


def _parsed(name: str, content: bytes) -> dict[str, str]:
    """Return the fields by their names in small letters."""
    fields: dict[str, str] = {}
    for line in filter(str.strip, content.decode("utf-8-sig", "replace").splitlines()):
        field, *value = (part.strip() for part in re.split("[=:]", line, maxsplit=1))
        key = field.lower()
        if not fields and not (value and key.isidentifier()):  # such as the bytes of another format
            raise other_format(name, content, _("a MetaImage file"))
        if not value or key in fields:
            why = _("occurs twice") if key in fields else _("is not a field of the format")
            raise _wrong(name, _("'{field}' in its header {reason}").format(field=field[:60], reason=why))
        fields[key] = value[0]
        if key == "elementdatafile":
            break
    if fields.get("objecttype", "image").lower() != "image" or not {"ndims", "elementdatafile"} <= fields.keys():
        raise other_format(name, content, _("a MetaImage file"))
    return fields


def _lengths(name: str, fields: dict[str, str]) -> list[int]:
    """Return the number of voxels along i, j, k.

    Raises:
        InputError: for other than three, but for one point in time.
    """
    lengths = [whole(word) or 0 for word in fields.get("dimsize", "").split()]
    if not lengths or min(lengths) < 1 or whole(fields["ndims"]) != len(lengths):
        raise _wrong(name, _("its header gives no valid size"))
    components = whole(fields.get("elementnumberofchannels", "1"))
    if components != 1:
        raise not_scalar(name, components or 2)
    if len(lengths) == 4 and lengths[3] == 1:
        lengths.pop()
    if len(lengths) != 3:
        raise not_scalar(name, dimensions=len(lengths))
    return lengths


def _geometry(name: str, fields: dict[str, str], lengths: list[int]) -> tuple[Geometry, tuple[Message, ...]]:
    """Return the geometry of a MetaImage header, and notices about what was assumed."""
    axes = whole(fields["ndims"]) or 3
    spacing = _numbers(name, fields, ("elementspacing", "elementsize"), axes)
    matrix = _numbers(name, fields, MATRIX, axes * axes)
    offset = _numbers(name, fields, OFFSET, axes)
    center = _numbers(name, fields, ("centerofrotation",), axes)
    unit = UNITS.get(fields.get("distanceunits", "").lower())
    if spacing is None:
        raise InputError(
            _(
                "{file} has no ElementSpacing, so the size of its voxels is unknown. Save it again with its spacing."
            ).format(file=name)
        )
    check_spacing(name, spacing[:3].tolist())
    if unit is None:
        raise _wrong(
            name, _("its header has the unsupported DistanceUnits '{units}'").format(units=fields["distanceunits"][:60])
        )
    oriented = fields.get("anatomicalorientation", "").lower()
    if matrix is None and oriented not in LPS:
        raise InputError(
            _(
                "{file} has no TransformMatrix but the AnatomicalOrientation '{orientation}', "
                "so its position is unknown. Save it again with its matrix."
            ).format(file=name, orientation=oriented[:20].upper())
        )
    if center is not None and center.any() and matrix is not None and not np.allclose(matrix, np.eye(axes).ravel()):
        raise InputError(
            _(
                "{file} has a CenterOfRotation, which programs interpret in different ways. "
                "Save it again, for example with 3D Slicer."
            ).format(file=name)
        )
    missing = [word for word, found in (("TransformMatrix", matrix), ("Offset", offset)) if found is None]
    rows = np.eye(axes) if matrix is None else matrix.reshape(axes, axes)  # a row is the direction of an axis
    if axes > 3 and (rows[:3, 3:].any() or rows[3:, :3].any()):
        raise _wrong(name, _("its axes in space and in time are mixed"))
    place = np.eye(4)
    place[:3, :3] = rows[:3, :3].T * spacing[:3] * unit
    place[:3, 3] = 0 if offset is None else offset[:3] * unit
    i, j, k = lengths
    geometry = Geometry.from_index_to_world(place, (k, j, i))
    notices = (_assumed(name, missing),) if missing else ()
    return geometry, (*notices, converted(name, fields["distanceunits"])) if unit != 1 else notices


def _assumed(name: str, missing: list[str]) -> Message:
    """Return the notice about fields that a header lacks."""
    words = joined(_(" and "), missing)
    return _(
        "{file} has no {fields}, so the defaults of MetaImage were used: axes pointing left, "
        "back and up, starting at the origin. Check that left and right are not swapped."
    ).format(file=name, fields=words)


def _numbers(name: str, fields: dict[str, str], names: tuple[str, ...], count: int) -> np.ndarray | None:
    """Return the numbers of the first field that is present, or None."""
    found = [one for one in names if one in fields]
    if not found:
        return None
    stated = fields[found[0]]
    if names in (MATRIX, OFFSET) and any(fields[other].split() != stated.split() for other in found[1:]):
        raise _wrong(name, _("its header states its position twice, differently"))
    values = np.array([finite(word) for word in stated.split()])
    if len(values) != count or not np.isfinite(values).all():
        raise _wrong(
            name, _("'{value}' in its header is not a list of {count} numbers").format(value=stated[:60], count=count)
        )
    if np.abs(values).max() > FARTHEST:
        raise _wrong(
            name, _("'{value}' in its header is not plausible as a spacing or position").format(value=stated[:60])
        )
    return values


def _voxels(path: Path, fields: dict[str, str], start: int, lengths: list[int]) -> np.ndarray:
    """Return all numbers in storage order."""
    name = path.name
    kind = TYPES.get(fields.get("elementtype", "").upper())
    if kind is None:
        raise _wrong(
            name, _("voxels of the type '{type}' are not supported").format(type=fields.get("elementtype", "")[:60])
        )
    scale = finite(fields.get("elementtointensityfunctionslope", "1"))
    shift = finite(fields.get("elementtointensityfunctionoffset", "0"))
    if (scale, shift) != (1, 0):
        raise _wrong(name, _("it uses ElementToIntensityFunction, which few programs support"))
    skipped = whole(fields.get("headersize", "0"))
    if skipped is None or skipped < -1:
        raise _wrong(name, _("its HeaderSize is not a number"))
    packing = ZLIB if _flag(name, fields, "compresseddata") else RAW
    if packing == ZLIB and skipped:
        raise _wrong(name, _("it has a HeaderSize although its voxels are compressed"))
    big = _flag(name, fields, "binarydatabyteordermsb") or _flag(name, fields, "elementbyteordermsb")
    text = not _flag(name, fields, "binarydata", absent=True)
    return read_numbers(
        path, Layout((">" if big else "<") + kind, math.prod(lengths), start, packing, 0, skipped, text)
    )


def _flag(name: str, fields: dict[str, str], field: str, absent: bool = False) -> bool:
    """Return a field that is True or False.

    Raises:
        InputError: for any other value.
    """
    found = FLAGS.get(fields[field].lower()) if field in fields else absent
    if found is None:
        raise _wrong(name, _("its {field} is neither True nor False").format(field=field))
    return found


def _wrong(name: str, what: str) -> InputError:
    """Return the error for a header that makes no sense."""
    return InputError(
        _("{file} cannot be read as an image ({reason}). Save it again, for example with 3D Slicer.").format(
            file=name, reason=what
        )
    )
