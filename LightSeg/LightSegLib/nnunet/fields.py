"""What the readers of nnU-Net v2's files share: files, schemas of fields, and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..core.errors import ModelError
from ..core.i18n import Message
from ..core.i18n import tr as _
from ..core.json_file import read_json
from ..core.schema import FieldError

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
OBJECT: Schema = {"type": "object"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": 32767}
STAGES = 32  # no patch can be halved more often
COUNTS: Schema = {"type": "array", "minItems": 1, "maxItems": STAGES, "items": COUNT}
SIZE: Schema = {"type": "array", "minItems": 2, "maxItems": 3, "items": COUNT}
SIZES: Schema = {"type": "array", "minItems": 1, "maxItems": STAGES, "items": SIZE}
AXES: Schema = {
    "type": "array",
    "maxItems": 3,
    "uniqueItems": True,
    "items": {"type": "integer", "minimum": 0, "maximum": 2},
}


def read_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        FieldError: which names the file.
    """
    try:
        content = read_json(file, nan=True)
    except (OSError, ValueError) as error:
        raise FieldError(_("{file} is missing or damaged ({reason})").format(file=file, reason=error)) from error
    if not isinstance(content, dict):
        raise FieldError(_("{file} is not a JSON object").format(file=file))
    return content


def object_of(fields: Mapping[str, Schema]) -> Schema:
    """Schema of an object that has these fields, and maybe others."""
    return {"type": "object", "required": list(fields), "properties": dict(fields)}


def unsupported(what: Message) -> NoReturn:
    """Raise the ModelError for a model that is sound but asks for something that LightSeg does not do."""
    raise ModelError(
        _("{what}, which LightSeg does not support. Choose another configuration or model, or use nnU-Net.").format(
            what=what
        )
    )
