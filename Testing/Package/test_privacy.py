"""Nothing leaves the user's computer: of two files that can reach another one, the first only asks for files, and sends
no more than its own name, the second sends cases to the cluster that the user names. That segmenting opens no
connection at all is seen to by `guard` in the tests of the package.
"""

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
from LightSegLib.catalog.lookup import find_card
from LightSegLib.weights.store import WeightStore

MODULE = REPOSITORY / "LightSeg"
CONNECTION, CLUSTER = "LightSegLib/weights/connection.py", "LightSegLib/batch/cluster.py"
# What can reach another computer: of Python, of what Slicer bundles, of torch, of the optional packages, and of Qt.
NETWORK = {
    *("aiohttp", "asyncio", "ftplib", "http", "httpx", "imaplib", "multiprocessing", "nntplib", "poplib", "requests"),
    *("smtplib", "socket", "socketserver", "ssl", "telnetlib", "tornado", "urllib.request", "urllib3", "webbrowser"),
    *("websocket", "websockets", "xmlrpc", "SampleData", "DICOMLib", "pynetdicom", "dicomweb_client", "torch.hub"),
    *("torch.distributed", "huggingface_hub", "dask", "distributed", "paramiko", "zmq"),
}
OTHER_WORDS = (
    r"\bQ(Network\w+|\w*Socket|\w*TcpServer)\b|QtNetwork|\burl(open|retrieve)\b|torch\.(hub|distributed)"
    r"|\bdownload(File|Volume|Sample|FromURL|AndExtract)\w*\("
)


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


def reaches_out(text: str) -> set[str]:
    """What of a file's imports can reach another computer."""
    parts = (name.split(".") for name in imported(text))
    names = {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}
    return names & NETWORK


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import urllib.request as r", "urllib.request"),
        ("from urllib import request", "urllib.request"),
        ("from distributed import Client", "distributed"),
        ("def later():\n    import requests.sessions", "requests"),
        ("import urllib.parse", None),
    ],
)
def test_an_import_is_found_wherever_it_stands(line: str, found: str | None) -> None:
    """The tests below would be worth nothing if it were not."""
    assert reaches_out(line) == ({found} if found else set())


def test_these_files_alone_can_reach_another_computer() -> None:
    speaking = {name: found for name, text in sources().items() if (found := reaches_out(text))}
    assert speaking == {
        CONNECTION: {"http", "requests", "urllib3"},
        CLUSTER: {"asyncio", "dask", "distributed"},  # asyncio: the class of an error of distributed
        "LightSegLib/batch/cluster_worker.py": {"distributed"},  # which worker it is
        "LightSegLib/slicer_app/sample.py": {"SampleData"},
    }
    assert [name for name, text in sources().items() if re.search(OTHER_WORDS, text)] == []


def test_the_cluster_is_one_of_this_computer_or_the_one_that_is_named() -> None:
    """Every client gets its address, and the cluster of our own has no sockets."""
    calls = [node for node in ast.walk(ast.parse(sources()[CLUSTER])) if isinstance(node, ast.Call)]
    clients = [call for call in calls if ast.unparse(call.func) == "Client"]
    assert clients and all(ast.unparse(call.args[0]) == "address" for call in clients)
    (own,) = [call for call in calls if ast.unparse(call.func) == "SpecCluster"]
    assert "'protocol': 'inproc://'" in {word.arg: ast.unparse(word.value) for word in own.keywords}["scheduler"]
    assert "LocalCluster" not in sources()[CLUSTER]


def test_it_only_asks_for_files() -> None:
    """GET, and nothing that could carry a body; of urllib3, which could ask by itself, only what reads a header."""
    text = sources()[CONNECTION]
    of_urllib3 = {name for name in imported(text) if name.startswith("urllib3.")}
    assert of_urllib3 == {"urllib3.Retry", "urllib3.exceptions", "urllib3.exceptions.InvalidHeader"}
    assert set(re.findall(r"\burllib3\.(\w+)", text)) == {"exceptions"}
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
    running = [name for name, text in sources().items() if "pip_install" in text or '"pip"' in text]
    assert running == ["LightSegLib/worker/install_handler.py"]  # the extension's own code, in a process of its own
    assert "PyTorchUtils" in "".join(sources().values())
