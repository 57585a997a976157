"""The entry of Slicer's Extensions Index, and what the index asks of the repository behind it.

The index (github.com/Slicer/ExtensionsIndex) reads the entry, the repository's CMakeLists.txt and its README; the
Extensions Manager shows the description that CMake makes. All of them must agree.
"""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest
from installing import REPOSITORY, Installed
from LightSegLib import __version__
from needs_slicer import needs_slicer

ENTRY = REPOSITORY / "Resources" / "LightSeg.json"
README = REPOSITORY / "README.md"
TUTORIAL = REPOSITORY / "Documentation" / "tutorials" / "first-segmentation.md"
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#"
)
# Fields of the schema, by whether an entry must have them.
REQUIRED = {"$schema", "category", "scm_url"}
OPTIONAL = {"scm_revision", "scm_type", "build_dependencies", "build_subdirectory", "enabled", "tier"}
IMPORT_CATEGORY = "import sys, types, fakes; fakes.install(); import LightSeg; parent = types.SimpleNamespace(); "


@pytest.fixture(scope="module")
def entry() -> dict:
    return json.loads(ENTRY.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def description(installed: Installed) -> dict[str, str]:
    """What CMake makes of the lists."""
    return installed.description()


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    """The README by its headings of the second level; what comes first is under ''."""
    parts = re.split(r"^## (.+)$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True))


def test_the_entry_has_the_fields_of_the_schema_and_no_others(entry: dict) -> None:
    assert entry.keys() >= REQUIRED and not entry.keys() - REQUIRED - OPTIONAL
    assert entry["$schema"] == SCHEMA
    assert isinstance(entry["build_dependencies"], list) and entry["tier"] in (1, 2, 3, 4, 5)
    assert b"\r" not in ENTRY.read_bytes()


def test_the_entry_agrees_with_what_cmake_states(entry: dict, description: dict[str, str]) -> None:
    assert ENTRY.stem == description["name"] and not ENTRY.stem.startswith("Slicer")
    assert entry["build_dependencies"] == description["depends"].split()
    assert entry["scm_url"].removesuffix(".git") == description["homepage"]
    assert entry["scm_url"].startswith("https://") and Path(entry["scm_url"]).stem == f"Slicer{ENTRY.stem}"


@needs_slicer
def test_the_extension_is_found_under_the_category_of_its_module(entry: dict, installed: Installed, run_away) -> None:
    done = run_away(
        installed, "-c", IMPORT_CATEGORY + "LightSeg.LightSeg(parent); print(*parent.categories, sep='\\n')"
    )
    assert done.stdout.splitlines() == [entry["category"]] == ["Segmentation"], done.stderr


def test_the_index_reads_the_same_addresses_as_cmake(description: dict[str, str]) -> None:
    """It does not run CMake, but looks for one text in quotes on one line."""
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    for name in ("ICONURL", "SCREENSHOTURLS"):
        assert re.findall(rf'set\(EXTENSION_{name} "([^"]+)"\)', text) == [description[name.lower()]]
    assert re.findall(r"project\((\S+)\)", text) == [description["name"]]


def test_the_pictures_of_the_extensions_manager_are_in_the_repository(entry: dict, description: dict[str, str]) -> None:
    """At the address's path on the branch that the index builds, as PNG; the icon with 128 x 128 pixels."""
    base = entry["scm_url"].removesuffix(".git").replace("github.com", "raw.githubusercontent.com")
    addresses = [description["iconurl"], *description["screenshoturls"].split()]
    sizes = []
    for address in addresses:
        branch, _, path = address.removeprefix(f"{base}/").partition("/")
        assert branch == entry["scm_revision"]
        sizes.append(png_size(REPOSITORY / path))
    assert sizes[0] == (128, 128)
    assert len(sizes) > 1 and all(min(size) >= 400 for size in sizes[1:])


def test_the_description_is_one_or_two_sentences_for_anybody(description: dict[str, str]) -> None:
    sentences = re.findall(r"[^.]+\.(?:\s|$)", description["description"])
    assert 1 <= len(sentences) <= 2
    assert "segmentation" in description["description"].lower()


def test_the_license_is_the_one_that_is_named(sections: dict[str, str]) -> None:
    text = (REPOSITORY / "LICENSE.txt").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0" in text
    assert "Apache-2.0" in sections["License"] and "LICENSE.txt" in sections["License"]
    assert 'license = "Apache-2.0"' in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")


def test_the_readme_states_what_the_index_asks_for(sections: dict[str, str], description: dict[str, str]) -> None:
    """Name, purpose and a picture at the top; a sentence for each module; how to cite; publications."""
    top = sections[""]
    assert top.startswith(f"# {description['name']}\n")
    purpose = top.split("\n\n")[1]
    assert "segments" in purpose and "3D Slicer" in purpose
    assert re.search(r"!\[[^\]]{20,}\]\(\S+\.png\)", top)
    modules = re.findall(r"set\(MODULE_NAME (\w+)\)", (REPOSITORY / "LightSeg" / "CMakeLists.txt").read_text("utf-8"))
    whole = "".join(sections.values())
    assert modules and all(re.search(rf"^The module \*\*{name}\*\* .+\.$", whole, re.MULTILINE) for name in modules)
    assert f"LightSeg {__version__}" in sections["How to cite"] and description["homepage"] in sections["How to cite"]
    assert re.search(r"doi:10\.\d+/", sections["Publications"])


def test_the_tutorial_leads_from_the_sample_to_a_result() -> None:
    """Sections in the order of the work, with pictures of the window; what is bold is written so in the window."""
    tutorial = TUTORIAL.read_text(encoding="utf-8")
    assert TUTORIAL.relative_to(REPOSITORY).as_posix() in README.read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)$", tutorial, re.MULTILINE)
    work = ["Install it", "Choose a model", "Choose what to segment", "Run it", "Look at the result", "Save it"]
    assert [section for section in sections if section in work] == work
    steps = re.findall(r"^(\d+)\. ", tutorial, re.MULTILINE)
    assert steps and steps == [str(number) for number in range(1, len(steps) + 1)]
    files = [
        REPOSITORY / "LightSeg" / "LightSeg.py",
        *(REPOSITORY / "LightSeg" / "LightSegLib" / "slicer_app").rglob("*.py"),
    ]
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    assert re.search(r'SAMPLE_NAME = "(\w+)"', source)[1] in tutorial
    assert len(re.findall(r"!\[[^\]]+\]\(\S+\.png\)", tutorial)) >= 2
    form = ElementTree.parse(REPOSITORY / "LightSeg" / "Resources" / "UI" / "LightSeg.ui")
    texts = [text.text or "" for text in form.iter("string")] + re.findall(r'_\(\s*"([^"]+)"', source)
    texts = {text.removesuffix(":").replace("&", "") for text in texts}
    named = set(re.findall(r"\*\*([^*]+)\*\*", tutorial))
    texts |= {"Show 3D", "Create new Segmentation"}  # of Slicer's own button and node selector
    assert named and named <= texts, named - texts


def test_every_picture_and_page_of_the_readme_is_in_the_repository() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", README.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith(("http", "#"))]
    assert local and [target for target in local if not (REPOSITORY / target.partition("#")[0]).exists()] == []
    assert [target for target in targets if not target.startswith("http") and not heading_exists(target)] == []


def heading_exists(target: str) -> bool:
    """Whether the heading is there that a link of the README leads to, spelled as GitHub does; true without one."""
    page, _sign, anchor = target.partition("#")
    text = (REPOSITORY / page if page else README).read_text(encoding="utf-8") if anchor else ""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return not anchor or anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_readme_fits_a_few_screens() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def png_size(path: Path) -> tuple[int, int]:
    """Width and height, from the first chunk of a PNG file."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n", f"{path} is no PNG"
    return struct.unpack(">II", head[16:24])
