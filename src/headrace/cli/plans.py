"""From arguments to a plan: the same `Plan` that a program would make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

import headrace as hr

from ..errors import InputError, nearest
from .bulk import METHODS

GENE_RULES = ("measured", "any", "all")
CENSUS_LAYERS = ("raw", "normalized")
STEP_NAMES = (
    "layer",
    "min_genes",
    "min_cells",
    "pseudobulk",
    "method",
    "length_normalize",
    "target_sum",
    "log1p",
    "hvg",
    "hvg_flavor",
    "hvg_layer",
)


@dataclass(frozen=True)
class Job:
    """A plan, and what to do with it.

    Parameters
    ----------
    plan
        What to run.
    out
        The file to write, if one was named.
    compression, memory
        As in `Plan.write_h5ad`.
    """

    plan: hr.Plan
    out: Path | None
    compression: Literal["gzip"] | None
    memory: int | str | None


def job(given: Mapping[str, Any], *, needs_out: bool) -> Job:
    """Make a plan of the options of a command.

    Parameters
    ----------
    given
        Values of `options.PLAN`, by name.
    needs_out
        Whether a file must be named.

    Raises
    ------
    click.UsageError
        If options contradict each other, or one is missing.
    HeadraceError
        If what they say cannot be done.
    """
    flags = [f"--{name.replace('_', '-')}" for name in STEP_NAMES if given[name] is not None]
    if given["recipe"] is not None and flags:
        raise _usage(f"--recipe says all the steps, so {', '.join(flags)} cannot be given with it")
    if given["hvg"] is None and (given["hvg_flavor"] or given["hvg_layer"]) is not None:
        raise _usage("--hvg-flavor and --hvg-layer say how to rank genes; --hvg says how many, and is missing")
    if given["method"] is not None and given["pseudobulk"] is None:
        raise _usage("--method compares samples; --pseudobulk, which makes them of cells, is missing")

    from .recipe_file import Recipe, recipe  # it imports every step, which takes a second

    said = Recipe() if given["recipe"] is None else recipe(given["recipe"])
    query = {**said.query, **_query(given)}
    _check_source(given, query)
    out = _out(given["out"] or said.output.path, overwrite=given["overwrite"])
    if needs_out and out is None:
        raise _usage("Missing option '--out'.")
    memory = given["memory"] or said.output.memory
    if memory is not None:
        from ..support.memory import parse_bytes

        parse_bytes(memory)
    compression = given["compression"] or said.output.compression
    plan = hr.Plan(_source(given, query), said.steps if given["recipe"] is not None else _steps(given))
    return Job(plan, out, "gzip" if compression == "gzip" else None, memory)


def read_genes(genes: str) -> str | list[str]:
    """Return a rule for genes as it is, or the genes listed in a file, one a line; # begins a comment.

    Raises
    ------
    InputError
        If it is neither.
    """
    if genes in GENE_RULES:
        return genes
    path = Path(genes)
    if not path.is_file():
        raise InputError(f"--genes {genes}: there is no such file, and it is no rule; {nearest(genes, GENE_RULES)}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--genes {genes}: it cannot be read as text: {error}") from error
    listed = [line.partition("#")[0].strip() for line in lines]
    if not any(listed):
        raise InputError(f"--genes {genes}: the file lists no gene; write one id or name a line")
    return [gene for gene in listed if gene]


def _check_source(given: Mapping[str, Any], query: Mapping[str, Any]) -> None:
    """Raise if options do not say where cells come from, or say it twice."""
    of_tenx = [f"--{name.replace('_', '-')}" for name in ("feature_type", "genome") if given[name]]
    if given["tenx"] is not None:
        others = [f"--{name}" for name in ("census", "h5ad") if given[name] is not None]
        wrong = [
            f"--{name.replace('_', '-')}" for name in ("raw", "holds", "var_index", "tiledb_config") if given[name]
        ]
        if others:
            raise _usage(f"--tenx and {', '.join(others)} both say where cells come from; give one")
        if query or wrong:
            raise _usage(
                f"{', '.join([*query, *wrong])}: not for --tenx, which is read whole; steps choose cells and genes"
            )
        return
    if of_tenx:
        raise _usage(f"{', '.join(of_tenx)}: for --tenx, which is missing")
    of_file = [f"--{name.replace('_', '-')}" for name in ("raw", "holds", "var_index") if given[name]]
    if given["h5ad"] is None:
        if given["census"] is None:
            raise _usage("Missing option '--census'. (A local file is given by --h5ad.)")
        if of_file:
            raise _usage(f"{', '.join(of_file)}: for a file, which --h5ad names")
        if given["layer_in"] not in (None, *CENSUS_LAYERS):
            raise _usage(f"--layer-in: {given['layer_in']!r} is not one of 'raw', 'normalized'")
        if "organism" not in query:
            raise _usage("Missing option '--organism'.")
        return
    if given["census"] is not None:
        raise _usage("--census and --h5ad both say where cells come from; give one")
    asked = [name for name in query if name != "layer"]
    asked += [name for name in ("tiledb_config", "reader") if given[name]]
    if asked:
        names = ", ".join(asked)
        raise _usage(f"{names}: for a Census; a file of --h5ad is read whole, and steps choose its cells and genes")


def _source(given: Mapping[str, Any], query: Mapping[str, Any]) -> Any:
    """Open what cells come from."""
    if given["tenx"] is not None:
        return hr.open_10x(
            given["tenx"], feature_type=given["feature_type"] or "Gene Expression", genome=given["genome"]
        )
    if given["h5ad"] is None:
        census = hr.open_census(given["census"], tiledb_config=given["tiledb_config"], reader=given["reader"] or "auto")
        return census.query(**query)
    return hr.open_h5ad(
        given["h5ad"],
        layer=query.get("layer"),
        raw=given["raw"],
        holds=given["holds"],
        var_index=given["var_index"],
    )


def _query(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of `Census.query` that the command line names."""
    query = {
        "organism": given["organism"],
        "dataset_id": list(given["dataset_id"]) or None,
        "obs_filter": given["obs_filter"],
        "genes": None if given["genes"] is None else read_genes(given["genes"]),
        "primary_only": given["primary_only"],
        "layer": given["layer_in"],
    }
    return {name: value for name, value in query.items() if value is not None}


def _steps(given: Mapping[str, Any]) -> list[Any]:
    """Return the steps that the flags name, in their fixed order."""
    steps: list[Any] = []
    saved = [] if given["layer"] is None else [hr.SaveLayer(given["layer"])]
    if given["pseudobulk"] is None:
        steps += saved
    if given["min_genes"] is not None:
        steps.append(hr.FilterCells(min_genes=given["min_genes"]))
    if given["min_cells"] is not None:
        steps.append(hr.FilterGenes(min_cells=given["min_cells"]))
    if given["pseudobulk"] is not None:
        steps += [hr.Pseudobulk([name.strip() for name in given["pseudobulk"].split(",")]), *saved]
    if given["method"] is not None:
        steps.append(hr.NormFactors(METHODS[given["method"]]))
    if given["length_normalize"] == "auto":
        steps.append(hr.NormalizeLength())
    elif given["length_normalize"] == "all":
        steps.append(hr.NormalizeLength(assays="all"))
    if given["target_sum"] is not None:
        steps.append(hr.NormalizeTotal(None if given["target_sum"] == "median" else given["target_sum"]))
    if given["log1p"]:
        steps.append(hr.Log1p())
    if given["hvg"] is not None:
        flavor: Any = given["hvg_flavor"] or "seurat"  # the step knows which there are
        steps.append(hr.HighlyVariableGenes(given["hvg"], flavor=flavor, layer=given["hvg_layer"]))
    return steps


def _out(path: str | None, *, overwrite: bool) -> Path | None:
    """Return where to write, or raise now what would be raised when all is looked up."""
    if path is None:
        return None
    if Path(path).suffix != ".h5ad":
        raise InputError(f"cannot write {path!r}: the name of an .h5ad file ends in .h5ad")

    from ..support.atomic import check_target

    check_target(Path(path).absolute(), overwrite)
    return Path(path)


def _usage(message: str) -> click.UsageError:
    return click.UsageError(message, ctx=click.get_current_context())
