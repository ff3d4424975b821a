"""`headrace verify`: check that a file is whole and right."""

from __future__ import annotations

import json

import click

from .console import Session
from .group import headrace, option

EXAMPLES = """\b
Examples:
  headrace verify liver.h5ad
"""


@headrace.command(epilog=EXAMPLES)
@click.argument("file", metavar="FILE.h5ad")
@option("--json", "as_json", is_flag=True, help="Write what the file says of how it was made as JSON.")
@click.pass_obj
def verify(session: Session, *, file: str, as_json: bool) -> None:
    """Read all of a FILE and check it: structure, indices, checksums, text.

    Exits with 1 if anything is wrong with it.
    """
    import headrace as hr

    verdict = hr.verify_h5ad(file)
    if as_json:
        click.echo(json.dumps(verdict.provenance, indent=1, default=str))
    if verdict.problems:
        raise hr.InputError(f"{file} is not whole and right: {'; '.join(verdict.problems)}")
    session.say(f"{file} is whole: {verdict.n_obs:,} cells x {verdict.n_vars:,} genes, {verdict.nnz:,} non-zeros")
