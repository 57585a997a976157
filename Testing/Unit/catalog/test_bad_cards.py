"""One bad card takes no other model away, and is listed with the reason."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from LightSegLib.catalog.card_file import MOST_BYTES, card_to_dict, check_readable
from LightSegLib.catalog.families import family_cards
from LightSegLib.catalog.lookup import CARDS_FOLDER, all_cards, bad_cards, find_card
from LightSegLib.cli.main import main
from LightSegLib.core.errors import InputError
from LightSegLib.core.paths import user_folder
from LightSegLib.weights.sources import mirror_address

BUNDLED = len(list(CARDS_FOLDER.glob("*.json"))) + len(family_cards())
GOOD = json.loads((CARDS_FOLDER / "hippocampus-mr-lightmedseg.json").read_text(encoding="utf-8"))


def text_of(**changes: Any) -> str:
    return json.dumps(GOOD | {"id": "evil"} | changes)


def with_training(value: str) -> str:
    return text_of()[:-1] + f', "training": {{"a": {value}}}}}'


BAD = {
    "deep": with_training("[" * 100_000 + "]" * 100_000),
    "less deep": with_training("[" * 900 + "]" * 900),
    "huge number": with_training("9" * 5000),
    "no number": with_training("NaN"),
    "long id": text_of(id="a" * 300),
    "long title": text_of(title="x" * 100_000),
    "long file": text_of(weights=GOOD["weights"] | {"file": "w" * 400 + ".pt"}),
    "half a character": text_of(weights=GOOD["weights"] | {"file": "\ud800.pt"}),
    "half a character in the title": text_of(title="\ud800"),
    "a file with an escape": text_of(weights=GOOD["weights"] | {"file": "\x1b[31m.pt"}),
    "large patch": text_of(inference=GOOD["inference"] | {"patch_size": [10**15, 32, 32]}),
    "large file": text_of(license="x" * 10_000_000),
    "list": "[]",
    "empty": "",
}
SPECIAL: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo if sys.platform != "win32" else Path.touch,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
}


@pytest.mark.parametrize("what", [*BAD, *SPECIAL])
def test_a_bad_card_is_listed_as_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path))
    path = tmp_path / "evil" / "model.json"
    path.parent.mkdir()
    if what in BAD:
        path.write_text(BAD[what], encoding="utf-8")
    else:
        SPECIAL[what](path)
    assert len(all_cards()) == BUNDLED
    assert set(bad_cards()) == {"evil"}

    assert main(["models", "--all"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len([line for line in listed if line.startswith("  ")]) == 1 + BUNDLED
    (bad_line,) = [line for line in listed if "evil" in line]
    assert bad_line.startswith("evil cannot be used: The model card")
    assert main(["models", "--json"]) == 0
    (bad,) = [entry for entry in json.loads(capsys.readouterr().out) if entry["state"] == "bad"]
    assert bad["id"] == "evil" and bad["reason"]


def test_a_title_cannot_pretend_to_be_another_row_nor_steer_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path))
    (tmp_path / "evil").mkdir()
    title = "a\nfake-model  MR  bundled  Fake\x1b]0;pwn\x07\x9b2J"
    (tmp_path / "evil" / "model.json").write_text(text_of(title=title), encoding="utf-8")
    for words in (["models", "--all"], ["info", "evil"], ["info", "evil", "--json"], ["models", "--json"]):
        assert main(words) == 0
        out = capsys.readouterr().out
        assert not set("\x1b\x07\x9b") & set(out)
        rows = [line for line in out.splitlines() if line.startswith("  ")]
        assert words != ["models", "--all"] or len(rows) == 1 + BUNDLED + 1


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", "[]", b"\xff\xfe", None])
def test_bad_settings_are_reported_when_they_are_needed_and_lists_need_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | bytes | None
) -> None:
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("LIGHTSEG_MIRROR", raising=False)
    path = user_folder() / "settings.json"
    path.parent.mkdir(parents=True)
    if content is None:
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert main(["models"]) == 0
    with pytest.raises(InputError, match=r"settings\.json cannot be read"):
        mirror_address()


def test_a_card_that_is_hardly_too_long_is_said_to_be_longer_than_the_limit() -> None:
    card = find_card("hippocampus-mr-lightmedseg")
    room = MOST_BYTES - len(json.dumps(card_to_dict(card), indent=2, ensure_ascii=False)) + len(card.description)
    with pytest.raises(ValueError, match=r"it has 1\.0487 MB of text, and a card has at most 1\.0486 MB"):
        check_readable(replace(card, description="d" * (room + 100)))
