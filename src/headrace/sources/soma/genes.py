"""Selection of genes, and their columns in X."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import InputError, SourceError, nearest

MOST_JOINIDS = 1 << 26
"""Of genes; a table with one entry for each is held."""


@dataclass(frozen=True)
class Genes:
    """The genes of a query, and where each is in X.

    Parameters
    ----------
    var
        One row per gene, indexed by feature_id.
    gene_map
        Column of every gene joinid, or -1, shape (largest joinid + 1,).
    """

    var: pd.DataFrame
    gene_map: npt.NDArray[np.int32]

    @staticmethod
    def of(var: pd.DataFrame, index: str) -> Genes:
        """Take the rows of a SOMA var, in order of soma_joinid; `index` is the column with the ids."""
        var = var.sort_values("soma_joinid", kind="stable")
        joinids = var["soma_joinid"].to_numpy()
        if len(joinids) and not 0 <= joinids[0] <= joinids[-1] < MOST_JOINIDS:
            raise SourceError(f"var has soma_joinids from {joinids[0]} to {joinids[-1]}: no genes are numbered so")
        if (np.diff(joinids) == 0).any():
            twice = joinids[1:][np.diff(joinids) == 0][0]
            raise SourceError(f"var has several genes with the soma_joinid {twice}: which values are whose?")
        gene_map = np.full(int(joinids.max()) + 1 if len(joinids) else 0, -1, dtype=np.int32)
        gene_map[joinids] = np.arange(len(joinids), dtype=np.int32)
        var = var.set_index(index)
        if not var.index.is_unique:
            twice = var.index[var.index.duplicated()][0]
            raise InputError(f"var[{index!r}] has {twice!r} more than once, so it cannot be the index of var")
        return Genes(var, gene_map)


ID_COLUMNS = ("feature_id", "var_id", "gene_id", "gene_ids", "ensembl_id", "index", "_index")


def id_column(var: pd.DataFrame, asked: str | None, where: str) -> str:
    """Return the column of `var` that identifies genes: the one asked for, or the first that is usual."""
    index = asked or next((column for column in ID_COLUMNS if column in var), None)
    if index is None or index not in var:
        raise InputError(
            f"var of {where} has no column {index or ID_COLUMNS[0]!r} to identify genes by; "
            f"name one with var_index=: {nearest(index or '', var.columns)}"
        )
    return index


VERSIONED = re.compile(r"ENS[A-Z]*\d+\.\d+")
"""An Ensembl id with the version of its gene model."""


def choose(var: pd.DataFrame, wanted: Sequence[str], index: str) -> pd.DataFrame:
    """Return the rows of `var` with these ids, ids with or without versions, or names, mixed.

    Raises
    ------
    InputError
        If a gene is unknown, or a name stands for several ids.
    """
    known = set(var[index])
    by_name = (
        var.groupby("feature_name", observed=True)[index].agg(list)
        if "feature_name" in var
        else pd.Series(dtype=object)
    )
    unversioned = {gene.partition(".")[0]: gene for gene in known if VERSIONED.fullmatch(gene)}
    ids, unknown = [], []
    for gene in wanted:
        if gene in known:
            ids.append(gene)
        elif gene in by_name.index:
            if len(by_name[gene]) > 1:
                raise InputError(
                    f"the gene name {gene!r} stands for {len(by_name[gene])} genes: "
                    f"{', '.join(by_name[gene])}; give the id"
                )
            ids.extend(by_name[gene])
        elif gene in unversioned or (VERSIONED.fullmatch(gene) and gene.partition(".")[0] in known):
            ids.append(unversioned.get(gene, gene.partition(".")[0]))
        else:
            unknown.append(gene)
    if unknown:
        hint = nearest(unknown[0], [*by_name.index, *known][:200_000])
        raise InputError(f"{len(unknown)} of {len(wanted)} genes are unknown, e.g. {unknown[0]!r}; {hint}")
    if len(set(ids)) < len(ids):
        twice = next(gene for gene in ids if ids.count(gene) > 1)
        raise InputError(f"gene {twice!r} is asked for more than once")
    return var[var[index].isin(ids)]
