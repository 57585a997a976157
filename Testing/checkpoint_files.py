"""What the tests of checkpoints share: what nnU-Net writes into one, the two forms of torch's files, and how to
compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PLANS = {
    "dataset_name": "Dataset024_Täst",
    "transpose_forward": [0, 1, 2],
    "configurations": {"3d_fullres": {"patch_size": [96, 128, 128], "spacing": [3.0, 2.0, 2.0], "batch_dice": True}},
    "foreground_intensity_properties_per_channel": {"0": {"mean": -52.2320181037366, "std": 268.7993885716853}},
}
DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": "0", "tumor": "1"}, "numTraining": 5000}
ZIP, LEGACY = {}, {"_use_new_zipfile_serialization": False}


def assert_same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Keys, their order and every value, as float32 (integers as they are) and on the CPU."""
    import torch

    assert list(state) == list(expected)
    for key, tensor in expected.items():
        wanted = tensor.float() if tensor.is_floating_point() else tensor
        assert state[key].dtype == wanted.dtype and state[key].device.type == "cpu"
        assert torch.equal(state[key], wanted)
