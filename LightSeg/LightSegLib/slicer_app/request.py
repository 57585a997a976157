"""What is asked of a model in the scene: the same for a call that waits and for a job beside the application."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..core.errors import InputError
from ..core.i18n import tr as _
from ..imaging.roi import RegionOfInterest
from ..imaging.volume import Segmentation, Volume
from ..inference.options import InferenceOptions
from . import scene


@dataclass(frozen=True)
class Request:
    """What a user asks of a model, in terms of nodes.

    Attributes:
        model: id, or path of a model folder.
        volumeNodes: one for each channel.
        segmentationNode: takes the segments beside those it has; None for a new one.
        roiNode: Markups ROI that limits the work.
        side: "left" or "right" names the segments so.
    """

    model: str
    volumeNodes: tuple[Any, ...]
    segmentationNode: Any = None
    roiNode: Any = None
    side: str | None = None
    options: InferenceOptions = field(default_factory=InferenceOptions)
    _bent: list[Any] = field(default_factory=list, compare=False, repr=False)  # what was straightened to be read

    @classmethod
    def of(
        cls,
        volumeNode: Any,
        model: str,
        segmentationNode: Any,
        roiNode: Any,
        side: str | None,
        options: InferenceOptions | None,
    ) -> Request:
        """Return the request for a segmentation as the console gives it: volumeNode may be one node or a list of them.

        Raises:
            InputError: for volumes that are none, and for other options than those of the logic.
        """
        volumeNodes = tuple(volumeNode) if isinstance(volumeNode, (list, tuple)) else (volumeNode,)
        scene.check_volume_nodes(volumeNodes)
        if not isinstance(options, InferenceOptions | None):
            raise InputError(
                _("{options} cannot be used as options. Make them with logic.options(...), or give none.").format(
                    options=repr(options)
                )
            )
        return cls(str(model), volumeNodes, segmentationNode, roiNode, side, options or InferenceOptions())

    def read(self) -> tuple[list[Volume], RegionOfInterest | None]:
        """Return the volumes and the region.

        Raises:
            InputError: for nodes that cannot be used.
        """
        scene.check_output(self.segmentationNode, self.side)
        inputs = scene.volumes_from_nodes(self.volumeNodes)
        self._bent[:] = [inputs.bent] if inputs.bent else []
        return inputs.volumes, None if self.roiNode is None else scene.roi_from_node(self.roiNode)

    def on_volume(self, segmentation: Segmentation) -> Segmentation:
        """Return the result on the voxels of the first volume, where that had to be straightened to be read."""
        return self._bent[0].brought_back(segmentation) if self._bent else segmentation

    def write(self, segmentation: Segmentation) -> Any:
        """Add the segments of `on_volume` to the scene; returns their node.

        Raises as `scene.write_segmentation`.
        """
        output = self.segmentationNode
        if output is not None and output.GetScene() is None:  # removed meanwhile
            output = None
        return scene.write_segmentation(segmentation, self.volumeNodes[0], output, self.side)
