"""The window in each of its states, made of its own parts and of nodes of a real scene; no network runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import slicer
from LightSegLib.catalog.card import Label
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import InputError
from LightSegLib.core.progress import Progress
from LightSegLib.imaging.volume import Segmentation
from LightSegLib.slicer_app import scene
from user_actions import let_slices_cross_at

HIPPOCAMPUS, FOUR_CHANNELS, TO_DOWNLOAD, OF_PARTS = (
    "hippocampus-mr-unet",
    "brain-tumor-mr-slim-unetrv2",
    "heart-ct-slim-unetrv2",
    "total-ct",
)
SHORT = "T1"
LONG = "sub-0123_ses-20260101_acq-mprageisotropic1mm_run-01_desc-preprocessed_T1w Kopfaufnahme 头部磁共振成像"
NOTICE = "The image cuts off about 7 % of what the model segments, so some volumes are too small."
PAIR = ("Right anterior hippocampus", "Right posterior hippocampus")
MANY = tuple(
    f"{side} {name} ({number})"
    for number in range(8)
    for side, name in (
        ("Left", "cerebral cortex and white matter of the frontal lobe"),
        ("Rechtsseitiges", "Kleinhirnrindenoberflächensegment"),
        ("左侧", "大脑半球皮质及其下白质区域"),
    )
)


def add_head(name: str = SHORT) -> Any:
    """A volume as large as a head, of little more than nothing."""
    node = slicer.util.addVolumeFromArray(np.arange(20**3, dtype=np.float32).reshape(20, 20, 20), name=name)
    node.SetSpacing(9, 9, 9)
    node.SetOrigin(-85, -85, -85)
    return node


def ready(window: Any, name: str = SHORT) -> Any:
    """A volume and a region in its right half are chosen."""
    window.logic.getParameterNode().input1 = volume = add_head(name)
    let_slices_cross_at(25, -25, -12)
    window.ui.roiSliceButton.click()
    return volume


def add_result(window: Any, volume: Any, names: tuple[str, ...], doubts: int) -> Any:
    """A segmentation as a run leaves it, shown as its result."""
    voxels = np.zeros((20, 20, 20), np.uint8)
    for number in range(len(names)):
        voxels[number % 20, number // 20 : number // 20 + 5, 5:9] = number + 1
    card = find_card(HIPPOCAMPUS)
    colors = [(230, 120, 60), (70, 150, 210), (90, 180, 90)]
    labels = tuple(replace(card.labels[0], value=n + 1, name=name, color=colors[n % 3]) for n, name in enumerate(names))
    assert all(isinstance(label, Label) for label in labels)
    provenance = {
        "model": card.id,
        "version": card.version,
        "weights_sha256": card.weights.sha256,
        "title": card.title,
        "device": "cpu",
        "computed_in": "float32",
        "settings": {},
        "seconds": 1.2,
        "license": card.license,
        "citation": card.citation,
        "notices": [NOTICE] if doubts else [],
        "expected_dice": dict.fromkeys(names[:-1], 0.87) if doubts else {},
        "low_confidence_slices": [[8, 9, number, 0.71 + number / 100] for number in range(doubts)],
    }
    geometry = scene.volume_from_node(volume).geometry
    node = scene.write_segmentation(Segmentation(voxels, geometry, labels, provenance), volume)
    window.logic.getParameterNode().result = node
    window.status.end("Segmented in 1.2 s on cpu.")
    return node


# --- the states --------------------------------------------------------------------------------------


def empty(window: Any) -> None:
    """As it opens."""


def chosen(window: Any) -> None:
    ready(window)


def offered(window: Any) -> None:
    window.logic.getParameterNode().input1 = add_head()
    window.inputs.region.show(replace(find_card(HIPPOCAMPUS), region_from=None))  # one that cannot find its place
    assert window.offer.made()


def listed(window: Any) -> None:
    window.ui.changeButton.click()
    window.ui.modelSearch.setText("mr")


def found_by_structure(window: Any) -> None:
    window.ui.changeButton.click()
    window.ui.modelSearch.setText("iliopsoas")


def of_several_parts(window: Any) -> None:
    window.logic.getParameterNode().modelId = OF_PARTS
    window.ui.moreButton.click()


def ticked(window: Any) -> None:
    window.logic.getParameterNode().input1 = add_head(LONG)
    window.logic.getParameterNode().modelId = OF_PARTS
    window.ui.structuresButton.click()
    window.ui.noStructuresButton.click()
    window.ui.structureSearch.setText("kidney")
    window.ui.allStructuresButton.click()


def explained(window: Any) -> None:
    window.ui.moreButton.click()


def running(window: Any) -> None:
    ready(window, LONG)
    window.status.begin("Starting")
    window.status.show(Progress("Segmenting", 137, 567, 81.0))
    window.ui.applyButton.text = "Cancel"


def finished(window: Any) -> None:
    add_result(window, ready(window), PAIR, 0)


def finished_with_much(window: Any) -> None:
    node = add_result(window, ready(window, LONG), MANY, 5)
    window.logic.getParameterNode().output = node


def failed(window: Any) -> None:
    ready(window)
    error = InputError(
        "The region of interest Region is outside the volume. Place it over the structure to segment, or choose none."
    )
    window.status.keep(str(error), "Traceback")


def failed_at_length(window: Any) -> None:
    ready(window, LONG)
    tried = "https://models.example/a/folder/with/a/long/name/and_a_file_of_weights.pth does not answer"
    error = InputError(f"The weights could not be downloaded ({'; '.join([tried] * 8)}). Check the network connection.")
    window.status.keep(str(error), "Traceback")


def four_channels(window: Any) -> None:
    parameters = window.logic.getParameterNode()
    parameters.modelId = FOUR_CHANNELS
    for number in range(1, 5):
        setattr(parameters, f"input{number}", add_head(f"{LONG} {number}"))


def downloading(window: Any) -> None:
    window.logic.getParameterNode().modelId = TO_DOWNLOAD
    window.status.begin("")
    file = "Downloading weights of heart-ct-slim-unetrv2_checkpoint_best_epoch_1000.pth"
    window.status.show(Progress(file, seconds_left=12.0, received=27 << 20, size=1 << 26, bytes_per_second=5e6))
    window.ui.downloadButton.text = window.ui.downloadButton.text.replace("Download", "Cancel Download")


def all_settings(window: Any) -> None:
    window.ui.advancedSection.collapsed = False


STATES: dict[str, Callable[[Any], None]] = {
    state.__name__.replace("_", " "): state
    for state in (
        empty,
        chosen,
        offered,
        listed,
        found_by_structure,
        of_several_parts,
        ticked,
        explained,
        running,
        finished,
        finished_with_much,
        failed,
        failed_at_length,
        four_channels,
        downloading,
        all_settings,
    )
}
