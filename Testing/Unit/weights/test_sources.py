"""The address of a file: Hugging Face's lists, GitHub with and without Git LFS, Google Drive's pages, a mirror."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_server import PROXY_VARIABLES, Answer, Server
from LightSegLib.catalog.card import Card, Inference, Label, Preprocessing, Source, Weights
from LightSegLib.catalog.lookup import find_card
from LightSegLib.core.errors import InputError
from LightSegLib.core.progress import Reporter
from LightSegLib.weights.connection import Connection, RetryPolicy, SourceError
from LightSegLib.weights.download import PartialDownload, RemoteFile, WrongFile, download
from LightSegLib.weights.records import Fingerprint
from LightSegLib.weights.sources import Endpoints, locate, mirror_address, origin, sources_of
from LightSegLib.weights.store import WeightStore

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GIT_BLOB = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
UNKNOWN = Fingerprint()
HUGGING_FACE = Source("huggingface", "deepang/slimunetrv2", "main", "brats23")
LISTING = "/api/models/deepang/slimunetrv2/tree/main/brats23"
GITHUB = Source("github", "group/project", "5df5e761", "results/fold all/checkpoint_final.pth")
RAW = "/group/project/5df5e761/results/fold%20all/checkpoint_final.pth"
DRIVE = Source("google_drive", id="13JuLMeDQRR")
# As Google Drive answers for a file of more than 100 MB.
WARNING_PAGE = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<form action="/search"><input type="hidden" name="q" value="no"></form>
<form id="download-form" action="{url}/download" method="get"><input type="submit" value="Download anyway"/>
<input type="hidden" name="id" value="13JuLMeDQRR"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="2b32&amp;fee2"></form></html>"""
OLDER_PAGE = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<a id="uc-download-link" href="/uc?export=download&amp;confirm=Xy9&amp;id=13JuLMeDQRR">Download anyway</a></html>"""
QUOTA_PAGE = """<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body><p
class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p></body></html>"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in (*PROXY_VARIABLES, "HF_ENDPOINT", "LIGHTSEG_MIRROR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with Server() as running:
        yield running


def found(server: Server, source: Source, expected: Fingerprint = UNKNOWN) -> RemoteFile:
    """The address of the source's file, with the local server in the place of all services."""
    endpoints = Endpoints(server.url, server.url, f"{server.url}/media", server.url)
    return locate(source, expected, endpoints, _connection())


def fetched(remote: RemoteFile, folder: Path) -> bytes:
    """The file itself."""
    partial = PartialDownload(folder / "part")
    download(remote, partial, _connection(), "Tiny")
    return partial.path.read_bytes()


def _connection() -> Connection:
    return Connection(Reporter(), RetryPolicy(tries=2, first_wait=0.01))


def listing(*paths: str) -> Answer:
    """Hugging Face's list of LFS files; `oid` of such a file is the git blob id of its pointer."""
    lfs = {"oid": SHA256, "size": len(CONTENT), "pointerSize": 132}
    entries = [{"type": "file", "oid": "0" * 40, "size": len(CONTENT), "path": path, "lfs": lfs} for path in paths]
    folder = {"type": "directory", "oid": "1" * 40, "size": 0, "path": "brats23/fold_0"}
    return Answer(json.dumps([folder, *entries]).encode())


def test_hugging_face_names_the_file_with_size_and_hash(server: Server, tmp_path: Path) -> None:
    """Two pages of a list, then a redirect to another server, as the real one does."""
    first = listing("brats23/fold_0/progress.png", "brats23/fold_0/checkpoint_best.pth")
    second = f'<{server.url}{LISTING}?recursive=true&cursor=ZXk%3D>; rel="next"'
    server.answers[f"{LISTING}?recursive=true"] = Answer(first.content, headers={"Link": second})
    server.answers[f"{LISTING}?recursive=true&cursor=ZXk%3D"] = listing("brats23/fold_0/checkpoint_final.pth")
    resolved = "/deepang/slimunetrv2/resolve/main/brats23/fold_0/checkpoint_final.pth"
    server.answers[resolved] = Answer(status=302, headers={"Location": f"{server.url}/cdn/{SHA256}"})
    server.answers[f"/cdn/{SHA256}"] = Answer(CONTENT)

    remote = found(server, HUGGING_FACE)
    assert remote.address == server.url + resolved
    assert remote.expected == Fingerprint(len(CONTENT), SHA256)
    assert remote.origin == "https://huggingface.co/deepang/slimunetrv2/tree/main/brats23"
    assert fetched(remote, tmp_path) == CONTENT


@pytest.mark.parametrize(
    ("paths", "chosen"),
    [
        (["b/fold_1/checkpoint_final.pth", "b/fold_all/checkpoint_final.pth"], "b/fold_all/checkpoint_final.pth"),
        (["b/fold_10/checkpoint_final.pth", "b/fold_2/checkpoint_final.pth"], "b/fold_2/checkpoint_final.pth"),
        (["b/fold_all/checkpoint_best.pth", "b/fold_3/checkpoint_final.pth"], "b/fold_3/checkpoint_final.pth"),
        (["b/checkpoint_best.pth", "b/checkpoint_latest.pth"], "b/checkpoint_best.pth"),
        (["b/weights ü.model", "b/plans.pkl", "b/log.txt"], "b/weights%20%C3%BC.model"),
    ],
    ids=["all folds", "lowest fold", "final before best", "best", "the only one"],
)
def test_the_right_file_of_a_folder_is_chosen(server: Server, paths: list[str], chosen: str) -> None:
    server.answers[LISTING] = listing(*paths)
    assert found(server, HUGGING_FACE).address.endswith(f"/resolve/main/{chosen}")


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["b/one.pth", "b/two.bin", "b/log.txt"], "found: b/one.pth, b/two.bin$"),
        (["b/x/fold_0/checkpoint_final.pth", "b/y/fold_0/checkpoint_final.pth"], "found: b/x/fold_0/.*, b/y/fold_0/"),
        (["b/log.txt"], "found: b/log.txt$"),
        ([], "found: nothing$"),
    ],
)
def test_a_folder_without_a_clear_choice_is_listed(server: Server, paths: list[str], words: str) -> None:
    server.answers[LISTING] = listing(*paths)
    with pytest.raises(SourceError, match=f"not clear which file contains the weights; {words}"):
        found(server, HUGGING_FACE)


def test_a_small_file_outside_of_lfs_is_known_by_its_blob(server: Server) -> None:
    entry = {"type": "file", "oid": GIT_BLOB, "size": len(CONTENT), "path": "brats23/small.pt"}
    server.answers[LISTING] = Answer(json.dumps([entry]).encode())
    assert found(server, HUGGING_FACE).expected == Fingerprint(len(CONTENT), git_blob=GIT_BLOB)


def test_another_file_on_hugging_face_is_noticed_before_the_download(server: Server) -> None:
    server.answers[LISTING] = listing("brats23/checkpoint_final.pth")
    with pytest.raises(WrongFile, match=f"a different file .SHA-256 {SHA256} instead of {'a' * 64}"):
        found(server, HUGGING_FACE, Fingerprint(sha256="a" * 64))


@pytest.mark.parametrize("content", [b"<html>", b"{}", b'[{"type": "file"}]', b'{"error": "x"}', b"[1]", b"\xff"])
def test_a_list_that_is_none_is_reported(server: Server, content: bytes) -> None:
    server.answers[LISTING] = Answer(content)
    with pytest.raises(SourceError, match=r"list of files is invalid|found: nothing"):
        found(server, HUGGING_FACE)


def test_a_list_without_end_is_reported(server: Server) -> None:
    server.answers[LISTING] = Answer(b"[]", headers={"Link": f'<{LISTING}?cursor=1>; rel="next"'})
    with pytest.raises(SourceError, match="list of files is too long"):
        found(server, HUGGING_FACE)


def test_hugging_face_may_be_somewhere_else(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
    server.answers[LISTING] = listing("brats23/checkpoint_final.pth")
    remote = locate(HUGGING_FACE, UNKNOWN, Endpoints.from_environment(), _connection())
    assert remote.address == f"{server.url}/deepang/slimunetrv2/resolve/main/brats23/checkpoint_final.pth"


def test_a_file_on_github_is_held_to_its_blob_id(server: Server, tmp_path: Path) -> None:
    server.answers[RAW] = Answer(CONTENT)
    remote = found(server, GITHUB, Fingerprint(git_blob=GIT_BLOB))
    assert remote.origin == "https://github.com/group/project/blob/5df5e761/results/fold%20all/checkpoint_final.pth"
    assert fetched(remote, tmp_path) == CONTENT
    with pytest.raises(WrongFile, match="git blob id"):
        fetched(found(server, GITHUB, Fingerprint(git_blob="d" * 40)), tmp_path)


def test_a_file_in_git_lfs_is_fetched_where_its_pointer_points(server: Server, tmp_path: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize {len(CONTENT)}\n"
    server.answers[RAW] = Answer(pointer.encode())
    server.answers[f"/media{RAW}"] = Answer(CONTENT)
    remote = found(server, GITHUB)
    assert remote.expected == Fingerprint(len(CONTENT), SHA256)
    assert fetched(remote, tmp_path) == CONTENT
    with pytest.raises(WrongFile, match="bytes instead of 5"):
        found(server, GITHUB, Fingerprint(size=5))
    server.answers[RAW] = Answer(pointer.replace("oid", "id").encode())
    with pytest.raises(SourceError, match="pointer is invalid"):
        found(server, GITHUB)


def test_google_drive_gives_a_small_file_at_once(server: Server, tmp_path: Path) -> None:
    server.answers["/uc?export=download&id=13JuLMeDQRR"] = Answer(CONTENT)
    remote = found(server, DRIVE)
    assert remote.origin == "https://drive.google.com/file/d/13JuLMeDQRR/view"
    assert fetched(remote, tmp_path) == CONTENT


def test_google_drive_learns_that_a_large_file_is_wanted(server: Server, tmp_path: Path) -> None:
    server.answers["/uc"] = Answer(WARNING_PAGE.format(url=server.url).encode())
    confirmed = "/download?id=13JuLMeDQRR&export=download&confirm=t&uuid=2b32%26fee2"
    server.answers[confirmed] = Answer(CONTENT)
    remote = found(server, DRIVE)
    assert remote.address == server.url + confirmed
    assert fetched(remote, tmp_path) == CONTENT


def test_older_pages_of_google_drive_are_understood(server: Server) -> None:
    server.answers["/uc?export=download&id=13JuLMeDQRR"] = Answer(OLDER_PAGE.encode())
    server.answers["/uc?export=download&confirm=Xy9&id=13JuLMeDQRR"] = Answer(CONTENT)
    assert found(server, DRIVE).address == f"{server.url}/uc?export=download&confirm=Xy9&id=13JuLMeDQRR"

    cookie = {"Set-Cookie": "download_warning_0815_13JuLMeDQRR=Zz3; Path=/"}
    server.answers["/uc?export=download&id=13JuLMeDQRR"] = Answer(b"<html>", headers=cookie)
    server.answers["/uc?export=download&id=13JuLMeDQRR&confirm=Zz3"] = Answer(CONTENT)
    assert found(server, DRIVE).address == f"{server.url}/uc?export=download&id=13JuLMeDQRR&confirm=Zz3"


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (QUOTA_PAGE, "daily limit of Google Drive for this file is reached; try again tomorrow"),
        ("<html>Some new page</html>", "an unexpected page; download the file with a browser"),
        (WARNING_PAGE.replace("/download", "/uc"), "keeps asking for confirmation"),
    ],
    ids=["quota", "unknown", "in circles"],
)
def test_a_page_of_google_drive_that_leads_nowhere_is_reported(server: Server, page: str, words: str) -> None:
    server.answers["/uc"] = Answer(page.replace("{url}", server.url).encode())
    with pytest.raises(SourceError, match=words):
        found(server, DRIVE)


def test_a_private_file_on_google_drive_is_reported(server: Server) -> None:
    server.answers["/uc"] = Answer(status=302, headers={"Location": "/v3/signin/ServiceLogin?continue=x"})
    server.answers["/v3/signin/ServiceLogin"] = Answer(b"<!doctype html><title>Sign in</title>")
    with pytest.raises(SourceError, match="asks for a login; the file"):
        found(server, DRIVE)


def test_a_page_for_people_is_not_downloaded(server: Server) -> None:
    with pytest.raises(SourceError, match="downloaded from this page with a browser"):
        found(server, Source("page", url=server.url))
    with pytest.raises(SourceError, match="does not support sources of the kind 'ftp'"):
        found(server, Source("ftp", url=server.url))
    assert server.asked == []


def test_a_mirror_comes_first_and_may_be_set_in_three_places(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    card = Card(
        id="tiny", title="Tiny", version="1", description="", modality="MR", channels=("T1",), network="lightmedseg",
        network_arguments={}, preprocessing=Preprocessing(), inference=Inference((32, 32, 32)),
        labels=(Label(1, "a", (1, 2, 3)),), weights=Weights("final ü.pth", sources=(DRIVE,)), license="", citation="",
    )  # fmt: skip
    assert mirror_address() == ""
    assert sources_of(card, "") == [DRIVE]

    settings = tmp_path / "LightSeg" / "settings.json"
    settings.parent.mkdir()
    settings.write_text('{"mirror": "https://files.hospital/lightseg/"}')
    assert mirror_address() == "https://files.hospital/lightseg"
    assert origin(sources_of(card, "https://ward:secret@files.hospital")[0]).startswith("https://files.hospital/")
    mirrored, drive = sources_of(card, mirror_address())
    assert origin(mirrored) == "https://files.hospital/lightseg/tiny/final%20%C3%BC.pth"
    assert drive == DRIVE

    monkeypatch.setenv("LIGHTSEG_MIRROR", "https://other.hospital")
    assert mirror_address() == "https://other.hospital"
    assert mirror_address("https://third.hospital/") == "https://third.hospital"

    monkeypatch.delenv("LIGHTSEG_MIRROR")
    for damaged in ("{", "[]", '{"mirror": 5}'):
        settings.write_text(damaged)
        with pytest.raises(InputError, match=r"settings .*settings.json cannot be read.*Correct the file"):
            mirror_address()
    WeightStore().check_obtainable([find_card("hippocampus-mr-lightmedseg")])  # which is here: nothing is downloaded
