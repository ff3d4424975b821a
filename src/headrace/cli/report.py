"""`headrace report`: a report of a file that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import CountsError
from .console import Session, size
from .group import headrace, option

EXAMPLES = """\b
Examples:
  headrace report liver.h5ad
  headrace report liver.h5ad --out reports/liver.html --overwrite
"""


@headrace.command(epilog=EXAMPLES)
@click.argument("file", metavar="FILE.h5ad")
@option("--out", metavar="FILE.html", help="The report to write; by default beside the file, with its name.")
@option("--overwrite", is_flag=True, help="Replace the report if it exists.")
@option("--memory", metavar="AMOUNT", help="The most memory to take, e.g. 1GB.")
@click.pass_obj
def report(session: Session, *, file: str, out: str | None, overwrite: bool, memory: str | None) -> None:
    """Write a report of a FILE, from what it holds: one page of HTML.

    A file that "headrace export --report" wrote has all that a report shows. Of any other, its cells are read once, in
    flat memory, and summed up.
    """
    import headrace as hr

    target = Path(out) if out is not None else Path(file).with_suffix(".html")
    hr.Plan(_opened(file), []).report(target, memory=memory, overwrite=overwrite)
    session.say(f"wrote {target}: {size(target.stat().st_size)}, {session.seconds():.1f} s")


def _opened(file: str) -> Any:
    """Open a file, whatever its X holds."""
    import warnings

    import headrace as hr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hr.NotCarriedWarning)  # nothing is carried anywhere
        try:
            return hr.open_h5ad(file, uns="keep")
        except CountsError as error:
            source = hr.open_h5ad(file, uns="keep", holds="normalized")
            if "log1p" in source.spec.made:
                return hr.open_h5ad(file, uns="keep", holds="logged")
            return hr.open_h5ad(file, uns="keep", holds="standardized") if "'standardized'" in str(error) else source
