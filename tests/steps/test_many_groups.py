"""Markers of so many groups that the header of an HDF5 dataset cannot name them: refused before the run, with figures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.sinks.h5ad.check import check_spec
from headrace.sinks.h5ad.elements import check_columns, write_element
from headrace.sources.arrays import ArraySource

LOGGED = [hr.NormalizeTotal(1e4), hr.Log1p()]


def cells(n_groups: int, length: int, *, alone: int = 0) -> ArraySource:
    """Two cells of each group, but one of the first `alone`."""
    rng = np.random.default_rng(0)
    names = [f"{i:05d}".ljust(length, "x") for i in range(n_groups)]
    of = [name for i, name in enumerate(names) for _ in range(1 if i < alone else 2)]
    obs = pd.DataFrame({"kind": pd.Categorical(of, names)}, index=[f"c{i}" for i in range(len(of))])
    genes = pd.DataFrame(index=[f"g{i}" for i in range(6)])
    return ArraySource(rng.poisson(2.0, (len(of), 6)), obs, genes)


class NotRead(ArraySource):
    """Cells that must not be asked for."""

    def read(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
        raise AssertionError("cells were read")


def test_too_many_groups_are_refused_before_the_run_and_those_that_fit_are_written(tmp_path: Path) -> None:
    source = cells(900, 60)
    steps = [*LOGGED, hr.RankGenesGroups("kind")]
    unread = NotRead(source.X, source.obs, source.var)
    with pytest.raises(hr.OutputError) as said:
        hr.Plan(unread, steps).write_h5ad(tmp_path / "all.h5ad")
    assert list(tmp_path.iterdir()) == []
    fit = re.search(r"a table of 900 columns, and HDF5 has room for the names of the first (\d+) ", str(said.value))
    assert fit is not None
    assert "groups=[...]" in str(said.value)
    names = list(source.obs["kind"].cat.categories)
    for n, fits in ((int(fit[1]), True), (int(fit[1]) + 1, False)):
        plan = hr.Plan(source, [*LOGGED, hr.RankGenesGroups("kind", names[:n], key_added="some", n_genes=2)])
        if fits:
            plan.write_h5ad(tmp_path / "some.h5ad")
            table = ad.read_h5ad(tmp_path / "some.h5ad").uns["some"]["names"]
            assert list(table.dtype.names) == names[:n]
        else:
            with pytest.raises(hr.OutputError, match=rf"of the first {fit[1]} "):
                plan.write_h5ad(tmp_path / "more.h5ad")
    whole = hr.Plan(source, steps).to_anndata()
    assert list(whole.uns["rank_genes_groups"]["scores"].dtype.names) == names
    with pytest.raises(ValueError, match="header"):
        whole.write_h5ad(tmp_path / "anndata.h5ad")  # nor can anndata


def test_groups_without_two_cells_are_not_reckoned_with(tmp_path: Path) -> None:
    """A Census query has the categories of all cells; those that it has none of are no columns."""
    source = cells(900, 60, alone=500)
    few = replace(source, X=source.X[600:], obs=source.obs[600:])
    assert len(few.obs["kind"].cat.categories) == 900
    for one in (source, few):
        with pytest.warns(hr.UntestedGroupsWarning) if one is source else pytest.warns(hr.CellsAsReplicatesWarning):
            hr.Plan(one, [*LOGGED, hr.RankGenesGroups("kind", n_genes=2)]).write_h5ad(
                tmp_path / "x.h5ad", overwrite=True
            )
        found = ad.read_h5ad(tmp_path / "x.h5ad").uns["rank_genes_groups"]["names"].dtype.names
        assert set(found) == {name for name, n in one.obs["kind"].value_counts().items() if n > 1}


def test_a_group_without_a_name_is_refused(tmp_path: Path) -> None:
    source = cells(3, 5)
    source.obs["kind"] = source.obs["kind"].cat.rename_categories(["", "a", "b"])
    with pytest.raises(hr.PlanError, match=r"a group of obs\['kind'\] has no name"):
        hr.Plan(source, [*LOGGED, hr.RankGenesGroups("kind")]).to_anndata()
    named = hr.Plan(source, [*LOGGED, hr.RankGenesGroups("kind", ["a", "b"])]).to_anndata()
    assert named.uns["rank_genes_groups"]["names"].dtype.names == ("a", "b")


@pytest.mark.parametrize("kind", ["f4", "f8", "i8", "U9", object])
@pytest.mark.parametrize("length", [95, 96, 300])
def test_the_number_that_fits_is_exact(kind: object, length: int, tmp_path: Path) -> None:
    """Whatever the types and names of columns, of steps of one's own and of uns too."""
    full = np.dtype([(f"{i:0{length}d}", kind) for i in range(700)])
    with pytest.raises(hr.OutputError, match="has room") as said:
        check_columns("x", full)
    n = int(re.search(r"the first ([\d,]+)", str(said.value))[1].replace(",", ""))  # type: ignore[index]
    source = cells(2, 3)
    for columns, fits in ((n, True), (n + 1, False)):
        table = np.zeros(1, dtype=[(name, kind) for name in full.names[:columns]])  # type: ignore[index]
        if kind is object:
            table = np.array([("a",) * columns], dtype=table.dtype)
        spec = source.spec.with_uns(mine={"table": table})
        with h5py.File(tmp_path / f"{columns}.h5", "w", libver=("v108", "latest")) as file:
            if fits:
                check_spec(spec)
                write_element(file, "table", table.view(np.recarray))
                assert len(file["table"].dtype.names) == n
            else:
                for write in (lambda: check_spec(spec), lambda: write_element(file, "table", table)):  # noqa: B023
                    with pytest.raises(hr.OutputError, match="has room"):
                        write()
