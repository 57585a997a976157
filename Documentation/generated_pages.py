"""Pages of the documentation that are made from the program itself, so that they are never out of date."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import message_list

ROOT = Path(__file__).resolve().parent.parent


def write_pages(folder: Path) -> None:
    """Commands from the parser, models from their cards, fields of a card from the schema, messages from the source."""
    folder.mkdir(exist_ok=True)
    for name, write in {
        "commands": commands,
        "models": models,
        "families": families,
        "model-card": card_fields,
        "messages": message_list.page,
    }.items():
        page = folder / f"{name}.md"
        content = write() + "\n"
        if not page.is_file() or page.read_text(encoding="utf-8") != content:
            page.write_text(content, encoding="utf-8")


def commands() -> str:
    """Every command with its options."""
    from LightSegLib.cli.arguments import build_parser

    class AnyJob(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            return print

    lines = ["# Commands", "", "`lightseg COMMAND --help` prints the same.", ""]
    for name, parser in _leaves(build_parser(AnyJob()), ""):
        usage = " ".join(parser.format_usage().split()).removeprefix("usage: ")
        lines += [f"## {name}", "", parser.description or "", "", f"`{usage}`", "", "| | |", "|---|---|"]
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                lines.append(f"| {_flag(action)} | {_cell(_help(parser, action))} |")
        lines.append("")
    return "\n".join(lines)


def _leaves(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Commands that have none below them, with their names."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for word, child in action.choices.items():
            yield from _leaves(child, f"{name} {word}".strip())


def _flag(action: argparse.Action) -> str:
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    if action.choices:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    words = [f"{flag} {value}".strip() for flag in action.option_strings] or [str(value)]
    return ", ".join(f"`{word}`" for word in words)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    return formatter._expand_help(action) if action.help else ""


def models() -> str:
    """Every bundled card."""
    from LightSegLib.catalog.card_file import read_card

    cards = [read_card(path) for path in sorted((ROOT / "LightSeg/LightSegLib/catalog/cards").glob("*.json"))]
    lines = ["# Models", "", "A star marks unverified models: see [what is known](../../explanation/models.md).", ""]
    lines += ["| Model | Segments | Images | License |", "|---|---|---|---|"]
    for card in cards:
        star = " *" if card.unverified else ""
        lines.append(
            f"| [`{card.id}`](#{card.id.replace('.', '')}){star} | {_cell(card.title)} | "
            f"{card.modality}: {_cell(', '.join(card.channels))} | {_cell(card.license)} |"
        )
    for card in cards:
        lines += ["", f"## {card.id}", "", card.description, ""]
        lines += [f"- **Structures**: {', '.join(label.name for label in card.labels)}"]
        lines += [f"- **Network**: {card.network}; version {card.version}"]
        lines += [f"- **License**: {card.license}", f"- **Citation**: {card.citation}"]
        if card.limitations:
            lines.append(f"- **Limits**: {card.limitations}")
    return "\n".join(lines)


def families() -> str:
    """The models of each family, and those that are not offered."""
    from LightSegLib.catalog.families import family_cards, not_offered
    from LightSegLib.catalog.needed import own_size

    cards = {card.id: card for card in family_cards()}
    parts = {part.model for card in cards.values() for part in card.parts}
    lines = ["# Models of the families", "", "None of these was run here with its real weights: see"]
    lines += ["[what was verified instead](../../explanation/model-families.md).", ""]
    for family in dict.fromkeys(card.family for card in cards.values()):
        own = [card for card in cards.values() if card.family == family and card.id not in parts]
        lines += [f"## {family}", "", f"<{own[0].homepage}>", ""]
        lines += ["| Model | Task | Images | Structures | Download | License |", "|---|---|---|---|---|---|"]
        for card in own:
            size = own_size(card, cards)
            lines.append(
                f"| `{card.id}` {_cell(card.title)} | {_cell(card.task)}, {card.quality} | {card.modality} | "
                f"{len(card.result_labels)} | {f'{size / 1e6:.0f} MB' if size else 'not stated'} | "
                f"{_cell(card.license)} |"
            )
        lines += ["", "To cite:", ""]
        lines += [f"- {text}" for text in dict.fromkeys(card.citation for card in own)]
        missing = [model for model in not_offered() if model.family == family]
        if missing:
            lines += ["", "Not offered:", ""]
        lines += [f"- `{model.name}` ({model.modality}): {model.reason}" for model in missing]
        lines.append("")
    return "\n".join(lines)


def card_fields() -> str:
    """Fields of a card, as its schema describes them."""
    schema = json.loads((ROOT / "LightSeg/LightSegLib/catalog/schema.json").read_text(encoding="utf-8"))
    lines = ["# Fields of a model card", "", schema["description"], ""]
    lines += ["| Field | Meaning | Example |", "|---|---|---|"]
    for name, field, needed in _fields(schema, schema, ""):
        example = "".join(f"`{json.dumps(value)}`" for value in field.get("examples", [])[:1])
        lines.append(
            f"| `{name}`{' (needed)' if needed else ''} | {_cell(field.get('description', ''))} | {_cell(example)} |"
        )
    return "\n".join(lines)


def _fields(schema: dict[str, Any], root: dict[str, Any], above: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Name, description and whether it is needed, of all fields and of those in them."""
    for name, field in schema.get("properties", {}).items():
        yield f"{above}{name}", field, name in schema.get("required", [])
        inner = field.get("items", field)
        if "$ref" in inner:
            inner = root["$defs"][inner["$ref"].rpartition("/")[2]]
        if isinstance(inner, dict) and "properties" in inner:
            yield from _fields(inner, root, f"{above}{name}.")


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
