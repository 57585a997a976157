"""The average image of an anatomy, to which a volume is aligned so that places in it are known."""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...catalog.card import Card
from ...catalog.lookup import template_path
from ...core.atomic_io import atomic_write
from ...core.errors import ModelError
from ...core.file_hash import sha256
from ...core.i18n import tr as _
from ...imaging.geometry import Geometry
from ...imaging.write_check import check_written

LARGEST = 1 << 25  # voxels: a template is small, whatever a damaged header states


@dataclass(frozen=True)
class Template:
    """An average image with its surroundings.

    Attributes:
        image: intensities, uint8 [k, j, i].
        focus: probability that a voxel belongs to what must be aligned, such as the brain in a head,
            in 1/255, uint8 [k, j, i].
        geometry: of both; the axes run along L, P and S.
    """

    image: np.ndarray
    focus: np.ndarray
    geometry: Geometry

    def __post_init__(self) -> None:
        if not self.image.shape == self.focus.shape == self.geometry.shape:
            raise ValueError(_("the image, focus and geometry of a template have different shapes"))

    @cached_property
    def away(self) -> np.ndarray:
        """Distance of each voxel from the focus in mm, 0 in it; float32 [k, j, i]."""
        return ndimage.distance_transform_edt(self.focus < 128, sampling=self.geometry.spacing[::-1]).astype(np.float32)

    def form(self, bare: bool) -> np.ndarray:
        """Return the image, float32 [k, j, i]; bare: nothing but the focus, such as a brain whose skull was removed."""
        image = self.image.astype(np.float32)
        return image * self.focus / np.float32(255) if bare else image

    def near(self, mm: float) -> Template:
        """Return the template cropped to `mm` around its focus."""
        found = ndimage.find_objects((self.away <= mm).astype(np.uint8))
        if not found:
            raise ModelError(_("The template has no focus. Restore its file or import the model again."))
        corner = np.array([part.start for part in found[0][::-1]], float)
        matrix = self.geometry.index_to_world
        matrix[:3, 3] = (matrix @ [*corner, 1.0])[:3]
        image, focus = self.image[found[0]], self.focus[found[0]]
        k, j, i = image.shape
        return Template(image, focus, Geometry.from_index_to_world(matrix, (k, j, i)))


def open_template(card: Card) -> Template:
    """Return the template of a card that aligns images.

    Raises:
        ModelError: for a file that is missing or not the card's.
    """
    path, alignment = template_path(card), card.preprocessing.alignment
    if path is None or alignment is None:
        raise ValueError(_("{model} does not align images").format(model=card.id))
    if not path.is_file() or sha256(path) != alignment.template_sha256:
        raise ModelError(
            _(
                "The template {file} of '{model}' is missing or is not the one that its card describes. "
                "Restore the file or import the model again."
            ).format(file=path, model=card.id)
        )
    return read_template(path)


def read_template(path: Path) -> Template:
    """Read a template file.

    Raises:
        ModelError: for a file that is missing or is not a template.
    """
    import SimpleITK as sitk

    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        if math.prod(reader.GetSize()) > LARGEST:
            raise RuntimeError(_("its header describes more voxels than a template has"))
        image = reader.Execute()
    except RuntimeError as error:
        raise ModelError(
            _("The template {file} is missing or cannot be read. Restore the file or import the model again.").format(
                file=path
            )
        ) from error
    upright = np.allclose(image.GetDirection(), np.eye(image.GetDimension()).ravel())
    voxels = sitk.GetArrayFromImage(image)
    if image.GetDimension() != 3 or voxels.ndim != 4 or voxels.dtype != np.uint8 or not upright:
        raise ModelError(
            _(
                "{file} is not a template, which must have three dimensions, "
                "two 8-bit components per voxel (intensity and focus) and axes along L, P and S. "
                "Restore the file or import the model again."
            ).format(file=path)
        )
    k, j, i, _four = voxels.shape
    return Template(voxels[..., 0], voxels[..., 1], Geometry((k, j, i), image.GetSpacing(), image.GetOrigin()))


def write_template(template: Template, path: Path) -> None:
    """Write a template as NRRD, whole or not at all.

    Raises:
        OutputError: if the file or folder cannot be written.
    """
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.stack((template.image, template.focus), axis=-1), isVector=True)
    image.SetSpacing(template.geometry.spacing)
    image.SetOrigin(template.geometry.origin)
    with atomic_write(path) as part:
        try:
            sitk.WriteImage(image, str(part), True)
        except RuntimeError as error:  # ITK's own word for a write that failed
            raise OSError(errno.ENOSPC, str(error)) from error
        check_written(part, sitk.GetArrayViewFromImage(image))
