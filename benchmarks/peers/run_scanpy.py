"""scanpy on an h5ad file in memory.  Option: dask, for scanpy over dask."""

import os

import h5py
import scanpy as sc
import scanpy_steps
from job import Job

job = Job()

CELLS_PER_CHUNK = 5_000
if "dask" in job.options:
    import anndata as ad
    import dask
    from anndata.experimental import read_elem_lazy
    from anndata.io import read_elem

    dask.config.set(scheduler="threads", num_workers=len(os.sched_getaffinity(0)))
    with h5py.File(job.input) as file:
        X = read_elem_lazy(file["X"], chunks=(CELLS_PER_CHUNK, int(file["X"].attrs["shape"][1])))
        adata = ad.AnnData(X=X, obs=read_elem(file["obs"]), var=read_elem(file["var"]))
        scanpy_steps.do(job, adata)
else:
    scanpy_steps.do(job, sc.read_h5ad(job.input))
