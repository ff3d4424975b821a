"""Tables of groups: the numbers of `scanpy.get.aggregate`, also where they do not fit in memory."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import headrace as hr
from headrace.chunk import Holds
from headrace.sources.arrays import ArraySource
from headrace.stats import runs
from headrace.stats.exact import variance
from headrace.stats.runs import Runs
from headrace.stats.statistics import StatisticsByGroup
from tests.against.published import held, study
from tests.laws.registry import assert_same, chunks, fold
from tests.laws.registry import source as joined
from tests.steps.test_pseudobulk import cells

METRICS = ["sum", "mean", "var", "count_nonzero"]


def dense(X: Any) -> np.ndarray:
    return X.toarray() if sparse.issparse(X) else np.asarray(X)


def assert_as_scanpy(got: ad.AnnData, wanted: ad.AnnData) -> None:
    assert got.obs_names.tolist() == wanted.obs_names.tolist()
    for name in wanted.obs:
        ours = "n_obs" if name == "n_obs_aggregated" else name  # that is of scanpy 1.12
        assert got.obs[ours].tolist() == wanted.obs[name].tolist()
    for name in METRICS:
        np.testing.assert_allclose(dense(got.layers[name]), dense(wanted.layers[name]), rtol=1e-6, atol=1e-12)


def scanpy_table(X: Any, obs: pd.DataFrame, var: pd.DataFrame, by: list[str]) -> ad.AnnData:
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():  # the variance of one cell
        warnings.simplefilter("ignore", RuntimeWarning)
        return sc.get.aggregate(ad.AnnData(sparse.csr_matrix(X, dtype=float), obs, var), by=by, func=METRICS)


def test_scanpy_aggregates_the_same() -> None:
    X, obs, var = cells()
    obs.loc[obs.index[:1], "donor"] = "z"  # a group of one cell, whose variance is not known
    got = hr.Plan(ArraySource(X, obs, var, n_obs=70), [hr.GroupStatistics(["donor", "kind"])]).to_anndata()
    wanted = scanpy_table(X, obs, var, ["donor", "kind"])
    assert_as_scanpy(got, wanted)
    assert np.isnan(dense(got.layers["var"])[0]).all()
    sizes = obs.groupby(["donor", "kind"], observed=True).size()
    assert got.obs["n_obs"].tolist() == sizes.tolist()
    np.testing.assert_allclose(
        dense(got.layers["fraction"]), dense(wanted.layers["count_nonzero"]) / sizes.to_numpy()[:, None], rtol=1e-6
    )
    np.testing.assert_array_equal(dense(got.X), dense(got.layers["sum"]))
    pd.testing.assert_frame_equal(got.var, var)


@pytest.mark.parametrize("name", ["mouse/heart_1k_v2", "human/pollen_smarter"])
def test_logged_values_of_a_study(name: str, shared: Path) -> None:
    X, obs, var = study(shared, name)
    steps = [hr.NormalizeTotal(1e4), hr.Log1p(), hr.GroupStatistics("batch")]
    got = hr.Plan(held(X, obs, var), steps).to_anndata()
    logged = ad.AnnData(X.copy(), obs)
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    assert_as_scanpy(got, scanpy_table(logged.X, obs, var, ["batch"]))
    assert got.uns["log1p"] == {"base": np.e}


def test_columns_of_every_kind_make_groups() -> None:
    X, obs, var = cells()
    obs["flag"], obs["number"], obs["half"] = obs["donor"] == "a", np.arange(len(obs)) % 3, np.arange(len(obs)) % 2 / 2
    obs["text"] = obs["kind"].astype(str)
    obs.loc[obs.index[:5], "text"] = None
    by = ["flag", "number", "half", "text"]
    got = hr.Plan(ArraySource(X, obs, var), [hr.GroupStatistics(by, ["mean"])]).to_anndata()
    wanted = obs.groupby(by).size()
    assert [*got.obs.itertuples(index=False, name=None)] == wanted.index.tolist()
    assert got.uns["group_statistics"]["n_cells_without_group"] == 5
    assert {name: got.obs[name].dtype for name in by[:3]} == {name: obs[name].dtype for name in by[:3]}


def test_names_that_would_meet_are_told_apart() -> None:
    obs = pd.DataFrame({"a": ["x", "x_y"], "b": ["y_z", "z"]}, index=["1", "2"]).astype("category")
    source = ArraySource(np.eye(2), obs, pd.DataFrame(index=["g", "h"]))
    table = hr.Plan(source, [hr.GroupStatistics(["a", "b"], ["sum"])]).to_anndata()
    assert table.obs_names.tolist() == ["x|y_z", "x_y|z"]


def test_a_gene_that_was_not_measured_is_not_zero() -> None:
    source = joined()
    got = hr.Plan(source, [hr.GroupStatistics(["batch"])]).to_anndata()
    alone = hr.Plan(source, [hr.GroupStatistics(["dataset_id"])]).to_anndata()
    X, measured = source.X.toarray(), np.stack([source.spec.measured.row(k) for k in range(2)])
    dataset = source.obs["dataset_id"].cat.codes.to_numpy()
    for row, batch in enumerate("pqr"):
        own = (source.obs["batch"] == batch).to_numpy()
        for gene in range(X.shape[1]):
            seen = X[own & measured[dataset, gene], gene]
            assert dense(got.layers["n_obs"])[row, gene] == len(seen)
            assert dense(got.layers["sum"])[row, gene] == seen.sum()
            for name, value in {"mean": seen.mean(), "var": seen.var(ddof=1), "fraction": (seen > 0).mean()}.items():
                assert dense(got.layers[name])[row, gene] == pytest.approx(value, rel=1e-6)
    for name in (*METRICS, "fraction"):
        np.testing.assert_array_equal(np.isnan(dense(alone.layers[name])), ~measured)
    assert (dense(alone.layers["n_obs"])[1, ::3] == 0).all()


# ------------------------------------------------------------------------------------------- more than fits in memory
@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for a few entries only."""
    monkeypatch.setattr(runs, "MOST", 300)
    monkeypatch.setattr(runs, "BLOCK", 16)
    monkeypatch.setattr(runs, "MOST_RUNS", 5)


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("n_obs", [1, 40])
def test_what_does_not_fit_in_memory_is_the_same_to_the_bit(
    n_obs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, obs, var = cells()
    obs["own"] = pd.Categorical(np.arange(len(obs)) % 97)
    source, steps = ArraySource(X, obs, var, n_obs=n_obs), [hr.GroupStatistics(["own", "donor"])]
    put_away: list[int] = []
    plain = Runs._put_away
    monkeypatch.setattr(Runs, "_put_away", lambda self: (put_away.append(len(self.here[0])), plain(self))[1])
    small = hr.Plan(source, steps).to_anndata()
    assert len(put_away) > 5
    monkeypatch.setattr(runs, "MOST", 10**6)
    large = hr.Plan(replace(source, n_obs=None), steps).to_anndata()
    for name in large.layers:
        assert_same(sparse.csr_array(small.layers[name]), sparse.csr_array(large.layers[name]))
    pd.testing.assert_frame_equal(small.obs, large.obs)


@pytest.mark.usefixtures("little")
def test_parts_of_which_each_has_a_file_are_merged() -> None:
    X, obs, var = cells()
    source = ArraySource(X, obs.assign(own=pd.Categorical(np.arange(len(obs)) % 97)), var)
    from headrace.stats.groups import Groups

    empty = StatisticsByGroup(Groups.of(source.spec, "own", "test"), len(var))
    folds = [fold(empty, [part]) for part in chunks(source, 90)]
    for _ in range(2):  # what was merged once may go on
        for other in folds[1:]:
            folds[0].merge(other)
    got, wanted = folds[0].result(), fold(empty, [*chunks(source, 90), *chunks(source, 300)][1:])
    wanted.update(chunks(source, 90)[0])
    twice = fold(empty, [*chunks(source, 90), *chunks(source, 90)[1:]]).result()
    assert_same([(g.genes, g.words) for g in got.of()], [(g.genes, g.words) for g in twice.of()])


@pytest.mark.usefixtures("little")
def test_a_damaged_temporary_file_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    X, obs, var = cells()
    source = ArraySource(X, obs.assign(own=pd.Categorical(np.arange(len(obs)) % 97)), var, n_obs=90)
    monkeypatch.setattr(runs.zlib, "crc32", lambda *_: next(numbers))
    numbers = iter(range(10**6))
    with pytest.raises(hr.SourceError, match="temporary file in .* is damaged"):
        hr.Plan(source, [hr.GroupStatistics("own")]).to_anndata()


def test_variances_lose_no_digits() -> None:
    """Nearly equal values, against exact rational numbers."""
    from fractions import Fraction

    from headrace.stats import kernels

    values = (np.float32(6.5) + np.arange(50, dtype=np.float32) * np.float32(2**-20)).astype(np.float32)
    X = sparse.csr_array(values[:, None])
    keys, words = np.empty(50, np.uint64), np.empty((50, 5), np.uint64)
    n = kernels.sum_entries(
        X.indptr, X.indices, X.data, np.arange(50), np.array([0, 50]), np.array([0]), 1, keys, words
    )
    exact = [Fraction(float(x)) for x in values]
    mean = sum(exact) / 50
    expected = float(sum((x - mean) ** 2 for x in exact) / 49)
    assert n == 1
    assert variance(words[:1], 50)[0] == pytest.approx(expected, rel=1e-12)


# -------------------------------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda: hr.GroupStatistics([]), "one or more columns of obs"),
        (lambda: hr.GroupStatistics(["kind", "kind"]), "each once"),
        (lambda: hr.GroupStatistics("kind", ["n_obs"]), "one or more beside 'n_obs'"),
        (lambda: hr.GroupStatistics("kind", ["meen"]), "no 'meen'; did you mean 'mean'"),
        (lambda: hr.GroupStatistics("kinds"), "no column 'kinds'; did you mean 'kind'"),
        (lambda: hr.GroupStatistics("noise"), "900 different values in 900 cells: these are no groups"),
        (lambda: hr.GroupStatistics("kind", layer="count"), "no layer 'count' was saved before"),
    ],
)
def test_what_cannot_be_is_refused_before_reading(step: Any, message: str) -> None:
    X, obs, var = cells()
    with pytest.raises(hr.InputError, match=message):
        hr.Plan(ArraySource(X, obs, var), [step()])


def test_groups_without_cells_are_an_error() -> None:
    obs = pd.DataFrame({"kind": pd.Categorical([None, None], ["x"])}, index=["a", "b"])
    source = ArraySource(np.eye(2), obs, pd.DataFrame(index=["g", "h"]))
    with pytest.raises(hr.InputError, match="none of 2 cells has a value in kind"):
        hr.Plan(source, [hr.GroupStatistics("kind")]).to_anndata()


def test_sums_that_float32_does_not_hold_are_told() -> None:
    obs = pd.DataFrame({"kind": pd.Categorical(["x", "x"])}, index=["a", "b"])
    source = ArraySource(np.full((2, 1), 2**24 - 1), obs, pd.DataFrame(index=["g"]), Holds.COUNTS)
    with pytest.warns(hr.RoundedCountsWarning, match="33554430 in group 'x', gene 'g'|above 2\\*\\*24"):
        hr.Plan(
            ArraySource(source.X + sparse.csr_array([[0], [1]]), obs, source.var, Holds.COUNTS),
            [hr.GroupStatistics("kind")],
        ).to_anndata()


def test_a_file_of_groups_is_sparse_and_reads_back(tmp_path: Path) -> None:
    X, obs, var = cells()
    plan = hr.Plan(ArraySource(X, obs, var), [hr.GroupStatistics(["donor", "kind"])])
    plan.write_h5ad(tmp_path / "sparse.h5ad")
    plan.write_h5ad(tmp_path / "dense.h5ad", dense=True)
    held_in_memory = plan.to_anndata()
    for name in ("sparse", "dense"):
        read = ad.read_h5ad(tmp_path / f"{name}.h5ad")
        assert sparse.issparse(read.layers["mean"]) == (name == "sparse")
        np.testing.assert_array_equal(dense(read.layers["mean"]), dense(held_in_memory.layers["mean"]))
        assert hr.verify_h5ad(tmp_path / f"{name}.h5ad").problems == ()
    text = str(plan.explain())
    assert "GroupStatistics" in text
