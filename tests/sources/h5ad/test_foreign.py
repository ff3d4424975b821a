"""What other programs write: attributes as fixed-length text, and files that are no .h5ad at all."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix])
def test_attributes_of_fixed_length_as_hdf5_jl_writes_them(form: type, tmp_path: Path) -> None:
    obs = pd.DataFrame({"a": pd.Categorical(["x", "y"]), "b": pd.array([1, None], dtype="Int64")}, index=["p", "q"])
    expected = ad.AnnData(form(np.eye(2, dtype=np.float32)), obs=obs)
    expected.write_h5ad(tmp_path / "in.h5ad")

    def fixed(_: str, each: h5py.Group) -> None:
        for name in list(each.attrs):
            if isinstance(each.attrs[name], str):
                each.attrs[name] = np.bytes_(each.attrs[name])

    with h5py.File(tmp_path / "in.h5ad", "a") as file:
        file.visititems(fixed)
        fixed("", file)
        file["obs"].attrs["column-order"] = np.array([b"a", b"b"])
    got = hr.Plan(hr.open_h5ad(tmp_path / "in.h5ad")).to_anndata()
    pd.testing.assert_frame_equal(got.obs, expected.obs)
    np.testing.assert_array_equal(got.X.toarray(), np.eye(2))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x.rds", "file of R.*zellkonverter"),
        ("x.parquet", "Parquet.*hr.open_counts"),
        ("x.mtx.gz", "Matrix Market.*open_10x"),
        ("x.csv", "hr.open_counts"),
        ("x.h5ad.gz", "compressed.*gunzip"),
    ],
)
def test_files_are_named_for_what_they_are(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(hr.InputError, match=said):
        hr.open_h5ad(tmp_path / name)


def test_by_content(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"PAR1....")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".zgroup").write_text("{}")
    with h5py.File(tmp_path / "loom.h5", "w") as file:
        for group in ("matrix", "row_attrs", "col_attrs"):
            file.create_group(group)
    for path, said in {"x": "Parquet", "store": "Zarr store.*read_zarr", "loom.h5": "loom.*read_loom"}.items():
        with pytest.raises(hr.InputError, match=said):
            hr.open_h5ad(tmp_path / path)
