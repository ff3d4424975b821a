"""`headrace aggregate`: a table of groups of cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..support.places import absolute
from .console import Session, peak_memory, size
from .group import STEPS, headrace, option
from .options import DASK, PLAN, options
from .progress import Progress

EXAMPLES = """\b
Examples:
  headrace aggregate --h5ad lung.h5ad --by cell_type --out table.csv
  headrace aggregate --census 2025-11-08 --organism homo_sapiens \\
    --obs-filter "tissue_general == 'lung'" --genes any --target-sum 1e4 --log1p \\
    --by cell_type,tissue --metrics n_obs,mean,fraction --out dots.parquet
"""

LEFT_OUT = ("pseudobulk", "method", "hvg", "hvg_flavor", "hvg_layer", "hvg_batch", "pca", "report")
"""Options of an export that have no place here."""

GROUPS = (
    option(
        "--by", required=True, metavar="COLUMN,COLUMN", help="Columns of obs, e.g. cell_type,tissue.", section=STEPS
    ),
    option(
        "--metrics",
        metavar="NAME,NAME",
        help="Which of n_obs, sum, mean, var, count_nonzero, fraction; all by default.",
        section=STEPS,
    ),
    option("--of-layer", metavar="NAME", help="Of this saved layer, instead of X.", section=STEPS),
)


def _kept(one: Any) -> bool:
    """Return whether an option of an export is one of this command."""
    probe: Any = one(lambda: None)
    return probe.__click_params__[0].name not in LEFT_OUT


@headrace.command(epilog=EXAMPLES)
@options((*filter(_kept, PLAN), *DASK, *GROUPS))
@click.pass_obj
def aggregate(session: Session, /, **given: Any) -> None:
    """Sum up groups of cells: sums, means, variances and counts of every gene, in flat memory.

    An .h5ad file has one row per group and a layer per metric, as scanpy.get.aggregate; a .csv, .tsv (or .gz) or
    .parquet file one row per group and gene. The steps of an export may come before.
    """
    import headrace as hr

    from ..engine.leftover import SPOOLS
    from ..engine.settings import Settings
    from ..support.memory import default_budget, parse_bytes
    from .plans import executor_of, job, written

    executor = executor_of(given)
    by = [name.strip() for name in given["by"].split(",")]
    more = {} if given["metrics"] is None else {"metrics": [name.strip() for name in given["metrics"].split(",")]}
    table = given["out"] is not None and Path(given["out"]).suffix != ".h5ad"
    sink = hr.LongTable(given["out"], given["overwrite"]) if table else None
    step = hr.GroupStatistics(by, layer=given["of_layer"], **more)
    asked = {**given, **dict.fromkeys(LEFT_OUT), **({"out": None} if table else {})}
    todo = job(asked, needs_out=not table, then=(step,))
    out = Path(given["out"]) if table else todo.out
    assert out is not None
    spool = Path(given["spool"] or absolute(out).parent / SPOOLS)
    session.watch(out, spool)
    with Progress(session) as progress:
        if sink is not None:
            memory = default_budget() if todo.memory is None else parse_bytes(todo.memory)
            settings = Settings(
                memory, executor, on_event=progress, spool=spool, resume=given["resume"], keep_spool=given["keep_spool"]
            )
            spec = todo.plan.write(sink, settings)
        else:
            spec = written(todo, asked, out, spool, progress, executor)
    session.say(
        f"wrote {out}: {spec.n_obs:,} groups of {todo.plan.source.spec.n_obs:,} cells x {spec.n_vars:,} genes, "
        f"{size(out.stat().st_size)}, {session.seconds():.1f} s, peak {peak_memory() / 1e6:,.0f} MB"
    )
