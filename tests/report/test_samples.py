"""What a report keeps of samples: as pandas and numpy compute it from the whole table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.cli import main
from headrace.stats.distributions import LOG_EDGES


def table(n: int = 6, genes: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    mean = rng.gamma(0.4, 300, (genes, 1)) * np.linspace(0.5, 2, n)
    counts = rng.poisson(mean * rng.gamma(10, 0.1, (genes, n)))
    return pd.DataFrame(counts, [f"ENSG{i:011d}" for i in range(genes)], [f"s{i}" for i in reversed(range(n))])


def kept(path: Path) -> dict[str, Any]:
    return json.loads(anndata.read_h5ad(path).uns["headrace"]["report"])


def run(counts: pd.DataFrame, steps: list[Any], folder: Path, **how: Any) -> dict[str, Any]:
    source = hr.open_counts(counts, orientation="genes x samples")
    hr.Plan(source, steps).write_h5ad(folder / "x.h5ad", report=folder / "x.html", overwrite=True, **how)
    return kept(folder / "x.h5ad")


STEPS = [hr.FilterByExpr(), hr.NormFactors(), hr.SaveLayer("counts"), hr.LogCPM()]


def test_each_library_in_the_order_of_the_table(tmp_path: Path) -> None:
    counts = table()
    about = run(counts, STEPS, tmp_path)["samples"]
    written = anndata.read_h5ad(tmp_path / "x.h5ad")
    left = counts.loc[written.var_names]
    assert about["names"] == counts.columns.tolist()
    assert about["columns"]["libsize"] == left.sum().tolist()
    assert about["columns"]["n_genes"] == (left > 0).sum().tolist()
    np.testing.assert_allclose(about["columns"]["norm_factors"], written.obs["norm_factors"], rtol=1e-9)
    text = (tmp_path / "x.html").read_text()
    assert f"{left['s0'].sum():,}" in text
    assert f"{written.obs.loc['s0', 'norm_factors']:.3f}" in text


def test_mean_and_variance_of_genes_are_numpys(tmp_path: Path) -> None:
    counts = table()
    found = run(counts, [hr.NormFactors(), hr.LogCPM()], tmp_path)["variances"]
    mean, var = counts.mean(axis=1).to_numpy(), counts.var(axis=1).to_numpy()
    there = (mean > 0) & (var > 0)
    expected, *_ = np.histogram2d(mean[there], var[there], [LOG_EDGES, LOG_EDGES])
    assert found == [[i, j, int(expected[i, j])] for i, j in np.argwhere(expected)]


def test_of_many_samples_only_distributions(tmp_path: Path) -> None:
    counts = table(150, 80)
    about = run(counts, STEPS, tmp_path)["samples"]
    assert "names" not in about
    assert about["n"] == sum(n for _, n in about["libsize"]["bins"]) == 150
    factors = anndata.read_h5ad(tmp_path / "x.h5ad").obs["norm_factors"]
    at, n = np.unique(np.floor(factors / 0.02).astype(int), return_counts=True)
    assert about["norm_factors"]["bins"] == np.stack([at, n], axis=1).tolist()
    assert "median about" in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_for_any_threads(threads: int, tmp_path: Path) -> None:
    assert run(table(), STEPS, tmp_path, executor=hr.Threads(threads, 4)) == run(table(), STEPS, tmp_path)


def test_libraries_and_factors_far_apart_are_warned_of(tmp_path: Path) -> None:
    counts = table()
    counts["s0"] //= 30
    counts.loc[counts.mean(axis=1).idxmax(), "s1"] = 200_000
    run(counts, STEPS, tmp_path)
    text = (tmp_path / "x.html").read_text()
    assert re.search("Libraries go from [^<]*s0<", text)
    assert re.search("Normalisation factors go from [^<]*: s1<", text)
    run(table(), STEPS, tmp_path)
    assert "Libraries go from" not in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize("out", ["x.h5ad", "x.csv"])
def test_the_command_writes_a_report(out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table().to_csv(tmp_path / "counts.csv")
    command = ["bulk", str(tmp_path / "counts.csv"), "--out", str(tmp_path / out), "--report", str(tmp_path / "x.html")]
    assert main(command) == 0
    assert "wrote " in capsys.readouterr().err
    text = (tmp_path / "x.html").read_text()
    assert '<section id="samples"' in text
    assert f"written: {out}" in text
    assert main(command) == 1  # both are there already
    assert main([*command, "--overwrite"]) == 0


def test_a_report_that_cannot_be_written_is_refused_before_anything_is(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "counts.csv")
    (tmp_path / "x.html").write_text("mine")
    for out in ("x.h5ad", "x.csv"):
        command = ["bulk", str(tmp_path / "counts.csv"), "--out", str(tmp_path / out)]
        assert main([*command, "--report", str(tmp_path / "x.html")]) == 1
        assert main([*command, "--report", str(tmp_path / "x.pdf")]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counts.csv", "x.html"]


def test_pseudobulk_has_its_cells_and_its_samples(demo_census: Path, tmp_path: Path) -> None:
    liver = hr.open_census(demo_census).query("mus_musculus", dataset_id="4546e757-34d0-4d17-be06-538318925fcd")
    steps = [hr.Pseudobulk(["donor_id", "cell_type"]), hr.NormFactors(), hr.LogCPM()]
    hr.Plan(liver, steps).write_h5ad(tmp_path / "x.h5ad", report=tmp_path / "x.html")
    data = kept(tmp_path / "x.h5ad")
    written = anndata.read_h5ad(tmp_path / "x.h5ad")
    turned = next(row for row in data["funnel"] if row["samples"])
    assert turned["after"].startswith("Pseudobulk(")
    assert turned["cells"] == data["samples"]["n"] == written.n_obs
    by_name = dict(zip(data["samples"]["names"], data["samples"]["columns"]["libsize"], strict=True))
    assert by_name == written.obs["libsize"].to_dict()
