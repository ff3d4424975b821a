"""`headrace spool`: what interrupted runs have kept."""

from __future__ import annotations

from pathlib import Path

import click

from .console import Session
from .group import headrace

FOLDER = click.argument("folder", metavar="[FOLDER]", required=False, type=click.Path(path_type=Path))


@headrace.group()
def spool() -> None:
    """List or remove what interrupted runs have kept of their source.

    A run keeps it in the folder .headrace-spool beside its output, or where --spool says; the same command run
    again goes on from there.
    """


@spool.command("list")
@FOLDER
def list_(folder: Path | None) -> None:
    """List spools: folder, size, parts, what they are of."""
    from headrace.engine.leftover import places
    from headrace.engine.spool import found

    for entry in (entry for place in places(folder) for entry in found(place)):
        query = entry["about"].get("source", {}).get("query", {})
        asked = ", ".join(f"{name}={value}" for name, value in query.items()) if isinstance(query, dict) else ""
        click.echo(f"{entry['folder']}  {entry['bytes'] / 1e6:,.1f} MB in {entry['parts']} parts  {asked}")


@spool.command()
@FOLDER
@click.pass_obj
def clean(session: Session, *, folder: Path | None) -> None:
    """Remove the spools that no run is using."""
    from headrace.engine.leftover import places
    from headrace.engine.spool import clean as remove

    n = sum(remove(place) for place in places(folder))
    session.say(f"removed {n} spool{'' if n == 1 else 's'}")
