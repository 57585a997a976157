"""The command line in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from LightSegLib.cli import main as cli


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs one command line in this process: exit code, standard output, standard error."""

    def lightseg(*words: object) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        out, err = capfd.readouterr()
        return code, out, err

    return lightseg
