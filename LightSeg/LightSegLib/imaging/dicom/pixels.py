"""The values of frames, each by its own slope and intercept."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import InputError
from ...core.i18n import tr as _
from .decoder import Decoder, DecodingError
from .frames import Frame

INTEGERS = (np.int16, np.uint16, np.int32)
RESCALING = (
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "SharedFunctionalGroupsSequence"),
    *("PerFrameFunctionalGroupsSequence", "RealWorldValueMappingSequence"),
)
PLAIN_IMAGE = "1.2.840.10008.5.1.4.1.1.4"  # MR Image Storage, in which GDCM rescales nothing


def type_of(frames: Sequence[Frame]) -> np.dtype:
    """Return the smallest type that holds every value of the frames; integer only if all are integers."""
    if any(frame.stored.bits == 0 or frame.stored.bits > 32 for frame in frames):
        return np.dtype(np.float64)
    low, high = 0.0, 0.0
    for slope, intercept, stored in {(frame.slope, frame.intercept, frame.stored) for frame in frames}:
        if slope != int(slope) or intercept != int(intercept):
            wide = max(frame.stored.bits for frame in frames) > 16
            return np.dtype(np.float64 if wide else np.float32)
        least, most = (
            (-(2 ** (stored.bits - 1)), 2 ** (stored.bits - 1) - 1) if stored.signed else (0, 2**stored.bits - 1)
        )
        ends = least * slope + intercept, most * slope + intercept
        low, high = min(low, *ends), max(high, *ends)
    fitting = (kind for kind in INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return np.dtype(next(fitting, np.float64))


class Pixels:
    """Values [j, i] of frames in one type.

    The file that was read last is kept, for the frames it has beside.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.dtype = type_of(frames)
        self._path: Path | None = None
        self._values: np.ndarray | None = None
        self._decoder = Decoder()

    def close(self) -> None:
        """End the process that decodes, where there is one."""
        self._decoder.close()

    def __call__(self, frame: Frame) -> np.ndarray:
        """Return the rescaled voxels [j, i] of a frame.

        Raises:
            InputError: for a file whose voxels cannot be read, by its name.
        """
        if self._path != frame.path or self._values is None:
            self._path, self._values = None, None
            self._values = _stored_values(frame, self._decoder)
            self._path = frame.path
        values = self._values[frame.number or 0]
        if values.shape != frame.shape:
            raise _unreadable(
                frame,
                _("its voxels have the shape {shape}, but its header gives {stated}").format(
                    shape=values.shape, stated=frame.shape
                ),
            )
        if frame.slope == 1 and frame.intercept == 0:
            return values.astype(self.dtype)
        whole = self.dtype.kind in {"i", "u"}
        exact = np.int64 if whole else np.float64
        return (values.astype(exact) * exact(frame.slope) + exact(frame.intercept)).astype(self.dtype)


def _stored_values(frame: Frame, decoder: Decoder) -> np.ndarray:
    """Return all frames of a file [n, j, i] as stored, decoded by pydicom or else GDCM."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(frame.path, force=True)
            if "PixelData" not in data and "FloatPixelData" not in data and "DoubleFloatPixelData" not in data:
                raise _unreadable(frame, _("the file ends before its voxels"))
            if "TransferSyntaxUID" not in data.file_meta:
                implicit, _little = data.original_encoding
                data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
            syntax = data.file_meta.TransferSyntaxUID
            if not syntax.is_transfer_syntax:
                raise _not_decoded(frame, syntax)
            values = _decoded(data, frame, decoder)
    except InputError:
        raise
    except Exception as error:  # whatever decoders stumble over in bytes of strangers
        if "missing dependencies" in str(error) or "handlers are available" in str(error):
            raise _not_decoded(frame, data.file_meta.TransferSyntaxUID) from error
        raise _unreadable(frame, f"{type(error).__name__}: {error}") from error
    values = values.reshape(-1, *values.shape[-2:])
    return values if frame.stored.bits == 0 or values.dtype.kind == "f" else _used_bits(values, frame)


def _decoded(data: Any, frame: Frame, decoder: Decoder) -> np.ndarray:
    """Return the decoded voxels of a file.

    Raises:
        InputError: if they cannot be decoded.
    """
    compressed = data.file_meta.TransferSyntaxUID.is_compressed
    try:
        if not compressed:
            _check_length(data, frame)
        return np.asarray(data.pixel_array)
    except InputError:
        raise
    except Exception as error:
        if not compressed:
            raise
        try:
            return _by_gdcm(data, decoder)
        except DecodingError as failure:
            unknown = "missing dependencies" in str(error) or "handlers are available" in str(error)
            raise (error if unknown else failure) from None


def _check_length(data: Any, frame: Frame) -> None:
    """Check that the pixel data are complete, and are those that the header describes.

    Raises:
        InputError: if they are not.
    """
    count = int(data.get("NumberOfFrames") or 1) * int(data.get("SamplesPerPixel") or 1)
    bits = int(data.get("BitsAllocated") or 0)
    if bits == 0:  # which pydicom refuses
        return
    row = frame.shape[1] * bits // 8
    expected = count * frame.shape[0] * row
    given = len(data.PixelData or b"") if "PixelData" in data else expected
    if given < expected:
        cut = _("the file ends before its last voxel: it has {given} of {expected} bytes")
        raise _unreadable(frame, cut.format(given=given, expected=expected))
    if given - expected >= max(row, 2):  # less is padding
        more = _("it has {given} bytes of voxels, but its header describes {expected}")
        raise _unreadable(frame, more.format(given=given, expected=expected))


def _by_gdcm(data: Any, decoder: Decoder) -> np.ndarray:
    """Stored values by GDCM, which would rescale all frames alike and invert some: a copy without reasons is read."""
    for name in RESCALING:
        if name in data:
            delattr(data, name)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = PLAIN_IMAGE
    data.PhotometricInterpretation = "MONOCHROME2"  # of the other kind GDCM inverts the values
    with tempfile.TemporaryDirectory(prefix="lightseg-") as folder:
        path = Path(folder, "slice.dcm")
        data.save_as(path)
        return decoder.decode(path)


def _used_bits(values: np.ndarray, frame: Frame) -> np.ndarray:
    """Return the values without the bits beside the stored ones, such as overlays."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    stored, size = frame.stored, values.dtype.itemsize * 8
    if stored.bits >= size or not stored.bits <= stored.high_bit + 1 <= size:
        return values
    bits = values.astype(values.dtype.str.replace("u", "i")) if stored.signed else values.view(f"u{size // 8}")
    left = size - 1 - stored.high_bit
    return (bits << left) >> (size - stored.bits)


def _not_decoded(frame: Frame, syntax: Any) -> InputError:
    """Return the error for a compression that is not known."""
    return InputError(
        _(
            "{file} in {folder} is compressed as {syntax}, which LightSeg cannot decode. "
            "Export the series without compression."
        ).format(file=frame.path.name, folder=frame.path.parent, syntax=syntax.name)
    )


def _unreadable(frame: Frame, reason: str) -> InputError:
    """Return the error for voxels that cannot be read."""
    return InputError(
        _(
            "The voxels of {file} in {folder} cannot be read ({reason}). The file is damaged or incomplete: "
            "copy it again."
        ).format(file=frame.path.name, folder=frame.path.parent, reason=reason)
    )
