"""Models that see a whole image at once, in bounded memory: how they are run for a segmenter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..catalog.card import Inference
from ..core.errors import DeviceError
from ..core.figures import distinct_sizes, gigabytes
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.progress import Reporter
from ..imaging.geometry import Geometry
from ..imaging.roi import Slices
from .backends.backend_choice import check_possible
from .backends.devices import choose_device, is_out_of_memory, is_unsupported
from .backends.precisions import AUTO, BFLOAT16, FLOAT32, INT8
from .by_rows import Computer
from .labeling import InferenceResult
from .memory import available_memory
from .options import InferenceOptions
from .plan import ExecutionPlan
from .threads import InlineExecutor, pool

STEPS = (4, 2)  # rows that are computed together, where memory allows


Report = Callable[[int, int], None]  # what is done of all


class WholeImage(ABC):
    """An image as such a model takes it, and the way back to the image's grid.

    Attributes:
        original: the image's grid.
        region: the part of it to be labeled.
    """

    original: Geometry
    region: Slices

    @property
    def inner_shape(self) -> tuple[int, int, int]:
        """Voxels [k, j, i] of the part to be labeled."""
        k, j, i = (part.stop - part.start for part in self.region)
        return k, j, i

    @property
    def spacing(self) -> tuple[float, float, float]:
        """That of the image, in mm along k, j, i."""
        x, y, z = self.original.spacing
        return z, y, x

    @property
    def notices(self) -> list[Message]:
        """What the user should know about this image."""
        return []

    @property
    def facts(self) -> dict[str, Any]:
        """What belongs into the provenance."""
        return {}

    @abstractmethod
    def bytes_needed(self, network: nn.Module, rules: Inference, computer: Computer) -> int:
        """Return the memory that `label` takes."""

    @abstractmethod
    def label(
        self, network: nn.Module, rules: Inference, computer: Computer, confidence: bool, report: Report
    ) -> InferenceResult:
        """Return labels on the image's grid.

        Raises:
            InputError: if the image does not show what the model segments.
        """


@dataclass(frozen=True)
class WholeRun:
    """A result, and how it was computed."""

    result: InferenceResult
    plan: ExecutionPlan
    backend: str
    needed: int
    notices: list[Message]


def whole_image_backend(options: InferenceOptions, device: torch.device) -> str:
    """Return the backend of such a model.

    Raises:
        DeviceError: if it is not float32 or bfloat16, or one that this computer does not have.
    """
    if options.precision in (AUTO, INT8):
        return FLOAT32
    check_possible(options.precision, device, options.openvino)
    if options.precision not in (FLOAT32, BFLOAT16):
        raise DeviceError(
            _("This model does not compute in {backend}. Choose the precision float32.").format(
                backend=options.precision
            )
        )
    return options.precision


def run_whole_image(
    image: WholeImage, network: nn.Module, rules: Inference, options: InferenceOptions, reporter: Reporter, threads: int
) -> WholeRun:
    """Label an image by the first way that fits in memory; if it runs out all the same, by the next.

    Raises:
        DeviceError: if the memory of this computer is too small.
        InputError: if the image does not show what the model segments.
    """
    chosen = choose_device(options.device)
    backend = whole_image_backend(options, chosen)
    dtype = torch.bfloat16 if backend == BFLOAT16 else torch.float32
    ways = [(device, step) for device in dict.fromkeys((chosen, torch.device("cpu"))) for step in STEPS]
    shortage, notices = "", list[Message]()
    for device, step in ways:
        with _computer(device, dtype, step, threads) as computer:
            needed = image.bytes_needed(network, rules, computer)
            free = available_memory(device)
            if free is not None and needed > free:
                size, rest = distinct_sizes(needed, free)
                shortage = f"about {size} are needed, {rest} are free"
                continue
            reporter.step(_("Segmenting (takes about {gigabytes} of memory)").format(gigabytes=gigabytes(needed)))
            try:
                result = image.label(
                    network, rules, computer, options.confidence, lambda n, of: reporter.tile(_("Segmenting"), n, of)
                )
            except (RuntimeError, MemoryError) as error:
                if is_out_of_memory(error):
                    shortage = f"{gigabytes(needed)} did not suffice"
                    continue
                if device.type == "cpu" or not is_unsupported(error):
                    raise
                shortage = f"this build of PyTorch lacks an operation on {device}"
                continue
        if device != chosen:
            notices.append(_("{device} was not used ({reason}).").format(device=chosen, reason=shortage))
        return WholeRun(result, ExecutionPlan(device, threads), backend, needed, notices)
    raise DeviceError(
        _(
            "This machine's memory is too small for this model ({shortage}). "
            "Close other programs or choose another model."
        ).format(shortage=shortage)
    )


@contextmanager
def _computer(device: torch.device, dtype: torch.dtype, step: int, threads: int) -> Iterator[Computer]:
    threads = threads if device.type == "cpu" else 1
    with pool(threads) if device.type == "cpu" else InlineExecutor() as executor:
        yield Computer(executor, device, dtype, step, threads)
