"""What the command line accepts: commands and flags, with their help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, NoReturn

from .. import __version__
from ..batch.settings import FORMATS
from ..catalog.lookup import bundled_models
from ..core.plain_text import plain
from ..inference.options import PIECES, InferenceOptions
from . import values
from .streams import write_text
from .training_arguments import add_training_arguments


class Parser(argparse.ArgumentParser):
    """Reports what is wrong in a sentence, and if its output cannot be written, as all of the command line does.

    Shows its help where it has commands and none is given, and names the near word where one is misspelled.
    """

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments, of which all must be known: else the one for all commands would report unknown flags."""
        self._given = sys.argv[1:] if args is None else list(args)
        if not self._given and self._subparsers is not None:
            self.print_help(sys.stderr)
            self.exit(2)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """End with what is wrong and what to do, without the list of all options, which would hide it."""
        remedy = f"'{self.prog} --help' shows what it takes."
        if near := self._near_flags():  # of which argparse may report that the right ones are missing
            message = f"there is no {' and no '.join(near)}. Did you mean {' and '.join(near.values())}?"
        elif message.startswith(REQUIRED) and "--model" in message:
            *most, last = bundled_models()
            bundled = f"{', '.join(most)} and {last}"
            remedy = f"Name a model: {bundled} come with LightSeg, and 'lightseg models' lists all of them."
        message = message if message.endswith("?") else f"{message.rstrip('.')}."
        self.exit(2, f"lightseg: {message[:1].upper()}{message[1:]} {remedy}\n")

    def _near_flags(self) -> dict[str, str]:
        """Return the flags among the arguments that do not exist, but are spelled nearly as one that does, with it."""
        found = {}
        for argument in self._given:
            if argument == "--" or (self._subparsers and not argument.startswith("-")):
                break  # what follows are no flags, or those of a command
            flag = argument.partition("=")[0]
            if flag.startswith("--") and flag not in self._option_string_actions:
                for near in get_close_matches(flag, self._option_string_actions, 1):
                    found[flag] = near
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Report a word that is none of the choices with the one that is spelled nearly so, else with all of them."""
        if action.choices is None or value in action.choices:
            return
        words = [str(one) for one in action.choices]
        near = get_close_matches(str(value), words, 1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Choose from {', '.join(words)}."
        raise argparse.ArgumentError(action, f"there is no '{value}'. {hint}")

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            write_text(plain(message), file or sys.stderr)


REQUIRED = "the following arguments are required"  # argparse's words
PIECE_FLAG = "--largest-component"
Job = Callable[[argparse.Namespace], None]


def build_parser(jobs: Mapping[str, Job]) -> argparse.ArgumentParser:
    """Return the parser of the whole command line; the parsed `job` is the entry of `jobs` for the chosen command."""
    parser = Parser("lightseg", description="Lightweight 3D medical image segmentation.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"lightseg {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(job=jobs[name])
        return added

    models = command("models", "List the models, or those that fit all words.")
    models.add_argument("words", nargs="*", metavar="WORD", help="searched in title, structures, modality and family")
    models.add_argument("--family", default="", help="only the models of a family, such as totalsegmentator")
    models.add_argument(
        "--modality", type=str.casefold, default="", help="only models that take such images: CT, MR, ..."
    )
    models.add_argument(
        "--search", action="append", default=[], metavar="WORDS", help="as WORD, such as iliopsoas or 'Left kidney'"
    )
    models.add_argument("--all", action="store_true", help="list the parts of models of several parts, too")
    models.add_argument("--json", action="store_true", help="print a JSON list")

    info = command("info", "Describe one model.")
    info.add_argument("model", metavar="MODEL", help="model id, or the path of a model folder")
    info.add_argument("--json", action="store_true", help="print the model card")
    info.add_argument("--labels", action="store_true", help="list every label: value, name, the authors' name, code")

    imported = command(
        "import", "Add a model: an nnU-Net v2 results folder or archive, a checkpoint, a LightSeg folder."
    )
    imported.add_argument("path", type=values.path, metavar="FILE_OR_FOLDER", help="path of the model; it is copied")
    imported.add_argument(
        "--fold",
        action="append",
        default=[],
        metavar="N",
        dest="folds",
        help="take only this fold of an nnU-Net results folder, 0, 1, ... or all; can be given several times "
        "(default: the mean of all finished ones)",
    )
    imported.add_argument(
        "--orientation",
        type=values.orientation,
        metavar="RAS",
        help="turn the axes of images so before anything else, as the model's authors do (default: as its plans state)",
    )
    imported.add_argument("--replace", action="store_true", help="replace an imported model of the same id")

    remove = command("remove", "Remove an imported model.")
    remove.add_argument("model", metavar="MODEL", help="model id")

    _add_weights_commands(commands, jobs)

    verify = command("verify", "Check that a model works on this computer: its weights, and their labels of an image.")
    verify.add_argument("model", metavar="MODEL", help="model id, or the path of a model folder")
    verify.add_argument(
        "inputs",
        type=values.path,
        nargs="*",
        metavar="INPUT",
        help="image file or DICOM folder, one per channel (default: a generated image, or the sample that ships)",
    )
    _add_frame(verify, "take this frame of a series over time, from 1")
    _add_reading(verify)
    _add_license(verify)
    _add_device(verify)
    verify.add_argument("--quiet", action="store_true", help="print nothing but errors")

    segment = command("segment", "Segment a volume.")
    segment.add_argument(
        "inputs", type=values.path, nargs="+", metavar="INPUT", help="image file or DICOM folder, one per channel"
    )
    segment.add_argument("--model", required=True, help="model id, or the path of a model folder")
    segment.add_argument(
        "--out",
        type=values.path,
        metavar="FILE",
        help="ends in .seg.nrrd, .nrrd, .nii.gz, .nii or .dcm; with --all-frames a folder, or one 4D file",
    )
    frames = segment.add_mutually_exclusive_group()
    _add_frame(frames, "segment this frame of a series over time, from 1")
    frames.add_argument(
        "--all-frames", action="store_true", help="segment every frame; run again, it goes on where it was stopped"
    )
    segment.add_argument(
        "--split",
        type=values.path,
        metavar="FOLDER",
        help="write a file for each structure, too, named as the model's authors call it",
    )
    segment.add_argument(
        "--statistics",
        type=values.path,
        metavar="FILE",
        help="write the volume in ml and the mean intensity of each structure, too; ends in .json or .csv",
    )
    segment.add_argument(
        "--preview", type=values.path, metavar="FILE", help="write a picture of the result, too; ends in .png"
    )
    segment.add_argument("--overwrite", action="store_true", help="replace files that exist already")
    segment.add_argument(
        "--roi", type=values.roi, metavar="BOX", help="R,A,S,R,A,S: two opposite corners, in mm; or a file with labels"
    )
    _add_uids(segment)
    _add_reading(segment)
    _add_license(segment)
    _add_inference_options(segment)
    segment.add_argument("--quiet", action="store_true", help="print nothing but errors")

    reproduce = command("reproduce", "Segment again as the provenance of a result describes, and compare the labels.")
    reproduce.add_argument(
        "result", type=values.path, metavar="RESULT", help=".seg.nrrd file that segment or batch has written"
    )
    reproduce.add_argument(
        "inputs", type=values.path, nargs="+", metavar="INPUT", help="what it was made of, as given to segment"
    )
    reproduce.add_argument("--model", default="", help="id or folder of the model (default: the id in RESULT)")
    _add_frame(
        reproduce, "take this frame of a series over time, from 1 (default: the one that RESULT states it was made of)"
    )
    _add_reading(reproduce)
    _add_license(reproduce)
    reproduce.add_argument("--quiet", action="store_true", help="print nothing but errors")

    batch = command("batch", "Segment many cases.")
    batch.add_argument(
        "input",
        type=values.path,
        metavar="INPUT",
        help="folder of volumes, CSV file (case, one column per channel) or tree of DICOM files",
    )
    batch.add_argument(
        "--model",
        action="append",
        required=True,
        dest="models",
        metavar="MODEL",
        help="model id, or the path of a model folder; given several times, each has a folder of its own in DIR, and "
        "all_models.csv there has the results of all",
    )
    batch.add_argument(
        "--out",
        type=values.path,
        required=True,
        metavar="DIR",
        help="folder of the results; cases done there are skipped",
    )
    batch.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0], help="of the segmentations (default: %(default)s)"
    )
    _add_uids(batch)
    batch.add_argument(
        "--workers", type=values.count, metavar="N", help="processes (default: what fits cores and memory)"
    )
    batch.add_argument(
        "--threads", type=values.count, metavar="N", help="of each process (default: the cores among them)"
    )
    batch.add_argument(
        "--engine", choices=("local", "dask"), default="local", help="dask: workers of a Dask cluster (default: local)"
    )
    batch.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster, such as tcp://host:8786; else one is started here"
    )
    _add_reading(batch)
    _add_license(batch)
    _add_inference_options(batch)
    batch.add_argument("--no-pictures", action="store_true", help="draw no picture of each case")
    batch.add_argument("--dry-run", action="store_true", help="list what would be done, and how long it would take")
    batch.add_argument("--quiet", action="store_true", help="print nothing but errors")

    train = command("train", "Train a model on labeled volumes, or on images synthesized from label maps.")
    add_training_arguments(train)

    evaluate = command("evaluate", "Compare segmentations with expert labels.")
    evaluate.add_argument(
        "predictions", type=values.path, metavar="PREDICTIONS", help="folder of label maps, or one file"
    )
    evaluate.add_argument(
        "labels", type=values.path, metavar="LABELS", help="folder with the expert's files of the same names, or one"
    )
    evaluate.add_argument("--out", type=values.path, metavar="CSV", help="write the table to this file, too")
    evaluate.add_argument("--overwrite", action="store_true", help="replace CSV if it exists already")
    evaluate.add_argument("--model", help="model whose label names are used where predictions have none")
    evaluate.add_argument(
        "--structure", default="", metavar="NAME", help="what masks show, files with a single label and no names"
    )

    benchmark = command("benchmark", "Measure speed and memory of a model on this machine.")
    benchmark.add_argument("--model", default="hippocampus-mr-lightmedseg", help="model id (default: %(default)s)")
    _add_device(benchmark)
    return parser


def joined(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with values joined to their flags where argparse would misread them.

    `--roi -40,...` becomes `--roi=-40,...`, since it takes a value that starts with a minus for an option; a
    `--largest-component` without one of its values means that of every label.
    """
    found: list[str] = []
    for argument in arguments:
        if found and found[-1] == "--roi":
            found[-1] = f"--roi={argument}"
        elif found and found[-1] == PIECE_FLAG and argument in PIECES:
            found[-1] = f"{PIECE_FLAG}={argument}"
        else:
            found.append(argument)
    return [f"{PIECE_FLAG}=label" if argument == PIECE_FLAG else argument for argument in found]


def options_of(arguments: argparse.Namespace) -> InferenceOptions:
    """Return the inference options of the command line."""
    given = vars(arguments)
    return InferenceOptions(**{one.name: given[one.name] for one in fields(InferenceOptions) if one.name in given})


def _add_weights_commands(commands: argparse._SubParsersAction[Any], jobs: Mapping[str, Job]) -> None:
    """`lightseg weights ...`."""
    text = "Download, check and remove weights."
    weights = commands.add_parser("weights", help=text, description=text, allow_abbrev=False)
    actions = weights.add_subparsers(title="actions", required=True, metavar="ACTION")

    def action(name: str, text: str, former: tuple[str, ...] = ()) -> argparse.ArgumentParser:
        added = actions.add_parser(name, aliases=former, help=text, description=text, allow_abbrev=False)
        added.set_defaults(job=jobs[f"weights {name}"])
        return added

    listed = action("list", "List what is on this computer, with sizes.")
    listed.add_argument("--json", action="store_true", help="print a JSON list")
    download = action("download", "Download the weights of models.")
    download.add_argument("models", nargs="+", metavar="MODEL", help="model ids")
    download.add_argument("--mirror", metavar="URL", help="try URL/MODEL/FILE first (also: LIGHTSEG_MIRROR)")
    add = action("add", "Add a model's weights from a file, for computers without internet.", former=("use",))
    model = add.add_argument("model", metavar="MODEL", help="model id")
    text = "the authors' file, or the folder that was unpacked of their archive; it stays as it is"
    file = add.add_argument("file", type=values.path, metavar="FILE", help=text)
    add.add_argument(
        "--from-totalsegmentator",
        action=_InPlaceOf,
        others=(model, file),
        nargs="?",
        const="",
        metavar="FOLDER",
        help="in place of MODEL and FILE: all that TotalSegmentator's own program has downloaded "
        "(default: where it keeps that)",
    )
    for parser in (download, add):
        _add_license(parser)
        parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    verify = action("verify", "Compute hashes again and compare.")
    verify.add_argument("models", nargs="*", metavar="MODEL", help="model ids (default: all that are downloaded)")
    remove = action("remove", "Delete downloaded weights.")
    remove.add_argument("models", nargs="+", metavar="MODEL", help="model ids")
    remove.add_argument("--forget", action="store_true", help="accept another file at the next download")
    path = action("path", "Print the path of a model's weights.")
    path.add_argument("model", metavar="MODEL", help="model id")


class _InPlaceOf(argparse.Action):
    """An option with which some other arguments are not needed."""

    def __init__(self, *arguments: Any, others: Sequence[argparse.Action], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._others = others

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        """Keep the value of the option."""
        setattr(namespace, self.dest, values)
        for other in self._others:
            other.required = False


def _add_license(parser: argparse.ArgumentParser) -> None:
    """Add the flag that accepts a license."""
    text = "accept the license of a model that forbids commercial use; needed once"
    names = ("--accept-license", "--accept-licence")
    parser.add_argument(*names, action="store_true", dest="accept_license", help=text)


def _add_frame(parser: argparse._ActionsContainer, text: str) -> None:
    """Add the flag that chooses a frame of an image over time."""
    parser.add_argument("--frame", type=values.count, metavar="N", help=text)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the flags for how inputs are read."""
    text = "interpolate where slices of a DICOM series are missing, instead of refusing it"
    parser.add_argument("--allow-gaps", action="store_true", help=text)


def _add_uids(parser: argparse.ArgumentParser) -> None:
    """Add the flag for the UIDs of DICOM segmentations."""
    text = "give a DICOM segmentation of the same images, model and labels the same UIDs each time"
    parser.add_argument("--reproducible-uids", action="store_true", help=text)


def _add_device(parser: argparse.ArgumentParser) -> None:
    """Add the flag for the device."""
    parser.add_argument("--device", type=values.device, default="auto", help="auto, cpu, cuda, cuda:N or mps")


def _add_inference_options(parser: argparse.ArgumentParser) -> None:
    """A flag for each option that has words for it; what is on by default gets one that turns it off."""
    for option in fields(InferenceOptions):
        text, flag = option.metadata["help"], option.name.replace("_", "-")
        if not text:
            continue
        if isinstance(option.default, bool):
            action = "store_false" if option.default else "store_true"
            flag = f"no-{flag}" if option.default else flag
            parser.add_argument(f"--{flag}", action=action, dest=option.name, help=text)
            continue
        kind = {
            "device": values.device,
            "tile_overlap": values.overlap,
            "orientation": values.orientation,
            "structures": values.names,
        }.get(option.name, str)
        text += (
            ""
            if option.default in (None, ()) or option.name in ("device", "largest_component")
            else " (default: %(default)s)"
        )
        choices = option.metadata["choices"] or None
        parser.add_argument(f"--{flag}", type=kind, choices=choices, default=option.default, help=text)
