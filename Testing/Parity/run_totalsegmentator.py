"""Runs TotalSegmentator in its own environment: a job per line of JSON on stdin, an answer per line on stdout.

One process for all jobs, since it takes long to start. Its arguments are a folder of weights, laid out as its releases
are, one for its settings, with which it asks for no network connection, and the number of threads; jobs that follow
are done in place of those on stdin. A job {"describe": number} is
answered with what the program expects of the model of that number; every other job names a task, the image, the file
of labels to write (out), its options, and whether sums of logits are kept in float32: nnU-Net keeps them, and the
weights of tiles, in halves, whose rounding alone exceeds what is to be compared.
"""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import sys
import time
import traceback
import types
from pathlib import Path
from typing import Any
from unittest import mock

SETTINGS = {
    "totalseg_id": "totalseg_LIGHTSEG",
    "send_usage_stats": False,
    "prediction_counter": 0,
    "statistics_disclaimer_shown": True,
}
PARTS = {  # tasks of several models: names of the tables of their parts in map_to_binary
    "total": ("class_map_5_parts", "map_taskid_to_partname_ct"),
    "total_mr": ("class_map_parts_mr", "map_taskid_to_partname_mr"),
    "headneck_muscles": ("class_map_parts_headneck_muscles", "map_taskid_to_partname_headneck_muscles"),
}


def prepare(weights: Path, home: Path, threads: int) -> None:
    """Tell the program where everything is, before anything of it is imported."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    os.environ["TOTALSEG_HOME_DIR"] = str(home)
    os.environ["TOTALSEG_WEIGHTS_PATH"] = str(weights)
    for name in ("raw", "preprocessed", "results"):  # for its worker processes, too
        os.environ[f"nnUNet_{name}"] = str(weights)
    os.environ.update({"nnUNet_def_n_proc": str(threads)})


def spare_transformers() -> None:
    """Let nnU-Net find its trainers where torchvision does not run, as the one of PyPI beside a PyTorch for the CPU.

    Its search imports the modules of all trainers, of which those of transformers need torchvision.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        name = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"
        sys.modules[name] = types.ModuleType(name)


@contextlib.contextmanager
def sums_in_float32() -> Any:
    """Keep nnU-Net's sums of logits and its weights of tiles in float32."""
    import torch
    from nnunetv2.inference import predict_from_raw_data
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian

    gaussian = functools.partial(compute_gaussian, dtype=torch.float32)
    gaussian.cache_clear = compute_gaussian.cache_clear  # type: ignore[attr-defined]
    with (
        mock.patch.object(torch, "half", torch.float32),
        mock.patch.object(predict_from_raw_data, "compute_gaussian", gaussian),
    ):
        yield


def describe(number: int) -> dict[str, Any]:
    """Folder, trainer, configuration, labels and outer spacing [x, y, z] that the program expects of a model."""
    from totalsegmentator import map_to_binary
    from totalsegmentator.map_tasks_config import TASK_CONFIGS, TASK_ID_WEIGHTS_CONFIGS
    from totalsegmentator.python_api import get_task_config

    for task in TASK_CONFIGS:
        for mode in ({}, {"fast": True}, {"fastest": True}):
            try:
                rules = get_task_config(task, **mode, quiet=True)
            except ValueError:  # a task without this mode
                continue
            numbers = rules["task_id"] if isinstance(rules["task_id"], list) else [rules["task_id"]]
            if number in numbers:
                labels = map_to_binary.class_map[task] | map_to_binary.class_map.get(f"{task}_auxiliary", {})
                if len(numbers) > 1:
                    parts, names = (getattr(map_to_binary, table) for table in PARTS[task])
                    labels = parts[names[number]]
                spacing = rules["resample"]
                return {
                    "task": task,
                    "folder": TASK_ID_WEIGHTS_CONFIGS[number]["foldername"],
                    "trainer": rules["trainer"],
                    "configuration": rules["model"],
                    "labels": [labels[value] for value in sorted(labels)],
                    "spacing": spacing if spacing is None or isinstance(spacing, list) else [spacing] * 3,
                }
    raise ValueError(f"no task has the model {number}")


def segment(job: dict[str, Any]) -> float:
    """Seconds from the image's file to the labels' file."""
    from totalsegmentator.python_api import totalsegmentator

    started = time.perf_counter()
    with sums_in_float32() if job["float32"] else contextlib.nullcontext():
        totalsegmentator(
            Path(job["image"]),
            Path(job["out"]),
            ml=True,
            task=job["task"],
            nr_thr_resamp=1,
            nr_thr_saving=1,
            device="cpu",
            quiet=True,
            **job["options"],
        )
    return time.perf_counter() - started


def main() -> None:
    weights, home, threads, *jobs = sys.argv[1:]
    prepare(Path(weights), Path(home), int(threads))
    multiprocessing.cpu_count = lambda: int(threads)  # type: ignore[assignment]  # it takes as many threads of PyTorch
    spare_transformers()
    answers = sys.stdout
    sys.stdout = sys.stderr  # where the program talks
    for line in jobs or sys.stdin:
        job = json.loads(line)
        try:
            answer = describe(job["describe"]) if "describe" in job else {"seconds": segment(job)}
        except (Exception, SystemExit) as error:  # told to the other side, which goes on with the next case
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":  # its workers are spawned, and import this file
    main()
