"""brisc: in memory, compiled."""

import os

import numpy as np
from brisc import SingleCell
from job import MIN_CELLS, MIN_GENES, N_TOP_GENES, Job

job = Job()

if job.flavor == "seurat":
    job.cannot("has no flavor seurat")
cells = SingleCell(job.input, num_threads=len(os.sched_getaffinity(0)))
if job.filters:
    cells = cells.qc_metrics(allow_float=True)
    cells = cells.qc(subset=True, max_mito_fraction=None, min_genes=MIN_GENES, nonzero_MALAT1=False, allow_float=True)
    cells = cells.filter_var(np.bincount(cells.X.indices, minlength=cells.shape[1]) >= MIN_CELLS)
else:
    cells = cells.skip_qc()
cells = cells.hvg(QC_column=None, num_genes=N_TOP_GENES, min_cells=1)
if job.writes:
    cells = cells.normalize(method="logCP10k", QC_column=None, inplace=True)
    cells.save(job.output, overwrite=True)
job.done(cells.var_names.to_list(), cells.var["highly_variable"].to_list())
