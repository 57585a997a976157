"""The library explains itself: how many of its functions and classes have a docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

LIBRARY = Path(__file__).parents[2] / "LightSeg" / "LightSegLib"
LEAST = 0.95


def definitions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Functions and classes, private ones too; not those within functions, nor special methods."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield node
            yield from definitions(node)
        elif isinstance(node, ast.FunctionDef):
            if not node.name.startswith("__"):
                yield node
        else:
            yield from definitions(node)


def test_most_functions_and_classes_are_documented() -> None:
    undocumented, count = [], 0
    for path in sorted(LIBRARY.rglob("*.py")):
        for node in definitions(ast.parse(path.read_text(encoding="utf-8"))):
            count += 1
            if not ast.get_docstring(node):
                undocumented.append(f"{path.relative_to(LIBRARY)}: {node.name}")
    assert len(undocumented) <= (1 - LEAST) * count, "\n".join(undocumented)


def test_no_docstring_says_the_same_twice() -> None:
    repeated = []
    for path in sorted(LIBRARY.rglob("*.py")):
        for node in definitions(ast.parse(path.read_text(encoding="utf-8"))):
            paragraphs = [part.strip() for part in (ast.get_docstring(node) or "").split("\n\n")]
            if len(set(paragraphs)) < len(paragraphs):
                repeated.append(f"{path.relative_to(LIBRARY)}: {node.name}")
    assert not repeated, "\n".join(repeated)
