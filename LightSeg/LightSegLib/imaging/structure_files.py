"""A segmentation as one file for each structure, named as the authors of its model call it.

A hidden file beside them lists what a run has written, so that a later run replaces all of it, and not a mask that
was changed since.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..catalog.card import Label
from ..core.atomic_io import atomic_write, check_folder, output_error
from ..core.errors import OutputError
from ..core.file_hash import sha256
from ..core.file_names import unique_file_name
from ..core.i18n import tr as _
from ..core.json_file import read_json
from ..core.leftovers import REPLACED, new_folder, temporary_folder
from ..core.progress import Reporter
from .volume import Segmentation
from .writers import DICOM_ENDING, ENDINGS, write_segmentation

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


def replaced_files(labels: Sequence[Label], folder: str | Path, ending: str) -> list[Path]:
    """Return the files that `write_structure_files` writes, and those of an earlier run that it removes.

    Args:
        labels: of the segmentation.
        folder: of the files.
        ending: of their names, with its dot.
    """
    folder = Path(folder)
    masks = structure_paths(labels, folder, ending).values()
    return [*dict.fromkeys([*masks, *(folder / name for name in _recorded(folder))]), folder / RECORD]


def check_structure_files(labels: Sequence[Label], folder: str | Path, ending: str, overwrite: bool) -> None:
    """Check, before a long computation, that the files of all structures may be written.

    Raises:
        OutputError: for a folder that cannot be written; for the masks of an earlier run, or a file of the same name,
            unless they may be replaced; for a mask of an earlier run that was changed since, or cannot be read.
    """
    folder = Path(folder)
    try:
        try:
            folder.lstat()
        except (FileNotFoundError, NotADirectoryError):
            check_folder(folder.parent)
            return
        check_folder(folder)
        _check_earlier_run(folder, overwrite)
        for path in structure_paths(labels, folder, ending).values():
            if path.is_dir() or (os.path.lexists(path) and not overwrite):
                raise OutputError(
                    _(
                        "{file} already exists. Choose another folder for --split, or replace its files with "
                        "--overwrite."
                    ).format(file=path)
                )
    except (OSError, ValueError) as error:  # also a name that is too long, or has characters that no name has
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(
            _(
                "{file} cannot be used ({reason}). Check its name and permissions, or choose another folder for "
                "--split."
            ).format(file=getattr(error, "filename", None) or folder, reason=reason)
        ) from error


def write_structure_files(
    segmentation: Segmentation, folder: str | Path, ending: str, overwrite: bool, reporter: Reporter | None = None
) -> tuple[list[Path], int]:
    """Write one file for each label of a segmentation, 1 where it is; also where it was not found.

    They take the place of all masks of an earlier run when all are whole. On a failure everything is as it was.

    Args:
        segmentation: labels.
        folder: made where it is not there.
        ending: of the files, as of `write_segmentation`, with its dot.
        overwrite: replace files of these names, and the masks of an earlier run.
        reporter: takes each file as a step.

    Returns:
        The files, and the number of those of an earlier run that were removed without a new one of their name.

    Raises:
        OutputError: as `check_structure_files` and `write_segmentation`, and for a file that cannot be replaced.
        Canceled: through the reporter.
    """
    folder, reporter = Path(folder), reporter or Reporter()
    check_structure_files(segmentation.labels, folder, ending, overwrite)
    paths = list(structure_paths(segmentation.labels, folder, ending).values())
    try:
        # Within the folder, since what is beside it may be another disk, or not be writable.
        with _made(folder), temporary_folder(parent=folder) as aside:
            for label, path in zip(segmentation.labels, paths, strict=True):
                reporter.step(_("Writing {file}").format(file=path.name))
                alone = replace(
                    segmentation,
                    voxels=(segmentation.voxels == label.value).astype(np.uint8),
                    labels=(replace(label, value=1),),
                    confidence=None,
                    totals=(),
                )
                write_segmentation(alone, aside / path.name)
            _record(aside, {path.name: sha256(aside / path.name) for path in paths})
            check_structure_files(segmentation.labels, folder, ending, overwrite)  # the computation took its time
            earlier = _recorded(folder)
            _exchange(aside, [folder / RECORD, *paths], replaced_files(segmentation.labels, folder, ending))
    except OSError as error:
        raise output_error(folder / RECORD, error) from error
    return paths, sum(not os.path.lexists(folder / name) for name in earlier)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder where it is not there, and on a failure remove it again.

    Raises:
        OSError: if it cannot be made.
    """
    new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):
                folder.rmdir()
        raise


def _exchange(aside: Path, new: Sequence[Path], old: Sequence[Path]) -> None:
    """Move new files from another folder to their places, after the old ones were moved away; all of them, or none.

    The old record is the last to go and the new one the first to come. Wherever the program is killed, the masks in
    the folder are therefore some of those in its record. That all old ones go first spares any comparison of names:
    the disk knows which names are the same.

    Args:
        aside: folder of the new files.
        new: their places in one folder, the record first.
        old: files there that go, where they exist, the record last.

    Raises:
        OutputError: for a file that cannot be moved, such as one that is open in another program on Windows.
        OSError: if no folder can be made for the old files.
    """
    kept = new_folder(REPLACED, new[0].parent)
    moved: list[tuple[Path, Path]] = []
    moves = [*((path, kept / path.name) for path in old), *((aside / path.name, path) for path in new)]
    try:
        for source, target in moves:
            if os.path.lexists(source):
                moved.append((source, target))
                source.replace(target)
    except BaseException as error:
        for source, target in reversed(moved):
            with suppress(OSError):
                target.replace(source)
        with suppress(OSError):
            kept.rmdir()
        if isinstance(error, OSError):
            raise _not_replaced(moved[-1], kept, error) from error
        raise
    shutil.rmtree(kept, ignore_errors=True)


def _not_replaced(move: tuple[Path, Path], kept: Path, error: OSError) -> OutputError:
    """Return the error for a file that could not be moved, which names the old files that could not be put back."""
    source, target = move
    cause = output_error(source if target.parent == kept else target, error)
    if kept.exists():
        return OutputError(
            _("{cause} Not all earlier files could be put back: move what is in {folder} back.").format(
                cause=cause, folder=kept
            )
        )
    return OutputError(_("{cause} All files are as they were.").format(cause=cause))


def _check_earlier_run(folder: Path, overwrite: bool) -> None:
    """Check that the masks of an earlier run may be replaced.

    Raises:
        OutputError: if not, or for one that was changed since.
        OSError: for one that cannot be read.
    """
    recorded = _recorded(folder)
    if recorded and not overwrite:
        raise OutputError(
            _(
                "{folder} has the masks of an earlier run (number of files: {count}, such as {file}). "
                "Choose another folder for --split, or replace them with --overwrite."
            ).format(folder=folder, count=len(recorded), file=min(recorded))
        )
    for name, digest in recorded.items():
        if sha256(folder / name) != digest:
            raise OutputError(
                _(
                    "{file} was changed since an earlier run wrote it, so the masks of that run are not replaced. "
                    "Move it, or choose another folder for --split."
                ).format(file=folder / name)
            )


def _recorded(folder: Path) -> dict[str, str]:
    """Return the masks of an earlier run that are still in a folder, and their SHA-256, by name.

    Raises:
        OSError: for a record that cannot be read.
    """
    try:
        files = read_json(folder / RECORD)["files"].items()
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):  # not there, or not written here
        return {}
    return {
        name: str(digest)
        for name, digest in files
        if Path(name).name == name
        and name.lower().endswith(ENDINGS)
        and not name.lower().endswith(DICOM_ENDING)  # never written here: a record that names one is a stranger's
        and os.path.isfile(folder / name)  # noqa: PTH113 (Path.is_file raises for a name that is too long)
    }


def _record(folder: Path, files: Mapping[str, str]) -> None:
    """Write which files of a folder are masks of a run.

    Raises:
        OutputError: if the file cannot be written.
    """
    with atomic_write(folder / RECORD) as part:
        part.write_text(json.dumps({"files": files}, indent=2), encoding="utf-8")
