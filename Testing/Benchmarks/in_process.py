"""Measurements within one process, printed as JSON: a network, the bundled model, the sliding window, agreement."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).resolve().parents[2] / "LightSeg"
sys.path.insert(0, str(LIBRARY))

from measure import own_peak  # noqa: E402 (beside this file, as the next)
from phantom import phantom  # noqa: E402

SAMPLE = LIBRARY / "Resources" / "SampleData"
BUNDLED = "hippocampus-mr-lightmedseg"
RUNS = 5
# Networks that no model of the catalog has with this input: family, arguments, patch [C, k, j, i].
OTHERS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "lightmedseg": ("lightmedseg", {"in_channels": 4, "classes": 4}, (4, 128, 128, 128)),
    "slim-unetrv2, 96": (
        "slim_unetrv2",
        {"in_channels": 4, "classes": 3, "first_kernel": 2, "slices": [16, 8, 4, 2]},
        (4, 96, 96, 96),
    ),
}


def network(name: str, precision: str) -> dict[str, Any]:
    """Patches through the untrained network of a model: parameters, multiply-adds and median seconds of each.

    As in a volume, every thread computes a patch of its own.

    precision: "full" for float32, or "default" for the form that this processor is fastest in, OpenVINO included
    where it is installed.
    """
    import torch
    from LightSegLib.catalog.lookup import find_card
    from LightSegLib.inference.backends import backend_choice
    from LightSegLib.inference.backends.accelerate import Model, accelerate
    from LightSegLib.inference.backends.multiply_adds import multiply_adds
    from LightSegLib.inference.threads import one_thread_each, pool
    from LightSegLib.networks import build

    if name in OTHERS:
        family, arguments, size = OTHERS[name]
    else:
        card = find_card(name)
        family, arguments = card.network, card.network_arguments
        size = (len(card.channels), *card.inference.patch_size)
    torch.manual_seed(0)
    module = build(family, arguments).eval()
    patch = torch.randn((1, *size))
    backend = (
        next(iter(backend_choice.fast_backends(openvino=True)), "float32") if precision == "default" else "float32"
    )
    with one_thread_each() as threads, pool(threads) as together:
        runner = accelerate(Model([module], size[0], size[1:], None), torch.device("cpu"), backend, size[1:], threads)
        once = torch.inference_mode()(runner)
        seconds = median_seconds(lambda: list(together.map(once, [patch] * threads))) / threads
    peak = own_peak()  # before the counter below adds its own
    return {
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "multiply_adds": multiply_adds(build(family, arguments), (1, *size)),
        "seconds": seconds,
        "peak_bytes": peak,
        "patch": "x".join(map(str, size)),
        "computed_in": runner.backend,
    }


def loaded_model() -> dict[str, Any]:
    """The bundled model on 64x80x64 voxels around the right hippocampus of the sample, once loaded."""
    from LightSegLib.catalog.lookup import find_card
    from LightSegLib.imaging.readers import read_volume
    from LightSegLib.imaging.roi import RegionOfInterest
    from LightSegLib.inference.options import InferenceOptions
    from LightSegLib.inference.segmenter import Segmenter

    volume = read_volume(SAMPLE / "icbm152_t1_1mm.nii.gz")
    segmenter = Segmenter(find_card(BUNDLED), InferenceOptions(device="cpu"))
    region = RegionOfInterest.from_ras(-6.4, -64.4, -43.4, 57.4, 15.4, 20.4)
    return {"seconds": median_seconds(lambda: segmenter.segment([volume], roi=region))}


def window(model: str, out: str, *lengths: str) -> dict[str, Any]:
    """A model in full precision on a phantom [k, j, i] of its spacing, once loaded; its labels are saved as `out`."""
    import numpy as np
    from LightSegLib.catalog.lookup import find_card
    from LightSegLib.imaging.geometry import Geometry
    from LightSegLib.imaging.volume import Volume
    from LightSegLib.inference.options import InferenceOptions
    from LightSegLib.inference.segmenter import Segmenter
    from models import SPACING

    k, j, i = map(int, lengths)
    card = find_card(model)
    segmenter = Segmenter(card, InferenceOptions(device="cpu", precision="float32", openvino=False))
    volumes = [Volume(phantom(shape), Geometry(shape, SPACING)) for shape in (card.inference.patch_size, (k, j, i))]
    segmenter.segment(volumes[:1])
    started = time.perf_counter()
    labels = segmenter.segment(volumes[1:]).voxels
    seconds = time.perf_counter() - started
    np.save(out, labels)
    return {"seconds": seconds}


def agreement(one: str, other: str) -> dict[str, Any]:
    """Share of voxels with the same label in two files, images or numpy's."""
    import numpy as np
    import SimpleITK as sitk

    first, second = (
        np.load(file) if file.endswith(".npy") else sitk.GetArrayFromImage(sitk.ReadImage(file))
        for file in (one, other)
    )
    return {"equal": float((first == second).mean()), "labels": len(np.unique(first))}


def median_seconds(work: Callable[[], object]) -> float:
    """Median wall-clock seconds of RUNS calls after one to warm up."""
    work()
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    works = {"network": network, "loaded_model": loaded_model, "window": window, "agreement": agreement}
    work = works[sys.argv[1]]
    facts = work(*sys.argv[2:])
    print(json.dumps({"peak_bytes": own_peak(), **facts}))
