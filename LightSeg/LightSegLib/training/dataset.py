"""Training sets on disk: nnU-Net's raw layout, or a plain pair of folders `images` and `labels`.

nnU-Net raw: `dataset.json`, `imagesTr/CASE_0000.nii.gz` (one file per channel), `labelsTr/CASE.nii.gz`.
Plain: `images/CASE.nii.gz`, `labels/CASE.nii.gz`, and a `dataset.json` with the label names if there is one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.i18n import tr as _
from ..core.schema import FieldError
from ..imaging.image_names import IMAGE_ENDINGS, case_name
from ..imaging.readers import read_labels, read_volume
from ..imaging.volume import Volume, check_labels
from ..nnunet.dataset import DATASET_NAME, Names, read_names
from ..nnunet.fields import read_object

MOST_CHANNELS = 10_000  # that four digits can number


@dataclass(frozen=True)
class Case:
    """One training case: an image file per channel and a label file."""

    name: str
    images: tuple[Path, ...]
    label: Path

    def load(self) -> tuple[list[Volume], np.ndarray]:
        """Return the channels and the integer labels [k, j, i].

        Raises:
            InputError: for grids that differ or no label map.
        """
        volumes = [read_volume(path) for path in self.images]
        labels, geometry = read_labels(self.label)
        check_labels(labels, self.label.name)
        for volume in volumes:
            if not volume.geometry.matches(geometry):
                raise InputError(
                    _(
                        "The image and the label map of case '{case}' do not have the same grid. "
                        "Correct or remove this case."
                    ).format(case=self.name)
                )
        return volumes, labels.astype(np.int16)


@dataclass(frozen=True)
class Dataset:
    """The cases, and the names of channels and of label values above 0 (empty where none are stated)."""

    name: str
    cases: tuple[Case, ...]
    channels: tuple[str, ...]
    labels: dict[int, str]


def read_dataset(folder: str | Path) -> Dataset:
    """Find the cases of a training set.

    Raises:
        InputError: for anything that is neither layout.
    """
    folder = Path(folder)
    names = _names(folder)
    for images, labels, numbered in (("imagesTr", "labelsTr", True), ("images", "labels", False)):
        if (folder / images).is_dir() and (folder / labels).is_dir():
            cases = _cases(folder / images, folder / labels, numbered)
            break
    else:
        raise InputError(
            _(
                "{folder} is not a training set, which has the folders imagesTr and labelsTr, "
                "or images and labels. Check the path."
            ).format(folder=folder)
        )
    count = len(cases[0].images)
    if any(len(case.images) != count for case in cases):
        raise InputError(
            _("The cases do not all have the same number of channels. Complete the missing files imagesTr/CASE_000N.")
        )
    channels = names.channels
    if len(channels) != count:
        channels = ("Image",) if count == 1 else tuple(f"Channel {n + 1}" for n in range(count))
    capitalized = {value: name[:1].upper() + name[1:] for value, name in names.labels.items()}
    often = Counter(capitalized.values())
    if same := [name for name in often if often[name] > 1]:
        raise InputError(
            _("Two labels have the name {name}, by which tables of results distinguish labels. Correct {file}.").format(
                name=same[0], file=folder / DATASET_NAME
            )
        )
    return Dataset(names.dataset or folder.name, cases, channels, capitalized)


def _names(folder: Path) -> Names:
    """Return the names that dataset.json states, if there is one."""
    path = folder / DATASET_NAME
    try:
        return read_names(read_object(path) if path.is_file() else {})
    except FieldError as error:
        raise InputError(_("{reason}. Correct {file}.").format(reason=error, file=path)) from error


def _cases(images: Path, labels: Path, numbered: bool) -> tuple[Case, ...]:
    """Return the cases of a training set in nnU-Net's layout."""
    cases = []
    visible = [path for path in sorted(images.iterdir()) if path.name[0] != "."]
    visible = [path for path in visible if path.name.lower().endswith(IMAGE_ENDINGS) and path.is_file()]
    names: dict[str, list[Path]] = {}
    for path in visible:
        names.setdefault(case_name(path), []).append(path)
    for label in sorted(labels.iterdir()):
        if not label.name.lower().endswith(IMAGE_ENDINGS) or label.name.startswith("."):
            continue
        name = case_name(label)
        files = _images_of(label, names, numbered)
        if not files:
            raise InputError(
                _(
                    "Case '{case}' has a label map but no image in {folder}. Add the image or remove the label map."
                ).format(case=name, folder=images.name)
            )
        cases.append(Case(name, tuple(files), label))
    used = {image for case in cases for image in case.images}
    if unused := [path.name for path in visible if path not in used]:
        raise InputError(
            _(
                "Some images in {images} ({count}) have no label map in {labels}; the first is {first}. "
                "Add the label maps or move the images elsewhere."
            ).format(images=images.name, count=len(unused), labels=labels.name, first=unused[0])
        )
    if not cases:
        raise InputError(_("{folder} has no label map. Add labeled cases.").format(folder=labels))
    return tuple(cases)


def _images_of(label: Path, names: dict[str, list[Path]], numbered: bool) -> list[Path]:
    """The image of each channel that belongs to a label map, whatever the format of either; none where one is missing.

    Args:
        names: all images by their name without ending.
        numbered: whether channels have the endings _0000, _0001, ...

    Raises:
        InputError: two images have the name of one channel.
    """
    wanted = case_name(label)
    found = []
    for number in range(MOST_CHANNELS):
        paths = names.get(f"{wanted}_{number:04d}" if numbered else wanted, [])
        if len(paths) > 1:
            raise InputError(
                _("Case '{case}' has two images of the same channel, {file} and {other}. Remove one of them.").format(
                    case=wanted, file=paths[0].name, other=paths[1].name
                )
            )
        if not paths:
            break
        found += paths
        if not numbered:
            break
    return found
