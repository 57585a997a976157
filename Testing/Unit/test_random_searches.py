"""The searches of `make fuzz` and `make chaos` find what they should: a search that finds nothing proves nothing."""

# ruff: noqa: E402 (the folders of the searches are not packages, and must be on the path first)
from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING / "Fuzz"), str(TESTING / "Chaos")]

from chaos import judge
from forking import Ending, Fork, Limits, forked
from fuzz import fault, signature
from mutations import spoiled_bytes, spoiled_json, spoiled_text

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the limits of a fork")
GOOD = Ending(2, 0, False, "", "lightseg: a.nii is empty. Choose another file.\n", 0.1, 0)


def ending(**changes: object) -> Ending:
    return Ending(**{**vars(GOOD), **changes})  # type: ignore[arg-type]


def test_a_result_and_a_sentence_are_not_findings() -> None:
    assert fault(GOOD) == fault(ending(code=0, err="")) == ""
    judge(GOOD, stops=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"err": "Traceback (most recent call last):\nValueError: x"}, "unexpected"),
        ({"err": "lightseg: An unexpected error occurred (KeyError: 2). Set it."}, "unexpected"),
        ({"code": None, "signal": 11}, "signal 11"),
        ({"late": True}, "hangs"),
        ({"code": 120}, "exit code 120"),
    ],
)
def test_both_searches_find_what_is_neither(changes: dict[str, object], words: str) -> None:
    assert fault(ending(**changes)).startswith(words)
    with pytest.raises(AssertionError):
        judge(ending(**changes), stops=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"err": ""}, "no sentence"),
        ({"err": "lightseg: it failed\n"}, "no sentence"),
        ({"grown": 3 << 30}, "memory"),
        ({"err": "lightseg: \x1b[2J is no name. Choose another.\n"}, "speaks to the terminal"),
        ({"err": "noise\n" * 76 + GOOD.err}, "words of another program"),
        ({"err": "lightseg: Re-run with weights_only set to False. Do.\n"}, "words of another program"),
    ],
)
def test_the_search_for_sentences_finds_bad_ones(changes: dict[str, object], words: str) -> None:
    assert fault(ending(**changes)).startswith(words)


def test_findings_that_differ_in_names_and_numbers_are_of_one_fault() -> None:
    assert signature("unexpected: '/tmp/a 1' has 3 bytes") == signature("unexpected: '/tmp/b 2' has 77 bytes")


@pytest.mark.parametrize("spoil", [spoiled_bytes, spoiled_text])
def test_equal_seeds_spoil_equally(spoil: Callable[[bytes, Random], bytes]) -> None:
    data = b"dimension: 3\nsizes: 4 5 6\nencoding: raw\n\n" + bytes(range(120))
    found = [spoil(data, Random(n)) for n in range(50)]
    assert found == [spoil(data, Random(n)) for n in range(50)]
    assert len(set(found)) > 40 and data not in found[:3]


def test_a_tree_is_spoiled_without_changing_it() -> None:
    tree = {"labels": {"background": 0, "liver": 1}, "sizes": [[1, 2], [3]], "name": "x"}
    found = {spoiled_json(tree, Random(n)) for n in range(200)}
    assert len(found) > 150 and tree == {"labels": {"background": 0, "liver": 1}, "sizes": [[1, 2], [3]], "name": "x"}


@LINUX
def test_a_fork_shows_how_it_ended() -> None:
    def dies() -> int:
        os.kill(os.getpid(), signal.SIGUSR1)
        return 0

    def speaks() -> int:
        os.write(1, b"out\n")
        os.write(2, b"err\n")
        return 2

    def takes() -> int:
        bytearray(200 << 20)
        return 0

    limits = Limits(processor=20, seconds=60, memory=1 << 30)
    outcome = forked(speaks, limits)
    assert (outcome.code, outcome.out, outcome.err, outcome.late) == (2, "out\n", "err\n", False)
    assert (forked(dies, limits).code, forked(dies, limits).signal) == (None, signal.SIGUSR1)
    assert "MemoryError" in forked(takes, Limits(20, 60, 50 << 20)).err
    assert forked(takes, limits).grown >= 0
    assert forked(lambda: time.sleep(600) or 0, Limits(20, 0.2, 1 << 30)).late
    fork = Fork(lambda: time.sleep(600) or 0, limits)
    fork.kill(signal.SIGTERM)
    assert fork.ending().signal == signal.SIGTERM
