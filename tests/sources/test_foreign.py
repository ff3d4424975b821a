"""Whatever is given to a function that opens something else is named for what it is, with the one that opens it."""

from __future__ import annotations

import gzip
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiledbsoma as soma
from scipy import sparse

import headrace as hr
from headrace.cli import main

OPENERS: dict[str, Callable[..., Any]] = {
    "h5ad": hr.open_h5ad,
    "soma": hr.open_soma,
    "census": hr.open_census,
    "tenx": hr.open_10x,
    "counts": hr.open_counts,
}
READS = {
    "cells.h5ad": (r"an \.h5ad file", "open_h5ad", ("h5ad", "counts")),
    "without_suffix": (r"an \.h5ad file", "open_h5ad", ("h5ad", "counts")),
    "cells.h5mu": ("MuData", "open_h5ad", ("h5ad",)),
    "tenx.h5": ("10x Genomics", "open_10x", ("tenx",)),
    "old.h5": ("10x Genomics", "open_10x", ("tenx",)),
    "outs": ("a 10x folder", "open_10x", ("tenx",)),
    "starsolo": ("a 10x folder", "open_10x", ("tenx",)),
    "experiment": ("SOMA ?[Ee]xperiment", "open_soma", ("soma",)),
    "experiment/obs": ("SOMA", "open_soma", ()),
    "experiment/ms/RNA/X/raw": ("SOMA", "open_soma", ()),
    "census": ("Census|SOMACollection", "open_census", ("census",)),
    "census/census_data": ("Census|SOMACollection", "open_census", ()),
    "census/census_info/datasets": ("Census|SOMADataFrame", "open_census", ()),
    "store.zarr": ("a Zarr store", r"read_zarr\(", ()),
    "v3": ("a Zarr store", r"read_zarr\(", ()),
    "counts.tsv": ("a table of text", "open_counts", ("counts",)),
    "counts.csv.gz": ("a table of text", "open_counts", ("counts",)),
    "table": ("a table of text", "open_counts", ("counts",)),
    "packed": ("a table of text", "open_counts", ("counts",)),
    "counts.parquet": ("Parquet", "open_counts", ("counts",)),
    "cells.loom": ("a loom file", r"read_loom\(", ()),
    "seurat": ("SeuratDisk", "SeuratDisk::Convert", ()),
    "molecules.h5": ("molecule_info", "filtered_feature_bc_matrix.h5", ()),
    "abundance.h5": ("kallisto", "abundance.tsv", ()),
    "contacts.cool": ("cooler", "no counts", ()),
    "other.h5": ("HDF5|no .h5 of Cell Ranger", "it has", ()),
    "cells.rds": (" R", "readRDS", ()),
    "r_data": (" R", "readRDS", ()),
    "cells.pkl": ("pickle", "where it was made", ()),
    "page": ("a web page", "download", ()),
    "pointer.h5ad": ("Git LFS|one column only", "git lfs pull|separated", ()),
    "nothing": ("empty", "", ()),
    "book": ("Excel", "read_excel", ()),
}
"""What it is called, what is said to read it, and which functions do."""


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory, demo_census: Path) -> Path:
    root = tmp_path_factory.mktemp("things")
    X = sparse.csr_matrix(np.arange(12, dtype=np.float32).reshape(4, 3))
    adata = ad.AnnData(X, pd.DataFrame(index=list("abcd")), pd.DataFrame(index=["g1", "g2", "g3"]))
    adata.write_h5ad(root / "cells.h5ad")
    shutil.copy(root / "cells.h5ad", root / "without_suffix")
    with h5py.File(root / "cells.h5mu", "w", userblock_size=512) as file, h5py.File(root / "cells.h5ad") as cells:
        cells.copy(cells["/"], file.create_group("mod"), "rna")
        cells.copy(cells["obs"], file, "obs")
    with h5py.File(root / "tenx.h5", "w") as file, h5py.File(root / "old.h5", "w") as old:
        for group, parts in ((file.create_group("matrix"), "features"), (old.create_group("GRCh38"), "")):
            group["barcodes"] = np.array([b"A-1", b"B-1"])
            group["data"], group["indices"] = np.array([5, 1, 2]), np.array([0, 0, 1])
            group["indptr"], group["shape"] = np.array([0, 1, 3]), np.array([2, 2])
            inside = group.create_group(parts) if parts else group
            inside["id" if parts else "genes"] = np.array([b"E1", b"E2"])
            inside["name" if parts else "gene_names"] = np.array([b"A", b"B"])
    for folder, features in (("outs", "features.tsv"), ("starsolo", "genes.tsv")):
        (root / folder).mkdir()
        (root / folder / "barcodes.tsv").write_text("AAAC-1\nAAAG-1\n")
        (root / folder / features).write_text("ENSG1\tA\nENSG2\tB\n")
        head = "%%MatrixMarket matrix coordinate integer general\n"
        (root / folder / "matrix.mtx").write_text(f"{head}2 2 3\n1 1 5\n1 2 1\n2 2 2\n")
    shutil.copytree(demo_census, root / "census")
    shutil.copytree(demo_census / "census_data" / "mus_musculus", root / "experiment")
    for name, mark in (("store.zarr", ".zgroup"), ("v3", "zarr.json")):
        (root / name).mkdir()
        (root / name / mark).write_text("{}")
    table = pd.DataFrame({"s1": [5, 0, 2], "s2": [7, 1, 0]}, index=["ENSG00000000003", "g2", "g3"])
    table.to_csv(root / "counts.tsv", sep="\t")
    table.to_csv(root / "counts.csv.gz")
    (root / "table").write_text(table.to_csv(sep="\t"))
    (root / "packed").write_bytes(gzip.compress(table.to_csv().encode()))
    table.to_parquet(root / "counts.parquet")
    for name, members in {
        "cells.loom": ("row_attrs", "col_attrs", "matrix"),
        "seurat": ("assays", "cell.names"),
        "molecules.h5": ("barcode_info", "library_info"),
        "abundance.h5": ("aux", "est_counts"),
        "contacts.cool": ("bins", "chroms", "indexes", "pixels"),
        "other.h5": ("some", "thing"),
    }.items():
        with h5py.File(root / name, "w") as file:
            for member in members:
                file.create_group(member)
    for name in ("cells.rds", "r_data"):
        (root / name).write_bytes(gzip.compress(b"X\n\0\0\0\x03\0\x04" + bytes(60)))
    (root / "cells.pkl").write_bytes(pickle.dumps({"a": 1}))
    (root / "page").write_text("<!DOCTYPE html><html></html>\n")
    (root / "pointer.h5ad").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (root / "nothing").write_bytes(b"")
    with zipfile.ZipFile(root / "book", "w") as book:
        book.writestr("[Content_Types].xml", "<Types/>")
        book.writestr("xl/workbook.xml", "<workbook/>")
    return root


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("thing", READS)
def test_what_it_is_and_what_opens_it(thing: str, opener: str, things: Path) -> None:
    what, remedy, readers = READS[thing]
    if opener in readers:
        OPENERS[opener](things / thing)
        return
    with pytest.raises(hr.InputError) as refused:
        OPENERS[opener](things / thing)
    said = str(refused.value)
    assert re.search(what, said), said
    assert re.search(remedy, said), said


@pytest.mark.parametrize("opener", ["h5ad", "soma", "census", "tenx"])
@pytest.mark.parametrize(
    ("thing", "option"),
    [
        ("cells.h5ad", "--h5ad"),
        ("outs", "--tenx"),
        ("tenx.h5", "--tenx"),
        ("experiment", "--soma"),
        ("experiment/ms", "--soma"),
        ("census", "--census"),
        ("counts.tsv", "headrace bulk"),
        ("store.zarr", "anndata.read_zarr"),
    ],
)
def test_on_the_command_line(
    thing: str, option: str, opener: str, things: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if option == f"--{opener}" and "/" not in thing:
        return
    more = ["--organism", "mus_musculus"] if opener == "census" else []
    code = main(["export", f"--{opener}", str(things / thing), *more, "--out", str(tmp_path / "out.h5ad")])
    said = capsys.readouterr().err
    assert code == 1
    assert option in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_a_soma_object_alone(tmp_path: Path) -> None:
    """An array that is of no experiment is named all the same."""
    soma.SparseNDArray.create(str(tmp_path / "x"), type=pa.float32(), shape=(3, 3)).close()
    for opener in (hr.open_soma, hr.open_census):
        with pytest.raises(hr.InputError, match="is a SOMASparseNDArray, not a .*the SOMA experiment that it is of"):
            opener(tmp_path / "x")
    with pytest.raises(hr.InputError, match="an array or collection of TileDB, no .h5ad"):
        hr.open_h5ad(tmp_path / "x")
