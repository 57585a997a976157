"""Packages that pip finds on this computer alone."""

from __future__ import annotations

import os
import zipfile
from contextlib import contextmanager

from http_server import PROXY_VARIABLES, Answer, Server


@contextmanager
def wheel_offered(name, folder, monkeypatch, needs=()):
    """Let pip find one wheel, of some 300 kB, on a server here, and install into `folder`/packages.

    needs: what the package requires.
    """
    for variable in (*PROXY_VARIABLES, "PIP_CONSTRAINT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    wheel = folder / f"{name}-9999.9-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        about = f"{name}-9999.9.dist-info"
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{name}/much", b"\0" * 300_000)
        needed = "".join(f"Requires-Dist: {other}\n" for other in needs)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 9999.9\n{needed}")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    with Server() as server:
        page = f'<a href="{wheel.name}">{name}</a>'.encode()
        server.answers["/"] = Answer(page, headers={"Content-Type": "text/html"})
        server.answers[f"/{wheel.name}"] = Answer(wheel.read_bytes())
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", f"{server.url}/")
        monkeypatch.setenv("PIP_TARGET", str(folder / "packages"))
        yield
