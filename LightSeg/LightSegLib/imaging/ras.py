"""From RAS, in which 3D Slicer states positions, to LPS, that of DICOM, SimpleITK and this library, and back.

Right and left, anterior and posterior are opposite directions of one axis: x and y change their sign, z stays. Both are
in mm.
"""

from __future__ import annotations

import numpy as np

RAS_TO_LPS = LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ras_to_lps(points: np.ndarray) -> np.ndarray:
    """LPS positions [n, 3] of RAS positions [n, 3]."""
    return points @ RAS_TO_LPS[:3, :3]
