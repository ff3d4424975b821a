"""RankGenesGroups against `scanpy.tl.rank_genes_groups`, of the same values in float64, on every published study."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import headrace as hr
from headrace.sources.arrays import ArraySource
from headrace.stats import genemajor
from tests.against.published import STUDIES, study

LOGGED = [hr.NormalizeTotal(1e4), hr.Log1p()]


def grouped(shared: Path, name: str) -> ArraySource:
    """Some 900 genes, and groups that differ: by the cells' totals; some cells have none."""
    X, obs, var = study(shared, name, min_cells=10)
    totals = np.asarray(X.sum(axis=1)).ravel()
    group = np.digitize(totals, np.quantile(totals, [0.2, 0.5]))
    group[np.random.default_rng(0).random(len(obs)) < 0.03] = -1
    obs = obs.assign(size=pd.Categorical.from_codes(group, ["small", "middle", "large"]))
    step = max(1, X.shape[1] // 900)
    return ArraySource(X[:, ::step], obs, var.iloc[::step], n_obs=333)


def scanpys(adata: ad.AnnData, **options: Any) -> ad.AnnData:
    adata.X = adata.X.astype(np.float64)  # of float32 it sums up squares in float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a frame that grows, logarithms of nothing
        sc.tl.rank_genes_groups(adata, "size", **options)
    return adata


def assert_same_markers(made: ad.AnnData, wanted: ad.AnnData, key: str = "rank_genes_groups") -> None:
    got, want = made.uns[key], wanted.uns["rank_genes_groups"]
    assert list(got["params"].items()) == list(want["params"].items())
    assert set(got) == set(want)
    for part in ("names", "scores", "pvals", "pvals_adj", "logfoldchanges"):
        assert got[part].dtype == want[part].dtype
        assert type(got[part]) is type(want[part])
    for group in want["names"].dtype.names:
        ours, theirs = (
            sc.get.rank_genes_groups_df(one, group, key=k) for one, k in ((made, key), (wanted, "rank_genes_groups"))
        )
        np.testing.assert_allclose(ours["scores"], theirs["scores"], rtol=1e-6, atol=1e-9)  # but for ties, the order
        ours, theirs = ours.set_index("names"), theirs.set_index("names")
        last = ours["scores"].iloc[-1]  # which of those that tie with the last are noted is left open
        assert set(ours.index[ours["scores"] > last]) == set(theirs.index[theirs["scores"] > np.float32(last)])
        ours = ours[ours.index.isin(theirs.index)]
        theirs = theirs.loc[ours.index]
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-9 if name == "scores" else 0)


@pytest.mark.parametrize("name", STUDIES)
def test_every_method_on_every_study(name: str, shared: Path) -> None:
    of = grouped(shared, name)
    kinds: dict[str, dict[str, Any]] = {
        "t": {"pts": True},
        "over": {"method": "t-test_overestim_var", "reference": "middle", "corr_method": "bonferroni"},
        "w": {"method": "wilcoxon"},
        "tied": {"method": "wilcoxon", "tie_correct": True, "groups": ["large"], "reference": "small"},
    }
    ranked = [hr.RankGenesGroups("size", key_added=key, **options) for key, options in kinds.items()]
    plan = hr.Plan(of, [*LOGGED, *ranked])
    assert plan.explain().passes == 1
    made = plan.to_anndata()
    for key, options in kinds.items():
        assert_same_markers(made, scanpys(made.copy(), **options), key)


@pytest.fixture
def study_of_cells(shared: Path) -> ArraySource:
    return grouped(shared, "mouse/heart_1k_v2")


def test_values_that_go_through_a_file_rank_the_same(
    study_of_cells: ArraySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"method": "wilcoxon", "tie_correct": True, "n_genes": 50}
    monkeypatch.setattr(genemajor, "MOST", 5000)
    made = hr.Plan(study_of_cells, [*LOGGED, hr.RankGenesGroups("size", **options)]).to_anndata()
    assert made.X.nnz > 10 * 5000
    assert_same_markers(made, scanpys(made.copy(), **options))


def test_negative_values_and_another_base(study_of_cells: ArraySource) -> None:
    of = study_of_cells
    X = sparse.csr_array(of.X.toarray()[:200, :40])
    X.data = np.round(np.log2(X.data) - 1, 1).astype(np.float32)
    source = ArraySource(X, of.obs.iloc[:200], of.var.iloc[:40], hr.chunk.Holds.LOGGED, uns={"log1p": {"base": 2}})
    for reference in ("rest", "small"):
        options: dict[str, Any] = {"method": "wilcoxon", "tie_correct": True, "reference": reference}
        made = hr.Plan(source, [hr.RankGenesGroups("size", **options)]).to_anndata()
        assert (made.X.data < 0).any()
        assert_same_markers(made, scanpys(made.copy(), **options))


def test_what_a_file_holds_scanpy_reads(study_of_cells: ArraySource, tmp_path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    steps = [*LOGGED, hr.RankGenesGroups("size", pts=True)]
    hr.Plan(study_of_cells, steps).write_h5ad(tmp_path / "out.h5ad")
    read = ad.read_h5ad(tmp_path / "out.h5ad")
    held = hr.Plan(study_of_cells, steps).to_anndata()
    pd.testing.assert_frame_equal(sc.get.rank_genes_groups_df(read, None), sc.get.rank_genes_groups_df(held, None))
    sc.pl.rank_genes_groups(read, n_genes=5, show=False)
    sc.pl.rank_genes_groups_dotplot(read, n_genes=3, show=False, dendrogram=False)
    assert not hr.verify_h5ad(tmp_path / "out.h5ad").problems


# ------------------------------------------------------------------------------------------------- what is said
def test_cells_are_no_replicates_and_samples_are(study_of_cells: ArraySource) -> None:
    with pytest.warns(hr.CellsAsReplicatesWarning, match="Pseudobulk") as told:
        hr.Plan(study_of_cells, [*LOGGED, hr.RankGenesGroups("size")]).var()
    assert len([one for one in told if one.category is hr.CellsAsReplicatesWarning]) == 1
    samples = [hr.Pseudobulk(["batch", "size"]), *LOGGED, hr.RankGenesGroups("size")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hr.Plan(study_of_cells, samples).var()


def test_groups_of_one_cell(study_of_cells: ArraySource) -> None:
    obs = study_of_cells.obs.copy()
    obs["kind"] = pd.Categorical(["one", *["a", "b"] * (len(obs) // 2), "a"][: len(obs)], ["a", "b", "none", "one"])
    of = ArraySource(study_of_cells.X, obs, study_of_cells.var)
    with pytest.warns(hr.UntestedGroupsWarning, match="not tested: one"):
        made = hr.Plan(of, [*LOGGED, hr.RankGenesGroups("kind")]).to_anndata()
    assert made.uns["rank_genes_groups"]["names"].dtype.names == ("a", "b")
    with pytest.raises(hr.InputError, match="group 'one' .* fewer than two cells"):
        hr.Plan(of, [*LOGGED, hr.RankGenesGroups("kind", ["a", "one"])]).var()
    with pytest.raises(hr.InputError, match="has 1 groups in .* a test needs two groups"):
        hr.Plan(ArraySource(of.X, obs.assign(all="x"), of.var), [*LOGGED, hr.RankGenesGroups("all")]).var()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groupby": "sizes"}, "no column 'sizes'; did you mean 'size'"),
        ({"groups": ["Large"]}, "no 'Large'; did you mean 'large'"),
        ({"groups": []}, "a list of groups"),
        ({"reference": "middles"}, "did you mean 'middle'"),
        ({"groups": ["small"], "reference": "small"}, "compared with itself"),
        ({"method": "logreg"}, "'t-test' or"),
        ({"n_genes": 0}, "from 1 on"),
        ({"layer": "counts"}, "layer 'counts' is counts here; put Log1p"),
    ],
)
def test_what_cannot_be_is_refused_before_reading(
    options: dict[str, Any], message: str, study_of_cells: ArraySource
) -> None:
    of = ArraySource(study_of_cells.X, study_of_cells.obs, study_of_cells.var, hr.chunk.Holds.COUNTS)
    with pytest.raises(hr.InputError, match=message):
        hr.Plan(of, [hr.SaveLayer("counts"), *LOGGED, hr.RankGenesGroups(**{"groupby": "size", **options})])
