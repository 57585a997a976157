"""Texts for the user, in English, which Slicer's window can show in another language.

A text is marked and filled in as in Slicer's own Python code, so that Slicer's tools collect it for translators:

    from ..core.i18n import tr as _

    raise InputError(_("{file} is empty. Choose another file.").format(file=path))

The library does not translate. What it gets is a `Message`: a string that keeps the template and the fields it was
made of, also on its way from a worker process (`dumps`, `loads`). The window calls `translated`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from pathlib import Path
from string import Formatter
from typing import Any

from .plain_text import plain, without_secrets


class Message(str):
    """An English text that can be shown in another language.

    Args:
        template: the text as it is marked in the source, with fields in braces.
        context: "folder.file" of that source, by which Slicer files the translation.
        fields: the values by name; None for a text without fields.
    """

    template: str
    context: str
    fields: dict[str, Any] | None

    def __new__(cls, template: str, context: str = "", fields: dict[str, Any] | None = None) -> Message:
        """Create the message with its English text."""
        message = super().__new__(cls, template if fields is None else template.format(**fields))
        message.template, message.context, message.fields = template, context, fields
        return message

    def __getnewargs__(self) -> tuple[str, str, dict[str, Any] | None]:  # type: ignore[override]  # copy and pickle
        return self.template, self.context, self.fields

    def format(self, **fields: object) -> Message:  # type: ignore[override]
        """Return the text with its fields filled in.

        Args:
            fields: numbers, further messages, exceptions (their message is shown), and whatever else has a text. They
                may quote files and servers: passwords in addresses are removed, control characters are escaped.
        """
        return Message(self.template, self.context, {name: _field(value) for name, value in fields.items()})

    def translated(self, translate: Callable[[str, str], str]) -> str:
        """Return the text in another language, with its fields; in English where the translation has other fields.

        Args:
            translate: from context and template to the template in that language, as `slicer.i18n.translate`.
        """
        template = translate(self.context, self.template)
        if self.fields is None:
            return template
        fields = {
            name: value.translated(translate) if isinstance(value, Message) else value
            for name, value in self.fields.items()
        }
        try:
            return template.format(**fields)
        except (LookupError, ValueError):
            return self.template.format(**fields)


def tr(template: str) -> Message:
    """Mark a text for translation; `Message.format` fills in its fields.

    Imported as `_`, as Slicer's `tr` is.
    """
    source = Path(sys._getframe(1).f_code.co_filename)
    return Message(template, f"{source.parent.name}.{source.stem}")


def joined(separator: str, texts: Iterable[object]) -> Message:
    """Return texts, some of them messages, as one message with the separator between them."""
    fields = {f"text{number}": _field(text) for number, text in enumerate(texts)}
    return Message(separator.join(f"{{{name}}}" for name in fields), fields=fields)


def dumps(value: Any) -> str:
    """Return `value` as JSON, with the template and the fields of each message in it."""
    return json.dumps(_encoded(value))


def loads(text: str) -> Any:
    """Return the value that `dumps` was called with."""
    return json.loads(text, object_hook=_decoded)


def _field(value: object) -> object:
    """Return the value of a field as a message can carry it: a message, a number or a cleaned text."""
    if isinstance(value, BaseException) and value.args and isinstance(value.args[0], Message):
        value = value.args[0]
    if isinstance(value, (Message, bool)):
        return value
    if isinstance(value, Real):  # those of numpy too, which JSON does not know
        return int(value) if isinstance(value, Integral) else float(value)
    return plain(without_secrets(str(value)))


def _encoded(value: Any) -> Any:
    """Return a value with its messages as JSON objects."""
    if isinstance(value, Message):
        return {"template": value.template, "context": value.context, "fields": _encoded(value.fields)}
    if isinstance(value, dict):
        return {key: _encoded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encoded(entry) for entry in value]
    return value


def _decoded(value: dict[str, Any]) -> Any:
    """Return the message of a JSON object, or the object itself if it is not one."""
    if value.keys() != {"template", "context", "fields"}:
        return value
    fields = value["fields"]
    if not (isinstance(value["template"], str) and isinstance(value["context"], str)):
        raise ValueError("a message has a text and its source")
    if fields is None:  # then the text is not filled in
        return Message(**value)
    if not isinstance(fields, dict):
        raise ValueError("the fields of a message have names")
    for _text, name, specification, _conversion in Formatter().parse(value["template"]):
        # a stranger's file could ask for {a.b:999999999}, which reads what is not its own, or fills the memory
        if name is not None and not (name in fields and re.fullmatch(r"(\.?\d)?[a-z]?", specification or "")):
            raise ValueError(f"{name} is not a field of a message")
    return Message(**value)
