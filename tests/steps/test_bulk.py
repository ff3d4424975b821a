"""Steps for bulk samples in a plan: any chunk size and executor, errors, recipes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.chunk import Chunk, Holds
from headrace.errors import CountsError, InputError, PlanError
from headrace.sources.arrays import ArraySource
from headrace.stats.libraries import Settings, norm_factors
from headrace.stats.samples import LogSums, OneRow, Overviews, PerSample, sizes

N, G = 40, 300


def counts(seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    mean = rng.gamma(0.5, 40, G) * rng.uniform(0.3, 3, (N, 1))
    return rng.poisson(mean).astype(float)


def source(X: Any = None, n_obs: int | None = None, **obs: Any) -> ArraySource:
    X = counts() if X is None else X
    names = [f"s{at:02}" for at in range(len(X))]
    var = pd.DataFrame(
        {"feature_length": np.arange(X.shape[1]) * 10.0 + 500}, index=[f"g{at}" for at in range(X.shape[1])]
    )
    return ArraySource(X, pd.DataFrame(obs, index=names), var, n_obs=n_obs)


@pytest.mark.parametrize("method", ["TMM", "TMMwsp", "RLE", "upperquartile", "ratio", "poscounts", "none"])
def test_a_stream_gives_what_the_whole_gives(method: Any) -> None:
    X = counts()
    X[:, :4] += 1
    whole = norm_factors(pd.DataFrame(X, index=[f"s{at:02}" for at in range(N)]), Settings(method))
    for n_obs, executor in ((1, hr.Serial()), (7, hr.Threads(3)), (None, hr.Serial())):
        steps = [hr.NormFactors(method), hr.LogCPM()]
        got = hr.Plan(source(X, n_obs), steps).to_anndata(executor=executor)
        for name in whole:
            np.testing.assert_array_equal(got.obs[name], whole[name], strict=True)
    assert list(got.obs.columns) == list(whole.columns)


def test_values_are_the_same_to_the_bit_for_every_chunk_size() -> None:
    steps = [hr.NormFactors(), hr.SaveLayer("counts"), hr.FilterByExpr(), hr.LogCPM(), hr.SaveLayer("log"), hr.Scale()]
    first, *others = [hr.Plan(source(n_obs=n), steps).to_anndata() for n in (1, 3, 11, None)]
    assert first.n_vars < G
    for other in others:
        np.testing.assert_array_equal(first.X, other.X, strict=True)
        np.testing.assert_array_equal(first.layers["log"], other.layers["log"], strict=True)
        pd.testing.assert_frame_equal(first.obs, other.obs, check_exact=True)
        pd.testing.assert_frame_equal(first.var, other.var, check_exact=True)


def test_float32_rates_are_the_float64_ones_rounded() -> None:
    X = counts()
    lengths = source().var["feature_length"].to_numpy()
    total = X.sum(axis=1, keepdims=True)
    rate = X / lengths
    expected = {
        hr.CPM(): X / total * 1e6,
        hr.RPKM(): X / total * 1e9 / lengths,
        hr.TPM(): rate / rate.sum(axis=1, keepdims=True) * 1e6,
        hr.LogCPM(): np.log2((X + 2 * total / total.mean()) / (total + 4 * total / total.mean()) * 1e6),
    }
    for step, values in expected.items():
        got = hr.Plan(source(), [step]).to_anndata().X
        assert got.dtype == np.float32
        np.testing.assert_allclose(got.toarray() if sparse.issparse(got) else got, values, rtol=1e-6)


def test_normalised_library_sizes_are_used_or_not() -> None:
    X = counts()
    effective = norm_factors(X)["effective_libsize"].to_numpy()[:, None]
    factor = norm_factors(X)["norm_factors"].to_numpy()[:, None]
    run = lambda step: hr.Plan(source(), [hr.NormFactors(), step]).to_anndata().X.toarray()  # noqa: E731
    np.testing.assert_allclose(run(hr.CPM()), X / effective * 1e6, rtol=1e-6)
    np.testing.assert_allclose(run(hr.CPM(normalized_libsize=False)), X / X.sum(axis=1, keepdims=True) * 1e6, rtol=1e-6)
    np.testing.assert_allclose(run(hr.TPM(normalized=True)), run(hr.TPM()) / factor, rtol=1e-6)


def test_genes_without_a_length() -> None:
    held = source()
    var = held.var.assign(feature_length=np.where(np.arange(G) == 3, np.nan, held.var["feature_length"]))
    lacking = ArraySource(held.X, held.obs, var)
    with pytest.raises(PlanError, match="1 of 300 genes have no positive feature_length: g3"):
        hr.Plan(lacking, [hr.RPKM()])
    kept = np.delete(counts(), 3, axis=1)
    got = hr.Plan(lacking, [hr.RPKM(missing="drop")]).to_anndata()
    lengths = np.delete(held.var["feature_length"].to_numpy(), 3)
    np.testing.assert_allclose(got.X.toarray(), kept / kept.sum(axis=1, keepdims=True) * 1e9 / lengths, rtol=1e-6)
    with pytest.raises(PlanError, match="no column 'length' with gene lengths"):
        hr.Plan(lacking, [hr.TPM(column="length")])


def test_cpm_recipe() -> None:
    X = counts()
    X[5] = 0
    plain = hr.Plan(source(X), [hr.SaveLayer("counts"), *hr.recipes.cpm(layer="counts", out_layer="cpm")]).to_anndata()
    total = X.sum(axis=1)
    np.testing.assert_array_equal(plain.obs["libsize"], total)
    expected = X / np.where(total == 0, 1, total)[:, None] * 1e6
    np.testing.assert_allclose(plain.X.toarray(), expected, rtol=1e-6)
    assert (plain.layers["cpm"] != plain.X).nnz == 0
    steps = [
        hr.SaveLayer("counts"),
        hr.Log1p(),
        *hr.recipes.cpm(layer="counts", target_sum=1e3, out_layer="cpm", keep_x=True),
    ]
    kept = hr.Plan(source(X), steps).to_anndata()
    assert set(kept.layers) - {None} == {"counts", "cpm"}
    np.testing.assert_allclose(kept.X.toarray(), np.log1p(X), rtol=1e-6)
    np.testing.assert_allclose(kept.layers["cpm"].toarray(), expected / 1e3, rtol=1e-6)
    with pytest.raises(InputError, match="out_layer"):
        hr.recipes.cpm(keep_x=True)


def test_bulk_workbench() -> None:
    made = hr.Plan(source(), hr.recipes.bulk_workbench(max_value=1.5)).to_anndata()
    X = counts()
    effective = norm_factors(X)["effective_libsize"].to_numpy()[:, None]
    prior = 2 * effective / effective.mean()
    log = np.log2((X + prior) / (effective + 2 * prior) * 1e6)
    np.testing.assert_array_equal(made.layers["counts"].toarray(), X)
    np.testing.assert_allclose(made.layers["logcpm"], log, rtol=1e-6)
    std = log.std(axis=0, ddof=1)
    varies = X.any(axis=0)
    scaled = np.clip((log - log.mean(axis=0))[:, varies] / std[varies], -1.5, 1.5)
    np.testing.assert_allclose(made.X[:, varies], scaled, atol=2e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: hr.NormFactors("tmm"), "did you mean 'TMM'"),  # type: ignore[arg-type] # that is the point
        (lambda: hr.NormFactors("RLE", p=0.5), "p=0.5.*'RLE' has no use for it"),
        (lambda: hr.NormFactors(p=0.5), "no use for it"),
        (lambda: hr.NormFactors("TMMwsp", acutoff=-5), "no use for it"),
        (lambda: hr.NormFactors(logratio_trim=0.5), "at least 0 and below 0.5"),
        (lambda: hr.NormFactors("upperquartile", p=0), "above 0 and at most 1"),
        (lambda: hr.LogCPM(prior_count=0), "a number above 0"),
        (lambda: hr.FilterByExpr(min_count=-1), "a number above 0"),
        (lambda: hr.Plan(source(), [hr.Log1p(), hr.NormFactors()]), "NormFactors needs counts, but X is logged"),
        (lambda: hr.Plan(source(), [hr.CPM(), hr.LogCPM()]), "LogCPM needs counts, but X is normalized"),
        (lambda: hr.Plan(source(), [hr.FilterByExpr(group="sex")]), "no column 'sex'"),
        (lambda: hr.Plan(source(), [hr.TPM(normalized=True)]), "put NormFactors"),
        (lambda: hr.Plan(source(), [hr.UseLayer("counts")]), "no layer 'counts' was saved"),
        (lambda: hr.Plan(source(), [hr.DropLayer("counts")]), "no layer 'counts' was saved"),
        (lambda: hr.Plan(source(), [hr.NormFactors(ref_column="s99")]).var(), "no such sample; did you mean"),
        (lambda: hr.Plan(source(), [hr.FilterByExpr(min_count=1e9)]).var(), "none of the 300 genes has enough"),
    ],
)
def test_errors_come_with_a_remedy(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def test_negative_counts_are_named() -> None:
    X = counts()
    X[4, 2] = -3
    with pytest.raises(CountsError, match="sample 's04' holds -3"):
        hr.Plan(source(X), [hr.NormFactors()]).var()


def test_groups_with_missing_values_count_what_is_there() -> None:
    group = pd.Categorical.from_codes([0] * 12 + [1] * 26 + [-1] * 2, ["a", "b"])
    with_group = hr.Plan(source(group=group), [hr.FilterByExpr(group="group")]).var()
    cpm, X = counts() / counts().sum(axis=1, keepdims=True) * 1e6, counts()
    cutoff = 10 / np.median(X.sum(axis=1)) * 1e6
    wanted = ((cpm >= cutoff).sum(axis=0) >= 10 + 2 * 0.7) & (X.sum(axis=0) >= 15)
    assert with_group.index.tolist() == [f"g{at}" for at in np.flatnonzero(wanted)]


@pytest.mark.parametrize(
    "make", [lambda: Overviews(G, "s03"), lambda: LogSums(G), lambda: PerSample(sizes), lambda: OneRow("s03", G)]
)
def test_accumulators_merge(make: Any) -> None:
    chunks = list(source(n_obs=9).read(source(n_obs=9).refs(10**9)))
    whole = make()
    for chunk in chunks:
        whole.update(chunk)
    for order in ((0, 1, 2, 3, 4), (4, 2, 0, 3, 1)):
        merged = make()
        for at in order:
            part = make()
            part.update(chunks[at])
            merged.merge(part)
        for left, right in zip(flat(merged.result()), flat(whole.result()), strict=True):
            np.testing.assert_array_equal(left, right)


def flat(result: Any) -> list[Any]:
    if isinstance(result, tuple):
        return [one for part in result for one in flat(part)]
    if hasattr(result, "__dataclass_fields__"):
        return [one for name in result.__dataclass_fields__ for one in flat(getattr(result, name))]
    return [result]


def test_samples_that_come_twice_are_refused() -> None:
    chunk = next(iter(source().read([(0, N)])))
    twice = PerSample(sizes)
    twice.update(chunk)
    twice.update(chunk)
    with pytest.raises(InputError, match="sample 's00' comes"):
        twice.result()


def test_layers_are_what_they_hold() -> None:
    spec = hr.DropLayer("a").out(hr.UseLayer("a").out(hr.CPM().out(hr.SaveLayer("a").out(source().spec))))
    assert spec.holds == Holds.UNKNOWN
    assert not spec.layers
    chunk = hr.SaveLayer("a")(Chunk(source().X, source().obs))
    assert hr.UseLayer("a")(hr.CPM()(chunk)).X is chunk.X
