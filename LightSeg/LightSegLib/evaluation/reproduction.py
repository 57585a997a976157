"""Segments again as a segmentation's provenance describes, and compares the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..catalog.lookup import find_card
from ..core.errors import InputError
from ..core.i18n import tr as _
from ..core.json_file import parse_json
from ..core.progress import ProgressCallback
from ..core.schema import conform
from ..imaging.readers import frame_moments, missing, read_grid
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import Segmentation, Volume
from ..imaging.writers import PROVENANCE
from ..inference.backends.precisions import AUTO, BACKENDS, INT8, OPENVINO8
from ..inference.options import AS_MODEL, InferenceOptions
from ..inference.segmenter import Segmenter

TEXT, TEXT_OR_NONE = {"type": "string"}, {"type": ["string", "null"]}
CORNERS = {
    "type": ["array", "null"],
    "minItems": 8,
    "maxItems": 8,
    "items": {"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "number"}},
}
SETTINGS = {
    "mirror": {"type": "boolean"},
    "largest_component": TEXT,
    "tile_overlap": {"type": ["number", "null"]},
    "split_sides": {"type": "boolean"},
    "orientation": TEXT_OR_NONE,
    "outer_resampling": TEXT,
    "structures": {"type": "array", "items": TEXT},
    "roi_lps": CORNERS,
    "region_lps": CORNERS,  # the same, in results of earlier versions
}
NEEDED = ("model", "version", "weights_sha256", "device", "computed_in", "settings", "lightseg")
FRAME = {"type": "object", "required": ["number"], "properties": {"number": {"type": "integer", "minimum": 1}}}
STATED = {
    **dict.fromkeys(NEEDED, TEXT),
    "settings": {"type": "object", "required": ["mirror", "largest_component"], "properties": SETTINGS},
    "processor": TEXT_OR_NONE,
    "libraries": {"type": ["object", "null"]},
    "reading": {"type": "array", "items": {"type": "object", "properties": {"frame": FRAME, "voxels_sha256": TEXT}}},
}
ENDING = ".seg.nrrd"
DIGITS = 12  # of a SHA-256 in words
PROVENANCE_SCHEMA = {"type": "object", "required": list(NEEDED), "properties": STATED}


@dataclass(frozen=True)
class Reproduction:
    """A result computed again, beside the one in the file.

    Attributes:
        segmentation: computed now.
        voxels: of the grid.
        different: voxels with another label than in the file.
        input_known: the file states of which voxels it was made.
        other_input: what shows, in words, that the volumes are not those of which the file was made.
        changes: what else is not as it was when the file was written, in words: software, model, processor.
    """

    segmentation: Segmentation
    voxels: int
    different: int
    input_known: bool
    other_input: list[str]
    changes: list[str]


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Return the provenance in the header of a segmentation that LightSeg has written.

    Raises:
        InputError: for a file that is missing, has no record, or one that lacks what is needed.
    """
    import SimpleITK as sitk

    if not Path(path).exists():
        raise missing(Path(path))
    reader, text = sitk.ImageFileReader(), ""
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        text = reader.GetMetaData(PROVENANCE) if reader.HasMetaDataKey(PROVENANCE) else ""
    except RuntimeError as error:
        if str(path).lower().endswith(ENDING):
            raise InputError(
                _("{file} cannot be read as a segmentation. It may be damaged: use another copy.").format(file=path)
            ) from error
    if not text:  # a DICOM segmentation has a part of it
        raise InputError(
            _(
                "{file} does not contain how it was computed, which of all formats only {ending} holds in full. "
                "Use a {ending} file written by 'lightseg segment' or 'lightseg batch'."
            ).format(file=path, ending=ENDING)
        )
    try:
        provenance: dict[str, Any] = conform(parse_json(text), PROVENANCE_SCHEMA, "its provenance")
    except ValueError as error:
        raise InputError(
            _(
                "{file} does not contain how it was computed ({reason}). "
                "Use a {ending} file written by 'lightseg segment' or 'lightseg batch'."
            ).format(file=path, reason=error, ending=ENDING)
        ) from error
    return provenance


def frames_of(result: str | Path, inputs: Sequence[str | Path]) -> list[int | None]:
    """Return the frame of each input, from 1, that a result states it was made of; None for a single volume.

    Raises:
        InputError: as `read_provenance` and `frame_moments`.
    """
    stated = [reading.get("frame") for reading in read_provenance(result).get("reading", ())]
    stated += [None] * len(inputs)  # a result of one without inputs, or of single volumes, states less
    return [
        frame["number"] if frame and frame_moments(Path(path)) else None
        for path, frame in zip(inputs, stated, strict=False)
    ]


def reproduce(
    result: str | Path,
    volumes: Sequence[Volume],
    model: str = "",
    progress: ProgressCallback | None = None,
    accept_license: bool = False,
) -> Reproduction:
    """Segment volumes again as a result's provenance describes, and compare the labels.

    Also raises what `Segmenter.segment` raises.

    Args:
        model: id, or path of a model folder; empty for the id that the file names.

    Raises:
        InputError: for a file that has no provenance or is on another grid than the volumes.
    """
    provenance = read_provenance(result)
    expected, geometry = read_grid(result)
    settings = provenance["settings"]
    card = find_card(model or provenance["model"])
    computed_in = provenance["computed_in"]
    options = InferenceOptions(
        device=provenance["device"],
        precision=_precision(computed_in, settings, bool(card.parts)),
        mirror=settings["mirror"],
        tile_overlap=settings.get("tile_overlap"),
        largest_component=settings["largest_component"],
        orientation=settings.get("orientation"),
        accept_license=accept_license,
        split_sides=settings.get("split_sides", True),
        outer_resampling=settings.get("outer_resampling", AS_MODEL),
        structures=settings.get("structures", ()),
    )
    segmenter = Segmenter(card, options)
    if volumes and not volumes[0].geometry.matches(geometry):
        raise InputError(
            _(
                "{volume} and {result} do not have the same grid. Use the volume from which the result was computed."
            ).format(volume=volumes[0].name, result=result)
        )
    corners = settings.get("roi_lps", settings.get("region_lps"))  # the latter in results of earlier versions
    roi = None if corners is None else RegionOfInterest(np.array(corners, float))
    segmentation = segmenter.segment(volumes, roi, progress)
    different = int(np.count_nonzero(segmentation.voxels != expected))
    then, now = provenance, segmentation.provenance
    known = any("voxels_sha256" in one for one in then.get("reading", ()))
    return Reproduction(segmentation, expected.size, different, known, _other_input(then, now), _changes(then, now))


def _precision(computed_in: str, settings: Mapping[str, Any], has_parts: bool) -> str:
    """Return the precision that leads to the backend of a result, or of each of its parts, which may differ."""
    if not has_parts or computed_in in BACKENDS:
        return computed_in
    return INT8 if settings.get("precision") in (INT8, OPENVINO8) else AUTO


def _other_input(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between the volumes of a file and those of today's run; versions to 0.2.0 noted no voxels."""
    facts = []
    for number, (old, new) in enumerate(zip(then.get("reading", ()), now.get("reading", ()), strict=False), start=1):
        of_input = f" of input {number}" if len(then["reading"]) > 1 else ""
        frames = [str((one.get("frame") or {}).get("number", "")) for one in (old, new)]
        facts.append((f"frame{of_input}", *(frames if all(frames) else ("", ""))))
        voxels = [one.get("voxels_sha256", "")[:DIGITS] for one in (old, new)]
        facts.append((f"SHA-256 of the voxels{of_input}", *(voxels if all(voxels) else ("", ""))))
    return _different(facts)


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between the provenance of a file and that of today's run."""
    facts = [
        ("LightSeg", then["lightseg"], __version__),
        ("version of the model", then["version"], now["version"]),
        ("weights", then["weights_sha256"], now["weights_sha256"]),
        ("processor", then.get("processor"), now["processor"]),
        ("device", then["device"], now["device"]),
        ("backend", then["computed_in"], now["computed_in"]),
    ]
    finder_then, finder_now = (one.get("region_from") or {} for one in (then, now))
    facts.append(("weights of the finder", finder_then.get("weights_sha256"), finder_now.get("weights_sha256")))
    earlier = then.get("libraries") or {}
    facts += [(name, earlier.get(name), now["libraries"].get(name)) for name in {**earlier, **now["libraries"]}]
    return _different(facts)


def _different(facts: Sequence[tuple[str, str | None, str | None]]) -> list[str]:
    """Return in words which facts, each a name with its value then and now, are not the same."""
    return [f"{name}: {old or 'none'} then, {new or 'none'} now" for name, old, new in facts if old != new]
