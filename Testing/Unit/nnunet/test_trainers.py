"""What nnU-Net's trainers make of the network of the plans, and which are known."""

from __future__ import annotations

import pytest
from LightSegLib.core.errors import ModelError
from LightSegLib.networks import build
from LightSegLib.nnunet.network import is_known_trainer
from nnunet_models import make_plans
from nnunet_settings import BRATS, mr_plans, read, unet


@pytest.mark.parametrize(("trainer", "side", "kernel"), [("128", 128, 4), ("96", 96, 2)])
def test_the_trainers_of_slim_unetrv2_impose_network_and_patch(trainer: str, side: int, kernel: int) -> None:
    plans = mr_plans(4)
    plans["configurations"]["3d_fullres"]["patch_size"] = [64, 160, 144]  # what nnU-Net planned for its own U-Net
    settings = read(plans, BRATS, trainer=f"SlimUNETRV2_{trainer}Trainer")
    assert settings.inference.patch_size == (side, side, side)
    slices = {4: [64, 32, 16, 8], 2: [16, 8, 4, 2]}[kernel]
    assert settings.network == "slim_unetrv2"
    assert settings.network_arguments == {"in_channels": 4, "classes": 3, "first_kernel": kernel, "slices": slices}


def test_nnunets_batch_norm_trainer_replaces_the_norm_of_the_plans() -> None:
    """nnUNetTrainerBN: BatchNorm with eps 1e-5 and affine weights, whatever norm the plans name."""
    settings = read(
        make_plans(architecture=unet(norm_op_kwargs={"eps": 1e-3, "affine": True})), trainer="nnUNetTrainerBN"
    )
    assert settings.network_arguments["norm"] == "batch" and "norm_eps" not in settings.network_arguments
    assert (
        "encoder.stages.0.0.convs.0.norm.running_var"
        in build(settings.network, settings.network_arguments).state_dict()
    )


@pytest.mark.parametrize(
    "trainer", ["nnUNet_Primus_M_Trainer", "nnUNet_PrimusV3L_Trainer", "_Primus_S_96_BS1", "AbstractPrimus"]
)
def test_trainers_whose_networks_are_in_no_plans_are_named(trainer: str) -> None:
    with pytest.raises(ModelError, match=rf"The trainer '{trainer}' builds a network of the family Primus, which"):
        read(trainer=trainer)


# Of nnU-Net 2.8.1, those that take the plans' network, and that of batch norm.
TRAINERS = """
nnUNetTrainer nnUNet_Trainer_BS8 nnUNetTrainerBenchmark_5epochs nnUNetTrainerBenchmark_5epochs_noDataLoading
nnUNetTrainerDA5 nnUNetTrainerDA5ord0 nnUNetTrainerDA5Segord0 nnUNetTrainerDA5_10epochs nnUNetTrainerNoDA
nnUNetTrainer_DASegOrd0 nnUNetTrainer_DASegOrd0_NoMirroring nnUNetTrainer_noDummy2DDA nnUNetTrainerNoMirroring
nnUNetTrainer_onlyMirror01 nnUNetTrainer_onlyMirror01_1500ep nnUNetTrainer_onlyMirror01_DASegOrd0
nnUNetTrainer_warmup nnUNetTrainerCosAnneal nnUNetTrainerAdan nnUNetTrainerAdan1en3 nnUNetTrainerAdan3en4
nnUNetTrainerAdan1en1 nnUNetTrainerAdanCosAnneal nnUNetTrainerAdam nnUNetTrainerVanillaAdam
nnUNetTrainerVanillaAdam1en3 nnUNetTrainerVanillaAdam3en4 nnUNetTrainerAdam1en3 nnUNetTrainerAdam3en4
nnUNetTrainer_onlyMirror01_DA5 nnUNetTrainer_250epochs_NoMirroring nnUNetTrainer_8000epochs_NoMirroring
nnUNetTrainer_1epoch nnUNetTrainer_5epochs nnUNetTrainer_2000epochs nnUNetTrainerDiceLoss
nnUNetTrainerDiceCELoss_noSmooth nnUNetTrainerTopk10Loss nnUNetTrainerTopk10LossLS01 nnUNetTrainerDiceTopK10Loss
nnUNetTrainerCELoss nnUNetTrainerCELoss_5epochs nnUNetTrainerNoDeepSupervision nnUNetTrainerBN
nnUNetTrainer_probabilisticOversampling nnUNetTrainer_probabilisticOversampling_033
nnUNetTrainer_probabilisticOversampling_010
"""


@pytest.mark.parametrize("trainer", [*TRAINERS.split(), "SlimUNETRV2_96Trainer"])
def test_the_trainers_of_nnunet_are_known(trainer: str) -> None:
    assert is_known_trainer(trainer)


@pytest.mark.parametrize(
    "trainer", ["nnUNetTrainerUMambaBot", "nnUNetTrainerReLU", "nnUNetTrainerBN_100epochs", "", "Mine"]
)
def test_other_trainers_are_not(trainer: str) -> None:
    assert not is_known_trainer(trainer)
