"""Scores of sets of genes, against `scanpy.tl.score_genes` of the same values: the same control genes are drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import headrace as hr
from headrace.sources.arrays import ArraySource
from tests.against.published import STUDIES, held, study
from tests.laws.registry import source as joined

LOGGED = [hr.NormalizeTotal(1e4), hr.Log1p()]


@pytest.mark.parametrize("name", STUDIES)
def test_every_study(name: str, shared: Path) -> None:
    of = held(*study(shared, name))
    genes = list(np.random.default_rng(3).choice(of.var.index, 120, replace=False))
    pool = list(of.var.index[::-2].union(genes, sort=False))
    kinds: dict[str, dict[str, Any]] = {
        "plain": {"genes": genes[:30]},
        "pool": {"genes": genes[:40], "gene_pool": pool, "ctrl_size": 7, "n_bins": 12, "random_state": 5},
        "apart": {"genes": genes, "ctrl_as_ref": False},
    }
    scores = [hr.ScoreGenes(score_name=key, **options) for key, options in kinds.items()]
    made = hr.Plan(of, [*LOGGED, *scores, hr.ScoreGenesCellCycle(genes[:43], genes[43:97])]).to_anndata()
    # in float64: of float32 it sums up in float32
    wanted = ad.AnnData(made.X.astype(np.float64), obs=made.obs[[]].copy(), var=made.var[[]].copy())
    for key, options in kinds.items():
        sc.tl.score_genes(wanted, options.pop("genes"), score_name=key, **options)
    sc.tl.score_genes_cell_cycle(wanted, s_genes=genes[:43], g2m_genes=genes[43:97])
    for name in (*kinds, "S_score", "G2M_score"):
        np.testing.assert_allclose(made.obs[name], wanted.obs[name], rtol=1e-9, atol=1e-12)
    assert made.obs["phase"].tolist() == wanted.obs["phase"].tolist()
    assert len(set(made.obs["phase"])) > 1


def test_genes_by_symbol_and_those_that_were_not_measured() -> None:
    of = replace(joined(), n_obs=40)
    symbols, ids = ["MT-4", "G40", "nobody", "G13"], ["g4", "g40", "g13"]
    with pytest.warns(hr.UnmeasuredGenesWarning, match="score: 1 of 4 genes were not measured .*: nobody$"):
        made = hr.Plan(of, [*LOGGED, hr.ScoreGenes(symbols, ctrl_size=2, n_bins=4)]).to_anndata()
    again = hr.Plan(of, [*LOGGED, hr.ScoreGenes(ids, ctrl_size=2, n_bins=4)]).to_anndata()
    assert made.obs["score"].tolist() == again.obs["score"].tolist()
    with pytest.raises(hr.PlanError, match="none of 1 genes was measured, e.g. 'G4O'; did you mean"):
        hr.Plan(of, [*LOGGED, hr.ScoreGenes(["G4O"])])


def test_means_are_over_the_genes_that_a_cell_could_show() -> None:
    """Of g3 and g4 one dataset measured only the second."""
    of = joined()
    made = hr.Plan(of, [hr.ScoreGenes(["g3", "g4"], ctrl_size=1, n_bins=2, gene_pool=["g3", "g4", "g5", "g7"])])
    got, X = made.to_anndata().obs["score"].to_numpy(), of.X.toarray().astype(float)
    other = (of.obs["dataset_id"] == "d1").to_numpy()
    controls = [got[0] - (X[0, [3, 4]].mean() if not other[0] else X[0, 4]) + X[0, [5, 7]].mean()]
    assert len(controls) == 1
    for drawn in ([5], [7], [5, 7]):
        expected = np.where(other, X[:, 4], X[:, [3, 4]].mean(axis=1)) - X[:, drawn].mean(axis=1)
        if np.allclose(got, expected):
            return
    raise AssertionError("no choice of control genes gives these scores")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_bins": 1}, "from 2 on"),
        ({"ctrl_size": 0}, "from 1 on"),
        ({"gene_pool": ["g5", "g6"], "n_bins": 3}, "gene_pool has not 'g3' of the set"),
        ({"n_bins": 500}, "90 genes to draw from are too few for 500 bins"),
        ({"layer": "log"}, "no layer 'log' was saved"),
        ({"random_state": -1}, "random_state=-1"),
    ],
)
def test_what_cannot_be_is_refused_before_reading(options: dict[str, Any], message: str) -> None:
    with pytest.raises(hr.InputError, match=message):
        hr.Plan(joined(), [*LOGGED, hr.ScoreGenes(["g3"], **options)])


def test_a_symbol_of_two_genes_and_no_control_gene() -> None:
    of = ArraySource(
        np.eye(4),
        pd.DataFrame(index=list("abcd")),
        pd.DataFrame({"feature_name": ["x", "x", "y", "z"]}, index=list("ghij")),
    )
    with pytest.raises(hr.PlanError, match="'x' is the name of 2 genes: 'g', 'h'"):
        hr.Plan(of, [hr.ScoreGenes(["x"], n_bins=2)])
    with pytest.raises(hr.InputError, match="no control gene is left"):
        hr.Plan(of, [hr.ScoreGenes(["g", "h", "y", "z"], n_bins=2)]).to_anndata()
