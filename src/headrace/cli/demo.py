"""`headrace demo`: the main job on a small simulated Census, without a network."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import InputError, OutputError
from ..support.limits import check_threads
from ..support.places import look
from .console import Session, peak_memory, size
from .group import headrace, option
from .progress import Progress

if TYPE_CHECKING:
    from headrace import Census, Plan, StreamSpec

LIVER = "4546e757-34d0-4d17-be06-538318925fcd"
MIN_GENES, MIN_CELLS = 500, 5


@headrace.command()
@option("--out", default="headrace-demo", show_default=True, metavar="FOLDER", help="Where the demo may write.")
@click.pass_obj
def demo(session: Session, *, out: str) -> None:
    """Run the full-length pipeline on a small simulated Census, and show what to try next.

    Writes FOLDER/census, unless it is there from an earlier run, and FOLDER/liver.h5ad. Needs no network.
    """
    import headrace as hr

    from ..engine.leftover import SPOOLS

    folder, file = Path(out), Path(out) / "liver.h5ad"
    built = _needs_building(folder)
    if built and look(file):
        raise OutputError(f"{file} exists, but {folder / 'census'} does not: no demo made it; choose another --out")
    if built:
        click.echo(f"Building a small simulated Census in {folder / 'census'} ...")
        _build(folder)
    census = _open(folder / "census")
    query = census.query("mus_musculus", dataset_id=LIVER)
    plan = hr.Plan(query, hr.recipes.full_length(min_genes=MIN_GENES, min_cells=MIN_CELLS))
    title = census.datasets(LIVER)["dataset_title"].iloc[0]
    click.echo(f"{'Built' if built else 'Found'} {folder / 'census'}: {len(census.datasets())} datasets.")
    click.echo(f"Running the full-length pipeline on {title!r} ...")
    session.watch(file, folder / SPOOLS)
    with Progress(session) as progress:
        spec = plan.write_h5ad(file, overwrite=True, on_event=progress)
    for line in summary(plan, spec):
        click.echo(line)
    click.echo(
        f"Wrote {file}: {size(file.stat().st_size)} in {session.seconds():.1f} s, "
        f"peak memory {peak_memory() / 1e6:,.0f} MB."
    )
    click.echo("\nTry next:")
    for command in next_commands(folder):
        click.echo(f"  {command}")


def summary(plan: Plan, spec: StreamSpec) -> list[str]:
    """Return what a run of the demo did, in lines.

    Parameters
    ----------
    plan
        What was run.
    spec
        What `Plan.write_h5ad` returned.
    """
    from ..engine.provenance import corrected_assays
    from ..steps.normalize import FULL_GENE_ASSAYS

    before = plan.source.spec
    corrected = corrected_assays(plan.source, plan.steps) or {}
    divided = ", ".join(f"{FULL_GENE_ASSAYS.get(assay, assay)} ({n:,} cells)" for assay, n in corrected.items())
    marked = spec.var[spec.var["highly_variable"]]
    top = marked.nlargest(5, "dispersions_norm")["feature_name"]
    return [
        f"  cells           {before.n_obs:,} read, {spec.n_obs:,} with at least {MIN_GENES} genes",
        f"  genes           {before.n_vars:,} measured, {spec.n_vars:,} seen in at least {MIN_CELLS} of these cells",
        f"  gene length     divided out for {divided or 'no assay'}",
        f"  most variable   {', '.join(top)} (of {len(marked):,} marked genes)",
    ]


def next_commands(folder: Path) -> list[str]:
    """Return commands that go on from what the demo has written."""
    census = f"--census {shlex.quote(str(folder / 'census'))}"
    lung = f"{census} --organism homo_sapiens --obs-filter \"tissue == 'lung'\" --recipe cp10k"
    return [
        f"{_program()} datasets {census} --assays",
        f"{_program()} explain {lung} --memory 2GB",
        f"{_program()} export {lung} --out {shlex.quote(str(folder / 'lung.h5ad'))}",
    ]


def _program() -> str:
    """Return how to call headrace from a shell: as it was called, if the shell would not find it."""
    if shutil.which("headrace"):
        return "headrace"
    if Path(sys.argv[0]).name == "headrace":
        return shlex.quote(sys.argv[0])
    return f"{shlex.quote(sys.executable)} -m headrace"


def _needs_building(folder: Path) -> bool:
    """Return whether there is no Census yet, or one that an earlier run could not finish."""
    return look(_unfinished(folder)) is not None or look(folder / "census") is None


def _build(folder: Path) -> None:
    """Build the Census; a mark beside it says, while that goes on, that it is not whole."""
    from ..testing import build_demo_census

    check_threads(2 * (os.cpu_count() or 1) + 2, "building a Census")  # TileDB's, whatever this process may use
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _unfinished(folder).touch()
        if (folder / "census").exists():
            shutil.rmtree(folder / "census")
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error
    build_demo_census(folder / "census")
    _unfinished(folder).unlink()


def _unfinished(folder: Path) -> Path:
    return folder / ".census.unfinished"


def _open(path: Path) -> Census:
    """Open the Census, or refuse one that is not the demo's."""
    import headrace as hr

    refused = f"{path} is not the Census of the demo; choose another --out"
    try:
        census = hr.open_census(path)
        datasets = census.datasets(LIVER)
    except hr.InputError as error:
        raise InputError(f"{refused}. {error}") from error
    if not datasets["citation"].iloc[0].startswith("Simulated"):
        raise InputError(refused)
    return census
