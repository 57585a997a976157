"""Nothing leaves the user's computer: one file speaks to the network, it only asks for files, and says no more than
its own name. That segmenting opens no connection at all is seen to by `guard` in the tests of the package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from http_server import PROXY_VARIABLES, Answer, Server
from installing import REPOSITORY
from LightSegLib import __version__
from LightSegLib.catalog.card import Source, Weights
from LightSegLib.catalog.store import find_card
from LightSegLib.weights.store import WeightStore

MODULE = REPOSITORY / "LightSeg"
CONNECTION = "LightSegLib/weights/connection.py"
# What can reach another computer: of Python, of what Slicer bundles, and of Qt.
NETWORK = {
    *("aiohttp", "asyncio", "ftplib", "http", "httpx", "imaplib", "poplib", "requests", "smtplib", "socket"),
    *("socketserver", "ssl", "telnetlib", "urllib.request", "urllib3", "webbrowser", "websocket", "xmlrpc"),
}
QT_NETWORK = r"\bQ(Network\w+|\w*Socket|\w*TcpServer)\b|QtNetwork|\burl(open|retrieve)\b"


def sources() -> dict[str, str]:
    """The text of every Python file of the module."""
    files = sorted(MODULE.rglob("*.py"))
    return {path.relative_to(MODULE).as_posix(): path.read_text(encoding="utf-8") for path in files}


def imported(text: str) -> Iterator[str]:
    """What a file imports from outside, wherever in it: names and the modules they are in."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reaches_out(name: str) -> bool:
    return bool({name, name.split(".")[0]} & NETWORK)


def test_one_file_alone_speaks_to_the_network() -> None:
    speaking = {name for name, text in sources().items() if any(map(reaches_out, imported(text)))}
    assert speaking == {CONNECTION}
    assert [name for name, text in sources().items() if re.search(QT_NETWORK, text)] == []


def test_it_only_asks_for_files() -> None:
    """GET, and nothing that could carry a body."""
    text = sources()[CONNECTION]
    assert set(re.findall(r"\bsession\.(\w+)", text)) == {"headers", "close", "get"}
    assert set(re.findall(r"\brequests\.(\w+)", text)) == {"Session", "Response", "exceptions"}
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    (get,) = [call for call in calls if ast.unparse(call.func).endswith("session.get")]
    assert {keyword.arg for keyword in get.keywords} == {"headers", "stream", "timeout"}


def test_a_server_learns_which_file_is_wanted_and_by_which_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*PROXY_VARIABLES, "LIGHTSEG_MIRROR", "LIGHTSEG_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):  # nor the user's settings, nor passwords in .netrc
        monkeypatch.setenv(name, str(tmp_path / "home"))
    with Server() as server:
        server.answers["/final.pth"] = Answer(b"PK\x03\x04" + bytes(1000))
        weights = Weights("final.pth", sources=(Source("url", url=f"{server.url}/final.pth"),))
        card = replace(find_card("wholebody-tumor-ct-flare24"), weights=weights, folder=tmp_path / "card")
        WeightStore(tmp_path / "weights").ensure(card)

    (asked,) = server.asked
    assert asked.path == "/final.pth"
    assert asked.headers == {
        "host": server.url.removeprefix("http://"),
        "user-agent": f"LightSeg/{__version__}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "keep-alive",
    }


def test_pytorch_is_installed_by_its_extension_alone() -> None:
    """Which asks first and chooses the build for the computer; pip would put another one into Slicer."""
    assert [name for name, text in sources().items() if "pip_install" in text or '"pip"' in text] == []
    assert "PyTorchUtils" in "".join(sources().values())
