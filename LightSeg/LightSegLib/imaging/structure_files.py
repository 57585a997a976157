"""A segmentation as one file for each structure, named as the authors of its model call it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..catalog.card import Label
from ..core.atomic_io import check_folder, output_error
from ..core.errors import OutputError
from ..core.file_names import unique_file_name
from ..core.i18n import tr as _
from ..core.leftovers import temporary_folder
from ..core.progress import Reporter
from .volume import Segmentation
from .writers import write_segmentation


def structure_paths(labels: Sequence[Label], folder: str | Path, ending: str) -> dict[int, Path]:
    """Return the file of each label, by its value.

    Args:
        labels: of the segmentation.
        folder: of the files.
        ending: of their names, with its dot.
    """
    taken: set[bytes] = set()
    return {
        label.value: Path(folder) / f"{unique_file_name(label.original or label.name, taken)}{ending}"
        for label in labels
    }


def check_structure_files(labels: Sequence[Label], folder: str | Path, ending: str, overwrite: bool) -> None:
    """Check, before a long computation, that the files of all structures may be written.

    Raises:
        OutputError: for a folder that cannot be written, and for a file that is there unless it may be replaced.
    """
    folder = Path(folder)
    if not os.path.lexists(folder):
        check_folder(folder.parent)
        return
    check_folder(folder)
    for path in structure_paths(labels, folder, ending).values():
        if path.is_dir() or (os.path.lexists(path) and not overwrite):
            raise OutputError(
                _(
                    "{file} already exists. Choose another folder for --split, or replace its files with --overwrite."
                ).format(file=path)
            )


def write_structure_files(
    segmentation: Segmentation, folder: str | Path, ending: str, overwrite: bool, reporter: Reporter | None = None
) -> list[Path]:
    """Write one file for each label of a segmentation, 1 where it is; also where it was not found.

    They are written beside the folder and moved there when all are whole.

    Args:
        segmentation: labels.
        folder: made where it is not there.
        ending: of the files, as of `write_segmentation`, with its dot.
        overwrite: replace files of these names.
        reporter: takes each file as a step.

    Raises:
        OutputError: with no file left behind, as `check_structure_files` and `write_segmentation`.
        Canceled: through the reporter.
    """
    folder, reporter = Path(folder), reporter or Reporter()
    check_structure_files(segmentation.labels, folder, ending, overwrite)
    paths = structure_paths(segmentation.labels, folder, ending)
    try:
        with temporary_folder(parent=folder.parent) as aside:
            for label in segmentation.labels:
                reporter.step(_("Writing {file}").format(file=paths[label.value].name))
                alone = replace(
                    segmentation,
                    voxels=(segmentation.voxels == label.value).astype(np.uint8),
                    labels=(replace(label, value=1),),
                    confidence=None,
                    totals=(),
                )
                write_segmentation(alone, aside / paths[label.value].name)
            check_structure_files(segmentation.labels, folder, ending, overwrite)  # the computation took its time
            folder.mkdir(exist_ok=True)
            for path in paths.values():
                (aside / path.name).replace(path)
    except OSError as error:
        raise output_error(folder, error) from error
    return list(paths.values())
