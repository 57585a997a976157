"""hippodeep from files in its authors' layout, fetched from a mirror: on a head whose hippocampi are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hippodeep_files import write_hippodeep
from LightSegLib.catalog.card import Card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.segmenter import Segmenter
from stored_weights import in_parts

# The average head is 180 x 216 x 180 mm; this image shows as much, in other directions than the network sees.
GRID = Geometry((91, 109, 91), (2.0,) * 3, (-90.0, -90.0, -72.0))
SHIFT = (0.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.04, 0.0, 0.0, 0.0, 0.0)  # of half an average head: to L, to A
UPSIDE_DOWN = (0.0,) * 10 + (-2.0, 0.0)
LEFT, RIGHT = (-28.0, -20.0, -14.0), (26.0, -22.0, -16.0)  # RAS mm in the average head
MOVED = np.array([-4.5, 4.32, 0.0])  # SHIFT in RAS mm


def distance(place: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """Of each voxel [k, j, i] from a place in RAS mm."""
    k, j, i = np.indices(GRID.shape)
    lps = np.stack((i, j, k, np.ones_like(i)), axis=-1) @ GRID.index_to_world.T
    return np.linalg.norm(lps[..., :3] * (-1, -1, 1) - place, axis=-1)


def head(hippocampi: dict[tuple[float, ...], float]) -> Volume:
    """A head with bright balls of some radii."""
    voxels = np.where(distance((0, -18, 18)) < 80, 100, 0).astype(np.int16)
    for place, radius in hippocampi.items():
        voxels[distance(place + MOVED) < radius] = 300
    return Volume(voxels, GRID, "head")


def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, affine: tuple[float, ...] = SHIFT) -> Card:
    """The card with the generated files, which lie in a mirror."""
    folder = tmp_path / "mirror" / "hippodeep"
    folder.mkdir(parents=True)
    files = write_hippodeep(folder, affine)
    monkeypatch.setenv("LIGHTSEG_MIRROR", str(folder.parent))
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(tmp_path / "weights"))
    return replace(find_card("hippodeep"), weights=in_parts(files, "hippodeep.zip"))


def test_both_hippocampi_are_found_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Segmenter(published(tmp_path, monkeypatch)).segment([head({LEFT: 8.0, RIGHT: 10.0})])
    for value, place, radius in ((1, LEFT, 8.0), (2, RIGHT, 10.0)):
        expected = distance(place + MOVED) < radius
        labeled = found.voxels == value
        assert 2 * (labeled & expected).sum() / (labeled.sum() + expected.sum()) > 0.95
    np.testing.assert_allclose(
        np.array(found.provenance["alignment"]["average_to_image_ras"])[:3], np.c_[np.eye(3), MOVED], atol=1e-4
    )


@pytest.mark.parametrize(
    ("affine", "volume", "message"),
    [
        (SHIFT, head({}), "No hippocampus was found in head"),
        (SHIFT, head({LEFT: 4.0}), "No hippocampus was found in head"),  # 0.3 ml, as in a T2-weighted head
        (UPSIDE_DOWN, head({LEFT: 8.0}), "does not lie as the directions in its header say"),
        (SHIFT, replace(head({LEFT: 8.0}), geometry=replace(GRID, spacing=(0.5,) * 3)), "No brain was found in head"),
    ],
)
def test_what_shows_no_hippocampus_is_refused(
    affine: tuple[float, ...], volume: Volume, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=message):
        Segmenter(published(tmp_path, monkeypatch, affine)).segment([volume])
