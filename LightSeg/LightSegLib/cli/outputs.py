"""What `lightseg segment` writes beside the segmentation: statistics, a picture, a file for each structure."""

from __future__ import annotations

import argparse
import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError, OutputError
from ..core.i18n import tr as _
from ..core.progress import Reporter
from .printing import ProgressLine, say

if TYPE_CHECKING:
    from ..catalog.card import Card, Label
    from ..imaging.volume import Segmentation, Volume

FLAGS = ("out", "statistics", "preview", "split")
SPLIT_ENDING = ".nii.gz"  # of the files of single structures, where --out does not give one


def check_outputs(arguments: argparse.Namespace, labels: Sequence[Label]) -> None:
    """Check, before a long computation, that all that is asked for can be written, and replaces no input.

    Args:
        arguments: of the command.
        labels: that the result will have.

    Raises:
        InputError: where no output is named, or one is an input.
        OutputError: for what could not be written later, is there already, or would replace another output.
    """
    from ..imaging import statistics, writers
    from ..imaging.structure_files import check_structure_files, replaced_files

    if not any(getattr(arguments, flag) for flag in FLAGS):
        raise InputError(_("No output was named. Add --out FILE, or --statistics, --preview or --split."))
    if arguments.reproducible_uids and not (arguments.out or "").lower().endswith(writers.DICOM_ENDING):
        raise InputError(
            _(
                "--reproducible-uids is for a DICOM segmentation, and none is to be written. "
                "Omit it, or give --out a name that ends in {ending}."
            ).format(ending=writers.DICOM_ENDING)
        )
    inputs = _input_files(arguments)
    endings = {"out": writers.ENDINGS, "statistics": statistics.ENDINGS, "preview": (".png",)}
    for flag, allowed in endings.items():
        if path := getattr(arguments, flag):
            writers.check_output(path, allowed)
            _check_no_input(Path(path), inputs)
            check_free(Path(path), arguments.overwrite, f"--{flag}")
    if arguments.split:
        ending = split_ending(arguments)
        check_structure_files(labels, arguments.split, ending, arguments.overwrite)
        for file in replaced_files(labels, arguments.split, ending):
            _check_no_input(file, inputs)
            for flag in endings:
                if (path := getattr(arguments, flag)) and _place(path) == _place(file):
                    raise OutputError(
                        _("--split would replace or remove {file} of {flag}. Choose another name or folder.").format(
                            file=path, flag=f"--{flag}"
                        )
                    )


def check_all_frames(arguments: argparse.Namespace, endings: Sequence[str]) -> None:
    """Check that of all frames of a series nothing is asked for that is not done.

    Args:
        arguments: of the command.
        endings: of --out, where it is one file.

    Raises:
        InputError: for other outputs than --out, without it, where it is an input, or with flags that mean nothing.
    """
    if not arguments.out or any(getattr(arguments, flag) for flag in FLAGS if flag != "out"):
        raise InputError(
            _("With --all-frames there is one output: give --out, without --statistics, --preview and --split.")
        )
    if arguments.reproducible_uids:
        raise InputError(
            _("--reproducible-uids is for DICOM segmentations, which --all-frames does not write. Omit it.")
        )
    if arguments.overwrite and not arguments.out.lower().endswith(endings):
        raise InputError(
            _(
                "--overwrite is for a single file, but {folder} is a folder: its frames are kept where the image is "
                "the same, and replaced where it is another. Omit it."
            ).format(folder=arguments.out)
        )
    _check_no_input(Path(arguments.out), _input_files(arguments))


def check_free(path: Path, overwrite: bool, flag: str = "--out") -> None:
    """Check that an output file may be written.

    Raises:
        OutputError: for a file that is there, unless it may be replaced.
    """
    if os.path.lexists(path) and not overwrite:
        raise OutputError(
            _("{file} already exists. Choose another name for {flag}, or replace it with --overwrite.").format(
                file=path, flag=flag
            )
        )


def split_ending(arguments: argparse.Namespace) -> str:
    """Return the ending of the files of single structures: that of --out, where it is no DICOM file."""
    from ..imaging.writers import DICOM_ENDING, ENDINGS

    name = (arguments.out or "").lower()
    return next((end for end in ENDINGS if name.endswith(end) and end != DICOM_ENDING), SPLIT_ENDING)


def write_more(
    arguments: argparse.Namespace, card: Card, segmentation: Segmentation, volumes: Sequence[Volume]
) -> list[str]:
    """Write what is asked for beside the segmentation, and return what was written.

    Raises:
        OutputError: for what cannot be written.
    """
    from ..imaging.statistics import write_statistics
    from ..imaging.structure_files import write_structure_files
    from ..rendering.result import draw_result

    written = []
    if arguments.statistics:
        check_free(Path(arguments.statistics), arguments.overwrite, "--statistics")
        write_statistics(segmentation, dict(zip(card.channels, volumes, strict=True)), arguments.statistics)
        written.append(arguments.statistics)
    if arguments.preview:
        check_free(Path(arguments.preview), arguments.overwrite, "--preview")
        title = f"{card.title}: {input_names(arguments.inputs)}"
        if notice := draw_result(volumes[0], segmentation, arguments.preview, title):
            say(f"lightseg: {notice}", file=sys.stderr)
        written.append(arguments.preview)
    if arguments.split:
        ending = split_ending(arguments)
        paths, removed = _with_progress(
            arguments.quiet,
            lambda reporter: write_structure_files(
                segmentation, arguments.split, ending, arguments.overwrite, reporter
            ),
        )
        gone = f" ({removed} of an earlier run removed)" if removed else ""
        written.append(f"{len(paths)} {'file' if len(paths) == 1 else 'files'} in {arguments.split}{gone}")
    return written


def input_names(inputs: Sequence[str]) -> str:
    """Return the names of input files and folders without where they are, as a picture may be passed on."""
    return ", ".join(Path(path).absolute().name for path in inputs)


def volume_rows(segmentation: Segmentation) -> list[tuple[str, ...]]:
    """Return the printed table of volumes.

    With the expected Dice where the model states it, and where there are any, which structures reach the border of the
    image or of a region, so that a part of them may be missing.
    """
    from ..imaging.statistics import structure_statistics

    found = structure_statistics(segmentation, {})
    columns = {"LABEL": [one.name for one in found], "ML": [f"{one.volume_ml:.3f}" for one in found]}
    if any(one.expected_dice is not None for one in found):
        columns["EXPECTED DICE"] = ["" if one.expected_dice is None else f"{one.expected_dice:.2f}" for one in found]
    if any(one.cut_off for one in found):
        columns["CUT OFF"] = ["at the border" if one.cut_off else "" for one in found]
    return [tuple(columns), *zip(*columns.values(), strict=True)]


def _with_progress(quiet: bool, work: Callable[[Reporter], tuple[list[Path], int]]) -> tuple[list[Path], int]:
    """Do some work with a line of progress."""
    progress = ProgressLine(quiet)
    try:
        return work(Reporter(progress))
    finally:
        progress.clear()


def _place(path: str | Path) -> str:
    """Return a text that is equal for files that some disk takes for the same, whether they are there or not."""
    return unicodedata.normalize("NFC", str(Path(path).parent.resolve() / Path(path).name)).casefold()


def _input_files(arguments: argparse.Namespace) -> list[Path]:
    """Return the files and folders that a command reads, that of the region, too."""
    return [Path(path) for path in (*arguments.inputs, arguments.roi) if isinstance(path, (str, Path))]


def _check_no_input(out: Path, inputs: Sequence[Path]) -> None:
    """Check that an output is none of the inputs.

    Raises:
        InputError: if it is.
    """
    if any(path.exists() and out.exists() and path.samefile(out) for path in inputs):
        raise InputError(
            _(
                "{file} is one of the inputs and would be overwritten. Choose another name or folder for the output."
            ).format(file=out)
        )
