"""cellxgene_census.get_anndata, then scanpy in memory.  Option: dask, for to_anndata(dask=...) and scanpy over that."""

import cellxgene_census
import scanpy_steps
from job import ORGANISM, Job

job = Job()

CELLS_PER_CHUNK = 10_000
with cellxgene_census.open_soma(uri=job.input) as census:
    if "dask" in job.options:
        import tiledbsoma as soma

        with census["census_data"][ORGANISM].axis_query("RNA", obs_query=soma.AxisQuery()) as query:
            adata = query.to_anndata("raw", dask={"chunk_size": CELLS_PER_CHUNK})
    else:
        adata = cellxgene_census.get_anndata(census, ORGANISM)
    adata.var_names = adata.var["feature_id"].astype(str)
    scanpy_steps.do(job, adata)
