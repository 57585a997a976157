"""`lightseg segment --all-frames`: a series over time, frame by frame, as a batch of its frames.

The frames are kept in a folder with their table, so that one that fails leaves the others, and a run that was stopped
goes on at the next one.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..catalog.lookup import find_card
from ..core.errors import InputError, LightSegError, OutputError
from ..core.file_names import file_name
from ..core.i18n import tr as _
from ..core.leftovers import temporary_folder
from ..core.moment import Moment, grouped, ms_text, numbers_text
from .arguments import options_of
from .batch import StatePrinter
from .inputs import region_in
from .outputs import check_all_frames, check_free
from .printing import ProgressLine, say, table

if TYPE_CHECKING:
    import numpy as np

    from ..batch.records import Row
    from ..batch.run import Outcome
    from ..batch.settings import Settings
    from ..catalog.card import Card
    from ..imaging.geometry import Geometry

ONE_FRAME = ".seg.nrrd"  # 3D Slicer's file of a segmentation, which has no time


def segment_frames(arguments: argparse.Namespace) -> None:
    """Run `lightseg segment --all-frames`."""
    from ..batch.settings import Settings
    from ..imaging.frame_writer import ENDINGS
    from ..imaging.image_names import case_name
    from ..imaging.readers import read_volume
    from ..imaging.writers import check_output

    check_all_frames(arguments, ENDINGS)
    out, inputs = Path(arguments.out), [Path(path).absolute() for path in arguments.inputs]
    one_file = out.name.lower().endswith(ENDINGS)
    if out.name.lower().endswith(ONE_FRAME):
        raise OutputError(
            _(
                "{file} would be a segmentation of one frame. "
                "Give a folder, or a name that ends in .seq.nrrd, .nrrd, .nii.gz or .nii."
            ).format(file=out)
        )
    if one_file:
        check_output(out, ENDINGS)
        check_free(out, arguments.overwrite)
    card = find_card(arguments.model)
    moments = _moments(inputs)
    folder = out.with_name(f"{case_name(out)}_frames") if one_file else out
    roi = arguments.roi
    if isinstance(roi, Path):
        roi = region_in(read_volume(inputs[0], allow_gaps=arguments.allow_gaps, frame=moments[0].number), arguments)
    corners = None if roi is None else roi.corners.tolist()
    settings = Settings(options_of(arguments), picture=False, allow_gaps=arguments.allow_gaps, roi=corners)
    series = file_name(case_name(inputs[0]))
    outcome = _run(arguments, inputs, folder, settings, series)
    rows = sorted((row for row in outcome.rows() if row.series == series), key=lambda row: row.frame or 0)
    if not arguments.quiet:
        for notice in outcome.notices:
            say(f"lightseg: {notice}", file=sys.stderr)
        _print(card, rows)
    if outcome.state.failed:
        raise LightSegError(
            _(
                "{failed} of {frames} frames failed. See {table} for the reasons; "
                "run the same command again to retry them."
            ).format(failed=outcome.state.failed, frames=len(moments), table=outcome.table)
        )
    if [row.frame for row in rows] != [moment.number for moment in moments]:
        raise InputError(
            _("{file} was changed while its frames were segmented. Run the same command again.").format(
                file=inputs[0].name
            )
        )
    if one_file:
        check_free(out, arguments.overwrite)  # again: the computation took its time
        _join(card, folder, out, moments, rows, inputs[0])
    if not arguments.quiet:
        say(f"{out} written ({len(moments)} frames); {outcome.table} and {outcome.page} too")


def _moments(inputs: Sequence[Path]) -> tuple[Moment, ...]:
    """Return the moments of the frames.

    Raises:
        InputError: for inputs that are not over time, or have different numbers of frames.
    """
    from ..imaging.headers import not_over_time
    from ..imaging.readers import frame_moments

    found = [frame_moments(path) for path in inputs]
    for path, moments in zip(inputs, found, strict=True):
        if not moments:
            raise not_over_time(path.name)
        if len(moments) != len(found[0]):
            raise InputError(
                _("{file} has {count} frames, but {other} has {others}. Give images with as many frames each.").format(
                    file=path.name, count=len(moments), other=inputs[0].name, others=len(found[0])
                )
            )
    return found[0]


def _run(
    arguments: argparse.Namespace, inputs: Sequence[Path], folder: Path, settings: Settings, series: str
) -> Outcome:
    """Segment all frames that are not done yet."""
    from ..batch.progress import Callbacks
    from ..batch.run import segment_files

    progress = ProgressLine(arguments.quiet)
    channels = find_card(arguments.model).channels
    if len(channels) != len(inputs):
        raise InputError(
            _("The model '{model}' needs {count} images ({channels}), but got {given}. Give one for each.").format(
                model=arguments.model, count=len(channels), channels=", ".join(channels), given=len(inputs)
            )
        )
    with temporary_folder() as temporary:
        manifest = temporary / "series.csv"
        with manifest.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("case", *channels), (series, *map(str, inputs))])
        try:
            callbacks = Callbacks(progress, StatePrinter(progress))
            return segment_files(manifest, arguments.model, folder, settings, callbacks=callbacks)
        finally:
            progress.clear()


def _print(card: Card, rows: Sequence[Row]) -> None:
    """Print the volumes of all frames, and what the heart does."""
    from ..batch.time_courses import heart_text, time_courses

    names = list(dict.fromkeys(name for row in rows for name in row.ml or {}))
    lines = [("FRAME", "MS", *(f"{name} (ML)" for name in names), "CONFIDENCE")]
    for row in rows:
        ml = [f"{row.ml[name]:.3f}" if row.ml and name in row.ml else "-" for name in names]
        known = "-" if row.confidence is None else f"{row.confidence:.3f}"
        lines.append((str(row.frame), "-" if row.time_ms is None else ms_text(row.time_ms), *ml, known))
    remarks = ((row.frame or 0, text) for row in rows for text in ([row.error] if row.error else row.notices or []))
    for text, numbers, _first in grouped(remarks):
        say(f"lightseg: frame{'s' * (len(numbers) > 1)} {numbers_text(numbers)}: {text}", file=sys.stderr)
    say(table(lines))
    for course in time_courses(rows):
        for one in course.heart(card):
            say(heart_text(one, course))


def _join(card: Card, folder: Path, out: Path, moments: Sequence[Moment], rows: Sequence[Row], source: Path) -> None:
    """Write one file of all frames of the image `source`."""
    import numpy as np

    from ..catalog.sides import possible_labels
    from ..imaging.frame_writer import write_label_frames
    from ..imaging.nifti import ENDINGS as NIFTI_ENDINGS
    from ..imaging.readers import open_frames, read_labels
    from ..imaging.writers import check_holds

    largest = max(label.value for label in possible_labels(card))
    forms = open_frames(source).layout.geometry.nifti if source.name.lower().endswith(NIFTI_ENDINGS) else None

    def frames() -> Iterator[tuple[np.ndarray, Geometry]]:
        for row in rows:
            voxels, geometry = read_labels(folder / f"{row.case}{ONE_FRAME}")
            check_holds(out, geometry)
            yield voxels, replace(geometry, nifti=forms)

    try:
        write_label_frames(out, frames(), moments, np.uint8 if largest <= 255 else np.uint16)
    except OutputError as error:
        where = _("{reason} The frames are in {folder}.").format(reason=error, folder=shlex.quote(str(folder)))
        raise OutputError(where) from error
