"""Files that are no .h5ad, named for what they are, with the line that makes one of them."""

from __future__ import annotations

import os

BY_NAME = {
    ".loom": ("a loom file", "scanpy.read_loom({0}).write_h5ad('new.h5ad')"),
    ".h5seurat": ("a file of SeuratDisk", "SeuratDisk::Convert({0}, dest = 'h5ad') in R"),
    ".rds": ("a file of R", "zellkonverter::writeH5AD(as.SingleCellExperiment(readRDS({0})), 'new.h5ad') in R"),
    ".rdata": ("a file of R", "load({0}); zellkonverter::writeH5AD(sce, 'new.h5ad') in R"),
    ".rda": ("a file of R", "load({0}); zellkonverter::writeH5AD(sce, 'new.h5ad') in R"),
    ".zarr": ("a Zarr store", "anndata.read_zarr({0}).write_h5ad('new.h5ad')"),
    ".parquet": ("a Parquet file", "pandas.read_parquet({0}), and hr.open_counts of the table"),
    ".feather": ("a Feather file", "pandas.read_feather({0}), and hr.open_counts of the table"),
    ".xlsx": ("an Excel workbook", "pandas.read_excel({0}).to_csv('new.csv'), and hr.open_counts of that"),
    ".mtx": ("a Matrix Market file", "hr.open_10x of its folder reads it"),
    ".mtx.gz": ("a Matrix Market file", "hr.open_10x of its folder reads it"),
    ".csv": ("a table of text", "hr.open_counts({0}), which reads it"),
    ".tsv": ("a table of text", "hr.open_counts({0}), which reads it"),
    ".txt": ("a table of text", "hr.open_counts({0}), which reads it"),
    ".npz": ("an archive of numpy", "scipy.sparse.load_npz({0}), and anndata.AnnData of it with names"),
    ".npy": ("an array of numpy", "numpy.load({0}), and anndata.AnnData of it with names"),
    ".pkl": ("a pickle of Python", "load it where it was made, and .write_h5ad('new.h5ad')"),
    ".qs": ("a file of R (qs)", "zellkonverter::writeH5AD(as.SingleCellExperiment(qs::qread({0})), 'new.h5ad') in R"),
    ".gct": ("a table of text (GCT)", "hr.open_counts({0}), which reads it"),
    ".bam": ("alignments", "count its reads first, e.g. with STARsolo"),
    ".cloupe": ("a file of Loupe Browser", "hr.open_10x of the .h5 or folder beside it reads the counts"),
    ".html": ("a web page", "download the file itself, not the page about it"),
    ".gz": ("a compressed file", "gunzip it first"),
    ".bz2": ("a compressed file", "bunzip2 it first"),
    ".xz": ("a compressed file", "unxz it first"),
    ".zip": ("an archive", "unzip it first"),
    ".tar": ("an archive", "unpack it first"),
}

BY_CONTENT = (
    (b"PAR1", ".parquet"),
    (b"\x1f\x8b", ".gz"),
    (b"BZh", ".bz2"),
    (b"\xfd7zXZ", ".xz"),
    (b"PK\x03\x04", ".zip"),
    (b"%%MatrixMarket", ".mtx"),
    (b"RDX", ".rda"),
    (b"ARROW1", ".feather"),
)


def foreign(path: str) -> str | None:
    """Say what a file or folder that is no HDF5 is, by its name or its first bytes; None if that is not known.

    Examples
    --------
    >>> print(foreign("cells.rds"))
    'cells.rds' is a file of R, no .h5ad: zellkonverter::writeH5AD(as.SingleCellExperiment(readRDS('cells.rds')), ...
    """
    lowered = path.lower().rstrip("/")
    kind = next((end for end in sorted(BY_NAME, key=len, reverse=True) if lowered.endswith(end)), None)
    if os.path.isdir(path):
        members = set(os.listdir(path))
        if members & {".zgroup", "zarr.json", ".zattrs"}:
            kind = ".zarr"
        elif any(name.startswith("matrix.mtx") for name in members):
            kind = ".mtx"
    elif os.path.isfile(path) and kind is None:
        with open(path, "rb") as file:
            start = file.read(16)
        kind = next((end for magic, end in BY_CONTENT if start.startswith(magic)), None)
    return None if kind is None else said(path, kind)


def said(path: str, kind: str) -> str:
    """Return what a file of a kind is, and the line that makes an .h5ad of it."""
    what, line = BY_NAME[kind]
    return f"{path!r} is {what}, no .h5ad: {line.format(repr(path))}"
