"""Training on images synthesized from label maps, on the grid of a template with which images are aligned later.

The model folder gets the card, the averaged weights that were best on the validation, and the template, as soon as
there is a first validation, beside what every run leaves (`run.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..catalog.card import Card
from ..core.i18n import tr as _
from ..core.progress import CancelCallback, Reporter
from .border_run import BorderRun
from .material import prepare
from .run import EpochReport
from .synthesis.options import SynthesisOptions
from .synthesis.preview import draw_preview
from .synthetic_card import write_model
from .synthetic_options import SyntheticTrainingOptions, synthetic_command
from .synthetic_run import SyntheticRun


def train_synthetic(
    folder: str | Path,
    out: str | Path,
    options: SyntheticTrainingOptions,
    synthesis: SynthesisOptions | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    canceled: CancelCallback | None = None,
) -> Card | None:
    """Train an aligned model on label maps and write a model folder; returns its card.

    None if the time was up before the first validation.

    Raises:
        InputError: for label maps or settings that cannot be used.
        OutputError: for a folder that cannot be written.
    """
    started = time.monotonic()
    material = prepare(folder, options)
    run = _kind(options)(material, Path(out), options, synthesis or SynthesisOptions())
    reporter = Reporter(None, canceled)
    name = Path(folder).resolve().name
    command = synthetic_command(name, Path(out), options, run.synthesis)
    card: Card | None = None
    written = -1
    for epoch in range(run.epoch, options.epochs):
        reporter.step(_("Training"))
        report = run.train_epoch(epoch)
        if run.best_epoch not in (0, written):
            card, written = write_model(run, material, options, name, command), run.best_epoch
        if on_epoch is not None:
            on_epoch(report)
        if options.hours and time.monotonic() - started > options.hours * 3600:
            break
    if run.best_epoch and card is None:
        card = write_model(run, material, options, name, command)
    return card


def preview(
    folder: str | Path, out: str | Path, options: SyntheticTrainingOptions, synthesis: SynthesisOptions, count: int = 8
) -> None:
    """Write a picture of images that a training would see: from its beginning to its end, one row each.

    Raises:
        InputError: as a training does.
        OutputError: for a picture that cannot be written.
    """
    material = prepare(folder, options)
    generator = material.generator(material.training, 3 * options.seed)
    grid = _kind(options).grid_of(material.layout.grid)
    shares = [1.0 if options.initial_weights else number / max(count - 1, 1) for number in range(count)]
    samples = [generator.sample(number, grid, synthesis.at(share)) for number, share in enumerate(shares)]
    draw_preview(samples, material.settings, Path(out))


def _kind(options: SyntheticTrainingOptions) -> type[SyntheticRun]:
    """Return the kind of run that the options ask for: of the whole network, or of its border head."""
    return BorderRun if options.border_channels else SyntheticRun
