"""Small files that would take memory without end: refused, with figures."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr

HUGE = 10**9
CELLS, GENES = 20, 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    names = pd.DataFrame(index=[f"c{i}" for i in range(CELLS)]), pd.DataFrame(index=[f"g{i}" for i in range(GENES)])
    path = tmp_path / "x.h5ad"
    ad.AnnData(sparse.csr_matrix(np.eye(CELLS, GENES, dtype=np.float32)), *names).write_h5ad(path)
    return path


def never_written(group: Any, name: str, n: int, dtype: Any) -> Any:
    """Put a dataset in the place of another: all ones, which are in no file."""
    attributes = dict(group[name].attrs) if name in group else {}
    if name in group:
        del group[name]
    text = h5py.check_string_dtype(np.dtype(dtype)) is not None
    made = group.create_dataset(name, (n,), dtype, chunks=(min(n, 1 << 16),), fillvalue=None if text else 1)
    made.attrs.update(attributes)
    return made


@pytest.mark.parametrize(("form", "lines", "said"), [("csr", CELLS, "10 genes"), ("csc", GENES, "20 cells")])
def test_a_row_or_column_longer_than_there_are_places(form: str, lines: int, said: str, path: Path) -> None:
    with h5py.File(path, "r+") as file:
        never_written(file["X"], "data", HUGE, "f4")
        never_written(file["X"], "indices", HUGE, "i4")
        del file["X/indptr"]
        file["X/indptr"] = np.where(np.arange(lines + 1) < 5, 0, HUGE)
        file["X"].attrs["encoding-type"] = f"{form}_matrix"
    assert path.stat().st_size < 100_000
    with pytest.raises(
        hr.SourceError, match=f"'[cg]4' has 1,000,000,000 values, but there are {said}; the file is broken"
    ):
        hr.open_h5ad(path, holds="counts").cost()


def test_an_indptr_without_end(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        never_written(file["X"], "indptr", HUGE, "i8")
    with pytest.raises(hr.SourceError, match="indptr has 22 entries, not 21"):
        hr.open_h5ad(path).cost()


def test_categories_without_end(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        kind = file["obs"].create_group("kind")
        kind.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
        kind["codes"] = np.zeros(CELLS, np.int8)
        made = never_written(kind, "categories", HUGE, h5py.string_dtype())
        made.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
        file["obs"].attrs["column-order"] = np.array(["kind"], dtype=object)
    with pytest.raises(hr.MemoryBudgetError, match=r"'kind' .* has 1,000,000,000 categories, .* take about [\d,]+ MB"):
        hr.open_h5ad(path).spec  # noqa: B018


def test_genes_without_end(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        never_written(file["var"], "_index", HUGE, h5py.string_dtype())
        file["X"].attrs["shape"] = np.array([CELLS, HUGE])
    with pytest.raises((hr.MemoryBudgetError, hr.SourceError), match="1,?000,?000,?000"):
        hr.open_h5ad(path).spec  # noqa: B018


@pytest.mark.parametrize("what", ["row", "indptr", "barcodes", "features"])
def test_of_cell_ranger(what: str, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["shape"] = np.array([GENES, CELLS])
        group["indptr"] = np.where(np.arange(CELLS + 1) < 5, 0, HUGE if what == "row" else 3)
        group["barcodes"] = np.array([f"B{i}-1".encode() for i in range(CELLS)])
        features = group.create_group("features")
        for name in ("id", "name"):
            features[name] = np.array([f"g{i}".encode() for i in range(GENES)])
        features["feature_type"] = np.array([b"Gene Expression"] * GENES)
        features["genome"] = np.array([b"x"] * GENES)
        for name in ("data", "indices"):
            never_written(group, name, HUGE if what == "row" else 3, "i4")
        if what == "indptr":
            never_written(group, "indptr", HUGE, "i8")
        elif what == "barcodes":
            never_written(group, "barcodes", HUGE, h5py.string_dtype())
        elif what == "features":
            never_written(features, "id", HUGE, h5py.string_dtype())
    said = "1,000,000,000 (values|barcodes)" if what != "indptr" else "indptr does not fit 20 barcodes"
    with pytest.raises((hr.SourceError, hr.MemoryBudgetError), match=said):
        hr.open_10x(path)


@pytest.mark.parametrize(
    ("line", "said"), [("10 20 1000000000", "have 1,000,000,000 values"), ("%" * 10**6, "cut off")]
)
def test_a_matrix_of_text(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "matrix.mtx.gz").write_bytes(
        gzip.compress(
            f"%%MatrixMarket matrix coordinate integer general\n{line}\n".encode()
            + b"1 1 1\n" * 1000 * (line[0] != "%")
        )
    )
    (tmp_path / "barcodes.tsv.gz").write_bytes(gzip.compress("".join(f"B{i}-1\n" for i in range(CELLS)).encode()))
    features = "".join(f"g{i}\tg{i}\tGene Expression\n" for i in range(GENES))
    (tmp_path / "features.tsv.gz").write_bytes(gzip.compress(features.encode()))
    with pytest.raises((hr.SourceError, hr.InputError), match=said):
        hr.Plan(hr.open_10x(tmp_path), [hr.FilterGenes(min_cells=1)]).to_anndata()
