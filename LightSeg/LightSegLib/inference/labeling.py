"""From prepared volumes to labels: tiles through the network, averaged, restored; how, is a plan that fits the memory.

On the CPU several tiles are computed side by side, each in one thread, and added up in their order. While the network
runs on a GPU, the CPU computes the rows of the next tiles and makes labels of finished rows.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..catalog.card import Inference
from ..core.errors import Canceled
from ..core.i18n import tr as _
from ..core.leftovers import new_folder
from ..core.progress import Reporter
from .expected_dice import SoftDice
from .plan import WAITING_SLABS, ExecutionPlan, Workload, make_sampler
from .processing.preprocess import NetworkInput
from .processing.restore import Decision, Restorer
from .sliding_window import Position, TileAggregator, TileSampler
from .threads import InlineExecutor, pool

LOOK = 0.1  # seconds between two looks whether the user has canceled

Network = Callable[[Tensor], Tensor]  # tiles [B, C, k, j, i] -> logits [B, outputs, k, j, i]


@dataclass(frozen=True)
class InferenceResult:
    """Labels on the input's grid, their probabilities or None, and views of both for the used part.

    Attributes:
        soft_dice: of each label, where the card has a calibration (see `expected_dice`).
    """

    labels: np.ndarray
    part: np.ndarray
    confidence: np.ndarray | None
    confidence_part: np.ndarray | None
    soft_dice: Mapping[int, float] | None = None


@torch.inference_mode()
def label(
    prepared: NetworkInput,
    rules: Inference,
    work: Workload,
    network: Network,
    plan: ExecutionPlan,
    reporter: Reporter,
) -> InferenceResult:
    """Return the labels on the input's grid, background outside the used part, and their probabilities if asked for."""
    outputs = work.outputs
    largest = max(rules.regions, default=outputs - 1)
    full, part = prepared.blank(np.uint8 if largest <= 255 else np.uint16)
    sampler = make_sampler(prepared, rules)
    confidence, probabilities = prepared.blank(np.uint8) if work.confidence else (None, None)
    decision = Decision.of(rules, work.unnamed, work.head)
    restorer = prepared.restorer(rules, decision, part, probabilities)
    soft_dice = SoftDice(decision) if rules.calibration else None
    stopped = threading.Event()
    evaluate = _Evaluation(network, rules, plan.device, stopped)
    on_cpu = plan.device.type == "cpu"
    with ExitStack() as stack:
        store = stack.enter_context(_Rows(plan, sampler.tile_size[0]))
        # What computes tiles; what computes rows before them, and labels after them.
        computing = stack.enter_context(pool(plan.tiles) if on_cpu else InlineExecutor())
        ahead, behind = (stack.enter_context(InlineExecutor() if on_cpu else pool(1)) for _ in range(2))
        stack.callback(stopped.set)
        aggregator = TileAggregator(work.summed, prepared.shape, sampler.importance().to(store.device), store.zeros)
        waiting: deque[Future[None]] = deque()

        def hand_on(slabs: Iterable[Tensor]) -> None:
            for slab in slabs:
                waiting.append(behind.submit(_add, slab, restorer, soft_dice))
                if len(waiting) > WAITING_SLABS:
                    waiting.popleft().result()

        reporter.tile(_("Segmenting"), 0, len(sampler))
        finished = 0
        groups = _groups(_tiles(prepared, sampler, ahead), plan.batch)
        for positions, results in _in_order(groups, evaluate, computing, plan.tiles if on_cpu else 0, reporter):
            for position, logits in zip(positions, results, strict=True):
                hand_on(aggregator.add(sampler.covered(logits).to(store.device), position))
                finished += 1
                reporter.tile(_("Segmenting"), finished, len(sampler))
        hand_on(aggregator.finish())
        for last in waiting:
            last.result()
    return InferenceResult(full, part, confidence, probabilities, soft_dice.by_label() if soft_dice else None)


def _groups(tiles: Iterator[tuple[Position, Tensor]], size: int) -> Iterator[tuple[list[Position], list[Tensor]]]:
    """Yield tiles that pass through the network together."""
    while group := list(itertools.islice(tiles, size)):
        yield [position for position, _ in group], [tile for _, tile in group]


def _in_order(
    groups: Iterator[tuple[list[Position], list[Tensor]]],
    evaluate: Callable[[list[Tensor]], list[Tensor]],
    computing: Executor,
    more: int,
    reporter: Reporter,
) -> Iterator[tuple[list[Position], list[Tensor]]]:
    """Yield the results of the groups in their order, while `more` of them are computed or wait for that."""
    running: deque[tuple[list[Position], Future[list[Tensor]]]] = deque()
    for positions, tiles in groups:
        running.append((positions, computing.submit(evaluate, tiles)))
        if len(running) > more:
            yield _result(running, reporter)
    while running:
        yield _result(running, reporter)


def _result(
    running: deque[tuple[list[Position], Future[list[Tensor]]]], reporter: Reporter
) -> tuple[list[Position], list[Tensor]]:
    """Return the result of the group that was begun first.

    Raises:
        Canceled: as soon as the user cancels.
    """
    positions, future = running.popleft()
    while True:
        try:
            future.exception(timeout=LOOK)
        except NotYet:
            reporter.check_canceled()
        else:
            return positions, future.result()


@torch.inference_mode()
def _add(slab: Tensor, restorer: Restorer, soft_dice: SoftDice | None) -> None:
    """Pass finished rows of logits on."""
    restorer.add(slab)
    if soft_dice is not None:
        soft_dice.add(slab)


def _tiles(prepared: NetworkInput, sampler: TileSampler, ahead: Executor) -> Iterator[tuple[Position, Tensor]]:
    """Yield every tile [C, k, j, i] with its position; the rows of the next are computed meanwhile."""
    depth = sampler.tile_size[0]
    compute = torch.inference_mode()(prepared.rows)
    rows = prepared.rows(0, depth)
    starts = [*sampler.rows, None]
    for start, following in itertools.pairwise(starts):
        assert start is not None
        if following is not None:
            coming = ahead.submit(compute, start + depth, following + depth)
        for j, i in sampler.columns:
            yield (start, j, i), sampler.tile(rows, (0, j, i))
        if following is not None:
            rows = torch.cat((rows[:, following - start :], coming.result()), dim=1)


class _Evaluation:
    """Computes what is averaged for tiles (logits or probabilities), with the flips of the rules.

    A tile of one value, such as the air around a body after clipping, gives the same result at every position: computed
    once. It may be called in several threads; after `stopped` is set it raises Canceled.
    """

    def __init__(self, network: Network, rules: Inference, device: torch.device, stopped: threading.Event) -> None:
        self._network = network
        self._rules = rules
        self._device = device
        axes = rules.mirror_axes
        self._flips = [[axis + 2 for axis in f] for n in range(len(axes) + 1) for f in itertools.combinations(axes, n)]
        self._stopped = stopped
        self._uniform: dict[tuple[float, ...], Tensor] = {}

    @torch.inference_mode()
    def __call__(self, tiles: Sequence[Tensor]) -> list[Tensor]:
        """[outputs, k, j, i] for each tile [C, k, j, i]."""
        values = [one_value(tile) for tile in tiles]
        new = [n for n, value in enumerate(values) if value is None or value not in {*self._uniform, *values[:n]}]
        results: dict[int, Tensor] = {}
        if new:
            batch = torch.stack([tiles[n] for n in new]).to(self._device)
            results = dict(zip(new, self._averaged(batch).unbind(), strict=True))
        self._uniform |= {value: results[n] for n in new if (value := values[n]) is not None}
        return [results[n] if value is None else self._uniform[value] for n, value in enumerate(values)]

    def _averaged(self, batch: Tensor) -> Tensor:
        """Return the mean over the flips, [B, outputs, k, j, i]."""
        total = self._once(batch)
        for flip in self._flips[1:]:
            if self._stopped.is_set():
                raise Canceled
            total = total + self._once(batch.flip(flip)).flip(flip)
        return total / len(self._flips) if len(self._flips) > 1 else total

    def _once(self, batch: Tensor) -> Tensor:
        """Return logits or probabilities of a batch, as the rules average them."""
        logits = self._network(batch)
        if self._rules.average == "logits":
            return logits
        return logits.sigmoid() if self._rules.regions else logits.softmax(dim=1)


def one_value(tile: Tensor) -> tuple[float, ...] | None:
    """Return the value of each channel of a tile that has only one."""
    corner, other = tile[:, 0, 0, 0], tile[:, -1, -1, -1]
    if not torch.equal(corner, other) or not bool((tile == corner[:, None, None, None]).all()):
        return None
    return tuple(corner.tolist())


class _Rows:
    """Memory for the sums of logits; on disk they are in one file that is removed afterwards.

    Args:
        depth: how many rows are alive at a time; their places are used in turn.
    """

    def __init__(self, plan: ExecutionPlan, depth: int) -> None:
        self.device = plan.device if plan.sums == "device" else torch.device("cpu")
        self._depth = depth
        self._on_disk = plan.sums == "disk"
        self._places: Tensor | None = None
        self._next = 0

    def __enter__(self) -> _Rows:
        self._folder = new_folder()
        return self

    def __exit__(self, *_: object) -> None:
        self._places = None  # Windows deletes no file that is mapped
        shutil.rmtree(self._folder, ignore_errors=True)

    def zeros(self, size: tuple[int, ...]) -> Tensor:
        """Return zeros for one row.

        Raises:
            MemoryError: if the disk is full too.
        """
        if self._places is None:
            shape = (self._depth, *size)
            self._places = self._file(shape) if self._on_disk else torch.empty(shape, device=self.device)
        self._next += 1
        return self._places[self._next % self._depth].zero_()

    def _file(self, shape: tuple[int, ...]) -> Tensor:
        """Return a memory-mapped array on disk.

        Raises:
            MemoryError: if the disk is full.
        """
        file = self._folder / "sums"
        try:
            if shutil.disk_usage(self._folder).free < 4 * math.prod(shape):
                raise OSError(_("{size:.1f} GB are needed").format(size=4 * math.prod(shape) / 1e9))
            with file.open("wb") as stream:  # written, since a full disk would end the program when a map is used
                for _row in range(self._depth):
                    np.zeros(shape[1:], np.float32).tofile(stream)
        except OSError as error:
            raise MemoryError(
                _("{folder} does not have enough space for intermediate results ({reason})").format(
                    folder=self._folder, reason=error
                )
            ) from error
        places = np.memmap(file, np.float32, "r+", shape=shape)
        if os.name == "posix":  # the map keeps it; so it is gone however the program ends
            file.unlink()
        return torch.from_numpy(places)
