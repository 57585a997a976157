"""The house stands as drawn: what is packaged, who imports whom, and what loads without torch."""

from __future__ import annotations

import ast
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

# Bottom to top; a file imports from its own row and from rows below it.
PICTURE = (
    ("errors",),
    ("volume", "headers", "progress", "files", "certainty", "machine"),
    ("networks",),
    ("catalog", "weights", "nnunet"),
    ("pipeline",),
    ("segmenter",),
    ("writers", "evaluation", "methods", "worker"),
    ("drawing",),
    ("pictures",),
    ("training", "benchmark", "reproduction", "batch"),
    ("mrml", "arguments", "printing", "cli_models", "cli_batch", "cli"),
    ("background",),
    ("window",),
)
SPEAKS_SLICER = {"LightSeg.py", "LightSegLib/pictures.py", "LightSegLib/background.py"}
SPEAKS_SLICER |= {
    f"LightSegLib/{folder}/{path.name}" for folder in ("mrml", "window") for path in (LIBRARY / folder).glob("*.py")
}
KNOWS_TORCH = ("LightSegLib/networks/", "LightSegLib/pipeline/", "LightSegLib/training/")


def listed(variable: str) -> set[str]:
    """The files of one list in the module's CMakeLists.txt."""
    text = re.sub(r"#.*", "", (MODULE / "CMakeLists.txt").read_text(encoding="utf-8"))
    found = re.search(rf"set\({variable}\s+(.*?)\)", text, re.DOTALL)
    assert found, f"{variable} is not set"
    return set(found[1].replace("${MODULE_NAME}", "LightSeg").split())


def present(*patterns: str) -> set[str]:
    """Files of the module, by their paths as CMake writes them."""
    return {path.relative_to(MODULE).as_posix() for pattern in patterns for path in MODULE.glob(pattern)}


def python_files() -> list[str]:
    return sorted(present("*.py", "LightSegLib/**/*.py"))


def imports(name: str, file_scope: bool = False) -> Iterator[str]:
    """Absolute names of what a file imports; types only is no import. file_scope: not what functions import."""
    package = Path(name).with_suffix("").parts[:-1]
    waiting: list[ast.AST] = [ast.parse((MODULE / name).read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            waiting += node.orelse
        elif file_scope and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = [*above, node.module] if node.module else above
            yield from (".".join((*base, alias.name)) for alias in node.names)
        else:
            waiting += ast.iter_child_nodes(node)


def row(name: str) -> int | None:
    """Row in PICTURE of a library module; None for what is not in the library, such as its version."""
    parts = name.split(".")
    if parts[0] != "LightSegLib" or len(parts) < 2 or parts[1].startswith("__"):
        return None
    rows = [number for number, names in enumerate(PICTURE) if parts[1] in names]
    assert rows, f"{name} has no place in the picture of the house"
    return rows[0]


def test_every_python_file_is_packaged():
    assert listed("MODULE_PYTHON_SCRIPTS") == set(python_files())


def test_every_resource_is_packaged():
    """Cards, form, icons, sample and weights: what is missing in the list is missing on the user's computer."""
    files = present("Resources/**/*", *(f"LightSegLib/**/*.{ending}" for ending in ("json", "css", "js")))
    assert listed("MODULE_PYTHON_RESOURCES") == {name for name in files if (MODULE / name).is_file()}


def test_the_weights_of_every_bundled_card_are_packaged():
    cards = [json.loads(path.read_text(encoding="utf-8")) for path in (LIBRARY / "catalog" / "cards").glob("*.json")]
    bundled = [card["weights"]["file"] for card in cards if not card["weights"].get("sources")]
    assert bundled
    assert {f"Resources/Models/{name}" for name in bundled} <= listed("MODULE_PYTHON_RESOURCES")


def test_what_pip_needs_is_pinned_for_the_demo_and_the_tests():
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    needed = re.findall(r'"([\w-]+)[^"]*"', re.search(r"^dependencies = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)[1])
    pinned = {line.split("==")[0] for line in (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").split()}
    assert needed and set(needed) <= pinned


def test_pip_packages_every_folder_of_the_library():
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    packages = set(re.findall(r'"(LightSegLib[\w.]*)"', re.search(r"packages = \[(.*?)\]", text, re.DOTALL)[1]))
    folders = {".".join(path.relative_to(MODULE).parent.parts) for path in LIBRARY.rglob("__init__.py")}
    assert packages == folders | {"LightSegLib.resources"}


@pytest.mark.parametrize("name", python_files())
def test_nothing_imports_upwards(name):
    own = row(".".join(Path(name).with_suffix("").parts)) if name != "LightSeg.py" else len(PICTURE)
    for imported in imports(name):
        target = row(imported)
        assert target is None or own is None or target <= own, f"{name} imports {imported}"
    if name != "LightSeg.py":
        assert "LightSeg" not in {imported.split(".")[0] for imported in imports(name)}


@pytest.mark.parametrize("name", python_files())
def test_the_library_knows_no_slicer(name):
    found = {imported.split(".")[0] for imported in imports(name)} & {"slicer", "qt", "ctk", "vtk", "vtkmodules"}
    assert not found or name in SPEAKS_SLICER


@pytest.mark.parametrize("name", python_files())
def test_torch_is_imported_at_file_scope_by_computing_code_alone(name):
    found = {imported.split(".")[0] for imported in imports(name, file_scope=True)}
    assert "torch" not in found or name.startswith(KNOWS_TORCH)


def test_the_light_part_loads_without_torch():
    """Not only by its own imports, but with all that they import."""
    story = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.path.insert(0, {str(MODULE)!r})\n"
        "import LightSegLib.cli, LightSegLib.segmenter, LightSegLib.catalog.store, LightSegLib.writers\n"
        "print(len(LightSegLib.catalog.store.all_cards()))\n"
    )
    done = subprocess.run([sys.executable, "-c", story], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
