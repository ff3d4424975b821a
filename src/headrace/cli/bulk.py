"""`headrace bulk`: a table of counts is normalised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .console import Session, out_of, size
from .group import STEPS, headrace, option
from .options import options

METHODS: dict[str, Any] = {
    "tmm": "TMM",
    "tmmwsp": "TMMwsp",
    "rle": "RLE",
    "upperquartile": "upperquartile",
    "ratio": "ratio",
    "poscounts": "poscounts",
    "none": "none",
}
"""What --method takes, and what `NormFactors` calls it."""

EXAMPLES = """\b
Examples:
  headrace bulk counts.csv.gz --method tmm --log --out out.h5ad
  headrace bulk counts.tsv --samples samples.csv --filter condition --method tmm \\
    --to cpm --out cpm.csv.gz
  headrace bulk counts.csv.gz --genes genes.csv --lengths length --to tpm --out tpm.csv.gz
"""

TABLE, RUN = "Samples and genes", "Output and run"

OPTIONS = (
    option(
        "--samples", metavar="FILE", help="What describes samples; by default X.samples.csv beside X.", section=TABLE
    ),
    option("--genes", metavar="FILE", help="What describes genes; by default X.genes.csv beside X.", section=TABLE),
    option(
        "--orientation",
        type=click.Choice(["genes-x-samples", "samples-x-genes"]),
        help="Which way round the table is; told by itself if left out.",
        section=TABLE,
    ),
    option("--lengths", metavar="COLUMN", help="Column of --genes with gene lengths, in bases.", section=TABLE),
    option(
        "--filter",
        "group",
        metavar="COLUMN|all",
        help="Keep genes with enough counts, as edgeR's filterByExpr: in groups of samples by a column, or in all.",
        section=STEPS,
    ),
    option(
        "--method",
        type=click.Choice(list(METHODS), case_sensitive=False),
        default="tmm",
        show_default=True,
        help="How to find normalisation factors, as edgeR and (ratio, poscounts) DESeq2.",
        section=STEPS,
    ),
    option(
        "--to",
        type=click.Choice(["counts", "cpm", "rpkm", "tpm"]),
        help="What to write: counts as they are (the default), or rates by normalised library size.",
        section=STEPS,
    ),
    option("--log", is_flag=True, help="Write log2 counts per million instead.", section=STEPS),
    option(
        "--prior-count", type=float, metavar="NUMBER", help="What --log adds to counts; 2 by default.", section=STEPS
    ),
    option("--out", required=True, metavar="FILE", help="An .h5ad, .csv, .tsv, .csv.gz or .tsv.gz file.", section=RUN),
    option("--overwrite", is_flag=True, help="Replace the file if it exists.", section=RUN),
    option("--memory", metavar="AMOUNT", help="The most memory to take, e.g. 1GB.", section=RUN),
)


@headrace.command(epilog=EXAMPLES)
@click.argument("table", metavar="TABLE")
@options(OPTIONS)
@click.pass_obj
def bulk(session: Session, /, table: str, **given: Any) -> None:
    """Normalise bulk samples: a .csv or .tsv TABLE (or .gz of it), or an .h5ad file.

    Factors and library sizes go to obs. An .h5ad file keeps the counts as a layer. A table comes with X.samples.csv and
    X.genes.csv.
    """
    if given["log"] and given["to"] is not None:
        raise click.UsageError("--log writes log2 counts per million; --to cannot be given with it")
    if given["prior_count"] is not None and not given["log"]:
        raise click.UsageError("--prior-count is what --log adds; --log is missing")

    import headrace as hr

    from ..engine.run import SPOOLS, Settings
    from ..support.atomic import check_target
    from ..support.memory import default_budget, parse_bytes
    from .progress import Progress

    out = Path(given["out"])
    sink = None if out.suffix == ".h5ad" else hr.Table(out, overwrite=given["overwrite"])
    check_target(out.absolute(), given["overwrite"])
    orientation: Any = given["orientation"] and given["orientation"].replace("-x-", " x ")
    source = hr.open_counts(
        table, samples=given["samples"], genes=given["genes"], orientation=orientation, lengths=given["lengths"]
    )
    session.say(
        f"{table}: {source.orientation} ({source.reason}), {source.spec.n_obs:,} samples, {source.spec.n_vars:,} genes"
    )
    plan = hr.Plan(source, steps(given))
    session.watch(out, out.absolute().parent / SPOOLS)
    memory = default_budget() if given["memory"] is None else parse_bytes(given["memory"])
    with Progress(session) as progress:
        if sink is None:
            spec = plan.write_h5ad(out, memory=memory, overwrite=given["overwrite"], on_event=progress)
        else:
            spec = plan.write(sink, Settings(memory, on_event=progress))
    session.say(
        f"wrote {out}: {spec.n_obs:,} samples x {out_of(spec.n_vars, source.spec.n_vars)} genes, "
        f"{size(out.stat().st_size)}, {session.seconds():.1f} s"
    )


def steps(given: dict[str, Any]) -> list[Any]:
    """Return the steps that the options name, in their fixed order."""
    import headrace as hr

    out: list[Any] = []
    if given["group"] is not None:
        out.append(hr.FilterByExpr(None if given["group"] == "all" else given["group"]))
    out.append(hr.NormFactors(METHODS[given["method"]]))
    if given["log"]:
        prior = 2.0 if given["prior_count"] is None else given["prior_count"]
        return [*out, hr.SaveLayer("counts"), hr.LogCPM(prior)]
    rates = {"cpm": hr.CPM(), "rpkm": hr.RPKM(), "tpm": hr.TPM()}
    return [*out, hr.SaveLayer("counts"), rates[given["to"]]] if given["to"] in rates else out
