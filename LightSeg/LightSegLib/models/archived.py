"""Weights whose authors publish an archive with a results folder of nnU-Net v2: a slim copy takes its place.

That is made when a download ends, or at the first use where PyTorch was not there yet. Of the archive nothing is
unpacked but plans.json, dataset.json and one checkpoint of each fold in use; it goes once the copy is complete and fits
the card. A crash in between leaves the archive. Other models of the same archive, such as a fast one that uses a single
fold, get their copies of it afterwards, too, where there is room, so that it is downloaded once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath

from ..catalog.card import Archive, Card
from ..catalog.lookup import all_cards, as_shipped, weights_path
from ..core.errors import InputError, ModelError, OutputError
from ..core.i18n import tr as _
from ..core.leftovers import temporary_folder
from ..core.packages import has_torch
from ..core.progress import CancelCallback, ProgressCallback, Reporter
from ..nnunet.dataset import DATASET_NAME
from ..nnunet.plans import complete
from ..nnunet.results import PLANS_NAME, choose_folds, read_results
from ..weights.checkpoint import Checkpoint, write_slim
from ..weights.download import check_space
from ..weights.store import WeightStore
from .archives import extract, files_in
from .matching import fitting_networks

DEPTH = 3  # folders below a given one in which results are looked for: results/dataset/configuration


def ensure_weights(
    card: Card,
    progress: ProgressCallback | None = None,
    canceled: CancelCallback | None = None,
    accept_license: bool = False,
    mirror: str | None = None,
) -> Path:
    """Return the weights file, as `WeightStore.ensure`; of an archive, the copy of what the card uses of it.

    Without PyTorch it is the archive itself. Also raises what `WeightStore.ensure` raises.

    Raises:
        ModelError: for an archive that is damaged, has not what the card names, or does not fit the card.
    """
    store = WeightStore()
    path = store.ensure(card, progress, canceled, accept_license, mirror)
    if card.weights.archive is None or path.name != card.weights.file or not has_torch():
        return path
    if path == weights_path(card):
        raise ModelError(
            _(
                "{file} is an archive, of which a copy is used that is not there. "
                "Move it elsewhere and add it with Use a File in Slicer or with 'lightseg weights add {model} FILE'."
            ).format(file=path, model=card.id)
        )
    try:
        return store.convert(card, partial(_with_others, store, card), Reporter(progress, canceled))
    except OutputError:  # the archive is not to blame
        raise
    except (InputError, ModelError) as error:
        raise with_remedy(error, card) from error


def ensure_all(
    cards: Iterable[Card],
    progress: ProgressCallback | None = None,
    canceled: CancelCallback | None = None,
    accept_license: bool = False,
) -> None:
    """Ensure the weights of all models that a run needs, each as `ensure_weights`.

    What can be neither found nor downloaded is named at once, before the first download. Also raises what
    `ensure_weights` raises.

    Raises:
        DownloadError: if the network may not be used.
        ModelError: if there is none to download one from.
    """
    cards = tuple(cards)
    WeightStore().check_obtainable(cards)
    for card in cards:
        ensure_weights(card, progress, canceled, accept_license)


def add_weights(
    card: Card,
    file: str | Path,
    progress: ProgressCallback | None = None,
    canceled: CancelCallback | None = None,
    accept_license: bool = False,
) -> Path:
    """Take the authors' file into the store, as `WeightStore.add_file`; of an archive, a copy of what the card uses.

    Args:
        file: may also be the unpacked archive: a results folder, or a folder above.

    Also raises what `WeightStore.add_file` raises.

    Raises:
        InputError: for an archive or a folder that is damaged or has not what the card names.
        ModelError: for one that does not fit the card.
    """
    store, file = WeightStore(), Path(file)
    if card.weights.archive is None or not has_torch() or not file.exists():
        return store.add_file(card, file, progress, canceled, accept_license)
    write = partial(_from_folder if file.is_dir() else _from_archive, card)
    return store.put(card, file, write, Reporter(progress, canceled), accept_license)


def completed_card(card: Card, checkpoint: Checkpoint) -> Card:
    """Return the card with what its weights state, where it leaves that to them."""
    return complete(as_shipped(card), checkpoint) if card.metadata_in_weights else card


def with_remedy(error: Exception, card: Card) -> ModelError:
    """Return an error about downloaded weights, with how to use others."""
    return ModelError(
        _(
            "{reason}\nTo use another file instead, delete this one in Slicer or with "
            "'lightseg weights remove {model} --forget'."
        ).format(reason=error, model=card.id)
    )


def _others_of(card: Card, store: WeightStore) -> list[Card]:
    """Return the models that use other folds or folders of the same archive and would download it again."""
    digest = card.weights.sha256
    same = [one for one in all_cards() if digest and one.weights.sha256 == digest and one.weights.archive is not None]
    return [one for one in store.to_download(same) if one.id != card.id]


def _with_others(store: WeightStore, card: Card, archive: Path, target: Path, reporter: Reporter) -> None:
    """Write a slim copy of what a card uses of its downloaded archive; then make those of the other models."""
    _from_archive(card, archive, target, reporter)
    for other in _others_of(card, store):
        with suppress(InputError, ModelError):  # it can be downloaded by itself, as where there is no room for both
            store.put_from_download(other, card, partial(_from_archive, other), reporter)


def _from_archive(card: Card, archive: Path, target: Path, reporter: Reporter) -> None:
    """Write a slim copy of what a card uses of an archive; what is unpacked meanwhile is beside it."""
    reporter.step(_("Reading {file}").format(file=archive.name))
    files = {entry.path: entry for entry in files_in(archive, reporter)}
    folder = _results_folder(card, files, archive.name)
    inside = {path.relative_to(folder).as_posix(): files[path] for path in files if path.is_relative_to(folder)}
    chosen, _remark = choose_folds(inside, _rule(card).folds, f"{archive.name}/{folder}")
    needed = [inside[name] for name in (PLANS_NAME, DATASET_NAME, *chosen.values())]
    check_space(target.parent, 2 * sum(entry.size for entry in needed))  # for the copy, too
    with temporary_folder(parent=target.parent) as unpacked:
        extract(archive, needed, unpacked, card.title, reporter)
        _write_copy(card, unpacked / folder, archive.name, target)


def _from_folder(card: Card, folder: Path, target: Path, _reporter: Reporter) -> None:
    """Write a slim copy of what a card uses of a folder, whose links count by their own names or by what they name."""
    found = [
        file
        for name in (PLANS_NAME, DATASET_NAME)
        for depth in range(DEPTH + 1)
        for file in folder.glob("*/" * depth + name)
    ]

    def results(place: Callable[[Path], Path]) -> PurePosixPath:
        return _results_folder(card, [PurePosixPath(place(file).as_posix()) for file in found], str(folder))

    try:
        chosen = results(Path.absolute)
    except InputError:
        chosen = results(Path.resolve)
    _write_copy(card, Path(chosen), str(folder), target)


def _write_copy(card: Card, folder: Path, source: str, target: Path) -> None:
    """Write a slim copy of a results folder that fits a card."""
    checkpoint = read_results(folder, _rule(card).folds).checkpoint
    for _network in fitting_networks(completed_card(card, checkpoint), checkpoint, source):
        pass  # one after the other: their memory is given back
    write_slim(checkpoint, target)


def _results_folder(card: Card, files: Collection[PurePosixPath], source: str) -> PurePosixPath:
    """Return the folder that a card names, among those with a model of nnU-Net v2.

    Raises:
        InputError: if it is not there, or several might be meant.
    """
    with_plans, with_dataset = ({f.parent for f in files if f.name == name} for name in (PLANS_NAME, DATASET_NAME))
    folders = sorted(with_plans & with_dataset)
    wanted = PurePosixPath(_rule(card).folder).parts
    fitting = [folder for folder in folders if not wanted or folder.parts[-len(wanted) :] == wanted]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(map(str, fitting or folders))
    if not folders:
        raise InputError(
            _(
                "{source} has no folder with {plans} and {dataset}, as a model of nnU-Net v2 has. "
                "Use the unmodified archive of the authors."
            ).format(source=source, plans=PLANS_NAME, dataset=DATASET_NAME)
        )
    if not fitting:
        raise InputError(
            _(
                "{source} has no folder {folder}, which the card of {model} names, but {names}. "
                "Use the archive of this model, or correct weights.archive.folder in the card."
            ).format(source=source, folder=_rule(card).folder, model=card.title, names=names)
        )
    raise InputError(
        _(
            "{source} has {count} trainings that the card of {model} may mean: {names}. "
            "Name one of them as weights.archive.folder in the card."
        ).format(source=source, count=len(fitting), model=card.title, names=names)
    )


def _rule(card: Card) -> Archive:
    """Return what a card uses of its archive."""
    return card.weights.archive or Archive()
