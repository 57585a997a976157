"""The models of TotalSegmentator from its own tables of tasks, weights and classes.

A task may have several modes, which become qualities of one task, and several models, which become the parts of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

RELEASES = "https://github.com/wasserth/TotalSegmentator/releases/download"
QUALITIES = {"default": "normal", "fast": "fast", "fastest": "fastest"}
MARGIN_MM = 20.0  # around the place, whatever a task states, unless it names a model of its own for that


def models(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the models of all tasks that are offered, those that consist of others before these.

    Raises:
        SystemExit: for a task that is new.
    """
    upstream, words = facts["upstream"], facts["models"]
    tasks = upstream["tasks"]
    if new := tasks.keys() - words.keys() - facts["not_offered"].keys():
        raise SystemExit(
            f"TotalSegmentator has new tasks: {', '.join(sorted(new))}. Add them to models or not_offered."
        )
    for task in words:
        modes = tasks[task].get("sub_modes", {"default": tasks[task]})
        for mode in (name for name in QUALITIES if name in modes):
            rules = upstream["defaults"] | tasks[task] | modes[mode]
            yield from _of_mode(facts, task, mode, rules)


def identifier(task: str, quality: str = "normal") -> str:
    """Return the id of a model: "total-ct-fast"."""
    name = task.lower().removesuffix("_mr").replace("_", "-")
    return f"{name}-{modality(task).lower()}" + ("" if quality == "normal" else f"-{quality}")


def modality(task: str) -> str:
    """Return the images that a task is for."""
    return "MR" if task.endswith("_mr") or task == "brain_aneurysm" else "CT"


def _of_mode(facts: dict[str, Any], task: str, mode: str, rules: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the models of a task in one mode: one, or one that consists of others and these."""
    words, quality = facts["models"][task], QUALITIES[mode]
    upstream = facts["upstream"]
    labels = upstream["classes"][task] + upstream["auxiliary"].get(task, [])
    numbers = [str(number) for number in _list(rules["task_id"])]
    shared: dict[str, Any] = {
        "id": identifier(task, quality),
        "title": f"{words['title']} ({modality(task)}{'' if quality == 'normal' else f', {quality}'})",
        "description": " ".join(filter(None, (words["description"], facts["of_quality"].get(f"{task}-{mode}")))),
        "task": task,
        "quality": quality,
        "modality": modality(task),
        "channels": words.get("channels", [modality(task)]),
        "labels": labels,
        **{name: words[name] for name in ("license", "non_commercial", "limitations") if name in words},
        **_around(facts, task, mode, rules),
    }
    if figures := words.get("published", {}).get(mode):
        shared["performance"] = {"published": figures}
    if cited := [text for text in (facts["also_cite"].get(modality(task)), *words.get("cite", [])) if text]:
        shared["citation"] = " ".join([facts["citation"], *(f"Also {text}." for text in cited)])
    if len(numbers) == 1:
        yield shared | {"weights": _weights(facts, numbers[0], rules)}
        return
    parts = {number: upstream["parts"][number] for number in numbers}
    ids = {number: f"{shared['id']}-{_short(part['name'])}" for number, part in parts.items()}
    values = {name: value for value, name in enumerate(labels, start=1)}
    whole: dict[str, Any] = {"metadata_in_weights": False, "kept": [], "version": _release(facts, numbers[0])}
    whole["parts"] = [
        {"model": ids[number], "labels": [values.get(name, 0) for name in part["classes"]]}
        for number, part in parts.items()
    ]
    yield shared | whole
    of_part = {name: value for name, value in shared.items() if name not in ("limitations", "performance", "rough")}
    for number, part in parts.items():
        own = words["parts"][number]
        yield of_part | {
            "id": ids[number],
            "title": f"{words['title'].split(',')[0]}: {own[0].lower()}{own[1:]} ({modality(task)})",
            "description": f"{own}, one of the {len(numbers)} models that {shared['id']} consists of.",
            "task": f"{task}_{_short(part['name'])}",
            "labels": part["classes"],
            "weights": _weights(facts, number, rules),
        }


def _around(facts: dict[str, Any], task: str, mode: str, rules: dict[str, Any]) -> dict[str, Any]:
    """Return the steps before and after the network, where the task has some."""
    words, fields = facts["models"][task], {}
    if rules["resample"] is not None:
        spacing = [float(mm) for mm in (_list(rules["resample"]) * 3)[:3]]
        fields["preprocessing"] = {"outer_resampling": {"spacing": spacing, "whole_numbers": True}}
    if "overlap" in words:
        fields["inference"] = {"overlap": words["overlap"]}
    if rules["crop"]:
        model = _finder(facts, task, rules)
        classes = facts["upstream"]["classes"][model[0]]
        margin = float(rules["crop_addon"][0]) if rules["crop_model"] else MARGIN_MM
        fields["region_from"] = {
            "model": identifier(*model),
            "labels": sorted(classes.index(name) + 1 for name in rules["crop"]),
            "margin_mm": margin,
            "whole_numbers": True,
        }
    order = list(QUALITIES)  # the quicker ones last
    if order.index(words.get("rough", mode)) > order.index(mode):  # where single structures are
        fields["rough"] = {"model": identifier(task, words["rough"]), "margin_mm": MARGIN_MM, "whole_numbers": True}
    steps = words.get("postprocessing", [])
    if removed := facts["upstream"]["auxiliary"].get(task):
        first = len(facts["upstream"]["classes"][task]) + 1
        steps = [{"step": "remove_labels", "labels": list(range(first, first + len(removed)))}, *steps]
    return fields | ({"postprocessing": steps} if steps else {})


def _finder(facts: dict[str, Any], task: str, rules: dict[str, Any]) -> tuple[str, str]:
    """Return task and quality of the model that finds the place of a task."""
    if rules["crop_model"]:
        return rules["crop_model"], "normal"
    if set(rules["crop"]) <= set(facts["upstream"]["classes"]["body"]):
        return "body", "fast"
    if modality(task) == "MR":
        return "total_mr", "fast"
    return "total", "fast" if rules["robust_crop"] else "fastest"


def _weights(facts: dict[str, Any], number: str, rules: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about the archive of a data set, and the folder in it that is used."""
    folder = facts["upstream"]["weights"][number]["foldername"]
    plans = rules["plans"] or "nnUNetPlans"
    used = {} if rules["folds"] is None else {"folds": [str(fold) for fold in rules["folds"]]}
    return {
        "url": f"{RELEASES}/{facts['upstream']['weights'][number]['version']}/{folder}.zip",
        **facts["archives"].get(number, {}),
        "folder": f"{folder}/{rules['trainer']}__{plans}__{rules['model']}",
        **used,
    }


def _release(facts: dict[str, Any], number: str) -> str:
    """Return the release of an archive: "2.0.0" of "v2.0.0-weights"."""
    return str(facts["upstream"]["weights"][number]["version"]).removeprefix("v").removesuffix("-weights")


def _short(part: str) -> str:
    """Return the name of a part: "organs" of "class_map_part_organs", "1" of "class_map_part_muscles_1"."""
    name = part.removeprefix("class_map_part_")
    return name.rpartition("_")[2]


def _list(value: Any) -> list[Any]:
    """Return a value as a list."""
    return value if isinstance(value, list) else [value]
