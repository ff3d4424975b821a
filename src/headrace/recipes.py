"""Pipelines that the field uses, as plain lists of steps: print them, change them, nest them."""

from __future__ import annotations

from typing import Any, Literal

from .errors import InputError
from .steps.bulk import NormFactors
from .steps.cells import FilterCells
from .steps.hvg import HighlyVariableGenes
from .steps.layers import DropLayer, SaveLayer, SaveRaw, UseLayer
from .steps.normalize import Log1p, NormalizeLength
from .steps.pca import PCA
from .steps.rates import Libsize, LogCPM
from .steps.scale import Scale
from .steps.select import FilterGenes, SelectGenes
from .steps.totals import NormalizeTotal, SizeFactors
from .support.given import check_call


def full_length(
    *,
    min_genes: int = 500,
    min_cells: int = 5,
    target_sum: float = 1e4,
    n_top_genes: int = 1000,
    assays: Literal["all"] | None = None,
    pca: int | None = None,
) -> list[Any]:
    """Return the Census notebook "Normalizing full-length gene sequencing data", counts kept as a layer.

    Parameters
    ----------
    min_genes, min_cells, target_sum, n_top_genes
        As in the notebook.
    assays
        "all" corrects every cell for gene length, whatever its assay.
    pca
        So many principal components of the highly variable genes, scaled and clipped at 10; `X` stays as it is.

    Examples
    --------
    >>> import headrace as hr
    >>> [type(step).__name__ for step in hr.recipes.full_length()][3:5]
    ['NormalizeLength', 'NormalizeTotal']
    """
    check_call(full_length, locals())
    return [
        SaveLayer("counts"),
        FilterCells(min_genes=min_genes),
        FilterGenes(min_cells=min_cells),
        NormalizeLength() if assays is None else NormalizeLength(assays=assays),
        NormalizeTotal(target_sum=target_sum),
        Log1p(),
        HighlyVariableGenes(n_top_genes=n_top_genes),
        *([] if pca is None else [Scale(max_value=10, store=False), PCA(pca)]),
    ]


def tpm() -> list[Any]:
    """Return transcripts per million: counts per kilobase, scaled to a total of 1e6, in every cell.

    Source: Li & Dewey 2011; the same numbers as scuttle's `calculateTPM`.

    Examples
    --------
    >>> import headrace as hr
    >>> [type(step).__name__ for step in hr.recipes.tpm()]
    ['NormalizeLength', 'NormalizeTotal']
    """
    return [NormalizeLength(assays="all", unit="kilobase"), NormalizeTotal(target_sum=1e6)]


def cp10k() -> list[Any]:
    """Return the logarithm of 1 + counts per 10,000, as scanpy and Seurat's LogNormalize; counts kept as a layer.

    Examples
    --------
    >>> import numpy as np, pandas as pd, headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> cells = ArraySource(np.array([[1, 3]]), pd.DataFrame(index=["c"]), pd.DataFrame(index=["g", "h"]))
    >>> hr.Plan(cells, hr.recipes.cp10k()).to_anndata().X.toarray().round(3)  # log(1 + 2500), log(1 + 7500)
    array([[7.824, 8.923]], dtype=float32)
    """
    return [SaveLayer("counts"), NormalizeTotal(target_sum=1e4), Log1p()]


def census_normalized() -> list[Any]:
    """Return the Census's own `normalized` layer, in full precision: it is stored there with 15 bits.

    x / total for assays that count one end of each molecule; (x / length) / total for the others.
    Use it with `genes="all"`: the Census sums over all genes.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.recipes.census_normalized()[1].target_sum
    1.0
    """
    return [NormalizeLength(), NormalizeTotal(target_sum=1.0)]


def lognormcounts() -> list[Any]:
    """Return log2 of 1 + counts per size factor, as scuttle's `logNormCounts`; counts kept as a layer.

    Examples
    --------
    >>> import headrace as hr
    >>> [type(step).__name__ for step in hr.recipes.lognormcounts()]
    ['SaveLayer', 'SizeFactors', 'Log1p']
    """
    return [SaveLayer("counts"), SizeFactors(), Log1p(base=2)]


def workbench(
    *,
    target_sum: float = 1e4,
    n_top_genes: int = 2000,
    max_value: float = 10,
    subset: bool = True,
    raw: bool = True,
    pca: int | None = None,
) -> list[Any]:
    """Return what clustering starts from: scaled log values in `X`, what they were made of beside them.

    Layer "counts" holds the counts, "logcounts" the logarithms before scaling; `var` says which genes
    are highly variable. Filter cells and genes before it.

    Parameters
    ----------
    target_sum, n_top_genes, max_value
        As in `NormalizeTotal`, `HighlyVariableGenes` (flavor "seurat") and `Scale`.
    subset
        True keeps the highly variable genes only, in `X` and layers: scaled values are dense. False keeps all
        genes, cells x genes x 4 bytes of them in `X`.
    raw
        Whether "logcounts" is `raw` too, with the genes of `X`: scanpy's `rank_genes_groups` and plots take it, where
        scaled values would give NaN. It takes no room in the file, and that of another matrix in memory.
    pca
        So many principal components of the highly variable genes.

    Examples
    --------
    >>> import headrace as hr
    >>> [type(step).__name__ for step in hr.recipes.workbench()][-3:]
    ['HighlyVariableGenes', 'SelectGenes', 'Scale']
    """
    check_call(workbench, locals())
    return [
        SaveLayer("counts"),
        NormalizeTotal(target_sum=target_sum),
        Log1p(),
        SaveLayer("logcounts"),
        *([SaveRaw("logcounts")] if raw else []),
        HighlyVariableGenes(n_top_genes=n_top_genes),
        *([SelectGenes("highly_variable")] if subset else []),
        Scale(max_value=max_value),
        *([] if pca is None else [PCA(pca)]),
    ]


def cpm(
    *, layer: str | None = None, target_sum: float = 1e6, out_layer: str | None = None, keep_x: bool = False
) -> list[Any]:
    """Return counts per million; library sizes go to `obs["libsize"]`, and a sample without counts gets zeros.

    Parameters
    ----------
    layer
        The saved layer with the counts, e.g. "counts"; None for `X`.
    target_sum
        What every sample sums to afterwards.
    out_layer
        Name of a layer for the result; None: it is in `X` only.
    keep_x
        True: `X` stays as it was, and the result is in `out_layer`, which must be named.

    Examples
    --------
    >>> import headrace as hr
    >>> [type(step).__name__ for step in hr.recipes.cpm(layer="counts", out_layer="cpm")]
    ['UseLayer', 'Libsize', 'NormalizeTotal', 'SaveLayer']
    """
    check_call(cpm, locals())
    if keep_x and out_layer is None:
        raise InputError("cpm(keep_x=True): name the layer for the result with out_layer='cpm'")
    before = f"X before {out_layer}"
    return [
        *([SaveLayer(before)] if keep_x else []),
        *([] if layer is None else [UseLayer(layer)]),
        Libsize(),
        NormalizeTotal(target_sum=target_sum),
        *([] if out_layer is None else [SaveLayer(out_layer)]),
        *([UseLayer(before), DropLayer(before)] if keep_x else []),
    ]


def bulk_workbench(*, prior_count: float = 2, max_value: float = 10) -> list[Any]:
    """Return TMM-normalised log2 counts per million, scaled gene by gene; what they were made of beside them.

    Layer "counts" holds the counts, "logcpm" the logarithms before scaling; `obs` has `libsize`, `norm_factors` and
    `effective_libsize`. Both "logcpm" and `X` are dense.

    Parameters
    ----------
    prior_count, max_value
        As in `LogCPM` and `Scale`.

    Examples
    --------
    >>> import headrace as hr
    >>> [type(step).__name__ for step in hr.recipes.bulk_workbench()]
    ['SaveLayer', 'NormFactors', 'LogCPM', 'SaveLayer', 'Scale']
    """
    check_call(bulk_workbench, locals())
    return [
        SaveLayer("counts"),
        NormFactors(),
        LogCPM(prior_count=prior_count),
        SaveLayer("logcpm"),
        Scale(max_value=max_value),
    ]
