"""Runs nnU-Net in its own environment: a job per line of JSON on stdin, an answer per line on stdout.

One process for all jobs, since nnunetv2 takes long to start. A job names a results folder (model), its folds, the
images of one case, the folder to write to (out), whether to mirror, and whether sums of logits are kept in float32:
nnU-Net keeps them, and the weights of tiles, in halves, whose rounding alone exceeds what is to be compared.
Written are preprocessed.npy [C, k, j, i] and logits.npy [outputs, k, j, i] on the working grid, and labels.nii.gz.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.inference.sliding_window_prediction import compute_gaussian


@contextlib.contextmanager
def sums_in_float32() -> Any:
    """Keep nnU-Net's sums of logits and its weights of tiles in float32."""
    gaussian = functools.partial(compute_gaussian, dtype=torch.float32)
    with (
        mock.patch.object(torch, "half", torch.float32),
        mock.patch.object(predict_from_raw_data, "compute_gaussian", gaussian),
    ):
        yield


def predict(job: dict[str, Any]) -> float:
    """Seconds from the images' files to the labels' file."""
    predictor = predict_from_raw_data.nnUNetPredictor(
        use_mirroring=job["mirror"],
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(job["model"], use_folds=job["folds"])
    plans, configuration, out = predictor.plans_manager, predictor.configuration_manager, Path(job["out"])
    started = time.perf_counter()
    data, _, properties = configuration.preprocessor_class(verbose=False).run_case(
        job["images"], None, plans, configuration, predictor.dataset_json
    )
    with sums_in_float32() if job["float32"] else contextlib.nullcontext():
        logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
    export_prediction_from_logits(logits, properties, configuration, plans, predictor.dataset_json, str(out / "labels"))
    seconds = time.perf_counter() - started
    np.save(out / "preprocessed.npy", data)
    np.save(out / "logits.npy", logits.float().numpy())
    return seconds


def main() -> None:
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # nnunetv2 prints
        for line in sys.stdin:
            try:
                answer: dict[str, Any] = {"seconds": predict(json.loads(line))}
            except Exception:
                answer = {"error": traceback.format_exc()}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
