"""cellxgene_census.experimental.pp: highly variable genes, seurat_v3.  Options: NAME=VALUE, settings of TileDB."""

import cellxgene_census
import cellxgene_census.experimental.pp
from job import N_TOP_GENES, ORGANISM, Job

job = Job()

config = {name: int(value) for name, value in (option.split("=") for option in job.options)}
with (
    cellxgene_census.open_soma(uri=job.input, tiledb_config=config or None) as census,
    census["census_data"][ORGANISM].axis_query("RNA") as query,
):
    genes = cellxgene_census.experimental.pp.highly_variable_genes(query, n_top_genes=N_TOP_GENES)
    names = query.var(column_names=["feature_id"]).concat()["feature_id"].to_pylist()
job.done(names, genes["highly_variable"])
