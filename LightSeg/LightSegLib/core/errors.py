"""Every error that LightSeg raises on purpose.

A message has two sentences: what is wrong, then what to do about it. The command line
prints the message alone and exits with `exit_code`; the Slicer module shows it in a dialog.
"""

from __future__ import annotations

from .i18n import Message
from .i18n import tr as _
from .plain_text import plain, without_secrets


class LightSegError(Exception):
    """Base of all deliberate errors; catching it catches nothing by accident."""

    exit_code = 1

    def __init__(self, message: Message) -> None:
        """Messages quote files and servers, and are shown, logged and recorded: none has a password, none acts."""
        super().__init__(message if isinstance(message, Message) else plain(without_secrets(message)))


class InputError(LightSegError):
    """An input of the user cannot be used: an image, a folder, a region, an argument."""

    exit_code = 2


class IncompleteFileError(InputError):
    """A file ends before its last byte."""


class InputErrorWithFact(InputError):
    """An input cannot be used, and a caller may know better than the message what to do about it.

    Attributes:
        fact: the first sentence of the message: what is wrong.
    """

    def __init__(self, message: Message, fact: Message | None = None) -> None:
        super().__init__(message)
        self.fact = message if fact is None else fact


class SeriesOverTimeError(InputErrorWithFact):
    """An image has several frames over time where one is needed."""


class NothingToAlignError(InputErrorWithFact):
    """The image does not show what a model's template shows, or not enough of it."""


class ModelError(LightSegError):
    """A model card or its weights are missing, damaged or do not fit together."""


class DownloadError(LightSegError):
    """The weights could not be fetched from any of their sources, or the network may not be used."""


class UnknownModelError(InputError):
    """There is not a model with the given id."""


class OutputError(InputError):
    """The result cannot be written where the user wants it."""


class DiskFullError(OutputError):
    """The result cannot be written for now, since the disk is full."""


class ReportError(OutputError):
    """All results are there, but a table or page about them cannot be written."""


class DeviceError(LightSegError):
    """The computation does not fit or does not run on any device of this machine."""


class Canceled(LightSegError):
    """The user stopped the job; nothing was changed."""

    def __init__(self, message: Message | None = None) -> None:
        super().__init__(message or _("The job was canceled. Nothing was changed."))
