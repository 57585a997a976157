"""The code is laid out as the architecture page states: what is packaged, who imports whom, and what loads without
torch.
"""

from __future__ import annotations

import ast
import graphlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "LightSeg"
LIBRARY = MODULE / "LightSegLib"

ARCHITECTURE = REPOSITORY / "Documentation" / "explanation" / "architecture.md"
SPEAKS_SLICER = ("LightSeg.py", "LightSegLib/slicer_app/")
SPEAKS_VTK = (*SPEAKS_SLICER, "LightSegLib/rendering/surface.py")
KNOWS_TORCH = ("LightSegLib/networks/", "LightSegLib/inference/", "LightSegLib/training/")


def layers() -> list[list[str]]:
    """The rows of the picture that the documentation shows, top to bottom."""
    picture = re.search(r"## Layers.*?```text\n(.*?)```", ARCHITECTURE.read_text(encoding="utf-8"), re.DOTALL)
    assert picture, "Documentation/explanation/architecture.md shows no layers"
    return [line.split() for line in picture[1].splitlines()]


ROWS = {folder: number for number, row in enumerate(reversed(layers())) for folder in row}


def python_files() -> list[str]:
    return sorted(path.relative_to(MODULE).as_posix() for path in (*MODULE.glob("*.py"), *LIBRARY.rglob("*.py")))


def imports(name: str, file_scope: bool = False) -> Iterator[str]:
    """Absolute names of what a file imports. file_scope: neither in functions nor for type checking alone."""
    package = Path(name).with_suffix("").parts[:-1]
    waiting: list[ast.AST] = [ast.parse((MODULE / name).read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if file_scope and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if file_scope and isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            waiting += node.orelse
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = [*above, node.module] if node.module else above
            yield from (".".join((*base, alias.name)) for alias in node.names)
        else:
            waiting += ast.iter_child_nodes(node)


def imported_files(name: str) -> Iterator[str]:
    """The library's own files among what a file imports."""
    for imported in imports(name):
        parts = imported.split(".")
        for end in range(len(parts), 1, -1):
            path = Path(*parts[:end])
            found = [path.with_suffix(".py"), path / "__init__.py"]
            if parts[0] == "LightSegLib" and (files := [file for file in found if (MODULE / file).is_file()]):
                yield files[0].as_posix()
                break


def folder(file: str) -> str:
    return Path(file).parent.as_posix()


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Nodes of one circle along the arrows; empty without one."""
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_the_weights_of_every_bundled_card_are_there():
    cards = [json.loads(path.read_text(encoding="utf-8")) for path in (LIBRARY / "catalog" / "cards").glob("*.json")]
    bundled = [card["weights"]["file"] for card in cards if not {"sources", "parts"} & set(card["weights"])]
    assert bundled
    assert all((MODULE / "Resources" / "Models" / name).is_file() for name in bundled)


def test_what_pip_needs_is_pinned_for_the_demo_and_the_tests():
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    needed = re.findall(r'"([\w-]+)[^"]*"', re.search(r"^dependencies = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)[1])
    pinned = {line.split("==")[0] for line in (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").split()}
    assert needed and set(needed) <= pinned


def test_every_folder_of_the_library_has_a_place_in_the_picture():
    assert {path.parent.name for path in LIBRARY.glob("*/__init__.py")} == set(ROWS)
    assert [path.name for path in LIBRARY.glob("*.py")] == ["__init__.py"], "a loose file has no place"


@pytest.mark.parametrize("name", python_files())
def test_imports_go_downwards(name):
    own = Path(name).parts[1] if name.startswith("LightSegLib/") else ""
    for file in imported_files(name):
        other = Path(file).parts[1]
        if own and other in ROWS and other != own:
            assert ROWS[other] < ROWS[own], f"{name} imports {file}"
    if name != "LightSeg.py":
        assert "LightSeg" not in {imported.split(".")[0] for imported in imports(name)}


def test_no_files_and_no_folders_import_each_other_in_a_circle():
    files = {
        name: {file for file in imported_files(name) if not file.endswith("__init__.py")} for name in python_files()
    }
    folders: dict[str, set[str]] = {}
    for name, imported in files.items():
        folders.setdefault(folder(name), set()).update({folder(file) for file in imported} - {folder(name)})
    assert len(folders) > len(ROWS)
    assert circle(files) == [] and circle(folders) == []


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


@pytest.mark.parametrize("name", python_files())
def test_the_library_knows_no_slicer(name):
    found = {imported.split(".")[0] for imported in imports(name)}
    assert not found & {"slicer", "qt", "ctk"} or name.startswith(SPEAKS_SLICER)
    assert not found & {"vtk", "vtkmodules"} or name.startswith(SPEAKS_VTK)


@pytest.mark.parametrize("name", python_files())
def test_torch_is_imported_at_file_scope_by_computing_code_alone(name):
    found = {imported.split(".")[0] for imported in imports(name, file_scope=True)}
    assert "torch" not in found or name.startswith(KNOWS_TORCH)


def test_the_light_part_loads_without_torch():
    """Not only by its own imports, but with all that they import."""
    script = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.path.insert(0, {str(MODULE)!r})\n"
        "import LightSegLib.cli.main, LightSegLib.catalog.lookup, LightSegLib.imaging.writers\n"
        "import LightSegLib.inference.segmenter\n"
        "print(len(LightSegLib.catalog.lookup.all_cards()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
