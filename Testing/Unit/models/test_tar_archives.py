"""Dangerous tar.gz files are not unpacked, as dangerous zip files are not; plain ones are imported as these are."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from imported_models import tarred
from LightSegLib.catalog.card import Card
from LightSegLib.core.errors import ModelError
from LightSegLib.core.paths import weights_folder
from LightSegLib.models.archived import ensure_weights
from LightSegLib.models.importing import import_model


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (entry("../outside.txt"), "points outside the archive"),
        (entry("a/../../outside.txt"), "points outside the archive"),
        (entry("/outside.txt"), "has an absolute path"),
        (entry("C:\\outside.txt"), "has an absolute path"),
        (entry("link", tarfile.SYMTYPE, link="/etc/passwd"), "is a link or a device"),
        (entry("link", tarfile.LNKTYPE, link="w/plans.json"), "is a link or a device"),
        (entry("tty", tarfile.CHRTYPE), "is a link or a device"),
        (entry("pipe", tarfile.FIFOTYPE), "is a link or a device"),
        (entry("a" * 300), "has a name that is too long"),
        (entry("WEIGHTS/plans.json"), "occurs twice"),
        (entry("weights/plans.json/x"), "has a file as its folder"),
    ],
)  # fmt: skip
def test_a_tar_with_an_entry_that_is_no_plain_file_is_refused(
    publish: Callable[..., Card], trained: Path, tmp_path: Path, bad: tarfile.TarInfo, words: str
) -> None:
    """As a zip would be; whether the card needs that entry or not."""
    archive = tmp_path / "w.tar.gz"
    with tarfile.open(archive, "w:gz") as content:
        content.add(trained, "weights")
        content.addfile(bad, io.BytesIO(bytes(bad.size)))
    card = publish(archive)
    with pytest.raises(ModelError, match=words):
        ensure_weights(card)
    assert (weights_folder() / "liver-ct" / "w.tar.gz").is_file() and not list(tmp_path.rglob("outside.txt"))


def test_a_tar_that_unpacks_without_end_is_refused(
    publish: Callable[..., Card], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size that an entry states is enough; nothing of it is unpacked."""
    monkeypatch.setattr("LightSegLib.models.archives.MOST_BYTES", 10**7)
    archive = tmp_path / "w.tar.gz"
    with tarfile.open(archive, "w:gz") as content:
        for number in range(3):
            content.addfile(entry(f"model/{number}.pth", size=4 * 10**6), io.BytesIO(bytes(4 * 10**6)))
    with pytest.raises(ModelError, match=r"3 files with 0\.0 GB, more than any model"):
        ensure_weights(publish(archive))


def test_a_tar_cannot_fill_the_memory_by_a_header(publish: Callable[..., Card], tmp_path: Path) -> None:
    """A name of 64 MB, which compresses to nothing, would be read as a whole."""
    archive = tmp_path / "w.tar.gz"
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as content:
        content.addfile(entry("a" * (64 << 20)))
    assert archive.stat().st_size < 1 << 20
    with pytest.raises(ModelError, match=r"not a valid zip or tar\.gz file \(a header has \d+ bytes\)"):
        ensure_weights(publish(archive))


@pytest.mark.parametrize("name", ["export.tar.gz", "export.TGZ"])
@pytest.mark.usefixtures("nothing_left_over")
def test_a_tar_of_a_results_folder_is_imported(results: Path, tmp_path: Path, models: Path, name: str) -> None:
    from_tar = import_model(tarred(results, tmp_path / name, "Dataset042_Tiny"))
    assert import_model(results, replace=True) == from_tar
