"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from .group import STEPS, option
from .samples import SAMPLE

F = TypeVar("F", bound=Callable[..., Any])


def total(ctx: click.Context, param: click.Parameter, value: str | None) -> float | str | None:
    """Read a number, or the word "median"."""
    if value is None or value == "median":
        return value
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a number nor 'median'", ctx, param) from None


def settings(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> dict[str, str]:
    """Split every KEY=VALUE."""
    for one in value:
        if not one.partition("=")[0].strip() or "=" not in one:
            raise click.BadParameter(f"{one!r} is not of the form KEY=VALUE", ctx, param)
    return {key.strip(): text.strip() for key, _, text in (one.partition("=") for one in value)}


SOURCE, RUN = "Cells and genes", "Output and run"


def _census(required: bool) -> Callable[[F], F]:
    return option(
        "--census",
        required=required,
        metavar="PATH|RELEASE|S3",
        help="A Census: its path or s3:// URI, or a release such as 2025-11-08, stable or latest.",
        section=SOURCE,
    )


TILEDB = (
    option(
        "--tiledb-config",
        callback=settings,
        multiple=True,
        metavar="KEY=VALUE",
        help="A setting of TileDB, e.g. vfs.s3.region=eu-west-1. May be given several times.",
        section=SOURCE,
    ),
)
RETRY = (
    option(
        "--retry-for",
        metavar="TIME",
        help="For how long to try again what fails on the way to a remote source, since the last byte that came: "
        "5min by default.",
        section=SOURCE,
    ),
)
RATE = option(
    "--rate",
    metavar="RATE",
    help="Of the line to a remote source, e.g. 50Mbit: says how long fetching takes. By default what was seen.",
    section=RUN,
)
READER = (
    option(
        "--outside",
        is_flag=True,
        help="Read parts of a Census or SOMA experiment that are outside its folder or bucket, too.",
        section=SOURCE,
    ),
    option(
        "--ignore-nnz",
        is_flag=True,
        help="Leave out nnz of the obs of a SOMA experiment, as where it counts the values of another X.",
        section=SOURCE,
    ),
    option(
        "--reader",
        type=click.Choice(["auto", "tiles", "tiledb"]),
        help="Who reads X: headrace itself (tiles) or TileDB. auto: tiles where X is stored as the Census stores it.",
        section=SOURCE,
    ),
)
H5AD = (
    option(
        "--tenx", metavar="FILE.h5|FOLDER", help="A 10x .h5 file or .mtx folder, instead of a Census.", section=SOURCE
    ),
    option(
        "--feature-type", metavar="NAME", help="Which features of --tenx; Gene Expression by default.", section=SOURCE
    ),
    option("--genome", metavar="NAME", help="Which genome of --tenx, if there are several.", section=SOURCE),
    option("--soma", metavar="PATH|URI", help="A SOMA experiment, instead of a Census.", section=SOURCE),
    option("--measurement", metavar="NAME", help="Which measurement of --soma; RNA by default.", section=SOURCE),
    option("--h5ad", metavar="FILE", help="A local .h5ad or .h5mu file, instead of a Census.", section=SOURCE),
    option("--modality", metavar="NAME", help="Which modality of an .h5mu, e.g. rna.", section=SOURCE),
    option("--raw", is_flag=True, help="Read raw.X of the file, with the genes of raw.var.", section=SOURCE),
    option(
        "--holds",
        type=click.Choice(["counts", "normalized", "logged", "standardized"]),
        help="What the file's matrix holds; counts are expected.",
        section=SOURCE,
    ),
    option(
        "--var-index",
        metavar="COLUMN",
        help="Column of var of --h5ad or --soma with the ids of genes; by default its own index.",
        section=SOURCE,
    ),
    option(
        "--var-names",
        metavar="COLUMN",
        help="Column of var to call genes by, e.g. feature_name. Ids are kept in feature_id.",
        section=SOURCE,
    ),
)
QUERY = (
    option("--organism", metavar="NAME", help="E.g. mus_musculus or homo_sapiens.", section=SOURCE),
    option(
        "--dataset-id",
        multiple=True,
        metavar="ID",
        help="Only cells of this dataset. May be given several times.",
        section=SOURCE,
    ),
    option(
        "--obs-filter",
        metavar="FILTER",
        help="Only cells that match a SOMA value filter, e.g. \"tissue_general == 'liver'\".",
        section=SOURCE,
    ),
    option(
        "--genes",
        metavar="measured|any|all|FILE",
        help="Genes measured in every dataset of the query (the default), in any, all of the Census; or those "
        "listed in a file, one id or name a line.",
        section=SOURCE,
    ),
    option(
        "--primary-only/--keep-duplicates",
        default=None,
        help="Leave out, or keep, cells that are also in another dataset. By default they are kept with a warning.",
        section=SOURCE,
    ),
    option(
        "--layer-in",
        metavar="raw|normalized|NAME",
        help="Which layer to read: of a Census or SOMA experiment, raw by default; of a file, X by default.",
        section=SOURCE,
    ),
)
RECIPE = option(
    "--recipe",
    metavar="NAME|FILE.toml",
    help="All steps by name, e.g. full-length, cp10k, tpm, census-normalized; or a recipe file. Instead of the options "
    "that follow.",
    section=STEPS,
)
STEP_FLAGS = (
    option("--layer", metavar="NAME", help="Save what is read as a layer of this name, e.g. counts.", section=STEPS),
    option("--min-genes", type=int, metavar="N", help="Keep cells with at least N genes.", section=STEPS),
    option("--min-cells", type=int, metavar="N", help="Keep genes seen in at least N of those cells.", section=STEPS),
    option(
        "--pseudobulk",
        metavar="COLUMN,COLUMN",
        help="Sum the cells of each group, e.g. donor_id,cell_type, into one sample; groups of 10 cells or more.",
        section=STEPS,
    ),
    option(
        "--method",
        type=click.Choice(["tmm", "tmmwsp", "rle", "upperquartile", "ratio", "poscounts"], case_sensitive=False),
        help="Find normalisation factors of the samples of --pseudobulk, as edgeR and (ratio, poscounts) DESeq2.",
        section=STEPS,
    ),
    option(
        "--length-normalize",
        type=click.Choice(["auto", "all", "off"]),
        help="Divide by gene length: in the cells of full-length assays (auto), in all, in none (the default).",
        section=STEPS,
    ),
    option(
        "--target-sum",
        callback=total,
        metavar="NUMBER|median",
        help="Scale every cell to this total, e.g. 1e4, or to the median total.",
        section=STEPS,
    ),
    option(
        "--log1p/--no-log1p", default=None, help="Take the logarithm of 1 + x, or do not (the default).", section=STEPS
    ),
    option("--hvg", type=int, metavar="N", help="Mark the N most variable genes.", section=STEPS),
    option("--hvg-flavor", metavar="FLAVOR", help="How to rank them, as in scanpy; seurat by default.", section=STEPS),
    option(
        "--hvg-layer", metavar="NAME", help="Rank by this layer, e.g. counts, which seurat_v3 needs.", section=STEPS
    ),
    option(
        "--hvg-batch",
        metavar="COLUMN",
        help="Rank within each value of this column of obs, e.g. dataset_id.",
        section=STEPS,
    ),
    option(
        "--pca",
        type=int,
        metavar="N",
        help="Find N principal components of the genes of --hvg, scaled and clipped at 10; X stays as it is.",
        section=STEPS,
    ),
)
OUTPUT = (
    option("--out", metavar="FILE.h5ad", help="The file to write.", section=RUN),
    option("--overwrite", is_flag=True, help="Replace the file, and the report, if they exist.", section=RUN),
    option("--report", metavar="FILE.html", help="Also write a report of the run: one page of HTML.", section=RUN),
    option("--compression", type=click.Choice(["none", "gzip"]), help="Of the file; none by default.", section=RUN),
    option(
        "--no-checksum",
        is_flag=True,
        help="Leave HDF5's checksums (fletcher32) out, for programs that do not know them, such as kerchunk.",
        section=RUN,
    ),
    option(
        "--counts",
        type=click.Choice(["float32", "int32"]),
        help="The type of X and layers that hold counts; float32 by default.",
        section=RUN,
    ),
    option(
        "--dense/--sparse",
        default=None,
        help="Write X and layers as dense arrays (the default for samples, as pydeseq2 needs), or sparse (for cells).",
        section=RUN,
    ),
    option(
        "--memory",
        metavar="AMOUNT",
        help="The most memory to take, e.g. 1GB. By default a quarter of what there is, at most 4 GB.",
        section=RUN,
    ),
)
SPOOL = (
    option(
        "--spool",
        metavar="FOLDER",
        help="Where what was read is kept, of a remote source or for steps that look at all cells first; "
        ".headrace-spool beside the file by default.",
        section=RUN,
    ),
    option(
        "--resume/--no-resume",
        default=True,
        help="Go on from what an interrupted run of the same plan has kept there (the default), or begin anew.",
        section=RUN,
    ),
    option("--keep-spool", is_flag=True, help="Leave it there when the file is whole.", section=RUN),
)
DASK = (
    option(
        "--dask",
        metavar="ADDRESS",
        help="Have the workers of a dask cluster do it, e.g. tcp://10.0.0.1:8786; --memory is of each of them.",
        section=RUN,
    ),
    option(
        "--workers",
        type=int,
        metavar="N",
        help="Have N processes of this machine do it, by dask; --memory is of each of them.",
        section=RUN,
    ),
)
CENSUS = (_census(required=True), *TILEDB, *RETRY)
PLAN = (_census(required=False), *TILEDB, *RETRY, *READER, *H5AD, *QUERY, *SAMPLE, RECIPE, *STEP_FLAGS, *OUTPUT, *SPOOL)


def options(given: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    """Return a decorator that gives a command these options, in this order."""

    def decorate(function: F) -> F:
        for one in reversed(given):
            function = one(function)
        return function

    return decorate
