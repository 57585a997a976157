"""The documentation as a reader has it: in a browser, with a search, on a phone, and no link that leads nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from browsing import browser

SITE = Path(__file__).resolve().parents[2] / "build" / "site"


@pytest.fixture(params=[1280, 390], ids=["desk", "phone"])
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A page of a browser, wide and narrow."""
    with browser(tmp_path / "profile", request.param) as context:
        yield context.pages[0]


def keep(page: Any, name: str) -> None:
    """A picture for people, where LIGHTSEG_SCREENSHOTS names a folder."""
    if folder := os.environ.get("LIGHTSEG_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"site-{name}-{page.viewport_size['width']}.png")


def test_no_page_is_wider_than_the_window(reader: Any) -> None:
    for name in ("index", "tutorials/first-segmentation", "reference/generated/commands", "reference/python"):
        reader.goto((SITE / f"{name}.html").as_uri())
        keep(reader, name.replace("/", "-"))
        assert reader.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
        broken = reader.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)")
        assert broken == [], name


def test_the_search_finds_a_page(reader: Any) -> None:
    reader.goto((SITE / "search.html").as_uri() + "?q=hippocampus")
    reader.locator("#search-results li a").first.wait_for()
    assert reader.locator("#search-results li").count() >= 3


def test_every_link_within_the_site_leads_somewhere(tmp_path: Path) -> None:
    """From the first page through all that is linked, places within pages included."""
    with browser(tmp_path / "profile", 1280) as context:
        page = context.pages[0]
        waiting, places, wanted = [SITE / "index.html"], {}, set()
        while waiting:
            path = waiting.pop()
            if path in places or path.suffix != ".html":
                continue
            page.goto(path.as_uri(), wait_until="domcontentloaded")
            places[path] = set(page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)"))
            for address in page.evaluate("[...document.querySelectorAll('a[href]')].map(one => one.href)"):
                parts = urlsplit(address)
                if parts.scheme == "file":
                    target = Path(unquote(parts.path))
                    assert target.is_file(), f"{path.name} leads to {target}"
                    wanted.add((path, target, unquote(parts.fragment)))
                    waiting.append(target)
    assert len(places) > 20
    lost = [
        f"{source.name} leads to {target.name}#{place}"
        for source, target, place in wanted
        if place and target in places and place not in places[target]
    ]
    assert lost == []


def test_no_page_asks_another_server(reader: Any) -> None:
    asked: list[str] = []
    reader.on("request", lambda request: asked.append(request.url))
    reader.goto((SITE / "index.html").as_uri())
    assert [address for address in asked if not address.startswith(("file:", "data:"))] == []
