"""The format of a model card: `schema.json`, enforced with a small validator.

`schema.json` follows JSON Schema, draft 2020-12 (https://json-schema.org/draft/2020-12). The package jsonschema is
not part of 3D Slicer, so this file checks the keywords that the schema uses, and no others.
"""

from __future__ import annotations

import difflib
import operator
import re
import sys
from typing import Any

from .i18n import Message, joined
from .i18n import tr as _

KINDS = {
    "object": _("a JSON object"),
    "array": _("a list"),
    "string": _("text"),
    "boolean": _("true or false"),
    "integer": _("a whole number"),
    "number": _("a number"),
    "null": _("null"),
}
LIMITS = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
}


class FieldError(ValueError):
    """A field of a card is missing, wrong or unknown; the message starts with its name."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)


def conform(data: Any, schema: dict[str, Any], where: str = "", root: dict[str, Any] | None = None) -> Any:
    """`data` as the schema describes it: lists as tuples, whole numbers as int, other numbers as float.

    What the schema leaves open stays as it is. `where` is the field's name, `root` the schema with the definitions.

    Raises:
        FieldError: for the first field that does not fit.
    """
    root = schema if root is None else root
    if "$ref" in schema:
        data = conform(data, root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], where, root)
    kinds = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", ())
    if kinds and not any(_is(data, kind) for kind in kinds):
        raise FieldError(
            _("{where} must be {kinds}").format(
                where=where or _("the file"), kinds=joined(_(" or "), (KINDS[kind] for kind in kinds))
            )
        )
    if data is None and kinds:
        return None
    if "const" in schema and (data != schema["const"] or isinstance(data, bool)):
        raise FieldError(_("{where} must be {value}").format(where=where, value=schema["const"]))
    if "enum" in schema and data not in schema["enum"]:
        raise FieldError(_("{where} must be one of {choices}").format(where=where, choices=", ".join(schema["enum"])))
    # JSON Schema's '$' is the very end, that of Python also the place before a last line break
    if "pattern" in schema and not re.fullmatch(schema["pattern"], data):
        raise FieldError(
            _("{where} must look like {example}").format(where=where, example=" or ".join(schema["examples"]))
        )
    if "maxLength" in schema and len(data) > schema["maxLength"]:
        raise FieldError(
            _("{where} must have at most {limit} characters").format(where=where, limit=schema["maxLength"])
        )
    if "properties" in schema:
        return _object(data, schema, where, root)
    if "items" in schema:
        return _list(data, schema, where, root)
    if kinds and kinds[0] in ("integer", "number"):
        _check_range(data, schema, where)
        return int(data) if kinds[0] == "integer" else float(data)
    return data


def _object(data: dict[str, Any], schema: dict[str, Any], where: str, root: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object that conforms to its schema.

    Raises:
        FieldError: for the first field that does not fit.
    """
    names = {name: f"{where}.{name}" if where else name for name in [*schema["properties"], *data]}
    for name in data:
        if name not in schema["properties"] and not schema.get("additionalProperties", True):
            closest = difflib.get_close_matches(name, schema["properties"], n=1)
            if closest:
                unknown = _("{field} is not a known field (did you mean {closest}?)")
                raise FieldError(unknown.format(field=names[name], closest=closest[0]))
            raise FieldError(_("{field} is not a known field").format(field=names[name]))
    for name in schema.get("required", ()):
        if name not in data:
            raise FieldError(_("{field} is missing").format(field=names[name]))
    return {name: conform(value, schema["properties"].get(name, {}), names[name], root) for name, value in data.items()}


def _list(data: list[Any], schema: dict[str, Any], where: str, root: dict[str, Any]) -> tuple[Any, ...]:
    """Return a JSON array, as a tuple, that conforms to its schema.

    Raises:
        FieldError: for the first entry that does not fit.
    """
    fewest, most = schema.get("minItems", 0), schema.get("maxItems", sys.maxsize)
    if not fewest <= len(data) <= most:
        if fewest == most:
            wrong = _("{where} must have {limit} entries")
        elif len(data) < fewest:
            wrong = _("{where} must not be empty") if fewest == 1 else _("{where} must have at least {limit} entries")
        else:
            wrong = _("{where} must have at most {limit} entries")
        raise FieldError(wrong.format(where=where, limit=fewest if len(data) < fewest else most))
    values = tuple(conform(entry, schema["items"], f"{where}[{n}]", root) for n, entry in enumerate(data))
    if schema.get("uniqueItems") and len(set(values)) != len(values):
        raise FieldError(_("{where} must not contain an entry twice").format(where=where))
    return values


def _check_range(value: float, schema: dict[str, Any], where: str) -> None:
    """Check a number against the limits of its schema.

    Raises:
        FieldError: if it is outside.
    """
    for keyword, fits in LIMITS.items():
        if keyword in schema and not fits(value, schema[keyword]):
            wrong = {  # not for every number of every card: a message takes its time
                "minimum": _("{where} must be at least {limit}"),
                "maximum": _("{where} must be at most {limit}"),
                "exclusiveMinimum": _("{where} must be above {limit}"),
                "exclusiveMaximum": _("{where} must be below {limit}"),
            }[keyword]
            raise FieldError(wrong.format(where=where, limit=schema[keyword]))


def _is(data: Any, kind: str) -> bool:
    """Return whether a value is of a JSON type."""
    if isinstance(data, bool):  # for Python a number, for JSON not
        return kind == "boolean"
    if kind in ("integer", "number"):
        finite = isinstance(data, (int, float)) and abs(data) <= sys.float_info.max
        return finite and (kind == "number" or data == int(data))
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    return isinstance(data, kinds[kind])
