"""The command `lightseg`: the library's jobs without a window.

Results go to standard output, progress to standard error: a line that changes on a terminal, elsewhere a few that stay.
Exit code: 0 done, 2 what was handed over cannot be used, 1 anything else. Nothing heavy is imported before it is
needed.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ..catalog.lookup import find_card
from ..core.errors import InputError, LightSegError, OutputError
from ..core.i18n import tr as _
from ..core.packages import torch_failure
from ..core.plain_text import without_secrets
from ..core.system import lower_priority
from ..training.options import TrainingOptions
from ..training.synthetic_options import SyntheticTrainingOptions, synthesis_options
from .arguments import build_parser, joined, options_of
from .batch import BATCH_COMMANDS
from .evaluate import EVALUATE_COMMANDS
from .frames import segment_frames
from .inputs import read_inputs, region_in
from .models import MODEL_COMMANDS
from .outputs import check_free, check_outputs, split_ending, volume_rows, write_more
from .printing import ProgressLine, nested, say, silence_itk, table
from .reproduce import REPRODUCE_COMMANDS
from .signals import ends_as_by_ctrl_c
from .streams import drop, flush_errors, flush_output, open_standard_streams
from .verify import VERIFY_COMMANDS

DEBUG_VARIABLE = "LIGHTSEG_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a name is no reason to fail

    def job() -> None:
        arguments = build_parser(COMMANDS).parse_args(joined(sys.argv[1:] if argv is None else argv))
        _check_current_folder()
        with ends_as_by_ctrl_c():
            arguments.job(arguments)
        flush_output()

    try:
        return _run(job)
    except SystemExit as request:  # argparse has printed the help, the version or what is wrong
        return _run(flush_output) or int(request.code or 0)


def _run(job: Callable[[], None]) -> int:
    """Do a job, report what keeps it from being done, and return the exit code."""
    try:
        job()
    except LightSegError as error:
        say(f"lightseg: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        drop(sys.stdout)
        return 1
    except KeyboardInterrupt:
        say("lightseg: Stopped before the job was done.", file=sys.stderr)
        return 1
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        if (failure := torch_failure(error)) is not None:
            say(f"lightseg: {failure}", file=sys.stderr)
            return failure.exit_code
        if isinstance(error, OSError) and error.filename:  # the system states what is wrong, and with which file
            say(
                f"lightseg: {error.filename} cannot be used ({error.strerror}). "
                "Check the path, the permissions and the disk.",
                file=sys.stderr,
            )
            return InputError.exit_code
        if isinstance(error, FileNotFoundError) and not _has_temporary_folder():  # torch needs one, too
            say(
                "lightseg: No folder for temporary files can be written. "
                "Free some space, or set TMPDIR to a folder that can be written.",
                file=sys.stderr,
            )
            return OutputError.exit_code
        reason = without_secrets(str(error)).strip().splitlines() or ["no reason given"]
        say(
            f"lightseg: An unexpected error occurred ({type(error).__name__}: {reason[0]}). "
            f"Set {DEBUG_VARIABLE}=1 and run again for the details to report.",
            file=sys.stderr,
        )
        return 1
    finally:
        flush_errors()
    return 0


def _has_temporary_folder() -> bool:
    """Return whether Python finds a folder for temporary files; a container may be read-only, or its disk full."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


def _check_current_folder() -> None:
    """Raise InputError where the current folder was removed: relative paths lead nowhere, and libraries cannot load."""
    try:
        Path.cwd()
    except OSError as error:
        raise InputError(
            _("The current folder cannot be used ({reason}). Change to another folder and run again.").format(
                reason=error.strerror or error
            )
        ) from error


# --- the commands ------------------------------------------------------------------------------


def _segment(arguments: argparse.Namespace) -> None:
    """Run `lightseg segment`."""
    from ..imaging.writers import check_holds, output_notices, source_of, write_segmentation
    from ..inference.segmenter import Segmenter

    silence_itk()
    if arguments.all_frames:
        return segment_frames(arguments)
    card, options = find_card(arguments.model), options_of(arguments)
    check_outputs(arguments, options.labels(card))
    out = Path(arguments.out) if arguments.out else None
    volumes = read_inputs(arguments)
    for file in (out, split_ending(arguments) if arguments.split else None):
        if file:
            check_holds(file, volumes[0].geometry)
    source = source_of(out, volumes[0]) if out else None
    roi = region_in(volumes[0], arguments)
    segmenter = Segmenter(card, options)
    progress = ProgressLine(arguments.quiet)
    try:
        segmentation = segmenter.segment(volumes, roi=roi, progress=progress)
    finally:
        progress.clear()
    written = []
    if out:
        check_free(out, arguments.overwrite)  # again: the computation took its time
        write_segmentation(segmentation, out, source, arguments.reproducible_uids)
        written.append(str(out))
    written += write_more(arguments, card, segmentation, volumes)
    if arguments.quiet:
        return None
    provenance = segmentation.provenance
    for notice in [*provenance["notices"], *output_notices(source)]:
        say(f"lightseg: {notice}", file=sys.stderr)
    say(table(volume_rows(segmentation)))
    how = f"{provenance['seconds']:.1f} s on {provenance['device']}, {provenance['computed_in']}"
    memory = f"about {provenance['memory_estimate_mb'] / 1000:.1f} GB of memory by the estimate"
    say(f"{', '.join(written)} written ({how}, {memory})")
    return None


def _train(arguments: argparse.Namespace) -> None:
    """Run `lightseg train`."""
    from ..training.run import EpochReport
    from ..training.trainer import train

    silence_itk()
    out = Path(arguments.out)
    if arguments.synthesize is not None and arguments.dataset is not None:
        raise InputError(_("DATASET and --synthesize cannot be combined. Give one of them."))
    if arguments.preview and arguments.synthesize is not None:
        _preview(arguments)
        return
    progress = ProgressLine()
    notices: set[str] = set()

    def on_epoch(report: EpochReport) -> None:
        if report.validation_dice is not None or report.epoch == report.epochs:
            notice = _draw_curves(out)
            if notice and notice not in notices:
                notices.add(notice)
                progress.clear()
                say(f"lightseg: {notice}", file=sys.stderr)
        left = str(datetime.timedelta(seconds=round(report.seconds_left)))
        best = f"best validation Dice {report.best_dice:.4f}, " if report.best_dice >= 0 else ""
        line = f"Epoch {report.epoch}/{report.epochs}, loss {report.train_loss:.4f}, {best}{left} left"
        progress.show(line)
        progress.log(line)

    try:
        if arguments.synthesize is not None:
            from ..training.synthetic import train_synthetic

            options = _options(arguments, SyntheticTrainingOptions, TrainingOptions)
            lower_priority(options.nice)
            card = train_synthetic(arguments.synthesize, out, options, synthesis_options(arguments.set), on_epoch)
        elif arguments.dataset is not None:
            options_of_images = _options(arguments, TrainingOptions, SyntheticTrainingOptions)
            card = train(arguments.dataset, out, options_of_images, on_epoch)
        else:
            raise InputError(_("No training data was given. Give DATASET, or label maps with --synthesize."))
    finally:
        progress.clear()
    if card is None:
        say(f"{out} contains a training run without a validation yet; continue it with --resume")
        return
    say(nested(card.performance) if card.performance else "No case was set aside, so no quality was measured.")
    say(f"{arguments.out} contains the model; use it with --model {shlex.quote(arguments.out)}")


Options = TypeVar("Options")


def _options(arguments: argparse.Namespace, kind: type[Options], other: type) -> Options:
    """Return the options that were given, of one kind of training.

    Raises:
        InputError: for one of the other kind.
    """
    given = vars(arguments)
    own = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for field in dataclasses.fields(other):
        if field.name in given and field.name not in own:
            flag = f"--{field.name.replace('_', '-')}"
            wrong = _("{flag} is only for training with --synthesize. Omit it.")
            if kind is SyntheticTrainingOptions:
                wrong = _("{flag} is only for training without --synthesize. Omit it.")
            raise InputError(wrong.format(flag=flag))
    return kind(**{name: given[name] for name in own if name in given})


def _preview(arguments: argparse.Namespace) -> None:
    """Run `lightseg train --synthesize --preview`: write a picture of synthetic images."""
    from ..core.atomic_io import check_folder
    from ..training.synthetic import preview

    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    check_folder(out)
    options = _options(arguments, SyntheticTrainingOptions, TrainingOptions)
    preview(arguments.synthesize, out / "preview.png", options, synthesis_options(arguments.set))
    say(f"{out / 'preview.png'} shows images as the training uses them, from its beginning to its end")


def _benchmark(arguments: argparse.Namespace) -> None:
    """Run `lightseg benchmark`."""
    from ..evaluation.benchmark import benchmark_model

    say(table(list(benchmark_model(find_card(arguments.model), arguments.device).items())))


COMMANDS = (
    MODEL_COMMANDS
    | BATCH_COMMANDS
    | VERIFY_COMMANDS
    | REPRODUCE_COMMANDS
    | EVALUATE_COMMANDS
    | {
        "segment": _segment,
        "train": _train,
        "benchmark": _benchmark,
    }
)


# --- printing ----------------------------------------------------------------------------------


def _draw_curves(folder: Path) -> str | None:
    """Training curves as a picture, or why there are none: a long training must not end for want of one."""
    from ..rendering.curves import draw_curves
    from ..training.run import CURVES, LOG

    try:
        return draw_curves(folder / LOG, folder / CURVES)
    except LightSegError as error:
        return str(error)
