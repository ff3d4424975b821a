"""The tables and matrices of one organism of a Census, computed from its datasets. Nothing here touches a disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from headrace.errors import InputError
from headrace.testing.datasets import GENE_COLUMNS, Dataset
from headrace.testing.layout import FULL_GENE_ASSAYS

MANTISSA_BITS = 15
SUMMARY_CATEGORIES = (
    *("assay", "cell_type", "disease", "self_reported_ethnicity", "sex", "suspension_type"),
    *("tissue", "tissue_general"),
)


@dataclass(frozen=True, eq=False)
class Experiment:
    """All there is to write of an organism; `soma_joinid` is the position in `obs` and in `var`."""

    obs: pd.DataFrame
    var: pd.DataFrame
    X: sparse.csr_array
    presence: sparse.coo_array


def assemble(datasets: Mapping[int, Dataset], n_datasets: int, shuffle: np.random.Generator | None) -> Experiment:
    """Put the datasets of an organism one below the other.

    Parameters
    ----------
    datasets
        By their joinid in the table of datasets.
    n_datasets
        Datasets of all organisms: the rows of the presence matrix.
    shuffle
        Draws an order of the cells; None keeps each dataset in one piece.

    Raises
    ------
    InputError
        Two datasets describe the same gene differently.
    """
    var = pd.concat([dataset.var[list(GENE_COLUMNS)] for dataset in datasets.values()])
    var = var.rename_axis("feature_id").reset_index().drop_duplicates(ignore_index=True)
    twice = var["feature_id"].duplicated()
    if twice.any():
        gene = var["feature_id"][twice].iloc[0]
        raise InputError(
            f"two datasets of one organism differ in the name, length or type of gene {gene!r}; a Census has one var"
        )
    joinids = pd.Index(var["feature_id"])
    measured = {number: joinids.get_indexer(dataset.var.index) for number, dataset in datasets.items()}
    blocks = []
    for number, dataset in datasets.items():
        counts = dataset.counts()
        columns = measured[number][counts.indices]
        blocks.append(sparse.csr_array((counts.data, columns, counts.indptr), (dataset.n_obs, len(var))))
    X = sparse.csr_array(sparse.vstack(blocks))
    X.sort_indices()

    obs = pd.concat([dataset.census_obs() for dataset in datasets.values()], ignore_index=True)
    obs["n_measured_vars"] = np.concatenate([np.full(d.n_obs, len(d.var)) for d in datasets.values()])
    if shuffle is not None:
        order = shuffle.permutation(len(obs))
        obs, X = obs.iloc[order].reset_index(drop=True), X[order]
    obs = obs.assign(soma_joinid=np.arange(len(obs)), **cell_statistics(X))

    present = sparse.coo_array(
        (
            np.ones(sum(map(len, measured.values())), np.bool_),
            (
                np.repeat(list(measured), [len(genes) for genes in measured.values()]),
                np.concatenate(list(measured.values())),
            ),
        ),
        (n_datasets, len(var)),
    )
    n_cells = np.zeros(n_datasets, np.int64)
    n_cells[list(datasets)] = [dataset.n_obs for dataset in datasets.values()]
    var = var.assign(
        soma_joinid=np.arange(len(var)),
        nnz=np.bincount(X.indices, minlength=len(var)),
        n_measured_obs=np.bincount(present.col, weights=n_cells[present.row], minlength=len(var)).astype(np.int64),
    )
    return Experiment(obs, var, X, present)


def cell_statistics(X: sparse.csr_array) -> dict[str, npt.NDArray[np.float64 | np.int64]]:
    """Compute the columns of obs that sum up X; the variance is that of the non-zeros, 0 below two of them."""
    n_obs, nnz = X.shape[0], np.diff(X.indptr).astype(np.int64)
    rows = np.repeat(np.arange(n_obs), nnz)
    total = np.bincount(rows, weights=X.data, minlength=n_obs)  # whole numbers: exact
    mean = total / nnz
    squares = np.bincount(rows, weights=(X.data - mean[rows]) ** 2, minlength=n_obs)
    variance = np.where(nnz > 1, squares / np.maximum(nnz - 1, 1), 0.0)
    return {"raw_sum": total, "nnz": nnz, "raw_mean_nnz": mean, "raw_variance_nnz": variance}


def normalized(experiment: Experiment) -> npt.NDArray[np.float32]:
    """Compute the values of the layer ``normalized``, at the coordinates of X.

    Shares of the cell's total; for assays that cover the whole gene, counts are divided by length first. Rounded to 15
    bits of mantissa, so that they compress; what rounds to zero becomes the smallest float above.
    """
    X = experiment.X
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    full_gene = experiment.obs["assay_ontology_term_id"].isin(list(FULL_GENE_ASSAYS)).to_numpy()
    lengths = experiment.var["feature_length"].to_numpy()
    values = np.where(full_gene[rows], X.data / lengths[X.indices], X.data).astype(np.float32)
    totals = np.bincount(rows, weights=values, minlength=X.shape[0])
    rounded = round_mantissa((values / totals[rows]).astype(np.float32), MANTISSA_BITS)
    return np.maximum(rounded, np.finfo(np.float32).smallest_subnormal)


def round_mantissa(values: npt.NDArray[np.float32], bits: int) -> npt.NDArray[np.float32]:
    """Round to `bits` bits of mantissa, ties to even.

    Examples
    --------
    >>> round_mantissa(np.float32([1 + 2**-15, 1 + 2**-16, 1 + 3 * 2**-16]), 15) - 1 == [2**-15, 0, 2**-14]
    array([ True,  True,  True])
    """
    unit = np.uint32(1) << np.uint32(23 - bits)  # of the last bit kept
    words = values.view(np.uint32)
    odd = (words // unit) % np.uint32(2)
    return ((words + unit // 2 - 1 + odd) // unit * unit).astype(np.uint32).view(np.float32)


def summary_cell_counts(organism: str, obs: pd.DataFrame) -> pd.DataFrame:
    """Count the cells, all and primary ones, by the terms of each category."""
    everything = pd.DataFrame({"label": "na", "ontology_term_id": "na"}, index=obs.index)
    terms = {"all": everything}
    for category in SUMMARY_CATEGORIES:
        ids = obs.get(f"{category}_ontology_term_id", everything["ontology_term_id"])
        terms[category] = pd.DataFrame({"label": obs[category], "ontology_term_id": ids})
    cells = pd.concat(
        [term.assign(category=category, primary=obs["is_primary_data"]) for category, term in terms.items()]
    )
    counted = cells.groupby(["category", "ontology_term_id", "label"])["primary"]
    counts = counted.agg(total_cell_count="size", unique_cell_count="sum").reset_index()
    return counts.assign(organism=organism)
