"""The floor under SOMA: read every non-zero of X, do nothing with it.  Options: NAME=VALUE, settings of TileDB."""

import tiledbsoma as soma
from job import ORGANISM, Job

job = Job()

config = {name: int(value) for name, value in (option.split("=") for option in job.options)}
context = soma.SOMATileDBContext(tiledb_config=config)
nnz = 0
with soma.open(f"{job.input}/census_data/{ORGANISM}/ms/RNA/X/raw", context=context) as X:
    for table in X.read().tables():
        nnz += table.num_rows
job.done(nnz=nnz)
