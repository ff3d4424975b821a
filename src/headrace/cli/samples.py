"""Options of commands that draw a sample of the cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from .group import option

SECTION = "Cells and genes"
NAMES = ("sample", "sample_by", "per_group", "balanced", "min_per_group", "seed")


def size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | float | None:
    """Read a number of cells, or a part of them: with a decimal point, up to 1."""
    if value is None:
        return None
    try:
        return int(value.replace("_", ""))
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is neither a number of cells nor a part of them, e.g. 0.1", ctx, param
        ) from None


SAMPLE = (
    option(
        "--sample",
        callback=size,
        metavar="N|FRACTION",
        help="Only so many cells, or that part of them (e.g. 0.1), chosen by --seed and their ids.",
        section=SECTION,
    ),
    option(
        "--sample-by",
        metavar="COLUMN,COLUMN",
        help="Columns of obs that make groups: each gives cells to the sample by its size.",
        section=SECTION,
    ),
    option("--per-group", type=int, metavar="N", help="N cells of each group, instead of --sample.", section=SECTION),
    option("--balanced", is_flag=True, help="Each group gives as many cells as any other.", section=SECTION),
    option("--min-per-group", type=int, metavar="N", help="Leave out groups of fewer than N cells.", section=SECTION),
    option("--seed", type=int, metavar="N", help="Another one gives another sample; 0 by default.", section=SECTION),
)


def asked_sample(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `sample` of a source is to be told; nothing if no sample is asked for.

    Raises
    ------
    click.UsageError
        If options of a sample are given, and none that says how many cells.
    """
    asked = {name: given[name] for name in NAMES if given[name] not in (None, False)}
    if not asked:
        return {}
    if "sample" not in asked and "per_group" not in asked:
        first = f"--{next(iter(asked)).replace('_', '-')}"
        raise click.UsageError(f"{first} is of a sample: --sample says how many cells", ctx=click.get_current_context())
    by = [name.strip() for name in asked.pop("sample_by", "").split(",") if name.strip()]
    n = asked.pop("sample", None)
    size = {} if n is None else {"n": n} if isinstance(n, int) else {"fraction": n}
    return {"by": by, **size, **asked}
