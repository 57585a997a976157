"""Slicer's coordinates and the library's."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from LightSegLib.imaging.ras import LPS_TO_RAS, RAS_TO_LPS, ras_to_lps


def test_a_place_on_the_patients_right_has_the_sign_that_itk_gives_it() -> None:
    right_anterior_superior = sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation("RAS")
    expected = np.reshape(right_anterior_superior, (3, 3)) @ [10.0, 20.0, 30.0]
    assert np.array_equal(ras_to_lps(np.array([[10.0, 20.0, 30.0]])), [expected])
    assert np.array_equal(RAS_TO_LPS @ LPS_TO_RAS, np.eye(4))
