"""crest-sc: chunked kernels in Rust with scanpy's interface."""

from typing import Any

import crest
import numpy as np
from job import GROUPS, MAX_VALUE, MIN_CELLS, MIN_GENES, N_COMPS, N_TOP_GENES, TARGET_SUM, Job

job = Job()

cells = crest.read_h5ad(job.input)
if job.filters:
    crest.pp.calculate_qc_metrics(cells)
    cells = crest.pp.filter_cells(cells, min_genes=MIN_GENES)
    cells = crest.pp.filter_genes(cells, min_cells=MIN_CELLS)
if job.flavor == "seurat_v3":
    crest.pp.highly_variable_genes(cells, flavor="seurat_v3", n_top_genes=N_TOP_GENES)
if job.writes:
    crest.pp.normalize_total(cells, target_sum=TARGET_SUM)
    crest.pp.log1p(cells)
if job.flavor == "seurat":
    crest.pp.highly_variable_genes(cells, flavor="seurat", n_top_genes=N_TOP_GENES)
uns: dict[str, Any] = {}
if job.name == "pca":
    crest.pp.scale(cells, max_value=MAX_VALUE)
    crest.tl.pca(cells, n_comps=N_COMPS)
    uns["pca"] = {"variance": np.asarray(cells.uns["pca"]["variance"])}
if job.method:
    table = crest.tl.rank_genes_groups(cells, GROUPS, method=job.method, n_genes=None)
    by_group = {str(rows["group"][0]): rows for rows in table.partition_by("group")}
    uns["rank_genes_groups"] = {
        part: np.rec.fromarrays(
            [np.array(rows[part].to_list(), dtype=object if part == "names" else None) for rows in by_group.values()],
            names=list(by_group),
        )
        for part in ("names", "scores", "logfoldchanges", "pvals", "pvals_adj")
    }
chosen = (list(cells.var_names), list(cells.var["highly_variable"])) if job.flavor else ()
if job.writes:
    adata = cells.to_anndata(transform=True)
    adata.uns.clear()  # anndata does not know how to write what is in there
    adata.uns.update(uns)
    adata.write_h5ad(job.output, compression=job.compression)
job.done(*chosen)
