"""The jobs, as scanpy's tutorial does them, on an AnnData in memory or over dask."""

from __future__ import annotations

from typing import Any

import scanpy as sc
from job import MIN_CELLS, MIN_GENES, N_TOP_GENES, TARGET_SUM, Job


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
    if job.writes:
        adata.write_h5ad(job.output, compression=job.compression)
    job.done(adata.var_names, adata.var["highly_variable"])
