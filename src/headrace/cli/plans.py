"""From arguments to a plan: the same `Plan` that a program would make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

import headrace as hr

from ..chunk import StreamSpec
from ..errors import InputError
from ..events import Listener
from ..protocols import Executor
from ..support.places import absolute
from .bulk import METHODS
from .samples import asked_sample
from .sources import asked, check_source, open_source

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
    "hvg_batch",
    "pca",
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


def job(given: Mapping[str, Any], *, needs_out: bool, then: Sequence[Any] = ()) -> Job:
    """Make a plan of the options of a command.

    Parameters
    ----------
    given
        Values of `options.PLAN`, by name.
    needs_out
        Whether a file must be named.
    then
        Steps that come after all that the options name.

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
    how = [f"--hvg-{name}" for name in ("flavor", "layer", "batch") if given[f"hvg_{name}"] is not None]
    if given["hvg"] is None and how:
        raise _usage(f"{' and '.join(how)}: how to rank genes; --hvg says how many, and is missing")
    if given["pca"] is not None and given["hvg"] is None:
        raise _usage("--pca is of the highly variable genes; --hvg says how many, and is missing")
    if given["method"] is not None and given["pseudobulk"] is None:
        raise _usage("--method compares samples; --pseudobulk, which makes them of cells, is missing")

    sample = asked_sample(given)

    from .recipe_file import Recipe, recipe  # it imports every step, which takes a second

    said = Recipe() if given["recipe"] is None else recipe(given["recipe"])
    query = asked(given, said.query)
    kind = check_source(given, query, said.query)
    out = _out(given["out"] or said.output.path, overwrite=given["overwrite"])
    if needs_out and out is None:
        raise _usage("Missing option '--out'.")
    memory = given["memory"] or said.output.memory
    from ..support.memory import opening

    compression = given["compression"] or said.output.compression
    with opening(memory):
        source = open_source(kind, given, query)
    if sample:
        source = source.sample(**sample)
    steps = said.steps if given["recipe"] is not None else _steps(given)
    plan = hr.Plan(source, [*steps, *then])
    return Job(plan, out, "gzip" if compression == "gzip" else None, memory)


def executor_of(given: Mapping[str, Any]) -> Executor | None:
    """Return the executor that --dask and --workers ask for, if one does."""
    if given["dask"] is not None and given["workers"] is not None:
        raise _usage("--workers starts processes on this machine, --dask names a cluster that is there; give one")
    if given["dask"] is None and given["workers"] is None:
        return None
    return hr.Distributed(given["dask"], given["workers"])


def written(
    todo: Job,
    given: Mapping[str, Any],
    out: Path,
    spool: Path,
    progress: Listener,
    executor: Executor | None = None,
) -> StreamSpec:
    """Run a plan into an .h5ad file, as the options of a command say."""
    return todo.plan.write_h5ad(
        out,
        memory=todo.memory,
        overwrite=given["overwrite"],
        compression=todo.compression,
        checksum=not given["no_checksum"],
        counts=given["counts"] or "float32",
        dense=given["dense"],
        spool=spool,
        resume=given["resume"],
        keep_spool=given["keep_spool"],
        executor=executor,
        on_event=progress,
        report=given["report"],
    )


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
        how = {"layer": given["hvg_layer"], "batch_key": given["hvg_batch"]}
        steps.append(hr.HighlyVariableGenes(given["hvg"], flavor=flavor, **how))
    if given["pca"] is not None:
        steps += [hr.Scale(max_value=10, store=False), hr.PCA(given["pca"])]
    return steps


def _out(path: str | None, *, overwrite: bool) -> Path | None:
    """Return where to write, or raise now what would be raised when all is looked up."""
    if path is None:
        return None
    if Path(path).suffix != ".h5ad":
        raise InputError(f"cannot write {path!r}: the name of an .h5ad file ends in .h5ad")

    from ..support.atomic import check_target

    check_target(absolute(path), overwrite)
    return Path(path)


def _usage(message: str) -> click.UsageError:
    return click.UsageError(message, ctx=click.get_current_context())
