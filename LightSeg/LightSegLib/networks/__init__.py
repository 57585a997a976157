"""Networks in pure torch, one family a file. They know nothing of images or files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError
from ..core.i18n import tr as _

if TYPE_CHECKING:
    from torch import nn

FAMILIES = {
    "atlas_unet": ("atlas_unet", "AtlasUNet"),
    "hippodeep": ("hippodeep", "HippoDeep"),
    "lightmedseg": ("lightmedseg", "LightMedSeg"),
    "meshnet": ("meshnet", "MeshNet"),
    "plain_conv_unet": ("unet", "PlainConvUNet"),
    "residual_encoder_unet": ("unet", "ResidualEncoderUNet"),
    "slim_unetrv2": ("slim_unetrv2", "SlimUNETRV2"),
    "unetrpp": ("unetrpp", "UNETRPP"),
}


def build(family: str, arguments: dict[str, Any]) -> nn.Module:
    """Return the untrained network of a card.

    Raises:
        ModelError: for an unknown family or wrong arguments.
    """
    if family not in FAMILIES:
        raise ModelError(
            _(
                "The model card names the network '{family}', "
                "which this version of LightSeg does not support (supported: {supported}). "
                "Update LightSeg or correct the card."
            ).format(family=family, supported=", ".join(sorted(FAMILIES)))
        )
    module, name = FAMILIES[family]
    try:
        network: nn.Module = getattr(importlib.import_module(f".{module}", __package__), name)(**arguments)
    except (TypeError, ValueError, LookupError, RuntimeError) as error:
        raise ModelError(
            _(
                "The arguments in the model card do not fit the network '{family}' ({reason}). "
                "Correct network_arguments in the card."
            ).format(family=family, reason=error)
        ) from error
    return network
