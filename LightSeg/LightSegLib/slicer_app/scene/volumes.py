"""From nodes to volumes and regions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util import numpy_support

from ...catalog.card import Card
from ...core.errors import InputError
from ...core.i18n import tr as _
from ...imaging.affine import snapped
from ...imaging.geometry import Geometry
from ...imaging.ras import RAS_TO_LPS, ras_to_lps
from ...imaging.roi import RegionOfInterest
from ...imaging.volume import Volume, check_voxels
from .bent import BentVolume
from .coordinates import array_of, index_to_ras, is_linear, moved, through, transform_between


@dataclass(frozen=True)
class Inputs:
    """The volumes of a request, read from their nodes.

    Attributes:
        volumes: one per node, in the world.
        bent: how the first was straightened, None where it was not.
    """

    volumes: list[Volume]
    bent: BentVolume | None = None


def volumes_from_nodes(volumeNodes: Sequence[Any]) -> Inputs:
    """Return the volumes of nodes, on grids with right angles.

    Raises:
        InputError: as `volume_from_node` does, for nodes of no scene, and where a non-linear transform would bend
            one channel against another.
    """
    check_volume_nodes(volumeNodes)
    bent = [node for node in volumeNodes if not is_linear(node)]
    if bent and len({node.GetTransformNodeID() for node in volumeNodes}) > 1:
        raise InputError(
            _(
                "{name} has a non-linear transform that the other volumes do not have. "
                "Put all channels under the same transform, or resample them to one grid."
            ).format(name=bent[0].GetName())
        )
    found = [_read(node) for node in volumeNodes]
    return Inputs([volume for volume, _bent in found], found[0][1])


def check_volume_nodes(volumeNodes: Sequence[Any]) -> None:
    """Check that there are nodes, and that they are scalar volumes of a scene.

    Raises:
        InputError: if not.
    """
    for node in volumeNodes or [None]:
        if node is None:
            raise InputError(_("No input volume is chosen. Choose the volume to segment."))
        if not _is_scalar_volume(node):
            raise InputError(
                _("The input ({node}) is not a scalar volume. Choose a volume in the scene.").format(
                    node=_described(node)
                )
            )
        if node.GetScene() is None:
            raise InputError(_("{name} is not in the scene. Add it to the scene first.").format(name=node.GetName()))


def volume_from_node(volumeNode: Any) -> Volume:
    """Return the voxels [k, j, i] and LPS geometry, in the world, of a scalar volume node.

    Under a shearing or non-linear transform the volume is interpolated onto a regular grid, with a notice.

    Raises:
        InputError: for anything but a scalar volume (label map, color, tensor, no voxels) and for voxels that
            `check_voxels` refuses.
    """
    check_volume_nodes([volumeNode])
    return _read(volumeNode)[0]


def _read(volumeNode: Any) -> tuple[Volume, BentVolume | None]:
    """Return the volume of a node, and how it was straightened if it was bent.

    Raises:
        InputError: if it cannot be segmented.
    """
    name = volumeNode.GetName() or volumeNode.GetID() or "The volume"
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(
            _("{name} is a label map, not an image. Choose the image on which it was drawn.").format(name=name)
        )
    image = volumeNode.GetImageData()
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None or scalars.GetNumberOfTuples() == 0:
        raise InputError(_("{name} has no voxels. Load its image again or choose another volume.").format(name=name))
    if scalars.GetNumberOfComponents() != 1:
        raise InputError(
            _(
                "{name} has {components} components per voxel, as color and vector images have. "
                "Choose a volume with one value per voxel, or convert it with the Vector to Scalar Volume module."
            ).format(name=name, components=scalars.GetNumberOfComponents())
        )
    geometry = _geometry(volumeNode)
    voxels = numpy_support.vtk_to_numpy(scalars).reshape(geometry.shape)
    check_voxels(voxels, name)
    near = snapped(geometry) if is_linear(volumeNode) else None
    if near is not None:
        return Volume(voxels, near[0], name), None
    local = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(local)
    bent = BentVolume(voxels, array_of(local), transform_between(volumeNode.GetParentTransformNode(), None), name)
    return bent.straightened(), bent


def is_too_large(volumeNode: Any, card: Card) -> bool:
    """Return whether a volume is larger than what a model of a small region takes as a whole.

    One without voxels or without a plausible place has no size.
    """
    from ...inference.region_size import is_too_large

    if volumeNode.GetImageData() is None or not is_linear(volumeNode):
        return False
    try:
        geometry = _geometry(volumeNode)
    except InputError:
        return False
    return is_too_large(card, card.preprocessing, geometry, None)


def check_place(volumeNode: Any) -> None:
    """Check that the voxels of a volume have plausible positions.

    Raises:
        InputError: for an origin, spacing or direction that no image has, of its own or by a transform.
    """
    _geometry(volumeNode)


def same_grid(volumeNode: Any, other: Any) -> bool:
    """Return whether the voxels of two volumes have the same positions in the world."""
    if not (is_linear(volumeNode) and is_linear(other)) and (
        volumeNode.GetTransformNodeID() != other.GetTransformNodeID()
    ):
        return False
    return _geometry(volumeNode).matches(_geometry(other))


def roi_from_node(roiNode: Any) -> RegionOfInterest:
    """Return the box of a Markups ROI in the world, under whatever transform.

    Raises:
        InputError: for another kind of node and for an empty box.
    """
    if not isinstance(roiNode, slicer.vtkMRMLMarkupsROINode):
        raise InputError(
            _("The region of interest ({node}) is not a Markups ROI. Create one in the Markups module.").format(
                node=_described(roiNode)
            )
        )
    half = np.array(roiNode.GetSize()) / 2
    if roiNode.GetNumberOfControlPoints() == 0 or half.min() <= 0:
        raise InputError(
            _(
                "The region of interest {name} is empty. Place it over the structure to segment, "
                "or choose none to segment the whole volume."
            ).format(name=roiNode.GetName())
        )
    transform = transform_between(roiNode.GetParentTransformNode(), None)
    straight = slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(transform)
    # The faces of a box bend under a non-linear transform, so its corners alone would not enclose it.
    steps = np.linspace(-1, 1, 2 if straight else 9)
    inside = np.array(list(itertools.product(steps, steps, steps))) * half
    to_node = array_of(roiNode.GetObjectToNodeMatrix())
    return RegionOfInterest(ras_to_lps(through(transform, moved(inside, to_node))))


def _geometry(volumeNode: Any) -> Geometry:
    """Return the geometry of a volume node, in LPS mm of the world, or local to it under a non-linear transform.

    Raises:
        InputError: for a place that is not plausible.
    """
    i, j, k = volumeNode.GetImageData().GetDimensions()
    try:
        return Geometry.from_index_to_world(RAS_TO_LPS @ index_to_ras(volumeNode), (k, j, i))
    except InputError as error:
        if volumeNode.GetParentTransformNode() is None:
            raise
        raise InputError(
            _(
                "{name} has no plausible place under its transform. "
                "Correct the transform, or take the volume out of it."
            ).format(name=volumeNode.GetName())
        ) from error


def _is_scalar_volume(node: Any) -> bool:
    """Return whether a node is a scalar volume."""
    return isinstance(node, slicer.vtkMRMLScalarVolumeNode)


def _described(thing: Any) -> str:
    """Return a node as messages name it."""
    return f"{thing.GetName()}, {thing.GetClassName()}" if isinstance(thing, slicer.vtkMRMLNode) else repr(thing)
