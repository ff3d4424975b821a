"""`headrace cache`: what was fetched of releases of the Census and is kept for the next run."""

from __future__ import annotations

import time

import click

from .console import Session
from .group import headrace


@headrace.group()
def cache() -> None:
    """List or remove what was fetched of releases of the Census and is kept for the next run.

    Tables, columns of obs and metadata; never X. The environment variable HEADRACE_CACHE names another folder than the
    user's cache folder, or turns it off ("off"); HEADRACE_CACHE_LIMIT sets how much is kept (2GB).
    """


@cache.command("list")
def list_() -> None:
    """List what is kept: release, size, when it was last used."""
    from headrace.support.cache import open_cache

    kept = open_cache()
    if kept is None:
        click.echo("the cache is turned off (HEADRACE_CACHE)")
        return
    groups = kept.groups()
    for group in groups:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(group.used))
        click.echo(
            f"{group.title or group.name}  {group.nbytes / 1e6:,.1f} MB in {group.n_entries} entries  used {used}"
        )
    total = sum(group.nbytes for group in groups)
    click.echo(f"{total / 1e6:,.1f} MB of {kept.limit / 1e6:,.0f} MB in {kept.folder}")


@cache.command()
@click.pass_obj
def clear(session: Session) -> None:
    """Remove all that is kept; it is fetched again when it is needed."""
    from headrace.support.cache import open_cache

    kept = open_cache()
    if kept is None:
        session.say("the cache is turned off (HEADRACE_CACHE)")
        return
    n, nbytes = kept.clear()
    session.say(f"removed {n} entr{'y' if n == 1 else 'ies'}, {nbytes / 1e6:,.1f} MB")
