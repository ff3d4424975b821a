"""The jobs, as scanpy's tutorial does them, on an AnnData in memory or over dask."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import scanpy as sc
from job import GROUPS, MAX_VALUE, MIN_CELLS, MIN_GENES, N_COMPS, N_TOP_GENES, TARGET_SUM, Job


def do(job: Job, adata: Any) -> None:
    """Run the job on `adata`, whose `var` is indexed by gene id, and write it."""
    if job.filters:
        adata.var["mt"] = adata.var["feature_name"].astype(str).str.startswith("MT-")
        sc.pp.calculate_qc_metrics(adata, qc_vars=["mt"], percent_top=None, inplace=True)
        sc.pp.filter_cells(adata, min_genes=MIN_GENES)
        sc.pp.filter_genes(adata, min_cells=MIN_CELLS)
    if job.flavor == "seurat_v3":
        sc.pp.highly_variable_genes(adata, flavor="seurat_v3", n_top_genes=N_TOP_GENES)
    if job.writes:
        sc.pp.normalize_total(adata, target_sum=TARGET_SUM)
        sc.pp.log1p(adata)
    if job.flavor == "seurat":
        sc.pp.highly_variable_genes(adata, flavor="seurat", n_top_genes=N_TOP_GENES)
    if job.name == "pca":
        add_components(adata)
    if "illico" in job.options:
        add_markers_by_illico(adata)
    elif job.method:
        sc.tl.rank_genes_groups(adata, GROUPS, method=job.method)
    if job.writes:
        adata.write_h5ad(job.output, compression=job.compression)
    job.done(*((adata.var_names, adata.var["highly_variable"]) if job.flavor else ()))


def add_components(adata: Any) -> None:
    """Find components of the scaled highly variable genes; X stays as it is."""
    chosen = adata[:, adata.var["highly_variable"]].copy()
    if hasattr(chosen.X, "map_blocks"):  # dask
        dense = np.empty((0, 0), dtype=chosen.X.dtype)
        chosen.X = chosen.X.map_blocks(lambda block: block.toarray(), dtype=dense.dtype, meta=dense)
        solver = "covariance_eigh"
    else:
        chosen.X = chosen.X.toarray()
        solver = "arpack"
    sc.pp.scale(chosen, max_value=MAX_VALUE)
    sc.pp.pca(chosen, n_comps=N_COMPS, svd_solver=solver, mask_var=None)
    adata.obsm["X_pca"], adata.uns["pca"] = chosen.obsm["X_pca"], chosen.uns["pca"]
    adata.uns["pca"]["params"].pop("mask_var")  # None, which older versions of anndata do not write
    if hasattr(adata.obsm["X_pca"], "compute"):
        adata.obsm["X_pca"] = adata.obsm["X_pca"].compute()


def add_markers_by_illico(adata: Any) -> None:
    """Test with illico, set to compute what scanpy computes."""
    from illico import asymptotic_wilcoxon

    adata.uns["rank_genes_groups"] = asymptotic_wilcoxon(
        adata,
        is_log1p=True,
        group_keys=GROUPS,
        n_threads=len(os.sched_getaffinity(0)),
        use_continuity=False,
        tie_correct=False,
        exp_post_agg=True,
        return_as_scanpy=True,
    )
    # anndata does not write None
    adata.uns["rank_genes_groups"]["params"] = {"groupby": GROUPS, "reference": "rest", "method": "wilcoxon"}
