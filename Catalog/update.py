"""Read the facts of a new release from a checkout of its authors' repository into `facts/FAMILY.json`.

    python Catalog/update.py totalsegmentator ../TotalSegmentator

Nothing of the checkout is run: its tables are read as literals. What the authors state replaces the `upstream` part of
the file; the rest of it is ours, so `git diff` shows what is new. A new task still needs its words, which
`generate.py` asks for.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from json_text import as_text

FACTS = Path(__file__).parent / "facts"


def literals(path: Path) -> dict[str, Any]:
    """Return the values that a Python file assigns to names, as far as they are literals and names of such."""
    known: dict[str, Any] = {}

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Dict):
            return {value(key): value(entry) for key, entry in zip(node.keys, node.values, strict=True) if key}
        if isinstance(node, (ast.List, ast.Tuple)):
            return [value(entry) for entry in node.elts]
        if isinstance(node, ast.Name):
            return known.get(node.id, node.id)
        if isinstance(node, ast.Subscript):
            return value(node.value)[value(node.slice)]
        return ast.literal_eval(node)

    for line in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            try:
                known[line.targets[0].id] = value(line.value)
            except (ValueError, TypeError, LookupError):  # computed
                continue
    return known


def in_order(classes: dict[int, str]) -> list[str | None]:
    """Return names in the order of their values, from 1; None for a value without a name."""
    return [classes.get(value) for value in range(1, max(classes) + 1)]


def totalsegmentator(checkout: Path) -> dict[str, Any]:
    """Read tasks, weights, and classes of the tasks and of the parts of those that have several models."""
    folder = checkout / "totalsegmentator"
    tasks, maps = literals(folder / "map_tasks_config.py"), literals(folder / "map_to_binary.py")
    parts = {}
    for classes, names in (
        ("class_map_5_parts", "map_taskid_to_partname_ct"),
        ("class_map_parts_mr", "map_taskid_to_partname_mr"),
        ("class_map_parts_headneck_muscles", "map_taskid_to_partname_headneck_muscles"),
    ):
        for number, name in maps[names].items():
            if name != "test":
                parts[str(number)] = {"name": name, "classes": in_order(maps[classes][name])}
    return {
        "defaults": tasks["DEFAULT_CONFIG"],
        "tasks": {task: facts for task, facts in tasks["TASK_CONFIGS"].items() if task != "test"},
        "weights": {str(number): facts for number, facts in tasks["TASK_ID_WEIGHTS_CONFIGS"].items()},
        "classes": {
            task: in_order(classes)
            for task, classes in maps["class_map"].items()
            if task in tasks["TASK_CONFIGS"] and task != "test"
        },
        "auxiliary": {
            task.removesuffix("_auxiliary"): [classes[value] for value in sorted(classes)]
            for task, classes in maps["class_map"].items()
            if task.endswith("_auxiliary")
        },
        "parts": parts,
    }


def moose(checkout: Path) -> dict[str, Any]:
    """Read the models, and their classes from the table of SNOMED CT codes and from the README."""
    folder = checkout / "moosez"
    models = literals(folder / "models.py")["MODEL_METADATA"]
    classes: dict[str, dict[int, str]] = {}
    with (folder / "mappings" / "moose_snomed_mapping.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            classes.setdefault(row["model"], {})[int(row["label_id"])] = row["label_name"]
    named = {
        name: dict(found)
        for name in models
        if (found := classes.get(name.removeprefix("clin_ct_"))) and name.startswith("clin_ct_")
    }
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    for name, entries in re.findall(r"^\| `(\w+)` *\| *(1: ?\w.*?) *\|", readme, re.MULTILINE):
        listed = {int(value): entry.strip() for value, entry in re.findall(r"(\d+): *([^,]+)", entries)}
        if named.setdefault(name, listed).keys() != listed.keys():
            raise SystemExit(f"The README and the table of MOOSE disagree about the classes of {name}.")
    return {
        "models": {name: {"url": facts["KEY_URL"]} for name, facts in models.items()},
        "classes": {name: in_order(entries) for name, entries in named.items()},
    }


def cads(checkout: Path) -> dict[str, Any]:
    """Read the classes and folders of the models."""
    folder = checkout / "cads"
    maps = literals(folder / "dataset_utils" / "bodyparts_labelmaps.py")["map_taskid_to_labelmaps"]
    trainers = literals(folder / "utils" / "inference.py")["TRAINERS"]
    files = literals(folder / "utils" / "libs.py")
    release = files["MODEL_LICENSES"]["open"]["release"]
    return {
        "models": {
            str(number): {
                "url": f"{files['GITHUB_RELEASE_BASE']}/{release}/{files['DATASET_FOLDERS'][number]}.zip",
                "folder": f"{files['DATASET_FOLDERS'][number]}/{trainers[number]}",
            }
            for number in maps
        },
        "classes": {str(number): in_order(classes) for number, classes in maps.items()},
    }


def mrsegmentator(checkout: Path) -> dict[str, Any]:
    """Read the address of the weights, and the classes from the README."""
    source = literals(checkout / "src" / "mrsegmentator" / "config.py")
    return {"models": {"weights": {"url": source["WEIGHTS_URL"]}}, "classes": {"weights": _table(checkout)}}


def vibesegmentator(checkout: Path) -> dict[str, Any]:
    """Read the classes of model 100 from the README."""
    classes = [None if name == "unused" else name for name in _table(checkout)]
    return {"classes": {"100": classes}}


def _table(checkout: Path) -> list[str]:
    """Return the names in a README's table of values and names."""
    rows = re.findall(r"^\| *(\d+) *\| *(\w+) *\|$", (checkout / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    classes = {int(value): name for value, name in rows if int(value)}
    return [classes[value] for value in range(1, len(classes) + 1)]


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "totalsegmentator": totalsegmentator,
    "moose": moose,
    "cads": cads,
    "mrsegmentator": mrsegmentator,
    "vibesegmentator": vibesegmentator,
}


def main(arguments: list[str]) -> None:
    """Update the facts of one family."""
    parser = argparse.ArgumentParser(description="Read the facts of a release from a checkout.")
    parser.add_argument("family", choices=sorted(READERS))
    parser.add_argument("checkout", type=Path, help="folder of the authors' repository, at the release")
    options = parser.parse_args(arguments)
    path = FACTS / f"{options.family}.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    commit = subprocess.run(
        ["git", "-C", options.checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    facts["sources"]["upstream"] = f"{facts['homepage'].removeprefix('https://github.com/')}@{commit}"
    facts["upstream"] = READERS[options.family](options.checkout)
    path.write_text(as_text(facts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
