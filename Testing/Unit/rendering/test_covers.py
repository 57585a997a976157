"""What the picture in 3D leaves out: what lies around all else, and nothing that is to be seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from LightSegLib.catalog.card import Label
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Segmentation, Volume
from LightSegLib.rendering import result
from LightSegLib.rendering.covers import find_covers
from LightSegLib.rendering.layers import Layer, list_layers
from PIL import Image

Place = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # first and last voxel along k, j, i
SHAPE = (16, 16, 24)


def drawn(structures: dict[str, Place]) -> Segmentation:
    """Boxes, the later ones over the earlier; left and right of one name have one color."""
    voxels = np.zeros(SHAPE, np.uint8)
    labels = []
    for value, (name, place) in enumerate(structures.items(), start=1):
        voxels[tuple(slice(first, last + 1) for first, last in place)] = value
        labels.append(Label(value, name, (9, 9, len(name.removeprefix("Left ").removeprefix("Right ")))))
    return Segmentation(voxels, Geometry(SHAPE), tuple(labels))


def kernel(i: int, name: str) -> dict[str, Place]:
    """A structure of a few voxels on both sides."""
    return {f"{side} {name}": ((i, i + 1), (6, 7), ends) for side, ends in (("Left", (6, 7)), ("Right", (16, 17)))}


BRAIN: dict[str, Place] = {
    "Fluid": ((0, 15), (0, 15), (0, 23)),
    "Left cortex": ((2, 13), (2, 13), (2, 11)),
    "Right cortex": ((2, 13), (2, 13), (12, 21)),
    **kernel(4, "thalamus"),
    **kernel(6, "caudate nucleus"),
    **kernel(8, "putamen"),
    **kernel(10, "amygdala"),
    "Stem": ((14, 15), (7, 8), (11, 12)),
}


def names(segmentation: Segmentation) -> list[str]:
    return [entry.name for entry in find_covers(list_layers([segmentation]))]


def test_fluid_and_the_cortex_of_both_sides_hide_what_is_within_them() -> None:
    assert names(drawn(BRAIN)) == ["Fluid", "Cortex"]
    half = {name: place for name, place in BRAIN.items() if not name.startswith("Right")}
    assert names(drawn(half)) == ["Fluid", "Left cortex"]


def test_what_has_little_around_it_is_shown() -> None:
    """The muscle around the blood of the heart, a liver with a tumor in it, organs side by side, and nothing at all."""
    heart: dict[str, Place] = {
        "Muscle": ((2, 13), (2, 13), (2, 13)),
        "Blood": ((5, 9),) * 3,
        "Vessel": ((5, 9), (5, 9), (16, 18)),
    }
    assert names(drawn(heart)) == []
    assert names(drawn({"Liver": ((2, 13),) * 3, "Tumor": ((5, 6),) * 3})) == []
    assert names(drawn(kernel(4, "kidney") | kernel(6, "lung") | kernel(8, "hip"))) == []
    assert names(Segmentation(np.zeros(SHAPE, np.uint8), Geometry(SHAPE), drawn(BRAIN).labels)) == []


def test_the_page_leaves_them_out_of_the_surface_alone_and_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    words: list[str] = []

    def render(layers: list[Layer], width: int, height: int) -> tuple[Image.Image, np.ndarray]:
        seen.extend(layer.label.name for layer in layers)
        return Image.new("RGB", (width, height)), np.eye(3)

    write = result.write

    def listen(page: Image.Image, text: str, *rest: object, **more: object) -> None:
        words.append(text)
        write(page, text, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(result, "opengl_works", lambda: True)
    monkeypatch.setattr(result, "render_surface", render)
    monkeypatch.setattr(
        result, "write", lambda page, text, *rest, **more: (words.append(text), write(page, text, *rest, **more))
    )
    segmentation = drawn(BRAIN)
    volume = Volume(segmentation.voxels.astype(np.float32), segmentation.geometry)
    assert result.draw_result(volume, segmentation, tmp_path / "page.png") is None
    assert seen == [name for name in BRAIN if name != "Fluid" and "cortex" not in name]
    assert "without Fluid, Cortex" in words
