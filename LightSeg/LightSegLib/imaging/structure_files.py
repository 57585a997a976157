"""A segmentation as one file for each structure, named as the authors of its model call it.

A hidden file beside them lists what a run has written, so that the masks of two runs are never mixed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..catalog.card import Label
from ..core.atomic_io import atomic_write, check_folder, output_error
from ..core.errors import OutputError
from ..core.file_names import unique_file_name
from ..core.i18n import tr as _
from ..core.json_file import read_json
from ..core.leftovers import temporary_folder
from ..core.progress import Reporter
from .volume import Segmentation
from .writers import ENDINGS, write_segmentation

RECORD = ".lightseg-masks.json"  # names of the files in its folder that a run has written, and their SHA-256


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
        OutputError: for a folder that cannot be written; for the masks of an earlier run, or a file of the same name,
            unless they may be replaced; for a mask that was changed since and would neither be replaced nor fit.
    """
    folder = Path(folder)
    if not os.path.lexists(folder):
        check_folder(folder.parent)
        return
    check_folder(folder)
    paths = structure_paths(labels, folder, ending).values()
    recorded = _recorded(folder)
    if recorded and not overwrite:
        raise OutputError(
            _(
                "{folder} has the masks of an earlier run ({count} files, such as {file}). Choose another folder for "
                "--split, or replace them with --overwrite."
            ).format(folder=folder, count=len(recorded), file=min(recorded))
        )
    for name in _outdated(recorded, paths):
        if _digest(folder / name) != recorded[name]:
            raise OutputError(
                _(
                    "{file} was changed since an earlier run wrote it, so it is not removed with the other masks of "
                    "that run. Move it, or choose another folder for --split."
                ).format(file=folder / name)
            )
    for path in paths:
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

    They are written beside the folder and moved there when all are whole; then what an earlier run has written there
    under other names goes.

    Args:
        segmentation: labels.
        folder: made where it is not there.
        ending: of the files, as of `write_segmentation`, with its dot.
        overwrite: replace files of these names, and the masks of an earlier run.
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
            recorded = _recorded(folder)
            outdated = _outdated(recorded, paths.values())
            written = {path.name: _digest(aside / path.name) for path in paths.values()}
            _record(folder, {name: recorded[name] for name in outdated} | written)  # in case of a crash from here on
            for path in paths.values():
                (aside / path.name).replace(path)
            for name in outdated:
                (folder / name).unlink()
            _record(folder, written)
    except OSError as error:
        raise output_error(folder, error) from error
    return list(paths.values())


def _recorded(folder: Path) -> dict[str, str]:
    """Return the masks of an earlier run that are still in a folder, and their SHA-256, by name."""
    try:
        files = read_json(folder / RECORD)["files"].items()
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return {
        name: str(digest)
        for name, digest in files
        if Path(name).name == name and name.lower().endswith(ENDINGS) and (folder / name).is_file()
    }


def _outdated(recorded: Iterable[str], paths: Iterable[Path]) -> list[str]:
    """Return the names of an earlier run's masks in whose place no new one comes, on any file system."""
    taken = {path.name.casefold() for path in paths}
    return [name for name in recorded if name.casefold() not in taken]


def _record(folder: Path, files: Mapping[str, str]) -> None:
    """Write which files of a folder are masks of a run.

    Raises:
        OutputError: if the file cannot be written.
    """
    with atomic_write(folder / RECORD) as part:
        part.write_text(json.dumps({"files": files}, indent=2), encoding="utf-8")


def _digest(path: Path) -> str:
    """Return the SHA-256 of a mask.

    Raises:
        OSError: if it cannot be read.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()
