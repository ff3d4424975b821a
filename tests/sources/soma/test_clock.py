"""A clock that is behind that of the machine which wrote the data: all of the data is read."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from tests.somaio import from_anndata

DAY = 86_400_000


def later(found: re.Match[str]) -> str:
    return f"__{int(found[1]) + DAY}_{int(found[2]) + DAY}_"


@pytest.mark.parametrize("reader", ["auto", "tiledb"])
def test_data_written_tomorrow(reader: Any, tmp_path: Path) -> None:

    X = np.random.default_rng(0).poisson(1.0, (60, 20)).astype(np.float32)
    obs, var = pd.DataFrame(index=[f"c{i}" for i in range(60)]), pd.DataFrame(index=[f"g{i}" for i in range(20)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from_anndata(str(tmp_path / "soma"), anndata.AnnData(sparse.csr_matrix(X), obs, var), "RNA")
    for path in sorted(tmp_path.rglob("*"), key=lambda path: -len(path.parts)):
        if path.parent.name != "__schema":  # what is written in it is not a time
            path.rename(path.with_name(re.sub(r"^__(\d{13})_(\d{13})_", later, path.name)))
    adata = hr.Plan(hr.open_soma(tmp_path / "soma", reader=reader)).to_anndata()
    np.testing.assert_array_equal(adata.X.toarray(), X)
