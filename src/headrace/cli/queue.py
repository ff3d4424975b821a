"""`headrace plan`, `work`, `merge`, `assemble` and `status`: a run as tasks of a batch queue, without a daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ..support.limits import whole
from .console import Session, size
from .group import headrace, option
from .options import OUTPUT, PLAN, RUN, SPOOL, options
from .progress import Progress

EXAMPLES = """\b
Examples:
  headrace plan --census ./census --organism homo_sapiens --recipe cp10k --memory 4GB --shards 64 --out run
  headrace work run --shard 7        # every shard once, in any order, on any machine that sees the folder
  headrace status run
  headrace merge run                 # when all shards of a pass are done, and there is another pass
  headrace assemble run --out x.h5ad
"""

LEFT_OUT = ("report", "overwrite", "out", "spool", "resume", "keep_spool", "dense")
"""Options of an export that `assemble` takes, or nobody."""

SHARDS = (
    option("--out", required=True, metavar="FOLDER", help="The folder of the run: new, and seen by all.", section=RUN),
    option("--shards", type=int, required=True, metavar="N", help="Tasks of each pass.", section=RUN),
    option("--threads", type=int, default=1, metavar="N", help="Of each task; 1 by default.", section=RUN),
    option(
        "--chunks",
        is_flag=True,
        help="Shards also make the chunks of the file, compressed if it is, after the last pass: 'assemble' then only "
        "copies. Say here how the file is stored (--compression, --no-checksum, --counts), and not there.",
        section=RUN,
    ),
)
STORED = ("memory", "compression", "no_checksum", "counts")
"""Options of the output that a plan takes."""
FOLDER = click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))


def _name(one: Any) -> str:
    probe: Any = one(lambda: None)
    return str(probe.__click_params__[0].name)


def _asked() -> tuple[Any, ...]:
    mine = [one for one in PLAN if one not in SPOOL and (one not in OUTPUT or _name(one) in STORED)]
    return (*mine, *SHARDS)


@headrace.command(epilog=EXAMPLES)
@options(_asked())
@click.pass_obj
def plan(session: Session, /, **given: Any) -> None:
    """Write a plan into a folder, to be done shard by shard by a batch queue.

    Takes the arguments of "headrace export". Nothing of X is read.
    """
    from ..engine import queue
    from ..support.memory import default_budget, parse_bytes
    from .plans import job

    folder = Path(given["out"])
    todo = job({**given, **dict.fromkeys(LEFT_OUT), "overwrite": True}, needs_out=False)
    memory = default_budget() if todo.memory is None else parse_bytes(todo.memory)
    said = [f"--{name.replace('_', '-')}" for name in STORED[1:] if given[name]]
    if said and not given["chunks"]:
        raise click.UsageError(f"{', '.join(said)}: of the file, and for 'headrace assemble', unless --chunks is given")
    stored = _stored(given) if given["chunks"] else None
    at = queue.begin(todo.plan, folder, given["shards"], memory, given["threads"], stored=stored)
    session.say(f"wrote {folder}: {at.shards} shards, {_passes(at.total)} over the cells")
    _say(session, at)


@headrace.command()
@FOLDER
@click.option("--shard", type=int, metavar="N", help="Which, from 0; by default the number of a SLURM array's task.")
@click.pass_obj
def work(session: Session, *, folder: Path, shard: int | None) -> None:
    """Do the next step of one shard. Safe to repeat, and to do twice at once."""
    from ..engine import queue

    if shard is None:
        shard = whole(os.environ.get("SLURM_ARRAY_TASK_ID", ""))
        if shard is None:
            raise click.UsageError("Missing option '--shard'. (SLURM_ARRAY_TASK_ID says none, either.)")
    done, number, before = queue.work(folder, shard)
    if before:
        session.say(f"shard {shard} of pass {number} is done already; 'headrace status {folder}' says what is next")
    else:
        session.say(f"shard {shard} of pass {number}: {done.n_obs:,} cells, {done.seconds:.1f} s")


@headrace.command()
@FOLDER
@click.pass_obj
def merge(session: Session, *, folder: Path) -> None:
    """Bring together what all shards of a pass have found, and begin the next pass. Safe to repeat."""
    from ..engine import queue

    with Progress(session) as progress:
        at = queue.merge(folder, progress)
    _say(session, at)


@headrace.command()
@FOLDER
@options(tuple(one for one in OUTPUT if _name(one) not in ("report", "memory")))
@click.pass_obj
def assemble(session: Session, /, *, folder: Path, **given: Any) -> None:
    """Write the .h5ad file of a run whose shards are done: what "headrace export" writes."""
    from ..engine import queue

    if given["out"] is None:
        raise click.UsageError("Missing option '--out'.")
    out = Path(given["out"])
    with Progress(session) as progress:
        spec = queue.assemble(
            folder,
            out,
            overwrite=given["overwrite"],
            dense=given["dense"],
            **_stored(given),
            on_event=progress,
        )
    session.say(
        f"wrote {out}: {spec.n_obs:,} cells x {spec.n_vars:,} genes, {size(out.stat().st_size)}, "
        f"{session.seconds():.1f} s; {folder} may be removed"
    )


@headrace.command()
@FOLDER
def status(*, folder: Path) -> None:
    """Say how far a run has come, and what is next."""
    from ..engine import queue

    at = queue.status(folder)
    click.echo(f"{folder}: {at.shards} shards, {_passes(at.total)} over the cells, {size(at.size)}")
    for number, purpose in enumerate(at.purposes, start=1):
        done = at.shards if number < at.number else at.shards - len(at.missing) if number == at.number else 0
        click.echo(f"  pass {number} ({purpose}): {done} of {at.shards} shards done")
    click.echo(f"next: {at.next}")


def _stored(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "compression": "gzip" if given["compression"] == "gzip" else None,
        "checksum": not given["no_checksum"],
        "counts": given["counts"] or "float32",
    }


def _passes(n: int) -> str:
    return f"{n} pass{'' if n == 1 else 'es'}"


def _say(session: Session, at: Any) -> None:
    n = f"pass {at.number} of {at.total}"
    waits = f"{n} waits for {len(at.missing)} shards; next: " if at.missing else f"{n} is done; next: "
    session.say(waits + at.next)
