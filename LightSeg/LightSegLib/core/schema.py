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

from .i18n import tr as _

KINDS = {
    "object": "a JSON object",
    "array": "a list",
    "string": "text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "null": "null",
}


class FieldError(ValueError):
    """A field of a card is missing, wrong or unknown; the message starts with its name."""


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
                where=where or "the file", kinds=" or ".join(KINDS[kind] for kind in kinds)
            )
        )
    if data is None and kinds:
        return None
    if "const" in schema and (data != schema["const"] or isinstance(data, bool)):
        raise FieldError(_("{where} must be {schema}").format(where=where, schema=schema["const"]))
    if "enum" in schema and data not in schema["enum"]:
        raise FieldError(_("{where} must be one of {schema}").format(where=where, schema=", ".join(schema["enum"])))
    # JSON Schema's '$' is the very end, that of Python also the place before a last line break
    if "pattern" in schema and not re.fullmatch(schema["pattern"], data):
        raise FieldError(
            _("{where} must look like {schema}").format(where=where, schema=" or ".join(schema["examples"]))
        )
    if "maxLength" in schema and len(data) > schema["maxLength"]:
        raise FieldError(
            _("{where} must have at most {schema} characters").format(where=where, schema=schema["maxLength"])
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
            hint = f" (did you mean {closest[0]}?)" if closest else ""
            raise FieldError(_("{names} is not a known field{hint}").format(names=names[name], hint=hint))
    for name in schema.get("required", ()):
        if name not in data:
            raise FieldError(_("{names} is missing").format(names=names[name]))
    return {name: conform(value, schema["properties"].get(name, {}), names[name], root) for name, value in data.items()}


def _list(data: list[Any], schema: dict[str, Any], where: str, root: dict[str, Any]) -> tuple[Any, ...]:
    """Return a JSON array, as a tuple, that conforms to its schema.

    Raises:
        FieldError: for the first entry that does not fit.
    """
    fewest, most = schema.get("minItems", 0), schema.get("maxItems", sys.maxsize)
    if not fewest <= len(data) <= most:
        limit = fewest if len(data) < fewest else most
        bound = "" if fewest == most else "at least " if limit == fewest else "at most "
        raise FieldError(
            _("{where} must have {bound}{limit} {value}").format(
                where=where, bound=bound, limit=limit, value="entry" if limit == 1 else "entries"
            )
        )
    values = tuple(conform(entry, schema["items"], f"{where}[{n}]", root) for n, entry in enumerate(data))
    if schema.get("uniqueItems") and len(set(values)) != len(values):
        raise FieldError(_("{where} must not have an entry twice").format(where=where))
    return values


def _check_range(value: float, schema: dict[str, Any], where: str) -> None:
    """Check a number against the limits of its schema.

    Raises:
        FieldError: if it is outside.
    """
    for keyword, fits, requirement in (
        ("minimum", operator.ge, "at least"),
        ("maximum", operator.le, "at most"),
        ("exclusiveMinimum", operator.gt, "above"),
        ("exclusiveMaximum", operator.lt, "below"),
    ):
        if keyword in schema and not fits(value, schema[keyword]):
            raise FieldError(
                _("{where} must be {requirement} {schema}").format(
                    where=where, requirement=requirement, schema=schema[keyword]
                )
            )


def _is(data: Any, kind: str) -> bool:
    """Return whether a value is of a JSON type."""
    if isinstance(data, bool):  # for Python a number, for JSON not
        return kind == "boolean"
    if kind in ("integer", "number"):
        finite = isinstance(data, (int, float)) and abs(data) <= sys.float_info.max
        return finite and (kind == "number" or data == int(data))
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    return isinstance(data, kinds[kind])
