"""The command `headrace`, which the others join by `@headrace.command()`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .. import __version__
from ..errors import nearest

F = TypeVar("F", bound=Callable[..., Any])

STEPS = "Steps, in this order"
"""The section of the options that make steps."""


class Option(click.Option):
    """An option that belongs to a section of the help."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class Command(click.Command):
    """A command with `--debug`, whose help shows options by section."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_debug())

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its options may be named as a remedy, those that make steps only if no recipe does."""
        _refuse_empty(ctx)
        recipe = ctx.params.get("recipe") is not None
        ctx.obj.options = {
            name
            for param in self.params
            if not (recipe and getattr(param, "section", "") == STEPS)
            for name in (*param.opts, *param.secondary_opts)
        }
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section in the order in which they come up."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(param, "section", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _refuse_empty(ctx: click.Context) -> None:
    """Refuse options without a value: where a variable of the shell is not set, they would mean nothing, or all."""
    for param in ctx.command.params:
        given = ctx.params.get(param.name or "")
        if given == "" or (isinstance(given, tuple) and "" in given):
            raise click.UsageError(f"{param.opts[0]}: its value is empty (an unset variable?); leave it out", ctx=ctx)


class Group(click.Group):
    """A group that names the command that was probably meant."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by name."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"there is no command {args[0]!r}; {nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def option(*names: str, section: str = "Options", **attributes: Any) -> Callable[[F], F]:
    """Return `click.option` in a section of the help."""
    return click.option(*names, cls=Option, section=section, **attributes)


def _debug() -> click.Option:
    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        del param
        ctx.obj.debug |= value

    return Option(
        ["--debug"], is_flag=True, expose_value=False, callback=remember, help="Show the traceback of a failure."
    )


@click.group(
    cls=Group, invoke_without_command=True, params=[_debug()], context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, message="headrace %(version)s")
@click.pass_context
def headrace(ctx: click.Context) -> None:
    """Stream CELLxGENE Census and other SOMA data through normalisation into files, in flat memory.

    Begin with "headrace demo": it needs no network and shows what to try next.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
