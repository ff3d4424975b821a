"""The page in a real browser: nothing is fetched, nothing overflows, nothing is hidden from those who cannot see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.sources.arrays import ArraySource
from tests.browser import asked_for, show, started

WIDTHS = (360, 1440)

OVERFLOW = """
const wide = document.documentElement.clientWidth, out = [];
if (document.documentElement.scrollWidth > wide) out.push('page ' + document.documentElement.scrollWidth);
for (const one of document.querySelectorAll('body *')) {
  if (one.closest('.scroll, pre, svg, .skip')) continue;
  const box = one.getBoundingClientRect();
  if (box.right > wide + 1 || box.left < -1) out.push(one.tagName + ': ' + one.textContent.slice(0, 40));
  if (one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== 'inline' && one.clientWidth)
    out.push('within ' + one.tagName + '.' + one.className);
}
for (const one of document.querySelectorAll('svg text')) {
  const box = one.getBoundingClientRect(), frame = one.closest('svg').getBoundingClientRect();
  if (box.left < frame.left - 1.5 || box.right > frame.right + 1.5) out.push('text of picture: ' + one.textContent);
}
return out;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium."""
    yield from started(tmp_path_factory.mktemp("chromium"))


@pytest.fixture(scope="module")
def pages(demo_census: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of a full-length study, of several datasets with much to warn of, and of a file of somebody else."""
    out = tmp_path_factory.mktemp("pages")
    census = hr.open_census(demo_census)
    liver = census.query("mus_musculus", dataset_id="4546e757-34d0-4d17-be06-538318925fcd")
    steps = [hr.QCMetrics({"mt": "mt-"}), *hr.recipes.full_length(n_top_genes=500)]
    hr.Plan(liver, steps).write_h5ad(out / "liver.h5ad", report=out / "liver.html")
    human = census.query("homo_sapiens", primary_only=False)
    steps = [
        hr.QCMetrics({"mt": "MT-"}),
        hr.FilterOutliers("log1p_total_counts", nmads=3, batch_key="dataset_id"),
        hr.SaveLayer("counts"),
        hr.SizeFactors(),
        hr.Log1p(),
        hr.HighlyVariableGenes(500, flavor="seurat_v3", layer="counts"),
    ]
    hr.Plan(human, steps).write_h5ad(out / "human.h5ad", report=out / "human.html")
    import anndata
    import scanpy as sc

    adata = anndata.read_h5ad(out / "human.h5ad")
    sc.pp.pca(adata, n_comps=10)
    del adata.uns["headrace"]
    adata.write_h5ad(out / "foreign.h5ad")
    hr.Plan(hr.open_h5ad(out / "foreign.h5ad", holds="logged", uns="keep"), []).report(out / "foreign.html")
    _hostile(out)
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 200, (500, 1)) * np.ones(8))
    table = pd.DataFrame(counts, [f"ENSG{i:011d}" for i in range(500)], [f"sample {i} مرحبا <i>" for i in range(8)])
    steps = [hr.FilterByExpr(), hr.NormFactors(), hr.LogCPM()]
    bulk = hr.Plan(hr.open_counts(table, orientation="genes x samples"), steps)
    bulk.write_h5ad(out / "bulk.h5ad", report=out / "bulk.html")
    return {path.stem: path for path in out.glob("*.html")}


def _hostile(out: Path) -> None:
    """Write a report of two hundred datasets, some with names that nobody expects."""
    rng = np.random.default_rng(0)
    names = ["<script>alert(1)</script>", "مرحبا بالعالم، هذه دراسة طويلة الاسم", "x" * 300, "a long name " * 20]
    names += [f"5d{i:06d}-34d0-4d17-be06-538318925fcd" for i in range(196)]
    at = np.arange(2000)
    pct = "pct_counts_<script>alert(2)</script>"
    obs = pd.DataFrame(
        {
            "dataset_id": pd.Categorical(np.array(names)[np.where(at < 1600, at % 200, at % 4)]),
            "assay": pd.Categorical(np.where(at % 3, "<b onmouseover=alert(1)>Smart-seq2</b>", "أسلوب")),
            pct: rng.random(2000) * 100,
        },
        index=[f"c{i}" for i in at],
    )
    X = rng.poisson(rng.gamma(0.6, 2, (1, 100)) * np.ones((2000, 1)))
    genes = pd.DataFrame({"feature_length": rng.integers(300, 9000, 100)}, index=[f"G{i}" for i in range(100)])
    steps = [
        hr.FilterCells(min_genes=10, max={pct: 80}),
        hr.NormalizeTotal(1e4),
        hr.Log1p(),
        hr.HighlyVariableGenes(20),
    ]
    hr.Plan(ArraySource(X, obs, genes), steps).write_h5ad(out / "hostile.h5ad", report=out / "hostile.html")


def open_page(driver: Any, page: Path, width: int, dark: bool) -> None:
    show(driver, page.as_uri(), width, dark)


NAMES = ("liver", "human", "foreign", "bulk", "hostile")


@pytest.mark.parametrize("name", NAMES)
def test_one_file_below_a_megabyte_without_scripts(pages: dict[str, Path], name: str) -> None:
    text = pages[name].read_text()
    assert len(text) < 1_000_000
    assert "<script" not in text
    assert "onmouseover=alert(1)>" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_fetched_and_the_console_is_silent(browser: Any, pages: dict[str, Path], name: str) -> None:
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get_log("browser")
    open_page(browser, pages[name], 1440, dark=False)
    assert asked_for(browser) == [pages[name].as_uri()]
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_pictures_have_size_and_no_text_overflows(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    open_page(browser, pages[name], width, dark=False)
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('svg')].map(s => [s.getBoundingClientRect().width, s.getBoundingClientRect().height])"
    )
    assert len(sizes) >= (2 if name == "bulk" else 6)
    assert all(w >= 250 and h >= 100 for w, h in sizes)
    assert browser.execute_script(OVERFLOW) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_no_fault(browser: Any, pages: dict[str, Path], name: str, dark: bool) -> None:
    from axe_core_python.selenium import Axe

    open_page(browser, pages[name], 1440, dark)
    found = Axe().run(browser)["violations"]
    assert [(fault["id"], fault["impact"], fault["nodes"][0]["html"][:200]) for fault in found] == []


def test_a_dark_page_is_dark(browser: Any, pages: dict[str, Path]) -> None:
    colours = []
    for dark in (False, True):
        open_page(browser, pages["liver"], 1440, dark)
        colours.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    light, dark_colour = ([int(x) for x in colour[4:-1].split(",")] for colour in colours)
    assert min(light) > 200
    assert max(dark_colour) < 60


def test_warnings_come_first_and_say_what_to_do(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["human"], 1440, dark=False)
    first = browser.execute_script("return document.querySelector('main section').innerText")
    assert first.startswith("Warnings")
    assert "Gene length was not corrected: Smart-seq2" in first
    assert "are also in another dataset" in first
    assert first.count("What to do:") >= 2
