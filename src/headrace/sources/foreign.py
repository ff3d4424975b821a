"""What a file or folder is, by its name and first bytes: what reads it here, or makes something that is read."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from dataclasses import dataclass
from typing import Any

HEAD = 4096
"""First bytes that are looked at."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Parameters
    ----------
    what
        Its name, with an article.
    remedy
        What reads it, or makes something of it that is read; {0} is its path.
    """

    what: str
    remedy: str


H5AD = Kind("an .h5ad file", "hr.open_h5ad({0}) reads it (--h5ad)")
H5MU = Kind("a MuData file (.h5mu)", "hr.open_h5ad({0}, modality=...) reads its modalities (--h5ad, --modality)")
TENX = Kind("a matrix of 10x Genomics (.h5)", "hr.open_10x({0}) reads it (--tenx)")
TENX_FOLDER = Kind("a 10x folder", "hr.open_10x({0}) reads it (--tenx)")
EXPERIMENT = Kind("a SOMA experiment", "hr.open_soma({0}) reads it (--soma)")
CENSUS = Kind("a Census", "hr.open_census({0}) reads it (--census)")
OF_SOMA = Kind("an array or collection of TileDB", "hr.open_soma reads the SOMA experiment that it is of (--soma)")
TABLE = Kind("a table of text", "hr.open_counts({0}) reads it, as bulk samples (headrace bulk)")
PARQUET = Kind("a Parquet file", "hr.open_counts({0}) reads it, as bulk samples (headrace bulk)")
ZARR = Kind("a Zarr store", "anndata.read_zarr({0}).write_h5ad('new.h5ad')")
LOOM = Kind("a loom file", "scanpy.read_loom({0}).write_h5ad('new.h5ad')")
H5SEURAT = Kind("a file of SeuratDisk", "SeuratDisk::Convert({0}, dest = 'h5ad') in R")
RDS = Kind("a file of R", "zellkonverter::writeH5AD(as.SingleCellExperiment(readRDS({0})), 'new.h5ad') in R")
RDATA = Kind("a file of R", "load({0}); zellkonverter::writeH5AD(sce, 'new.h5ad') in R")
QS = Kind("a file of R (qs)", "zellkonverter::writeH5AD(as.SingleCellExperiment(qs::qread({0})), 'new.h5ad') in R")
FEATHER = Kind("an Arrow (feather) file", "hr.open_counts(pandas.read_feather({0})) reads the table")
EXCEL = Kind("an Excel workbook", "pandas.read_excel({0}).to_csv('new.csv'), and hr.open_counts of that")
MTX = Kind("a Matrix Market file", "hr.open_10x of its folder reads it (--tenx)")
NPZ = Kind("an archive of numpy", "scipy.sparse.load_npz({0}), and anndata.AnnData of it with names")
NPY = Kind("an array of numpy", "numpy.load({0}), and anndata.AnnData of it with names")
PICKLE = Kind("a pickle of Python", "load it where it was made, and .write_h5ad('new.h5ad')")
LOUPE = Kind("a file of Loupe Browser", "hr.open_10x of the .h5 or folder beside it reads the counts")
MOLECULES = Kind("Cell Ranger's molecule_info.h5", "hr.open_10x of filtered_feature_bc_matrix.h5 beside it (--tenx)")
KALLISTO = Kind("kallisto's abundance.h5", "hr.open_counts of abundance.tsv beside it (headrace bulk)")
COOLER = Kind("a file of contacts (cooler)", "it holds no counts of genes")
ALIGNMENTS = Kind("a file of alignments", "count its reads first, e.g. with STARsolo or featureCounts")
READS = Kind("a file of reads", "count them first, e.g. with STARsolo or salmon")
PAGE = Kind("a web page", "download the file itself, not the page about it")
PDF = Kind("a PDF", "ask for the table itself")
JSON = Kind("JSON", "pandas.read_json({0}) may read it")
POINTER = Kind("a pointer of Git LFS", "git lfs pull fetches the file itself")
GZIP = Kind("a compressed file", "gunzip it first")
BZIP = Kind("a compressed file", "bunzip2 it first")
XZ = Kind("a compressed file", "unxz it first")
ZSTD = Kind("a compressed file", "unzstd it first")
ARCHIVE = Kind("an archive", "unpack it first")
EMPTY = Kind("empty", "copy or download it again")
FOLDER = Kind(
    "a folder", "it holds no SOMA experiment, Zarr store or 10x matrix; give the file itself, or the folder of those"
)
HDF5 = Kind("an HDF5 file", "it has nothing that an .h5ad or a matrix of 10x Genomics has")

PACKED = {ending: TABLE for name in (".csv", ".tsv", ".tab", ".txt", ".gct") for ending in (name, f"{name}.gz")}
BY_NAME: dict[str, Kind] = {
    **PACKED,
    ".loom": LOOM,
    ".h5seurat": H5SEURAT,
    ".rds": RDS,
    ".rdata": RDATA,
    ".rda": RDATA,
    ".qs": QS,
    ".zarr": ZARR,
    ".parquet": PARQUET,
    ".feather": FEATHER,
    ".xlsx": EXCEL,
    ".mtx": MTX,
    ".mtx.gz": MTX,
    ".npz": NPZ,
    ".npy": NPY,
    ".pkl": PICKLE,
    ".pickle": PICKLE,
    ".bam": ALIGNMENTS,
    ".sam": ALIGNMENTS,
    ".cram": ALIGNMENTS,
    ".cloupe": LOUPE,
    ".html": PAGE,
    ".pdf": PDF,
    ".json": JSON,
    ".fastq": READS,
    ".fastq.gz": READS,
    ".fq.gz": READS,
    ".sra": READS,
    ".gz": GZIP,
    ".bz2": BZIP,
    ".xz": XZ,
    ".zst": ZSTD,
    ".zip": ARCHIVE,
    ".tar": ARCHIVE,
    ".tar.gz": ARCHIVE,
    ".tgz": ARCHIVE,
    ".7z": ARCHIVE,
}

BY_CONTENT = (
    (b"PAR1", PARQUET),
    (b"BZh", BZIP),
    (b"\xfd7zXZ", XZ),
    (b"(\xb5/\xfd", ZSTD),
    (b"%%MatrixMarket", MTX),
    (b"RDX", RDATA),
    (b"X\n\x00", RDS),
    (b"ARROW1", FEATHER),
    (b"FEA1", FEATHER),
    (b"\x93NUMPY", NPY),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (b"BAM\x01", ALIGNMENTS),
    (b"CRAM", ALIGNMENTS),
    (b"%PDF", PDF),
    (b"version https://git-lfs", POINTER),
    (b"<", PAGE),
    (b"{", JSON),
)


def refusal(path: str | os.PathLike[str], wanted: str) -> str | None:
    """Say what a file or folder is that is not what was wanted, and what reads it; None if that is not known.

    Examples
    --------
    >>> print(refusal("cells.rds", "no .h5ad"))
    'cells.rds' is a file of R, no .h5ad: zellkonverter::writeH5AD(as.SingleCellExperiment(readRDS('cells.rds')), ...
    """
    text = os.fspath(path).removeprefix("file://")
    kind = recognized(text)
    return None if kind is None else said(text, kind, wanted)


def said(path: str, kind: Kind, wanted: str) -> str:
    """Return what something of a kind is, and what reads it."""
    above = _above(path) if kind is OF_SOMA else None
    what = kind.what if above is None else f"a part of {above[1].what}"
    return f"{path!r} is {what}, {wanted}: {remedy(path, kind)}"


def remedy(path: str, kind: Kind) -> str:
    """Return what reads something of a kind: of a part of a SOMA experiment, what reads that.

    Examples
    --------
    >>> remedy("x.h5ad", H5AD)
    "hr.open_h5ad('x.h5ad') reads it (--h5ad)"
    """
    above = _above(path) if kind is OF_SOMA else None
    where, found = (path, kind) if above is None else above
    return found.remedy.format(repr(where))


def recognized(path: str) -> Kind | None:
    """Return the kind of a file or folder; None if it is none that is known."""
    if os.path.isdir(path):
        return _folder(path)
    lowered = path.lower()
    by_name = next((BY_NAME[end] for end in sorted(BY_NAME, key=len, reverse=True) if lowered.endswith(end)), None)
    if not os.path.isfile(path):
        return by_name
    if os.path.getsize(path) == 0:
        return EMPTY
    return _hdf5(path) if is_hdf5(path) else by_name or _content(path)


def inside(file: Any) -> Kind:
    """Return the kind of an open HDF5 file; HDF5 itself if it is none that is known."""
    there = set(file)
    if {"obs", "var"} & there:
        return H5MU if "mod" in there else H5AD
    if "mod" in there:
        return H5MU
    if {"matrix", "row_attrs", "col_attrs"} <= there:
        return LOOM
    if {"assays", "cell.names"} <= there:
        return H5SEURAT
    if {"barcode_info", "molecule_info"} & there:
        return MOLECULES
    if {"aux", "est_counts"} <= there:
        return KALLISTO
    if {"bins", "chroms", "pixels"} <= there or there == {"resolutions"}:
        return COOLER
    groups = [file[name] for name in there if _is_group(file, name)]
    if any({"barcodes", "data", "indices", "indptr"} <= set(group) for group in groups):
        return TENX
    return H5AD if "X" in there else HDF5


def _is_group(file: Any, name: str) -> bool:
    """Whether a member is a group of this very file: links are not followed, and may lead nowhere."""
    from ..support.heaps import check_heap

    link = file.get(name, getclass=True, getlink=True)
    if getattr(link, "__name__", "") != "HardLink":
        return False
    check_heap(file, file.id.links.get_info(name.encode()).u)
    return hasattr(file[name], "keys")


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is HDF5, at whatever place it begins (MuData's begin after 512 bytes)."""
    with open(path, "rb") as file:
        return any(file.seek(at) == at and file.read(8) == b"\x89HDF\r\n\x1a\n" for at in (0, 512, 1024, 2048))


def _hdf5(path: str) -> Kind | None:
    import h5py  # only where something is not what it should be

    from ..support.heaps import check_heap

    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            check_heap(file)
            return inside(file)
    except Exception:  # it is broken; who reads it says how
        return None


def _folder(path: str) -> Kind:
    members = set(os.listdir(path))
    if members & {".zgroup", "zarr.json", ".zattrs", ".zmetadata"}:
        return ZARR
    if any(name.endswith(("matrix.mtx", "matrix.mtx.gz")) for name in members):
        return TENX_FOLDER
    if {"census_data", "census_info"} <= members:
        return CENSUS
    if not members & {"__group", "__schema", "__tiledb_group.tdb"}:
        return FOLDER
    return EXPERIMENT if {"obs", "ms"} <= members else OF_SOMA


def _above(path: str) -> tuple[str, Kind] | None:
    """Return the experiment or Census that a folder of TileDB is a part of."""
    here = os.path.abspath(path)
    for _ in range(6):
        here = os.path.dirname(here)
        if os.path.isdir(here) and (kind := _folder(here)) in (EXPERIMENT, CENSUS):
            return here, kind
    return None


def _content(path: str) -> Kind | None:
    """Return the kind of a file by its first bytes."""
    with open(path, "rb") as file:
        start = file.read(HEAD)
    if start.startswith(b"\x1f\x8b"):
        try:
            unpacked = gzip.GzipFile(fileobj=io.BytesIO(start)).read1(HEAD)
        except (OSError, EOFError, zlib.error):
            return GZIP
        inner = next((kind for magic, kind in BY_CONTENT if unpacked.startswith(magic)), None)
        if inner in (RDS, RDATA, ALIGNMENTS, MTX):
            return inner
        return TABLE if _is_table(unpacked) else GZIP
    if start.startswith(b"PK\x03\x04"):
        first = start[30 : 30 + int.from_bytes(start[26:28], "little")]
        kinds = ((b"[Content_Types].xml", EXCEL), (b".npy", NPZ), (b"zarr.json", ZARR), (b".zgroup", ZARR))
        return next((kind for end, kind in kinds if first.endswith(end)), ARCHIVE)
    kind = next((kind for magic, kind in BY_CONTENT if start.startswith(magic)), None)
    return kind or (TABLE if _is_table(start) else None)


def _is_table(start: bytes) -> bool:
    """Whether bytes are lines of text with a separator in the first."""
    line = start.split(b"\n", 1)[0]
    return b"\0" not in start and b"\n" in start and any(mark in line for mark in (b"\t", b",", b";", b" "))
