"""How nnU-Net v2's plans want images and results resampled, as a card's Resampling.

Source: nnU-Net 2.8.1, the functions of its package preprocessing.resampling with the defaults of their arguments.
"""

from __future__ import annotations

from typing import Any

from ..catalog.card import Resampling
from ..core.i18n import tr as _
from ..core.schema import conform
from .fields import OBJECT, object_of, unsupported

INTERPOLATIONS = {0: "nearest", 1: "linear", 3: "cubic"}  # by the order of the spline
SEPARATE = {None: "anisotropic", True: "always", False: "never"}  # by force_separate_z
ANISOTROPY = 3  # nnU-Net's threshold, and the only one that cards know
SPLINES = {
    "is_seg": False,
    "order": 3,
    "order_z": 0,
    "force_separate_z": False,
    "separate_z_anisotropy_threshold": ANISOTROPY,
}
TORCH = {
    "is_seg": False,
    "force_separate_z": None,
    "separate_z_anisotropy_threshold": ANISOTROPY,
    "mode": "linear",
    "aniso_axis_mode": "nearest-exact",
}
SPEED = ("num_threads", "device", "memefficient_seg_resampling")  # of torch's function, without effect on an image
TORCH_MODES = {"linear": "linear", "nearest-exact": "nearest"}


def read_resampling(rules: dict[str, Any], field: str, where: str) -> Resampling | None:
    """Return the resampling that a configuration's `field` names, or None for no resampling.

    Args:
        where: the configuration's name in complaints.

    Raises:
        FieldError: for the first field that does not fit.
        ModelError: for what a card cannot say.
    """
    function: str = rules[field]
    arguments = conform(rules, object_of({f"{field}_kwargs": OBJECT}), where)[f"{field}_kwargs"]
    found: Resampling | None = None
    if function == "no_resampling_hack" and not arguments:
        return None
    if function == "resample_data_or_seg_to_shape":
        found = _splines(SPLINES | arguments)
    elif function == "resample_torch_fornnunet":
        found = _torch(TORCH | {name: value for name, value in arguments.items() if name not in SPEED})
    if found is None:
        unsupported(
            _("The {field} of the model is '{function}' with the arguments {arguments}").format(
                field=field, function=function, arguments=arguments
            )
        )
    return found


def _splines(arguments: dict[str, Any]) -> Resampling | None:
    """Return the resampling of nnU-Net's default function, or None if no card can express it."""
    along, axis_interpolation = (_find(INTERPOLATIONS, arguments[name]) for name in ("order", "order_z"))
    separate_axis = _separate(arguments, SPLINES)
    return (
        Resampling(along, separate_axis, axis_interpolation) if along and axis_interpolation and separate_axis else None
    )


def _torch(arguments: dict[str, Any]) -> Resampling | None:
    """Return the modes count for a separate axis alone: without one, this function is always linear."""
    separate_axis = _separate(arguments, TORCH)
    if separate_axis == "never":
        return Resampling("linear")
    along, axis_interpolation = (_find(TORCH_MODES, arguments[name]) for name in ("mode", "aniso_axis_mode"))
    return (
        Resampling(along, separate_axis, axis_interpolation) if along and axis_interpolation and separate_axis else None
    )


def _separate(arguments: dict[str, Any], known: dict[str, Any]) -> str | None:
    """Return when an axis is resampled separately, or None for arguments that no card can express."""
    usual = all(arguments[name] == known[name] for name in ("is_seg", "separate_z_anisotropy_threshold"))
    return _find(SEPARATE, arguments["force_separate_z"]) if usual and set(arguments) == set(known) else None


def _find(names: dict[Any, str], value: Any) -> str | None:
    """Return the name of a value of exactly this kind: for Python, False is 0 and 1.0 is 1."""
    return next((name for known, name in names.items() if known == value and type(known) is type(value)), None)
