"""The jobs, and who does them. To add a peer: a script in `peers/`, its environment beside it, a line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["soma", "h5ad"]


@dataclass(frozen=True)
class Job:
    """What is to be done with a matrix of counts.

    Parameters
    ----------
    title
        What the table says above it.
    writes
        Whether an h5ad file comes out; else only the list of highly variable genes.
    result
        What is in the file beside X that is to be compared, as the table calls it; see `harness/agree.py`.
    """

    title: str
    writes: bool = True
    result: str = ""


JOBS = {
    "nlh": Job("normalise to 10,000, log1p, 2000 highly variable genes (seurat), write h5ad"),
    "nlh_v3": Job("2000 highly variable genes (seurat_v3), normalise to 10,000, log1p, write h5ad"),
    "hvg": Job("2000 highly variable genes (seurat_v3), nothing written", writes=False),
    "qc": Job("QC metrics, filter cells and genes, highly variable genes (seurat_v3), normalise, log1p, write h5ad"),
    "nlh_gzip": Job("normalise to 10,000, log1p, 2000 highly variable genes (seurat), write h5ad with gzip"),
    "pca": Job(
        "normalise to 10,000, log1p, 2000 highly variable genes (seurat), scale, 50 components, write h5ad",
        result="variances",
    ),
    "markers": Job("normalise to 10,000, log1p, markers of each cell type (wilcoxon), write h5ad", result="scores"),
    "markers_t": Job("normalise to 10,000, log1p, markers of each cell type (t-test), write h5ad", result="scores"),
}
NO_RESULT = tuple(name for name, job in JOBS.items() if not job.result)
"""What those do that have no components and no markers, or whose components and markers are not measured here."""
NO_MARKERS = (*NO_RESULT, "pca")

DEFAULT_JOBS = ("nlh", "nlh_v3", "hvg", "qc")


@dataclass(frozen=True)
class Contender:
    """A program that does some of the jobs.

    Parameters
    ----------
    name
        What the table calls it.
    kind
        What it reads.
    environment
        The folder of its virtual environment; "" for headrace's own, "R" for Rscript.
    script
        Its script in `peers/`.
    jobs
        What it can do.
    options
        Arguments of the script after the job.
    floor
        Whether it only reads or copies: nobody can be faster, and there are no numbers to compare.
    absent
        Why it is not run at all. It has a row all the same.
    """

    name: str
    kind: Kind
    environment: str = ""
    script: str = ""
    jobs: tuple[str, ...] = tuple(JOBS)
    options: tuple[str, ...] = ()
    floor: bool = False
    absent: str = ""


HEADRACE = "headrace"
LOOPED = ("nlh", "nlh_v3", "hvg", "nlh_gzip")
"""What is done by `peers/run_loop.py`, a loop of numpy, for programs that have a reader only."""

MIB = 1 << 20


def _tiles(buffers: int, tiles: int) -> tuple[str, str]:
    """Return the two settings of TileDB that decide its memory, from MiB."""
    return f"soma.init_buffer_bytes={buffers * MIB}", f"sm.mem.total_budget={tiles * MIB}"


CONTENDERS = (
    Contender(HEADRACE, "soma", script="run_headrace.py"),
    Contender("bare scan (4, 160 MiB)", "soma", script="run_scan_soma.py", options=_tiles(4, 160), floor=True),
    Contender("bare scan (128, 512 MiB)", "soma", script="run_scan_soma.py", options=_tiles(128, 512), floor=True),
    Contender("bare scan (defaults)", "soma", script="run_scan_soma.py", floor=True),
    Contender("get_anndata + scanpy", "soma", "census", "run_census_scanpy.py"),
    Contender("to_anndata(dask) + scanpy", "soma", "census", "run_census_scanpy.py", NO_MARKERS, ("dask",)),
    Contender("census pp (128, 512 MiB)", "soma", "census", "run_census_pp.py", ("hvg",), _tiles(128, 512)),
    Contender("census pp (defaults)", "soma", "census", "run_census_pp.py", ("hvg",)),
    Contender(HEADRACE, "h5ad", script="run_headrace.py"),
    Contender("copy with h5py", "h5ad", script="run_h5copy.py", jobs=("nlh", "nlh_v3", "qc", "nlh_gzip"), floor=True),
    Contender("loop of h5py + numpy", "h5ad", script="run_loop.py", jobs=LOOPED, options=("h5py",)),
    Contender("scanpy", "h5ad", "scanpy", "run_scanpy.py"),
    Contender("scanpy over dask", "h5ad", "scanpy", "run_scanpy.py", NO_MARKERS, ("dask",)),
    Contender("scanpy + illico", "h5ad", "illico", "run_scanpy.py", ("markers",), ("illico",)),
    Contender("crispyx", "h5ad", "crispyx", "run_crispyx.py", NO_RESULT),
    Contender("brisc", "h5ad", "brisc", "run_brisc.py", NO_RESULT),
    Contender("BPCells (R)", "h5ad", "R", "run_bpcells.R", NO_RESULT),
    Contender("BPCells (Python) + loop", "h5ad", "bpcells", "run_loop.py", LOOPED, ("bpcells",)),
    Contender("SnapATAC2 + loop", "h5ad", "snapatac2", "run_loop.py", LOOPED, ("snapatac2",)),
    Contender("crest-sc", "h5ad", "crest", "run_crest.py"),
    Contender("rapids-singlecell", "h5ad", absent="needs an NVIDIA GPU (and fewer than 2**31 non-zeros)"),
)


def contenders(kind: Kind, job: str, only: str = "") -> list[Contender]:
    """Return who does a job from one kind of input, headrace first; `only` is part of a name."""
    names = [word.strip() for word in only.split(",")] if only else []
    return [
        one
        for one in CONTENDERS
        if one.kind == kind
        and job in one.jobs
        and (one.name == HEADRACE or not names or any(name in one.name for name in names))
    ]
