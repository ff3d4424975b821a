"""`headrace bulk`: a table of counts is normalised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..support.places import absolute
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

PASSED_ON = (
    "samples",
    "genes",
    "lengths",
    "strandedness",
    "tx2gene",
    "counts_from_abundance",
    "raw",
    "separator",
    "decimal",
)
"""Options that `open_counts` knows by the same name."""

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
    option(
        "--strandedness",
        type=click.Choice(["unstranded", "forward", "reverse"]),
        help="Which column of STAR's ReadsPerGene.out.tab.",
        section=TABLE,
    ),
    option(
        "--tx2gene",
        metavar="FILE|gene_id",
        help="Transcripts and their genes, for salmon and its kin; gene_id: as in RSEM's files.",
        section=TABLE,
    ),
    option(
        "--counts-from-abundance",
        type=click.Choice(["no", "scaledTPM", "lengthScaledTPM"]),
        default="no",
        help="As in tximport: of salmon and its kin, counts that need no offset.",
        section=TABLE,
    ),
    option("--layer-in", metavar="NAME", help="The layer of an .h5ad file to read; X by default.", section=TABLE),
    option("--raw", is_flag=True, help="Read raw.X of an .h5ad file.", section=TABLE),
    option("--separator", metavar="CHARACTER", help="Of a table, where it cannot be told.", section=TABLE),
    option("--decimal", type=click.Choice([".", ","]), help="The decimal mark of a table, likewise.", section=TABLE),
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
    option(
        "--out",
        required=True,
        metavar="FILE",
        help="An .h5ad, .csv, .tsv (or .gz of them) or .parquet file.",
        section=RUN,
    ),
    option("--overwrite", is_flag=True, help="Replace the file if it exists.", section=RUN),
    option("--report", metavar="FILE.html", help="Write a report of the run, too: one page of HTML.", section=RUN),
    option(
        "--dense/--sparse",
        default=None,
        help="Write an .h5ad file's matrices as dense arrays (the default, as pydeseq2 needs), or sparse.",
        section=RUN,
    ),
    option(
        "--counts",
        type=click.Choice(["float32", "int32"]),
        help="The type of an .h5ad file's counts; float32 by default.",
        section=RUN,
    ),
    option("--no-checksum", is_flag=True, help="Leave an .h5ad file's checksums (fletcher32) out.", section=RUN),
    option("--memory", metavar="AMOUNT", help="The most memory to take, e.g. 1GB.", section=RUN),
)


@headrace.command(epilog=EXAMPLES)
@click.argument("tables", metavar="TABLE...", nargs=-1, required=True)
@options(OPTIONS)
@click.pass_obj
def bulk(session: Session, /, tables: tuple[str, ...], **given: Any) -> None:
    """Normalise bulk samples: a TABLE (.csv, .tsv, .parquet, packed or not, - for a pipe), or an .h5ad file.

    Several TABLEs, or a folder, are samples: of HTSeq, STAR, salmon, kallisto or RSEM.

    Factors and library sizes go to obs. An .h5ad file keeps the counts as a layer. A table comes with X.samples.csv and
    X.genes.csv.
    """
    if given["log"] and given["to"] is not None:
        raise click.UsageError("--log writes log2 counts per million; --to cannot be given with it")
    if given["prior_count"] is not None and not given["log"]:
        raise click.UsageError("--prior-count is what --log adds; --log is missing")

    import headrace as hr

    from ..engine.leftover import SPOOLS
    from ..engine.reporting import Reporting
    from ..engine.settings import Settings
    from ..support.atomic import check_target
    from ..support.memory import default_budget, parse_bytes
    from .progress import Progress

    out = Path(given["out"])
    sink = None if out.suffix == ".h5ad" else hr.Table(out, overwrite=given["overwrite"])
    check_target(absolute(out), given["overwrite"])
    orientation: Any = given["orientation"] and given["orientation"].replace("-x-", " x ")
    source = hr.open_counts(
        tables[0] if len(tables) == 1 else list(tables),
        orientation=orientation,
        layer=given["layer_in"],
        memory=given["memory"],
        **{name: given[name] for name in PASSED_ON},
    )
    told = f"; {', '.join(source.notes)}" if source.notes else ""
    session.say(
        f"{', '.join(tables[:3])}{', ...' if len(tables) > 3 else ''}: {source.orientation} ({source.reason}), "
        f"{source.spec.n_obs:,} samples, {source.spec.n_vars:,} genes{told}"
    )
    plan = hr.Plan(source, steps(given))
    asked = None
    if sink is not None and given["report"] is not None:
        asked = Reporting(given["report"], given["overwrite"], source, plan.steps, sink.files)
    session.watch(out, absolute(out).parent / SPOOLS)
    memory = default_budget() if given["memory"] is None else parse_bytes(given["memory"])
    with Progress(session) as progress:
        if sink is None:
            spec = plan.write_h5ad(
                out,
                memory=memory,
                overwrite=given["overwrite"],
                checksum=not given["no_checksum"],
                dense=given["dense"],
                counts=given["counts"] or "float32",
                on_event=progress,
                report=given["report"],
            )
        else:
            spec = plan.write(sink, Settings(memory, on_event=progress), asked)
    session.say(
        f"wrote {out}: {spec.n_obs:,} samples x {out_of(spec.n_vars, source.spec.n_vars)} genes, "
        f"{size(out.stat().st_size)}, {session.seconds():.1f} s"
    )
    if given["report"] is not None:
        session.say(f"wrote {given['report']}: {size(Path(given['report']).stat().st_size)}")


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
