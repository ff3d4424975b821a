"""Pseudobulk: cells go in, samples come out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import headrace as hr
from headrace.chunk import Chunk, Holds
from headrace.errors import CountsError, InputError, PlanError, RoundedCountsWarning
from headrace.sources.arrays import ArraySource
from headrace.stats.groupsums import GroupSums

N, G = 900, 80


def cells(seed: int = 1) -> tuple[sparse.csr_array, pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    X = sparse.csr_array(sparse.random(N, G, 0.2, "csr", None, rng))
    X.data = rng.integers(1, 60, len(X.data)).astype(float)
    donor = rng.choice(list("cabd"), N, p=[0.4, 0.3, 0.29, 0.01])
    obs = pd.DataFrame(
        {
            "donor": pd.Categorical(donor, list("zdcba")),
            "kind": pd.Categorical(rng.choice(["T|x", "B\\", "NK"], N)),
            "noise": rng.random(N),
        },
        index=[f"c{at}" for at in range(N)],
    )
    obs["sex"] = obs["donor"].map({"a": "f", "b": "m", "c": "m", "d": "f"}).astype("category")
    obs["age"] = obs["donor"].map({"a": 30.5, "b": np.nan, "c": 50.0, "d": 1.0}).astype(float)
    return X, obs, pd.DataFrame({"symbol": [f"S{at}" for at in range(G)]}, index=[f"g{at}" for at in range(G)])


@pytest.mark.parametrize("how", ["sum", "mean", "count"])
def test_scanpy_aggregates_the_same(how: Any) -> None:
    X, obs, var = cells()
    got = hr.Plan(ArraySource(X, obs, var), [hr.Pseudobulk(["donor", "kind"], min_cells=1, how=how)]).to_anndata()
    name = {"count": "count_nonzero"}.get(how, how)
    wanted = sc.get.aggregate(anndata.AnnData(sparse.csr_matrix(X), obs, var), by=["donor", "kind"], func=name)
    values = wanted.layers[name]
    values = values.toarray() if sparse.issparse(values) else np.asarray(values)
    assert [*zip(got.obs["donor"], got.obs["kind"], strict=True)] == [
        *zip(wanted.obs["donor"], wanted.obs["kind"], strict=True)
    ]
    if how == "mean":
        np.testing.assert_allclose(got.X, values, rtol=1e-6)
    else:
        np.testing.assert_array_equal(got.X, values)
    pd.testing.assert_frame_equal(got.var, var)


def test_decoupler_sums_the_same(shared: Path) -> None:
    expected = pd.read_csv(Path(__file__).parents[1] / "data/pseudobulk_decoupler.csv")
    folder = next((shared / "data/sc").rglob("heart_1k_v2"))
    table = pd.read_parquet(folder / "X.parquet")
    n_obs, n_vars = len(pd.read_parquet(folder / "obs.parquet")), len(pd.read_parquet(folder / "var.parquet"))
    X = sparse.csr_array((table["count"].to_numpy(float), (table["cell"], table["gene"])), shape=(n_obs, n_vars))
    number = np.arange(n_obs)
    obs = pd.DataFrame({"donor": [f"d{n % 5}" for n in number], "kind": [f"k{n % 7 % 3}" for n in number]})
    obs = obs.astype("category").set_axis(number.astype(str))
    source = ArraySource(X, obs, pd.DataFrame(index=[f"g{n}" for n in range(n_vars)]), n_obs=100)
    for mode, rows in expected.groupby("mode"):
        made = hr.Plan(source, [hr.Pseudobulk(["donor", "kind"], how=str(mode))]).to_anndata()  # type: ignore[arg-type] # one of them
        assert made.n_obs == 15
        assert made.obs["n_cells"].sum() == n_obs
        for row in rows.itertuples():
            sample = f"{row.donor}|{row.kind}"
            assert made.obs.loc[sample, "n_cells"] == row.n_cells
            np.testing.assert_allclose(made[sample].X[0, row.gene], row.value, rtol=1e-6)
            if mode == "sum":
                assert made.obs.loc[sample, "n_counts"] == row.total
    assert len(expected) == 150


def test_what_obs_carries() -> None:
    X, obs, var = cells()
    obs.loc["c7", "kind"] = np.nan
    groups = obs.groupby(["donor", "kind"], observed=True).size()
    made = hr.Plan(ArraySource(X, obs, var), [hr.Pseudobulk(("donor", "kind"), min_cells=10)]).to_anndata()
    large = groups[groups >= 10]
    assert len(groups) - len(large) > 0
    assert list(made.obs.columns) == [
        "donor",
        "kind",
        "sex",
        "age",
        "n_cells",
        "n_counts",
        "psbulk_cells",
        "psbulk_counts",
    ]
    assert made.obs["n_cells"].tolist() == large.tolist()
    first = {"B\\": "B\\\\", "T|x": "T\\|x", "NK": "NK"}
    assert made.obs_names.tolist() == [f"{donor}|{first[kind]}" for donor, kind in large.index]
    assert made.obs_names[0].startswith("c|")  # in order of the categories, as they were given
    assert made.obs.loc["a|NK", ["sex", "age"]].tolist() == ["f", 30.5]
    assert made.obs.loc["b|NK", "sex"] == "m"
    assert np.isnan(made.obs.loc["b|NK", "age"])
    member = (obs["donor"] == "a") & (obs["kind"] == "NK")
    assert made.obs.loc["a|NK", "n_counts"] == X[np.flatnonzero(member)].sum()
    about = made.uns["pseudobulk"]
    assert (about["n_cells_without_group"], about["n_small_groups"]) == (1, len(groups) - len(large))
    assert about["n_cells_in_small_groups"] == groups[groups < 10].sum()


def test_one_column_names_samples_as_they_are() -> None:
    X, obs, var = cells()
    made = hr.Plan(ArraySource(X, obs, var), [hr.Pseudobulk("kind")]).to_anndata()
    assert made.obs_names.tolist() == ["B\\", "NK", "T|x"]


@pytest.mark.parametrize("fractional", [False, True])
def test_the_same_to_the_bit_for_every_chunk_size_and_order_of_merging(fractional: bool) -> None:
    X, obs, var = cells()
    if fractional:
        rng = np.random.default_rng(3)
        X.data = np.where(
            rng.random(len(X.data)) < 0.5, X.data, rng.random(len(X.data)) * 10.0 ** rng.integers(-6, 6, len(X.data))
        )
    run = lambda n, executor: hr.Plan(  # noqa: E731
        ArraySource(X, obs, var, Holds.NORMALIZED if fractional else Holds.COUNTS, n_obs=n),
        [hr.Pseudobulk(["donor", "kind"], min_cells=1)],
    ).to_anndata(executor=executor)
    first, *others = [
        run(n, e) for n, e in ((1, hr.Serial()), (13, hr.Threads(3)), (400, hr.Serial()), (None, hr.Serial()))
    ]
    for other in others:
        np.testing.assert_array_equal(first.X, other.X, strict=True)
        pd.testing.assert_frame_equal(first.obs, other.obs, check_exact=True)
    source = ArraySource(X, obs, var, n_obs=100)
    chunks = list(source.read(source.refs(10**9)))
    results = []
    for order in (range(len(chunks)), reversed(range(len(chunks)))):
        merged = GroupSums(["donor", "kind"], G)
        for at in order:
            part = GroupSums(["donor", "kind"], G)
            part.update(chunks[at])
            merged.merge(part)
        results.append(by_key(merged))
        assert by_key(merged) == results[-1]  # may be asked again
    assert results[0] == results[1]
    key = ("a", "NK")
    rows = np.flatnonzero((obs["donor"] == "a") & (obs["kind"] == "NK"))
    exact = [
        float(sum(map(Fraction, column.tolist()), Fraction(0))) for column in X.astype(np.float32)[rows].toarray().T
    ]
    np.testing.assert_allclose(results[0][key], exact, rtol=4e-16)
    if not fractional:
        assert results[0][key] == tuple(exact)


def by_key(sums: GroupSums) -> dict[Any, tuple[float, ...]]:
    found = sums.result()
    dense = {}
    for part in found.parts:
        for row, group in enumerate(part.groups):
            values = np.zeros(G)
            values[part.indices[part.indptr[row] : part.indptr[row + 1]]] = part.floats(row, row + 1)
            dense[found.keys[group]] = tuple(values)
    return dense


def test_many_groups_and_waiting_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.stats.groupsums.MERGE_AT", 50)
    monkeypatch.setattr("headrace.stats.groupsums.BLOCK", 7)
    X, obs, var = cells()
    rng = np.random.default_rng(5)
    obs["sample"] = pd.Categorical([f"p{at:03}" for at in rng.integers(0, 150, N)])
    made = hr.Plan(ArraySource(X, obs, var, n_obs=31), [hr.Pseudobulk("sample", min_cells=1)]).to_anndata()
    wanted = pd.DataFrame(X.toarray()).groupby(obs["sample"].to_numpy()).sum()
    assert made.obs_names.tolist() == wanted.index.tolist()
    np.testing.assert_array_equal(made.X, wanted.to_numpy())


def test_the_stream_goes_on_with_the_samples() -> None:
    X, obs, var = cells()
    steps = [
        hr.SaveLayer("counts"),
        hr.FilterGenes(min_cells=int(np.median((X > 0).sum(axis=0))) + 1),
        hr.NormalizeTotal(1e4),
        hr.Log1p(),
        hr.Pseudobulk(["donor", "kind"], layer="counts"),
        hr.SaveLayer("counts"),
        hr.NormFactors("TMMwsp"),
        hr.LogCPM(),
    ]
    made = hr.Plan(ArraySource(X, obs, var, n_obs=50), steps).to_anndata()
    assert made.n_vars < G
    assert "log1p" not in made.uns
    by_hand = hr.Plan(ArraySource(X, obs, var), steps[:5]).to_anndata()
    again = hr.Plan(hr.open_counts(by_hand), steps[6:]).to_anndata()
    np.testing.assert_array_equal(made.X, again.X)
    np.testing.assert_array_equal(made.obs["norm_factors"], again.obs["norm_factors"])
    assert np.exp(np.log(made.obs["norm_factors"]).mean()) == pytest.approx(1, rel=1e-14)


def test_a_second_pseudobulk_and_written_files(tmp_path: Path) -> None:
    X, obs, var = cells()
    twice = [hr.Pseudobulk(["donor", "kind"], min_cells=1), hr.Pseudobulk("donor", min_cells=1)]
    once = [hr.Pseudobulk("donor", min_cells=1)]
    for steps in (twice, once):
        hr.Plan(ArraySource(X, obs, var), steps).write_h5ad(tmp_path / "out.h5ad", overwrite=True)
        made = anndata.read_h5ad(tmp_path / "out.h5ad")
        np.testing.assert_array_equal(made["a"].X[0], X[np.flatnonzero(obs["donor"] == "a")].sum(axis=0))
        assert made.obs_names.tolist() == ["d", "c", "b", "a"]


def test_sums_beyond_float32_are_said() -> None:
    X = np.array([[2.0**24, 1], [1, 1]])
    obs = pd.DataFrame({"d": pd.Categorical(["x", "x"])}, index=["a", "b"])
    source = ArraySource(X, obs, pd.DataFrame(index=["g", "h"]))
    with pytest.warns(RoundedCountsWarning, match="1 sums .* e.g. 16777217 in sample 'x', gene 'g'"):
        made = hr.Plan(source, [hr.Pseudobulk("d", min_cells=1)]).to_anndata()
    assert made.obs["n_counts"].tolist() == [2**24 + 3]


def test_columns_that_are_not_categorical() -> None:
    X, obs, var = cells()
    obs["year"] = np.where(obs["donor"] == "a", 2020, 2019)
    obs["old"] = obs["donor"].isin(["a", "b"])
    obs["site"] = obs["donor"].map({"a": "p", "b": "q", "c": "q", "d": "q"}).astype(object)
    made = hr.Plan(ArraySource(X, obs, var), [hr.Pseudobulk(["year", "old", "site"], min_cells=1)]).to_anndata()
    assert made.obs_names.tolist() == ["2019|False|q", "2019|True|q", "2020|True|p"]
    assert made.obs["year"].dtype == np.int64
    assert made.obs["old"].dtype == bool


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: hr.Pseudobulk([]), "one or more columns"),
        (lambda: hr.Pseudobulk("donor", min_cells=0), "whole number from 1"),
        (lambda: hr.Pseudobulk("donor", how="median"), "'sum', 'mean' or 'count'"),  # type: ignore[arg-type] # that is the point
        (lambda: hr.Plan(ArraySource(*cells()), [hr.Pseudobulk("doner")]), "did you mean 'donor'"),
        (lambda: hr.Plan(ArraySource(*cells()), [hr.Pseudobulk("donor", layer="counts")]), "no layer 'counts'"),
        (lambda: hr.Plan(ArraySource(*cells()), [hr.Log1p(), hr.Pseudobulk("donor")]), "their sum means nothing"),
        (
            lambda: hr.Plan(ArraySource(*cells()), [hr.Pseudobulk("donor", min_cells=800)]).var(),
            "none of 4 groups has 800 cells",
        ),
    ],
)
def test_errors(make: Any, words: str) -> None:
    with pytest.raises((InputError, PlanError), match=words):
        make()


def test_values_that_are_no_counts_are_not_summed() -> None:
    X, obs, var = cells()
    X.data[10] = 0.5
    with pytest.raises(CountsError, match=r"0\.5 in cell .*Pseudobulk"):
        hr.Plan(ArraySource(X, obs, var), [hr.Pseudobulk("donor")]).var()
    hr.Plan(ArraySource(X, obs, var), [hr.Pseudobulk("donor", how="mean")]).var()


def test_a_census(demo_census: Path) -> None:
    query = hr.open_census(demo_census).query("mus_musculus", dataset_id="4546e757-34d0-4d17-be06-538318925fcd")
    cells_of = hr.Plan(query).to_anndata()
    made = hr.Plan(query, [hr.Pseudobulk(["donor_id", "cell_type"], min_cells=5), hr.NormFactors()]).to_anndata()
    groups = cells_of.obs.groupby(["donor_id", "cell_type"], observed=True).size()
    assert made.n_obs == (groups >= 5).sum()
    assert {"dataset_id", "assay", "sex", "n_cells", "norm_factors"} <= set(made.obs)
    wanted = sc.get.aggregate(cells_of, by=["donor_id", "cell_type"], func="sum")
    wanted = wanted[(groups >= 5).to_numpy()]
    values = wanted.layers["sum"]
    np.testing.assert_array_equal(made.X, values.toarray() if sparse.issparse(values) else values)


def test_an_empty_chunk_changes_nothing() -> None:
    obs = cells()[1]
    sums = GroupSums(["donor"], G)
    sums.update(Chunk(sparse.csr_array((0, G), dtype=np.float32), obs.iloc[:0]))
    assert sums.result().keys == []


@pytest.mark.parametrize("name", ["score", "id"])
def test_a_value_per_cell_makes_no_samples(name: str) -> None:
    X, obs, var = cells()
    obs = obs.assign(score=np.arange(N) / 7, id=[f"c{at}" for at in range(N)])
    with pytest.raises(hr.PlanError, match=f"Pseudobulk: obs.'{name}'. .* has {N} different values in {N} cells"):
        hr.Plan(ArraySource(X, obs, var), [hr.Pseudobulk(["donor", name], min_cells=1)])
