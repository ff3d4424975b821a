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

    Exits with 1 if anything is wrong with it, or if headrace did not write it: then there is nothing to compare it
    with, and what was found without that is told.
    """
    import headrace as hr

    from ..sinks.h5ad.verify import UNRECORDED

    verdict = hr.verify_h5ad(file)
    if as_json:
        click.echo(json.dumps(verdict.provenance, indent=1, default=str))
    found = f"{verdict.n_obs:,} cells x {verdict.n_vars:,} genes, {verdict.nnz:,} non-zeros"
    if verdict.problems == (UNRECORDED,):
        raise hr.InputError(
            f"{file} cannot be verified: headrace did not write it, or another program has saved it since, so that "
            "there is no record of what was written. Nothing else is wrong: all of it can be read, and fits together: "
            f"{found}"
        )
    if verdict.problems:
        saved = all("of the file are not what was written" in problem for problem in verdict.problems)
        hint = " (X and layers are; so it is, too, whenever another program has saved the file)" if saved else ""
        raise hr.InputError(f"{file} is not whole and right: {'; '.join(verdict.problems)}{hint}")
    session.say(f"{file} is whole: {found}")
