"""Every message of the program, found in its source: its text, its kind, and when it appears.

`python Documentation/message_list.py` lists them for reading; the reference page is made of the same list, and
Testing/Unit/test_messages.py checks each of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

MODULE = Path(__file__).resolve().parent.parent / "LightSeg"
LIBRARY = MODULE / "LightSegLib"
MARK = "_"
STEPS = ("step", "tile", "transfer", "Progress", "TransferProgress")
NOT_SHOWN = ("ArgumentTypeError", "_Refused")  # of the command line alone; a name alone
REASONS = {"SkippedInput": 1, "UnusedFrames": 1, "UnusableFrame": 0, "unsupported": 0}  # and the argument with the text
PARTS = (ast.Attribute, ast.Call, ast.IfExp, ast.keyword, ast.Tuple, ast.List, ast.Dict, ast.BinOp, ast.GeneratorExp)


@dataclass(frozen=True)
class Message:
    """One marked text.

    Args:
        text: the English template, with its fields in braces.
        kind: name of the exception class; "progress", "window", or "part" of another message or a notice.
        file: path of the source below the module's folder.
        line: number of the line there.
        function: name of the function, with that of its class.
        condition: source of the innermost condition around it; empty where it is always shown.
        fields: names given to `format` at the same place; None where the fields are given elsewhere or there are none.
    """

    text: str
    kind: str
    file: str
    line: int
    function: str
    condition: str
    fields: tuple[str, ...] | None


def messages() -> Iterator[Message]:
    """Yield every message of the library and the window, file by file."""
    for path in sorted([*MODULE.glob("*.py"), *LIBRARY.rglob("*.py")]):
        yield from messages_in(path.read_text(encoding="utf-8"), path.relative_to(MODULE).as_posix())


def messages_in(source: str, file: str) -> Iterator[Message]:
    """Yield the messages of one file.

    Raises:
        ValueError: for a mark around anything but one literal text, which no translator would get to see.
    """
    tree = Source(source)
    window = "from slicer.i18n import tr as _" in source
    for node in tree.calls(MARK):
        if len(node.args) != 1 or not isinstance(node.args[0], ast.Constant) or not isinstance(node.args[0].value, str):
            raise ValueError(f"{file}:{node.lineno}: _() takes one literal text")
        around = tree.parents[node]
        filled = isinstance(around, ast.Attribute) and around.attr == "format"
        call = tree.parents[around] if filled else None
        named = call.keywords if isinstance(call, ast.Call) else []
        yield Message(
            node.args[0].value,
            tree.kind(node) if not window else "window",
            file,
            node.lineno,
            tree.function(node),
            tree.condition(node),
            tuple(keyword.arg or "" for keyword in named) if filled else None,
        )


def unmarked(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of errors, progress steps and reasons without a mark."""
    nodes = list(ast.walk(ast.parse(source)))
    raised = [node.exc for node in nodes if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    raised = [call for call in raised if _name(call).strip("_")[:1].isupper() or _name(call) == "error"]  # classes
    for node in nodes:
        if isinstance(node, ast.Call):
            position = REASONS.get(_name(node), 0)
            shown = is_error(_name(node)) or node in raised or _name(node) in (*STEPS, *REASONS)
            if shown and position < len(node.args) and _name(node) not in NOT_SHOWN:
                yield from ((text.lineno, ast.unparse(text)) for text in _loose_texts(node.args[position]))


def is_error(name: str) -> bool:
    """Return whether a class is an exception whose text a user may see, by its name."""
    return name.endswith("Error") and name[:1].isupper() and name not in NOT_SHOWN


def _loose_texts(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        yield node
    elif isinstance(node, (ast.IfExp, ast.BinOp, ast.Tuple, ast.List)):
        for child in ast.iter_child_nodes(node):
            yield from _loose_texts(child)


class Source:
    """The syntax tree of a file, with the way from a node to what is around it."""

    def __init__(self, source: str) -> None:
        self.root = ast.parse(source)
        self.parents = {child: node for node in ast.walk(self.root) for child in ast.iter_child_nodes(node)}

    def calls(self, name: str) -> list[ast.Call]:
        """Return the calls of a function by its bare name, top to bottom."""
        found = [node for node in ast.walk(self.root) if isinstance(node, ast.Call) and _name(node) == name]
        return sorted(found, key=lambda node: (node.lineno, node.col_offset))

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield what is around a node, innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def kind(self, node: ast.AST) -> str:
        """Return what the text at a node becomes, as `Message.kind`."""
        for above in self.around(node):
            if isinstance(above, ast.keyword):
                return "part"  # it fills a field
            if isinstance(above, ast.Call) and is_error(_name(above)):
                return _name(above)
            if isinstance(above, ast.Call) and _name(above) in STEPS:
                return "progress"
            if isinstance(above, ast.Assign) and isinstance(above.targets[0], ast.Name):
                return self._kind_of_variable(above.targets[0].id, above)
            if isinstance(above, ast.ClassDef) or not isinstance(above, PARTS):
                break
        if self.function(node).endswith("Canceled.__init__"):
            return "Canceled"
        return "part"

    def _kind_of_variable(self, name: str, assignment: ast.AST) -> str:
        function = next((above for above in self.around(assignment) if isinstance(above, ast.FunctionDef)), None)
        for node in ast.walk(function) if function is not None else ():
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
                for above in self.around(node):
                    if isinstance(above, ast.Call) and is_error(_name(above)):
                        return _name(above)
                    if isinstance(above, ast.keyword) or not isinstance(above, PARTS):
                        break
        return "part"

    def function(self, node: ast.AST) -> str:
        """Return the name of the function around a node, with that of its class."""
        named = [above.name for above in self.around(node) if isinstance(above, (ast.FunctionDef, ast.ClassDef))]
        return ".".join(reversed(named))

    def condition(self, node: ast.AST) -> str:
        """Return the source of the innermost condition in the function around a node."""
        inner = node
        for above in self.around(node):
            if isinstance(above, ast.FunctionDef):
                break
            if isinstance(above, ast.If):
                test = ast.unparse(above.test)
                return f"not ({test})" if any(inner is one for one in above.orelse) else test
            if isinstance(above, ast.ExceptHandler):
                return f"{ast.unparse(above.type) if above.type else 'any error'} was raised"
            inner = above
        return ""


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


@lru_cache
def page() -> str:
    """Return the reference page, in Markdown."""
    lines = ["# Messages", ""]
    lines += ["The messages of the program, each with its function and condition in the source. Words in braces are"]
    lines += [
        "filled in. Messages of the library are translated by Slicer's language packs; commands print English.",
        "",
    ]
    folder = None
    for message in messages():
        above = message.file.rpartition("/")[0] or "Module"
        if above != folder:
            folder = above
            lines += ["", f"## {folder.removeprefix('LightSegLib/')}", ""]
            lines += ["| Message | Kind | Function | Condition |", "|---|---|---|---|"]
        where = f"`{Path(message.file).stem}.{message.function}`".replace(".`", "`")
        condition = f"`{_cell(message.condition)}`" if message.condition else ""
        lines.append(f"| {_cell(message.text)} | {message.kind} | {where} | {condition} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    for one in messages():
        print(f"{one.file}:{one.line}  {one.kind}  in {one.function or 'module'}  if {one.condition or 'always'}")
        print(f"    {one.text}")
