"""The pages as `make docs` builds them: links and their anchors lead somewhere, search works, nothing is fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import asked_for, show, started

WIDTHS = (360, 1440)


@pytest.fixture(scope="module")
def built() -> Path:
    """The folder of the pages. `make docs` builds them, and runs these tests."""
    folder = os.environ.get("HEADRACE_DOCS")
    if folder is None:
        pytest.skip("make docs builds the pages and runs this")
    return Path(folder).resolve()


class Page(HTMLParser):
    """What a page links to, what it shows, and what in it can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        for name, value in attrs:
            if value and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)
            elif value and name in ("href", "src"):
                self.links.append(value)


@pytest.fixture(scope="module")
def pages(built: Path) -> dict[Path, Page]:
    """All pages, read once."""
    return {
        path: Page(path.read_text("utf-8")) for path in sorted(built.rglob("*.html")) if "_static" not in path.parts
    }


def test_links_and_their_anchors_are_there(built: Path, pages: dict[Path, Page]) -> None:
    assert len(pages) > 100
    broken, seen = [], 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or (path.name in ("search.html", "genindex.html") and link == "#"):
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            anchor, seen = unquote(parts.fragment), seen + 1
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].anchors):
                broken.append((str(path.relative_to(built)), link))
    assert broken == []
    assert seen > 1000


def test_no_page_needs_what_is_elsewhere(pages: dict[Path, Page]) -> None:
    """Links of the text may lead away; scripts, styles and pictures may not."""
    for path, page in pages.items():
        text = path.read_text("utf-8")
        for tag in ('<script src="http', '<script async="async" src="http', '<img src="http', '@import url("http'):
            assert tag not in text, (path.name, tag)
        del page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium."""
    yield from started(tmp_path_factory.mktemp("chromium"))


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("TMM", "generated/headrace.NormFactors.html"),
        ("presence", "presence.html"),
        ("seurat_v3", "generated/headrace.HighlyVariableGenes.html"),
        ("gene length", "gene_length.html"),
    ],
)
def test_search_finds_pages_without_a_network(browser: Any, built: Path, words: str, page: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    asked_for(browser)
    show(browser, f"{(built / 'search.html').as_uri()}?q={words.replace(' ', '+')}", 1440)
    script = (
        "return document.querySelector('#search-results p')?.textContent.includes('finished') ?"
        " [...document.querySelectorAll('#search-results li > a')].map(a => a.getAttribute('href').split('#')[0].split('?')[0])"
        " : null"
    )
    found = WebDriverWait(browser, 120, 0.2).until(lambda driver: driver.execute_script(script))
    assert page in found
    assert [url for url in asked_for(browser) if not url.startswith("file:")] == []


HIDDEN = (
    "return [...document.querySelectorAll('article img')].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
)


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_a_phone_and_a_desk(browser: Any, built: Path, pages: dict[Path, Page], width: int) -> None:
    """Those that were written by hand, and some of the reference: no page scrolls sideways, no picture is missing."""
    asked_for(browser)
    plan = built / "generated/headrace.Plan.html"
    seen = [path for path in pages if path.parent in (built, built / "have", built / "notebooks")] + [plan]
    wide, missing = [], []
    for path in seen:
        show(browser, path.as_uri(), width)
        found = browser.execute_script("return document.documentElement.scrollWidth")
        if found > width:
            wide.append((path.name, found))
        missing += browser.execute_script(HIDDEN)
    assert len(seen) > 25
    assert (wide, missing) == ([], [])
    assert [url for url in asked_for(browser) if not url.startswith("file:")] == []
