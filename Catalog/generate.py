"""Make the families' files of the library from the facts: `LightSeg/LightSegLib/catalog/families/*.json`.

python Catalog/generate.py            writes them
python Catalog/generate.py --check    report whether they agree with the facts
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import totalsegmentator
from json_text import as_text
from naming import readable

FACTS = Path(__file__).parent / "facts"
FAMILIES = Path(__file__).parent.parent / "LightSeg" / "LightSegLib" / "catalog" / "families"
OURS = ("title", "description")  # which every model needs, and no source has


def main(arguments: list[str]) -> int:
    """Write or check the files; return 1 where they are not what the facts give."""
    parser = argparse.ArgumentParser(description="Make the families' files of the library from the facts.")
    parser.add_argument("--check", action="store_true", help="write nothing, report what differs")
    check = parser.parse_args(arguments).check
    texts = {path.name: text_of(path) for path in sorted(FACTS.glob("*.json"))}
    there = {path.name: path.read_text(encoding="utf-8") for path in FAMILIES.glob("*.json")}
    different = sorted(name for name in texts.keys() | there.keys() if texts.get(name) != there.get(name))
    for name in different:
        print(f"{name} is not what the facts give" if check else f"{name} written")
        if not check and name in texts:
            (FAMILIES / name).write_text(texts[name], encoding="utf-8")
        elif not check:
            (FAMILIES / name).unlink()
    return int(check and bool(different))


def text_of(path: Path) -> str:
    """Return the text of the family's file for a file of facts."""
    return as_text(family(json.loads(path.read_text(encoding="utf-8")))) + "\n"


def family(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the family's file of its facts."""
    models = totalsegmentator.models if facts["family"] == "TotalSegmentator" else _models
    cards = [_card(facts, model) for model in models(facts)]
    names = {name for card in cards for name in card["labels"] if name}
    return {
        **{name: facts[name] for name in ("family", "homepage", "license", "citation", "defaults")},
        "names": {name: known for name in sorted(names) if (known := readable(name)) != name},
        "cards": cards,
        "not_offered": list(_not_offered(facts)),
    }


def _models(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the models of a family whose facts name each model; several may use one archive."""
    upstream = facts.get("upstream", {})
    new = (
        upstream.get("models", {}).keys()
        - {model.get("of", "") for model in facts["models"]}
        - facts["not_offered"].keys()
    )
    if new:
        raise SystemExit(
            f"{facts['family']} has new models: {', '.join(sorted(new))}. Add them to models or not_offered."
        )
    addresses, archives = upstream.get("models", {}), facts.get("archives", {})
    for model in facts["models"]:
        key = model.get("of", "")
        weights = {**addresses.get(key, {}), **archives.get(key, {}), **model.get("weights", {})}
        labels = model.get("labels") or upstream["classes"][model.get("labels_of", key)]
        own = {name: value for name, value in model.items() if name not in ("of", "labels_of")}
        stated = {name: value for name, value in weights.items() if value is not None}  # None: not that of the archive
        yield own | {"labels": labels, "weights": stated}


def _card(facts: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Return the card of a model, its fields in a fixed order."""
    if missing := [name for name in OURS if not model.get(name)]:
        raise SystemExit(f"{facts['family']}: {model['id']} needs {' and '.join(missing)}. Write them in the facts.")
    release = version_of(model["weights"]["url"]) if "weights" in model else model["version"]
    compared = facts.get("compared", {"models": [], "sentence": ""})
    known = [*facts["assumptions"], *model.get("assumptions", [])]
    stated = {"version": release, **model, "assumptions": known}
    if model["id"] in compared["models"]:
        stated["assumptions"] = [f"{known[0].removesuffix('.')}; {compared['sentence']}", *known[1:]]
    stated["limitations"] = f"{facts['limitations']} {model.get('limitations', '')}".strip()
    first = ("id", "title", "description", "task", "quality", "version", "modality", "channels", "labels", "weights")
    return {name: stated[name] for name in (*first, *sorted(stated.keys() - set(first))) if name in stated}


def version_of(url: str) -> str:
    """Return the date or the release in the address of an archive."""
    if match := re.search(r"_(\d\d)(\d\d)(\d{4})\.zip", url):
        return f"{match[3]}-{match[2]}-{match[1]}"
    match = re.search(r"/download/[A-Za-z-]*_?(?:v\.?)?([\d.]+[^/]*?)(?:-weights)?/|records/(\d+)/", url)
    if match is None:
        raise SystemExit(f"No release in {url}: state the version in the facts.")
    return match[1] or f"zenodo-{match[2]}"


def _not_offered(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the models that are not offered, with their structures where they are published."""
    classes = facts.get("upstream", {}).get("classes", {})
    for name, entry in facts["not_offered"].items():
        stated = {"name": name, **entry}
        if structures := entry.get("structures") or classes.get(name):
            stated["structures"] = [structure for structure in structures if structure]
        yield stated


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
