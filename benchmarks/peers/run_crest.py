"""crest-sc: chunked kernels in Rust with scanpy's interface."""

import crest
from job import MIN_CELLS, MIN_GENES, N_TOP_GENES, TARGET_SUM, Job

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
names, chosen = list(cells.var_names), list(cells.var["highly_variable"])
if job.writes:
    adata = cells.to_anndata(transform=True)
    adata.uns.clear()  # anndata does not know how to write what is in there
    adata.write_h5ad(job.output, compression=job.compression)
job.done(names, chosen)
