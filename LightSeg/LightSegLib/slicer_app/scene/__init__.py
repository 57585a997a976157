"""Between the MRML scene and LightSeg: the only part of the library that turns nodes into volumes and back.

MRML states positions in RAS, the library in LPS; both in mm. What the network sees is the anatomy as it is in
the world: a linear parent transform of the volume is part of the geometry. Through a shearing or non-linear one a grid
does not stay a grid with right angles, so such a volume is straightened, and its labels are brought back (`bent.py`).
"""

from .attributes import ATTRIBUTES, CONFIDENCE_ROLE, provenance_of
from .coordinates import world_position
from .results import expected_dice, input_volume, names_of_last_run, segment_volumes, total_volumes
from .segmentations import check_output, segmentation_name, write_segmentation
from .sequences import browser_of, notices_of
from .sides import lacks_side, side_of_region
from .volumes import (
    check_place,
    check_volume_nodes,
    is_too_large,
    roi_from_node,
    same_grid,
    volume_from_node,
    volumes_from_nodes,
)

__all__ = [
    "ATTRIBUTES",
    "CONFIDENCE_ROLE",
    "browser_of",
    "check_output",
    "check_place",
    "check_volume_nodes",
    "expected_dice",
    "input_volume",
    "is_too_large",
    "lacks_side",
    "names_of_last_run",
    "notices_of",
    "provenance_of",
    "roi_from_node",
    "same_grid",
    "segment_volumes",
    "segmentation_name",
    "side_of_region",
    "total_volumes",
    "volume_from_node",
    "volumes_from_nodes",
    "world_position",
    "write_segmentation",
]
