"""The files of predictions and experts, paired by the names of their cases."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import InputError
from ..core.i18n import tr as _
from ..imaging.image_names import IMAGE_ENDINGS, is_image
from ..imaging.image_names import case_name as name_of_image
from ..imaging.label_sources import is_label_file
from ..imaging.readers import missing


def pairs_of_files(predictions: Path, labels: Path) -> list[tuple[str, Path, Path]]:
    """Return case, prediction and label file of every case that has both.

    Raises:
        InputError: for a missing file or folder, a file beside a folder, two files of one case, and a prediction
            without an expert's file.
    """
    for path in (predictions, labels):
        if not path.exists():
            raise missing(path)
    if predictions.is_file() and labels.is_file():
        return [(case_name(predictions), predictions, labels)]
    for file, folder in ((predictions, labels), (labels, predictions)):
        if file.is_file() and folder.is_dir():
            raise InputError(
                _("{file} is a file, but {folder} is a folder. Give two files or two folders.").format(
                    file=file, folder=folder
                )
            )
    experts = _by_case(labels)
    pairs = [(case, path, experts.get(case)) for case, path in _by_case(predictions).items()]
    if lonely := [case for case, _, expert in pairs if expert is None]:
        raise InputError(
            _(
                "Some predictions ({count}) have no label map of the same name; the first is {first}. "
                "Rename them like the files in {folder}, or remove them."
            ).format(count=len(lonely), first=lonely[0], folder=labels)
        )
    return [(case, path, expert) for case, path, expert in pairs if expert is not None]


def without_prediction(predictions: str | Path, labels: str | Path) -> list[str]:
    """Return the names of the expert files that `pairs_of_files` leaves out because no prediction has their name.

    Raises:
        InputError: for a folder without images.
    """
    if not (Path(predictions).is_dir() and Path(labels).is_dir()):
        return []
    predicted = {case_name(path) for path in image_files(Path(predictions))}
    return [case_name(path) for path in image_files(Path(labels)) if case_name(path) not in predicted]


def image_files(folder: Path) -> list[Path]:
    """Return the visible images and DICOM files with labels in a folder, sorted.

    Raises:
        InputError: if there is none, or no such folder.
    """
    if not folder.is_dir():
        raise InputError(_("{folder} is not a folder. Check the path and the spelling.").format(folder=folder))
    visible = (path for path in folder.iterdir() if path.name[0] != ".")
    found = sorted(path for path in visible if is_image(path) or is_label_file(path))
    if not found:
        raise InputError(
            _("{folder} does not contain images. Choose a folder with {endings} files.").format(
                folder=folder, endings=", ".join(IMAGE_ENDINGS)
            )
        )
    return found


def case_name(path: Path) -> str:
    """Return the name of a label file without its ending: what pairs a prediction with its label map."""
    return path.stem if path.suffix.lower() == ".dcm" else name_of_image(path)


def _by_case(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by the names of their cases.

    Raises:
        InputError: for two files of one case.
    """
    found: dict[str, Path] = {}
    for path in image_files(folder):
        if found.setdefault(case_name(path), path) != path:
            raise InputError(
                _("{folder} has two files of the case {case}, {first} and {second}. Keep the one that counts.").format(
                    folder=folder, case=case_name(path), first=found[case_name(path)].name, second=path.name
                )
            )
    return found
