"""Makes pseudobulk_decoupler.csv: decoupler's sums of heart_1k_v2's cells, as totals and some genes.

python make_pseudobulk.py ../../../shared    (decoupler 2.2.0)
"""

from __future__ import annotations

import sys
from pathlib import Path

import anndata
import decoupler
import numpy as np
import pandas as pd
import scipy.sparse as sp

shared = Path(sys.argv[1])
folder = shared / "data/sc/mouse/heart_1k_v2"
if not folder.is_dir():
    folder = next((shared / "data/sc").rglob("heart_1k_v2"))
table = pd.read_parquet(folder / "X.parquet")
obs, var = pd.read_parquet(folder / "obs.parquet"), pd.read_parquet(folder / "var.parquet")
X = sp.csr_matrix((table["count"].to_numpy(float), (table["cell"], table["gene"])), shape=(len(obs), len(var)))
number = np.arange(len(obs))
frame = pd.DataFrame({"donor": [f"d{n % 5}" for n in number], "kind": [f"k{n % 7 % 3}" for n in number]})
adata = anndata.AnnData(X, frame.set_axis(number.astype(str)), pd.DataFrame(index=[f"g{n}" for n in range(len(var))]))
rows = []
for mode in ("sum", "mean"):
    bulk = decoupler.pp.pseudobulk(adata, sample_col="donor", groups_col="kind", mode=mode, skip_checks=True)
    for at in range(bulk.n_obs):
        values = np.asarray(bulk.X[at].todense()).ravel() if sp.issparse(bulk.X) else bulk.X[at]
        chosen = np.argsort(-values, kind="stable")[:5]
        about = bulk.obs.iloc[at]
        rows += [
            (mode, about["donor"], about["kind"], int(about["psbulk_cells"]), values.sum(), gene, values[gene])
            for gene in chosen.tolist()
        ]
columns = ["mode", "donor", "kind", "n_cells", "total", "gene", "value"]
pd.DataFrame(rows, columns=columns).to_csv("pseudobulk_decoupler.csv", index=False)
