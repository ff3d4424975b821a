"""`headrace export` and `headrace explain`: a plan is run, or put into words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..support.places import absolute
from .console import Session, out_of, peak_memory, size
from .group import headrace
from .options import DASK, PLAN, RATE, options
from .progress import Progress
from .spelled import spelled

EXAMPLES = """\b
Examples:
  headrace export --census 2025-11-08 --organism mus_musculus \\
    --dataset-id 4546e757-34d0-4d17-be06-538318925fcd --recipe full-length --out liver.h5ad
  headrace export --census ./census --organism homo_sapiens \\
    --obs-filter "tissue_general == 'lung'" --primary-only \\
    --layer counts --min-genes 500 --min-cells 5 --length-normalize auto \\
    --target-sum 1e4 --log1p --hvg 2000 --memory 1GB --out lung.h5ad
  headrace export --census ./census --recipe recipe.toml
  headrace export --soma ./experiment --var-names feature_name --out all.h5ad
  headrace export --h5ad lung.h5ad --raw --target-sum 1e4 --log1p --out normalized.h5ad

\b
A recipe file:
  [query]                     # all of this is optional; the command line wins
  organism = "mus_musculus"
  dataset_id = "4546e757-34d0-4d17-be06-538318925fcd"
  [output]
  path = "liver.h5ad"

\b
  [[step]]                    # steps happen in the order of the file
  step = "FilterCells"
  min_genes = 500
  [[step]]
  step = "SaveLayer"
  name = "counts"
  [[step]]
  step = "NormalizeTotal"
  target_sum = 1e4
"""


@headrace.command(epilog=EXAMPLES)
@options((*PLAN, *DASK))
@click.pass_obj
def export(session: Session, /, **given: Any) -> None:
    """Stream cells through steps into an .h5ad file.

    Without steps, the counts are written as they are. The file appears whole or not at all.
    """
    from ..engine.leftover import SPOOLS
    from .plans import executor_of, job, written

    executor = executor_of(given)
    todo = job(given, needs_out=True)
    assert todo.out is not None
    spool = Path(given["spool"] or absolute(todo.out).parent / SPOOLS)
    session.watch(todo.out, spool)
    with Progress(session) as progress:
        spec = written(todo, given, todo.out, spool, progress, executor)
    before = todo.plan.source.spec
    summed = any(step.becomes_source for step in todo.plan.steps)
    cells = f"{spec.n_obs:,} samples" if summed else f"{out_of(spec.n_obs, before.n_obs)} cells"
    session.say(
        f"wrote {todo.out}: {cells} x {out_of(spec.n_vars, before.n_vars)} genes, {size(todo.out.stat().st_size)}, "
        f"{session.seconds():.1f} s, peak {peak_memory() / 1e6:,.0f} MB"
    )
    if given["report"] is not None:
        session.say(f"wrote {given['report']}: {size(Path(given['report']).stat().st_size)}")


@headrace.command()
@options((*PLAN, RATE))
@click.pass_obj
def explain(session: Session, /, **given: Any) -> None:
    """Say what an export would do and take; write nothing.

    Takes the arguments of "headrace export", and --rate; --out may be left out.
    """
    from .plans import job

    todo = job(given, needs_out=False)
    lines = todo.plan.explain(todo.memory, given["rate"]).lines
    click.echo("\n".join(spelled(line, session.options) if line.startswith("reading") else line for line in lines))
