"""`headrace datasets`: what a Census holds."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from .console import Session
from .group import headrace, option
from .options import CENSUS, options

EXAMPLES = """\b
Examples:
  headrace datasets --census stable --organism mus_musculus --title liver
  headrace datasets --census ./census --assays --json
"""


@headrace.command(epilog=EXAMPLES)
@options(CENSUS)
@option("--dataset-id", multiple=True, metavar="ID", help="Only this dataset. May be given several times.")
@option("--title", metavar="TEXT", help="Only datasets with this in their title.")
@option("--collection", metavar="TEXT", help="Only datasets of collections with this in their name, or of this id.")
@option("--organism", metavar="NAME", help="Only datasets with cells of this organism; cells are counted of it.")
@option("--assays", is_flag=True, help="Count cells per assay, which reads two columns of all cells.")
@option("--json", "as_json", is_flag=True, help="Write a JSON list with all that is known.")
@click.pass_obj
def datasets(
    session: Session,
    *,
    census: str,
    tiledb_config: Mapping[str, str],
    retry_for: str | None,
    dataset_id: Sequence[str],
    title: str | None,
    collection: str | None,
    organism: str | None,
    assays: bool,
    as_json: bool,
) -> None:
    """List the datasets of a Census: id, title, cells."""
    import headrace as hr

    from ..traffic import RETRY_FOR

    table = hr.open_census(census, tiledb_config=tiledb_config, retry_for=retry_for or RETRY_FOR).datasets(
        list(dataset_id) or None, title=title, collection=collection, organism=organism, assays=assays
    )
    records = table.to_dict("records")
    if as_json:
        click.echo(json.dumps(records, indent=1, ensure_ascii=False))
        return
    if not records:
        session.say("no dataset matches")
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines(records, "n_obs" if organism else "dataset_total_cell_count", width):
        click.echo(line)


def lines(records: Sequence[Mapping[str, Any]], cells: str, width: int | None) -> list[str]:
    r"""Lay datasets out as a table.

    Parameters
    ----------
    records
        Rows of `Census.datasets`.
    cells
        The column with the number of cells.
    width
        Titles are cut so that lines have at most so many characters, as far as that goes. None: nothing is cut.

    Examples
    --------
    >>> record = {"dataset_id": "a-1", "dataset_title": "Liver of old and young mice - 10x", "n_obs": 1200}
    >>> print("\n".join(lines([record], "n_obs", 43)))
    dataset_id  title                     cells
    a-1         Liver of old and young…   1,200
    """
    rows = [
        ["dataset_id", "title", "cells"],
        *([r["dataset_id"], r["dataset_title"], f"{r[cells]:,}"] for r in records),
    ]
    if "assays" in records[0]:
        rows[0].append("assays")
        for row, record in zip(rows[1:], records, strict=True):
            most_first = sorted(record["assays"].items(), key=lambda item: -item[1])
            row.append(", ".join(f"{assay} ({n:,})" for assay, n in most_first))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    if width is not None:
        others = sum(widths) - widths[1] + 2 * (len(widths) - 1)
        widths[1] = min(widths[1], max(width - others, 24))
    out = []
    for one, title, n, *rest in rows:
        shown = title if len(title) <= widths[1] else title[: widths[1] - 1].rstrip() + "…"
        out.append("  ".join([one.ljust(widths[0]), shown.ljust(widths[1]), n.rjust(widths[2]), *rest]))
    return out
