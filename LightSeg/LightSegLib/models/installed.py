"""Weights that TotalSegmentator's own program has downloaded already, for the models whose cards name their folders.

It keeps each data set as `DatasetNNN_Name/trainer__plans__configuration`, as its archives have it, in the folder
TOTALSEG_WEIGHTS_PATH, else in `nnunet/results` of TOTALSEG_HOME_DIR or `~/.totalsegmentator` (its documentation,
"Use custom folder for weights").
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..catalog.card import Card
from ..catalog.lookup import all_cards
from ..core.errors import InputError
from ..core.i18n import tr as _
from ..core.paths import home_folder

RESULTS = Path("nnunet", "results")  # in the program's folder


def installed_models(folder: str | Path | None = None) -> list[tuple[Card, Path]]:
    """Return the models whose weights an installation of TotalSegmentator has, with the folders of their data sets.

    Args:
        folder: of the program or of its weights; by default where the program itself looks.

    Raises:
        InputError: if there are none, or the folder does not exist.
    """
    if folder is not None and not Path(folder).is_dir():
        raise InputError(
            _("The folder {folder} does not exist. Check the path and the spelling.").format(folder=folder)
        )
    places = _usual_places() if folder is None else [Path(folder), Path(folder) / RESULTS]
    for place in places:
        if found := list(_models_in(place)):
            return found
    raise InputError(
        _(
            "There are no weights of TotalSegmentator in {folders} that a listed model uses. "
            "Name the folder in which its program keeps them: 'lightseg weights add --from-totalsegmentator FOLDER'."
        ).format(folders=_(" or ").join(map(str, places)))
    )


def _usual_places() -> list[Path]:
    """Return where the program itself looks."""
    if weights := os.environ.get("TOTALSEG_WEIGHTS_PATH"):
        return [Path(weights)]
    home = os.environ.get("TOTALSEG_HOME_DIR")
    return [(Path(home) if home else home_folder() / ".totalsegmentator") / RESULTS]


def _models_in(folder: Path) -> Iterator[tuple[Card, Path]]:
    """Yield the models of whose archives a folder has what they use."""
    for card in all_cards():
        inside = card.weights.archive.folder if card.weights.archive else ""
        if inside and (folder / inside).is_dir():
            yield card, folder / PurePosixPath(inside).parts[0]
