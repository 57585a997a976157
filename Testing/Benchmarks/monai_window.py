"""MONAI's sliding window on the network of a benchmark model; run by the Python that has MONAI.

Arguments: the model's nnU-Net folder, where to save the labels (.npy), the weights of a tile's voxels ("monai" for
MONAI's own Gaussian, "nnunet" for the one that nnU-Net and LightSeg use), and the phantom's size k, j, i.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "LightSeg"))

import numpy as np
import torch
from LightSegLib.inference.sliding_window import gaussian
from models import FLARE_SIZED, network_of, normalized
from monai.inferers import sliding_window_inference
from phantom import phantom


def main(folder: str, out: str, weights: str, *lengths: str) -> None:
    network, patch = network_of(Path(folder)), FLARE_SIZED.patch
    k, j, i = map(int, lengths)

    def labels(volume: torch.Tensor) -> np.ndarray:
        logits = sliding_window_inference(
            volume[None, None],
            patch,
            sw_batch_size=1,
            predictor=network,
            overlap=0.5,
            mode="gaussian",
            roi_weight_map=gaussian(patch) if weights == "nnunet" else None,
        )
        return logits.argmax(dim=1)[0].to(torch.uint8).numpy()

    small, volume = (torch.from_numpy(normalized(phantom(shape))) for shape in (patch, (k, j, i)))
    with torch.inference_mode():
        labels(small)  # to warm up
        started = time.perf_counter()
        found = labels(volume)
        seconds = time.perf_counter() - started
    np.save(out, found)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
