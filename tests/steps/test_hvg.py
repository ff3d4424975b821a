"""Highly variable genes where it is awkward: odd cases of scanpy's own tests, loess, many batches, unmeasured genes."""

from __future__ import annotations

import tracemalloc
import warnings
from dataclasses import replace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import headrace as hr
from headrace.chunk import Holds, StreamSpec
from headrace.engine.schedule import passes
from headrace.presence import Presence
from headrace.sources.arrays import ArraySource
from headrace.stats import shelf
from headrace.stats.bygroup import SumsByGroup
from headrace.stats.histograms import HistogramsByGroup
from headrace.stats.loess import CannotFitError, trend

LOG = [hr.NormalizeTotal(1e4), hr.Log1p()]


def cells(n: int, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns, index=[f"c{i}" for i in range(n)])


def genes(n: int) -> pd.DataFrame:
    return pd.DataFrame(index=[f"g{i}" for i in range(n)])


def counts(n_cells: int = 200, n_vars: int = 300, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(0.5, 3.0, n_vars) * rng.gamma(3.0, 0.3, (n_cells, 1)), (n_cells, n_vars))


def ours(X: Any, steps: list[Any], obs: pd.DataFrame | None = None, holds: Holds = Holds.UNKNOWN) -> pd.DataFrame:
    obs = cells(X.shape[0]) if obs is None else obs
    return hr.Plan(ArraySource(X, obs, genes(X.shape[1]), holds=holds, n_obs=17), steps).var()


def theirs(
    X: Any, log: bool, obs: pd.DataFrame | None = None, base: float | None = None, **options: Any
) -> pd.DataFrame:
    adata = ad.AnnData(
        sparse.csr_matrix(X, dtype=np.float64), obs=None if obs is None else obs.copy(), var=genes(X.shape[1])
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some cells have zero counts")
        warnings.filterwarnings("ignore", r"`n_top_genes`( \(=\d+\))? > number of normalized dispersions")
        if options.get("flavor") == "cell_ranger":
            # a handful of genes in a bin can have nearly one dispersion, and their spread then shows the last bit
            # of the float32 that headrace streams: scanpy gets the same values
            adata = hr.Plan(ArraySource(X, adata.obs, adata.var), LOG).to_anndata()
            adata.X = adata.X.astype(np.float64)
        elif log:
            sc.pp.normalize_total(adata, target_sum=1e4)
            sc.pp.log1p(adata, base=base)
        if options.get("flavor") == "pearson_residuals":
            sc.experimental.pp.highly_variable_genes(adata, **options)
        else:
            sc.pp.highly_variable_genes(adata, **options)
    return adata.var


def assert_same(got: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(got) == list(expected)
    for name in expected:
        if expected[name].dtype.kind == "f":
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-6, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(got[name], expected[name], err_msg=name)


# ------------------------------------------------------------------------------------ odd cases of scanpy's tests
@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger"])
@pytest.mark.parametrize("batched", [False, True])
def test_one_batch_is_no_batch(flavor: Any, batched: bool) -> None:
    X = counts()
    X[:, X.sum(axis=0) == 0] = 1
    obs = cells(200, batch=pd.Categorical(["all"] * 200, categories=["all", "unused"]))
    options = {"n_top_genes": 50, "flavor": flavor}
    got = ours(X, [*LOG, hr.HighlyVariableGenes(**options, batch_key="batch" if batched else None)], obs)
    expected = theirs(X, True, **options)
    assert_same(got[list(expected)], expected)
    if batched:
        assert (got["highly_variable_intersection"] == got["highly_variable"]).all()


def test_degenerate_batches() -> None:
    """A batch of one cell has no variance; it has its say with zeros and NaN, as in scanpy."""
    X = counts(10, 100)
    obs = cells(10, batch=pd.Categorical([*(["1"] * 4), *(["2"] * 5), "3"]))
    got = ours(X, [*LOG, hr.HighlyVariableGenes(batch_key="batch")], obs)
    assert_same(got, theirs(X, True, obs, batch_key="batch"))
    best = ours(X, [*LOG, hr.HighlyVariableGenes(20, batch_key="batch")], obs)  # scanpy: IndexError
    assert best["highly_variable"].sum() == 20
    assert_same(best[["means", "dispersions_norm"]], got[["means", "dispersions_norm"]])


def test_genes_that_a_batch_does_not_express() -> None:
    X = counts(150, 120)
    X[:, X.sum(axis=0) == 0] = 1
    X[:60, :40] = 0
    obs = cells(150, batch=pd.Categorical(np.repeat(["b", "a"], [60, 90])))
    for flavor in ("seurat", "cell_ranger"):
        got = ours(X, [*LOG, hr.HighlyVariableGenes(30, flavor, "batch")], obs)
        assert_same(got, theirs(X, True, obs, batch_key="batch", n_top_genes=30, flavor=flavor))


@pytest.mark.parametrize("base", [2, 10])
def test_base_of_the_logarithm(base: float) -> None:
    X = counts()
    got = ours(X, [hr.NormalizeTotal(1e4), hr.Log1p(base=base), hr.SaveLayer("log"), hr.HighlyVariableGenes(50)])
    assert_same(got, theirs(X, True, base=base, n_top_genes=50))
    again = ours(
        X, [hr.NormalizeTotal(1e4), hr.Log1p(base=base), hr.SaveLayer("log"), hr.HighlyVariableGenes(50, layer="log")]
    )
    assert_same(again, theirs(X, True, base=base, n_top_genes=50))


def test_all_zero_genes_do_not_take_places() -> None:
    X = counts(300, 400)
    X[:, ::2] = 0
    got = ours(X, [*LOG, hr.HighlyVariableGenes(150)])
    assert got["highly_variable"].sum() == 150
    assert_same(got, theirs(X, True, n_top_genes=150))


def test_more_genes_asked_for_than_there_are() -> None:
    X = counts(100, 30)
    for flavor in ("seurat", "cell_ranger"):
        got = ours(X, [*LOG, hr.HighlyVariableGenes(1000, flavor)])
        assert_same(got, theirs(X, True, n_top_genes=1000, flavor=flavor))
    v3 = ours(X, [hr.HighlyVariableGenes(1000, "seurat_v3")])
    assert v3["highly_variable"].all()


def test_bins_cutoffs_and_empty_cells() -> None:
    X = counts()
    X[3] = 0
    X[199] = 0
    for options in ({"n_bins": 3}, {"min_mean": 0.5, "max_mean": 4.0, "min_disp": 0.1, "max_disp": 2.0}):
        assert_same(ours(X, [*LOG, hr.HighlyVariableGenes(**options)]), theirs(X, True, **options))


def test_one_gene() -> None:
    X = counts(50, 5)[:, :1]
    got = ours(X + np.arange(50)[:, None], [hr.Log1p(), hr.HighlyVariableGenes(1)], holds=Holds.NORMALIZED)
    assert got["highly_variable"].tolist() == [True]


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat_v3_paper"])
def test_means_and_variances_are_over_all_batches(flavor: Any) -> None:
    """The normalised variance is the mean of what scanpy gives for each batch alone.

    Not of what it gives with `batch_key`: from 1.12 on it takes means there by `aggregate`, some of them one bit off, so
    that genes with equal totals no longer have equal means, and loess, whose vertices depend on ties, gives 0.4 % other
    values. Without `batch_key` its means are total / n in all versions, as ours and as the published rule's.
    """
    X = counts()
    obs = cells(200, batch=pd.Categorical(np.repeat(["a", "b"], [150, 50])))
    got = ours(X, [hr.HighlyVariableGenes(40, flavor, "batch")], obs)
    np.testing.assert_allclose(got["means"], X.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(got["variances"], X.var(axis=0, ddof=1), rtol=1e-12)
    parts = [theirs(part, False, flavor=flavor, n_top_genes=40)["variances_norm"] for part in (X[:150], X[150:])]
    np.testing.assert_allclose(got["variances_norm"], np.mean(parts, axis=0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("theta", [100.0, np.inf])
@pytest.mark.parametrize("clip", [None, np.inf, 3.0])
def test_residual_variance_is_the_variance_of_residuals(theta: float, clip: float | None) -> None:
    X = counts()
    X[:, 5] = 0
    hvg = hr.HighlyVariableGenes(50, "pearson_residuals", theta=theta, clip=clip)
    got = ours(X, [hvg])
    residuals = (
        hr.Plan(ArraySource(X, cells(200), genes(300)), [hr.NormalizePearsonResiduals(theta, clip)]).to_anndata().X
    )
    np.testing.assert_allclose(
        got["residual_variances"], residuals.var(axis=0, dtype=np.float64), rtol=2e-6, atol=1e-12
    )
    expected = theirs(X, False, flavor="pearson_residuals", n_top_genes=50, theta=theta, clip=clip)
    assert_same(got, expected)


def test_several_columns_are_not_mixed_up() -> None:
    """("a", "b_c") and ("a_b", "c") are two batches, whatever joins them."""
    X = counts()
    one, two = np.repeat(["a", "a_b"], 100), np.repeat(["b_c", "c"], 100)
    obs = cells(200, one=pd.Categorical(one), two=pd.Categorical(two), both=pd.Categorical(np.repeat(["1", "2"], 100)))
    got = ours(X, [*LOG, hr.HighlyVariableGenes(40, batch_key=["one", "two"])], obs)
    assert_same(got, theirs(X, True, obs, n_top_genes=40, batch_key="both"))
    assert got["highly_variable_nbatches"].max() == 2


# ---------------------------------------------------------------------------------------------------- what it needs
def test_counts_are_asked_for_clearly() -> None:
    source = ArraySource(counts(), cells(200), genes(300))
    with pytest.raises(hr.PlanError, match="SaveLayer\\('counts'\\) before they are changed keeps them"):
        hr.Plan(source, [*LOG, hr.HighlyVariableGenes(flavor="seurat_v3")])
    with pytest.raises(hr.PlanError, match="layer='raw' has them"):
        hr.Plan(source, [hr.SaveLayer("raw"), *LOG, hr.HighlyVariableGenes(flavor="seurat_v3_paper")])
    with pytest.raises(hr.PlanError, match="no layer 'count' was saved; did you mean 'counts'"):
        hr.Plan(source, [hr.SaveLayer("counts"), hr.HighlyVariableGenes(flavor="seurat_v3", layer="count")])
    with pytest.raises(hr.PlanError, match="takes counts, but layer 'log' is logged"):
        hr.Plan(source, [hr.Log1p(), hr.SaveLayer("log"), hr.HighlyVariableGenes(flavor="seurat_v3", layer="log")])
    with pytest.raises(hr.PlanError, match="put Log1p\\(\\) before it"):
        hr.Plan(source, [hr.HighlyVariableGenes()])
    with pytest.raises(hr.PlanError, match="obs has no column 'batch'"):
        hr.Plan(source, [*LOG, hr.HighlyVariableGenes(batch_key="batch")])


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat_v3_paper", "pearson_residuals"])
def test_what_is_no_count_is_found_on_the_way(flavor: Any) -> None:
    X = counts().astype(np.float64)
    X[100, 100] = 0.5
    source = ArraySource(X, cells(200), genes(300))
    with pytest.raises(hr.CountsError, match=r"0\.5 in cell 'c100', gene 'g100'.*HighlyVariableGenes"):
        hr.Plan(source, [hr.HighlyVariableGenes(50, flavor)]).var()
    with pytest.raises(hr.CountsError, match="HighlyVariableGenes"):  # nothing else in this plan needs counts
        hr.Plan(source, [hr.SaveLayer("raw"), hr.Log1p(), hr.HighlyVariableGenes(50, flavor, layer="raw")]).var()


def test_arguments() -> None:
    for wrong, text in [
        ({"flavor": "v3"}, "one of 'seurat'"),
        ({"n_top_genes": 0}, "at least 1"),
        ({"n_top_genes": 10, "min_disp": 0.1}, "not both"),
        ({"flavor": "pearson_residuals"}, "needs n_top_genes"),
        ({"flavor": "seurat_v3", "n_bins": 5}, "does not use n_bins"),
        ({"span": 0.5}, "does not use span"),
        ({"theta": 5.0}, "does not use theta"),
        ({"flavor": "seurat_v3", "span": 0.0}, "above 0, at most 1"),
        ({"flavor": "pearson_residuals", "n_top_genes": 5, "theta": -1.0}, "above 0"),
        ({"flavor": "pearson_residuals", "n_top_genes": 5, "clip": -1.0}, "not negative"),
    ]:
        with pytest.raises(hr.InputError, match=text):
            hr.HighlyVariableGenes(**wrong)


# -------------------------------------------------------------------------------------------------------- loess
def test_a_trend_is_what_scikit_misc_gives() -> None:
    from skmisc.loess import loess

    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    y = x**2 + rng.normal(size=400)
    model = loess(x, y, span=0.3, degree=2)
    model.fit()
    got = trend(x, y, 0.3)
    assert got.fitted.tobytes() == np.asarray(model.outputs.fitted_values).tobytes()
    assert got.jitter == 0


def test_a_singular_trend_is_jittered_as_little_as_possible() -> None:
    rng = np.random.default_rng(0)
    x = np.log10(np.repeat([1, 2, 3, 4, 5, 6], 200) / 50)
    y = x + rng.normal(size=len(x)) * 0.1
    got = trend(x, y, 0.3)
    assert 0 < got.jitter <= 1e-3
    for value in np.unique(x):
        assert got.fitted[x == value].mean() == pytest.approx(y[x == value].mean(), abs=0.1)
    again = trend(x, y, 0.3)
    assert again.fitted.tobytes() == got.fitted.tobytes()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 10])
def test_too_few_points_for_a_trend(n: int) -> None:
    """scikit-misc crashes the process for up to three points, and fails in C for the others."""
    x = np.arange(float(n))
    with pytest.raises(CannotFitError):
        trend(x, x, 0.1)


def test_jitter_is_reported() -> None:
    X = np.zeros((60, 400))
    rng = np.random.default_rng(0)
    for gene in range(400):
        X[rng.choice(60, 1 + gene % 4, replace=False), gene] = 1
    with pytest.warns(hr.LoessJitterWarning, match="all cells \\(by up to"):
        got = ours(X, [hr.HighlyVariableGenes(50, "seurat_v3")])
    assert got["highly_variable"].sum() == 50
    assert np.isfinite(got["variances_norm"]).all()


@pytest.mark.parametrize(
    ("X", "why"),
    [
        (np.ones((20, 40)), "no gene varies"),
        (counts()[:1], "no gene varies"),
        (np.eye(20, 3), "3 genes vary, too few"),
        (np.repeat(np.eye(20), 3, axis=1), "have the same mean"),
    ],
)
def test_what_cannot_be_fitted_is_named(X: np.ndarray, why: str) -> None:
    with pytest.raises(hr.InputError, match=f"cannot fit all cells.*{why}"):
        ours(X, [hr.HighlyVariableGenes(5, "seurat_v3")])


def test_a_batch_that_cannot_be_fitted_is_named() -> None:
    X = counts()
    obs = cells(200, donor=pd.Categorical([*(["big"] * 199), "alone"]), sex=pd.Categorical(["f"] * 200))
    with pytest.raises(hr.InputError, match=r"donor='alone', sex='f' \(1 cells: no gene varies\).*unfitted='skip'"):
        ours(X, [hr.HighlyVariableGenes(30, "seurat_v3", ("donor", "sex"))], obs)
    with pytest.warns(hr.UnfittedBatchWarning, match="donor='alone'"):
        got = ours(X, [hr.HighlyVariableGenes(30, "seurat_v3", "donor", unfitted="skip")], obs)
    alone = ours(X[:199], [hr.HighlyVariableGenes(30, "seurat_v3")])
    assert (got["highly_variable"] == alone["highly_variable"]).all()
    np.testing.assert_array_equal(got["variances_norm"], alone["variances_norm"])


# ------------------------------------------------------------------------------------------------- many batches
def test_batches_that_do_not_come_take_no_memory() -> None:
    """`obs` of a Census knows thousands of datasets and donors; a query has a few."""
    n = 3000
    names = [f"{i:05d}" for i in range(n)]
    obs = cells(200, one=pd.Categorical(np.repeat(names[5:7], 100), categories=names))
    obs["two"] = obs["one"]
    got = ours(counts(), [*LOG, hr.HighlyVariableGenes(40, batch_key=["one", "two"])], obs)
    assert got["highly_variable_nbatches"].max() == 2


def test_memory_of_many_batches() -> None:
    """200 batches, 60,000 genes."""
    spec = StreamSpec(
        genes(60_000), pd.DataFrame({"b": pd.Categorical([], categories=[str(i) for i in range(200)])}), 10**6
    )
    counting = hr.HighlyVariableGenes(flavor="seurat_v3", batch_key="b").memory(spec)
    logged = hr.HighlyVariableGenes(batch_key="b").memory(spec)
    assert counting <= 340e6
    assert logged <= 400e6
    rng = np.random.default_rng(0)
    X = sparse.csr_array(sparse.random(400, 60_000, 0.02, "csr", None, rng))
    X.data = rng.poisson(2, X.nnz) + 1.0
    obs = cells(400, b=pd.Categorical([str(i % 200) for i in range(400)], categories=[str(i) for i in range(200)]))
    source = ArraySource(X, obs, genes(60_000), n_obs=100)
    groups = hr.HighlyVariableGenes(batch_key="b").groups(source.spec)
    sums = (HistogramsByGroup(groups, 60_000), counting), (SumsByGroup(groups, 60_000, whole=False), logged)
    for empty, predicted in sums:
        tracemalloc.start()
        for chunk in source.read(source.refs(10**9)):
            empty.update(chunk)
        result = empty.result()
        assert result.all().total.sum() == X.sum()
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held <= peak <= predicted
        assert len(result) == 200


@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "seurat_v3", "pearson_residuals"])
@pytest.mark.parametrize("mixed", [False, True])
def test_batches_that_do_not_fit_are_put_away(flavor: Any, mixed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven batches, of which memory holds one, cell after cell or one batch after another."""
    X = counts(400)
    number = np.arange(400) % 7 if mixed else np.arange(400) * 7 // 400
    obs = cells(400, batch=pd.Categorical(number.astype(str)))
    before = LOG if flavor in ("seurat", "cell_ranger") else []
    expected = ours(X, [*before, hr.HighlyVariableGenes(40, flavor=flavor, batch_key="batch")], obs)
    away = []
    put = shelf.Shelf._put
    monkeypatch.setattr(shelf, "ALL", 0)
    monkeypatch.setattr(shelf, "MOST", 1)
    monkeypatch.setattr(shelf.Shelf, "_put", lambda self, code, block: (away.append(code), put(self, code, block))[1])
    got = ours(X, [*before, hr.HighlyVariableGenes(40, flavor=flavor, batch_key="batch")], obs)
    pd.testing.assert_frame_equal(got, expected, check_exact=True)
    assert set(away) == set(range(7))


@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "seurat_v3", "pearson_residuals"])
def test_memory_does_not_grow_with_thousands_of_batches(flavor: Any) -> None:
    """60,000 genes: 1,600 datasets of a Census."""

    def asked(n: int) -> int:
        obs = pd.DataFrame({"b": pd.Categorical([], categories=[str(i) for i in range(n)])})
        spec = StreamSpec(genes(60_000), obs, 10**7)
        return hr.HighlyVariableGenes(2000, flavor=flavor, batch_key="b").memory(spec)

    assert asked(1600) < 300e6
    assert asked(3200) - asked(1600) < 60e6


# ------------------------------------------------------------------------------------- genes that were not measured
class Joined(ArraySource):
    """Two datasets; the second measured only the genes from number 100 on."""

    aware = True

    @property
    def spec(self) -> StreamSpec:
        measured = pd.DataFrame(True, index=["d0", "d1"], columns=self.var.index)
        measured.iloc[1, :100] = False
        return replace(super().spec, measured=Presence.of(measured), presence_aware=self.aware)


class NotAware(Joined):
    aware = False


def joined(kind: type[Joined] = Joined) -> Joined:
    X = counts(400, 300, seed=3)
    X[240:, :100] = 0
    obs = cells(400, dataset_id=pd.Categorical(np.repeat(["d0", "d1"], [240, 160])))
    obs["batch"] = pd.Categorical(np.array(["p", "q"])[np.random.default_rng(0).integers(0, 2, 400)])
    return kind(X, obs, genes(300), n_obs=33)


@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "seurat_v3"])
def test_moments_are_over_the_cells_that_measured_the_gene(flavor: Any) -> None:
    source = joined()
    X = source.X.toarray().astype(np.float64)
    steps = (
        [hr.HighlyVariableGenes(50, flavor)] if flavor == "seurat_v3" else [*LOG, hr.HighlyVariableGenes(50, flavor)]
    )
    got = hr.Plan(source, steps).var()
    if flavor != "seurat_v3":
        X = X / X.sum(axis=1, keepdims=True) * 1e4
        X = np.log1p(X) if flavor == "cell_ranger" else X
    seen = np.r_[np.full(100, 240), np.full(200, 400)]
    mean = np.array([X[:n, j].mean() for j, n in enumerate(seen)])
    var = np.array([X[:n, j].var(ddof=1) for j, n in enumerate(seen)])
    expected = {"seurat": np.log1p(np.maximum(mean, 1e-12)), "cell_ranger": np.maximum(mean, 1e-12), "seurat_v3": mean}
    np.testing.assert_allclose(got["means"], expected[flavor], rtol=1e-6)
    if flavor == "seurat_v3":
        np.testing.assert_allclose(got["variances"], var, rtol=1e-12)
    elif flavor == "seurat":
        with np.errstate(divide="ignore", invalid="ignore"):
            np.testing.assert_allclose(got["dispersions"], np.log(var / mean), rtol=1e-6)
    other = hr.Plan(joined(NotAware), steps).var()
    assert (other["highly_variable"] != got["highly_variable"]).any()
    assert (other["means"][:100] <= got["means"][:100]).all()
    np.testing.assert_array_equal(other["means"][100:], got["means"][100:])


@pytest.mark.parametrize("flavor", ["seurat", "seurat_v3", "pearson_residuals"])
def test_an_unmeasured_gene_has_no_say_in_its_batch(flavor: Any) -> None:
    """With a batch for each dataset, a gene's statistics are those of the datasets that measured it."""
    source = joined()
    log = LOG if flavor == "seurat" else []
    got = hr.Plan(source, [*log, hr.HighlyVariableGenes(60, flavor, "dataset_id")]).var()
    first = ArraySource(source.X[:240], source.obs[:240], source.var)
    alone = hr.Plan(first, [*log, hr.HighlyVariableGenes(60, flavor, "dataset_id")]).var()
    column = {"seurat": "dispersions_norm", "seurat_v3": "variances_norm", "pearson_residuals": "residual_variances"}[
        flavor
    ]
    expressed = (source.X[:240].sum(axis=0) > 0)[:100]
    np.testing.assert_allclose(got[column][:100][expressed], alone[column][:100][expressed], rtol=1e-5)
    assert got["highly_variable_nbatches"][:100].max() == 1
    assert got["highly_variable_nbatches"][100:].max() == 2


def test_defaults_of_measured_only() -> None:
    steps = {value: [*LOG, hr.HighlyVariableGenes(50, measured_only=value)] for value in (None, True, False)}
    aware = {value: hr.Plan(joined(), plan).var() for value, plan in steps.items()}
    plain = {value: hr.Plan(joined(NotAware), plan).var() for value, plan in steps.items()}
    pd.testing.assert_frame_equal(aware[None], aware[True])
    pd.testing.assert_frame_equal(plain[None], plain[False])
    pd.testing.assert_frame_equal(aware[True], plain[True])
    assert not aware[True].equals(aware[False])
    source = joined()
    assert_same(aware[False], theirs(source.X.toarray(), True, n_top_genes=50))


def test_one_dataset_measured_what_it_measured() -> None:
    source = ArraySource(counts(), cells(200), genes(300))
    a, b = (hr.Plan(source, [*LOG, hr.HighlyVariableGenes(50, measured_only=value)]).var() for value in (True, False))
    pd.testing.assert_frame_equal(a, b)


def test_measured_genes_follow_the_choice_of_genes() -> None:
    source = joined()
    chosen = [f"g{i}" for i in range(300) if i % 3]
    whole = hr.Plan(source, [hr.HighlyVariableGenes(flavor="seurat_v3")]).var()
    some = hr.Plan(
        source, [hr.SelectGenes(chosen), hr.FilterGenes(min_cells=1), hr.HighlyVariableGenes(flavor="seurat_v3")]
    ).var()
    np.testing.assert_array_equal(some["means"], whole.loc[some.index, "means"])
    assert len(some) < 200


# --------------------------------------------------------------------------------------------------------- passes
QUALITY = [
    hr.QCMetrics(percent_top=(50,)),
    hr.FilterCells(min_genes=1, max={"total_counts": 1e6}),
    hr.FilterGenes(min_cells=3),
    hr.SaveLayer("counts"),
    *LOG,
]


class Counting(ArraySource):
    """Counts how often the cells are read."""

    def read(self, refs: Any) -> Any:
        refs = list(refs)
        READS.append(sum(stop - start for start, stop in refs))
        return super().read(refs)


READS: list[int] = []


@pytest.mark.parametrize(
    ("hvg", "most"),
    [
        (hr.HighlyVariableGenes(50), 2),
        (hr.HighlyVariableGenes(50, "cell_ranger", "batch"), 2),
        (hr.HighlyVariableGenes(50, "seurat_v3", layer="counts"), 2),
        (hr.HighlyVariableGenes(50, "seurat_v3_paper", "batch", layer="counts"), 2),
        (hr.HighlyVariableGenes(50, "pearson_residuals", layer="counts"), 3),
    ],
)
def test_passes(hvg: Any, most: int, tmp_path: Any) -> None:
    READS.clear()
    obs = cells(200, batch=pd.Categorical(np.repeat(["a", "b"], 100)))
    plan = hr.Plan(Counting(counts(), obs, genes(300)), [*QUALITY, hvg])
    plan.write_h5ad(tmp_path / "out.h5ad")
    assert sum(READS) == most * 200
    assert len(passes(plan.steps)) == most
    assert f"{most} passes" in str(plan.explain())
    written = ad.read_h5ad(tmp_path / "out.h5ad").var
    pd.testing.assert_frame_equal(plan.var(), written, check_names=False)


def test_seurat_does_not_undo_what_it_does_not_know() -> None:
    """LogCPM is no log1p: its prior count cannot be taken back."""
    source = ArraySource(np.eye(4) * 7, pd.DataFrame(index=list("abcd")), pd.DataFrame(index=list("wxyz")))
    with pytest.raises(hr.PlanError, match="X was logged by LogCPM"):
        hr.Plan(source, [hr.LogCPM(), hr.HighlyVariableGenes(n_top_genes=2)])
