"""crispyx: streams h5ad files from step to step."""

from pathlib import Path

import crispyx as cx
import h5py
from job import MIN_CELLS, MIN_GENES, N_TOP_GENES, TARGET_SUM, Job

job = Job()

if job.compression:
    job.cannot("writes without compression only")
NAMED = {"gene_name_column": "feature_name", "verbose": False}  # it does not take Ensembl ids
counts = Path("counts.h5ad")
if job.filters:
    cells = cx.pp.filter_cells(job.input, min_genes=MIN_GENES, **NAMED)
    genes = cx.pp.filter_genes(job.input, min_cells=MIN_CELLS, cell_mask=cells, **NAMED)
    cx.write_filtered_subset(job.input, cell_mask=cells, gene_mask=genes, output_path=counts)
else:
    counts.symlink_to(job.input)  # it writes the result of HVG into the file it reads
CHOOSE = {"n_top_genes": N_TOP_GENES, "cell_mask": None, "inplace": False, **NAMED}
if job.flavor == "seurat_v3":
    table = cx.pp.highly_variable_genes(counts, flavor="seurat_v3", **CHOOSE)
if job.writes:
    cx.pp.normalize_total_log1p(counts, job.output, target_sum=TARGET_SUM, verbose=False)
if job.flavor == "seurat":
    table = cx.pp.highly_variable_genes(job.output, flavor="mean_dispersion", **CHOOSE)
with h5py.File(counts) as file:
    names = file["var"][file["var"].attrs["_index"]].asstr()[:]
job.done(names, table["highly_variable"])
