"""`headrace count`: how many cells there are of what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from .console import Session
from .group import headrace, option
from .options import CENSUS, options

EXAMPLES = """\b
Examples:
  headrace count --census stable --organism homo_sapiens --by cell_type,assay --obs-filter "tissue_general == 'lung'"
  headrace count --census ./census --organism mus_musculus --by dataset_id --primary-only --csv
"""


@headrace.command(epilog=EXAMPLES)
@options(CENSUS)
@option("--organism", required=True, metavar="NAME", help="E.g. mus_musculus or homo_sapiens.")
@option("--by", metavar="COLUMN,COLUMN", help="Columns of obs that make groups; without it all cells are counted.")
@option("--dataset-id", multiple=True, metavar="ID", help="Only cells of this dataset. May be given several times.")
@option("--obs-filter", metavar="FILTER", help="Only cells that match a SOMA value filter.")
@option("--primary-only", is_flag=True, help="Leave out cells that are also in another dataset.")
@option("--json", "as_json", is_flag=True, help="Write a JSON list of groups.")
@option("--csv", "as_csv", is_flag=True, help="Write comma-separated values.")
@click.pass_obj
def count(
    session: Session,
    *,
    census: str,
    tiledb_config: Mapping[str, str],
    retry_for: str | None,
    organism: str,
    by: str | None,
    dataset_id: Sequence[str],
    obs_filter: str | None,
    primary_only: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Count the cells of a Census by columns of obs, from obs alone."""
    import headrace as hr

    from ..traffic import RETRY_FOR

    if as_json and as_csv:
        raise click.UsageError("--json and --csv: give one", ctx=click.get_current_context())
    columns = [name.strip() for name in (by or "").split(",") if name.strip()]
    opened = hr.open_census(census, tiledb_config=tiledb_config, retry_for=retry_for or RETRY_FOR)
    table = opened.count(
        organism, columns, dataset_id=list(dataset_id) or None, obs_filter=obs_filter, primary_only=primary_only
    )
    if as_csv:
        click.echo(table.to_csv(index=False, lineterminator="\n"), nl=False)
        return
    records = table.to_dict("records")
    if as_json:
        click.echo(json.dumps(records, indent=1, ensure_ascii=False))
        return
    if not records:
        session.say("no cell matches")
        return
    for line in lines(records):
        click.echo(line)


def lines(records: Sequence[Mapping[Any, Any]]) -> list[str]:
    r"""Lay groups out as a table; numbers are at the right.

    Examples
    --------
    >>> print("\n".join(lines([{"assay": "Smart-seq2", "n_obs": 1200}, {"assay": "10x", "n_obs": 7}])))
    assay       n_obs
    Smart-seq2  1,200
    10x             7
    """
    names = list(records[0])
    rows = [names, *([_text(name, record[name]) for name in names] for record in records)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(names))]
    out = []
    for row in rows:
        cells = [
            cell.rjust(width) if name.startswith("n_") else cell.ljust(width)
            for name, cell, width in zip(names, row, widths, strict=True)
        ]
        out.append("  ".join(cells).rstrip())
    return out


def _text(name: str, value: Any) -> str:
    """Return a value in words."""
    if value is None or value != value:
        return "(none)"
    return f"{value:,}" if name.startswith("n_") else str(value)
