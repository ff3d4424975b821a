"""Recipes by name, and recipe files.

A recipe file is TOML. It lists the steps of a plan in the order in which they happen::

    [[step]]
    step = "FilterCells"        # a step of headrace, by the name of its class
    min_genes = 500             # its parameters, as in Python

    [[step]]
    step = "SaveLayer"
    name = "counts"

    [[step]]
    recipe = "full-length"      # all steps of a recipe that headrace knows; its parameters may follow
    min_cells = 10

It may also say which cells and genes, and where to; what the command line says wins::

    [query]                     # the parameters of Census.query
    organism = "mus_musculus"
    dataset_id = ["4546e757-34d0-4d17-be06-538318925fcd"]
    obs_filter = "sex == 'female'"
    genes = "measured"          # or "any", "all", or a list of genes
    primary_only = true

    [output]
    path = "liver.h5ad"         # from the folder in which the command runs
    compression = "gzip"
    memory = "1GB"

A step may also be named by ``name = "FilterCells"``; a parameter that is itself called `name` is then written `layer`.
A parameter that is left out has its default. TOML has no word for Python's None, which is written ``false``:
``mask_var = false`` gives ``PCA`` all genes. Steps are found by `headrace.__all__`, recipes are
the functions of `headrace.recipes`, so new ones are known here by themselves.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import headrace as hr

from ..errors import InputError, nearest
from ..protocols import Step
from ..support.places import look
from .values import checked, none_is_false, read_text

NAME = "layer"
"""How a step's own parameter `name` is written where `name` names the step."""


@dataclass(frozen=True)
class Output:
    """Where to, and how; None leaves it to the command line or the default."""

    path: str | None = None
    compression: Literal["none", "gzip"] | None = None
    memory: int | str | None = None


MOST_BYTES = 1 << 20
"""Of a recipe, which is a page of text."""


@dataclass(frozen=True)
class Recipe:
    """What a recipe says.

    Parameters
    ----------
    steps
        The steps of the plan.
    query
        Parameters of `Census.query`.
    output
        Where to, and how.
    """

    steps: tuple[Any, ...] = ()
    query: Mapping[str, Any] = field(default_factory=dict)
    output: Output = field(default_factory=Output)


def recipe(name: str) -> Recipe:
    """Return the recipe of a name, or that of a file.

    Raises
    ------
    InputError
        If there is neither, or something in the file cannot be used.

    Examples
    --------
    >>> [type(step).__name__ for step in recipe("cp10k").steps]
    ['SaveLayer', 'NormalizeTotal', 'Log1p']
    """
    if name in known_recipes():
        return Recipe(tuple(known_recipes()[name]()))
    path = Path(name)
    if look(path) and path.is_file():
        return read(path)
    if path.suffix == ".toml":
        raise InputError(f"there is no recipe file {name!r}")
    raise InputError(f"there is no recipe {name!r}, nor a file of that name; {nearest(name, known_recipes())}")


def read(path: Path) -> Recipe:
    """Read a recipe file; see the page of this module.

    Raises
    ------
    InputError
        If it is no TOML, or something in it cannot be used.
    """
    text = read_text(path, "recipe file", MOST_BYTES)
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{path} is no recipe file: it is nested too deeply; a step is a flat table") from None
    except ValueError as error:  # of TOML, or a number of thousands of digits
        raise InputError(f"{path} is no recipe file: {error}") from error
    for key in content:
        if key not in ("step", "query", "output"):
            raise InputError(f"{path}: there is no {key!r} in a recipe file; {nearest(key, _PARTS)}")
    if not content:
        raise InputError(f"{path} is empty; it needs {' or '.join(_PARTS)}")
    tables = content.get("step", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{path}: a step is a table that begins with the line [[step]]")
    steps = [_step(table, f"{path}, step {number}") for number, table in enumerate(tables, 1)]
    asked = checked(_table(content, "query", path), _parameters(hr.Census.query), f"{path}, [query]")
    output = checked(_table(content, "output", path), get_type_hints(Output), f"{path}, [output]")
    return Recipe(tuple(steps), asked, Output(**output))


def known_steps() -> dict[str, type]:
    """Return headrace's steps by name: the public dataclasses that are a step, or a sequence of steps."""
    public = {name: getattr(hr, name) for name in hr.__all__}
    kinds = {name: one for name, one in public.items() if isinstance(one, type) and is_dataclass(one)}
    return {name: one for name, one in kinds.items() if issubclass(one, (Step, Sequence))}


def known_recipes() -> dict[str, Callable[..., list[Any]]]:
    """Return the functions of `headrace.recipes`, by name with hyphens."""
    functions = inspect.getmembers(hr.recipes, inspect.isfunction)
    return {
        name.replace("_", "-"): function
        for name, function in functions
        if function.__module__ == hr.recipes.__name__ and not name.startswith("_")
    }


_PARTS = ("[[step]]", "[query]", "[output]")


def _table(content: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise InputError(f"{path}: {name!r} is a table that begins with the line [{name}]")
    return table


def _step(table: Mapping[str, Any], where: str) -> Any:
    """Make one step, or the steps of one recipe."""
    kinds = [key for key in ("step", "recipe", "name") if key in table]
    if "step" in kinds and "recipe" not in kinds:
        kinds = ["step"]  # `name` is one of its parameters
    if len(kinds) != 1 or not isinstance(table[kinds[0]], str):
        raise InputError(f'{where}: give either step = "..." or recipe = "..."')
    kind, called = kinds[0], table[kinds[0]]
    known: Mapping[str, Callable[..., Any]] = known_recipes() if kind == "recipe" else known_steps()
    if called not in known:
        what = "recipe" if kind == "recipe" else "step"
        raise InputError(f"{where}: there is no {what} {called!r}; {nearest(called, known)}")
    make = known[called]
    written = {key: NAME if (kind, key) == ("name", "name") else key for key in _parameters(make)}
    hints = {written[key]: hint for key, hint in _parameters(make).items()}
    given = {key: value for key, value in table.items() if key != kind}
    none = {key: None for key, value in given.items() if value is False and key in hints and none_is_false(hints[key])}
    values = checked({key: given[key] for key in given if key not in none}, hints, f"{where} ({called})") | none
    missing = [written[key] for key in _required(make) if written[key] not in values]
    if missing:
        raise InputError(f"{where} ({called}): {', '.join(missing)} must be given")
    try:
        return make(**{key: values[written[key]] for key in written if written[key] in values})
    except InputError as error:
        error.add_note(where)
        raise


def _parameters(make: Callable[..., Any]) -> dict[str, Any]:
    """Return the type of each parameter of a step's class, or of a function."""
    hints = get_type_hints(make)
    if isinstance(make, type):
        return {f.name: hints[f.name] for f in fields(make) if f.init}
    return {name: hints[name] for name in inspect.signature(make).parameters if name != "self"}


def _required(make: Callable[..., Any]) -> list[str]:
    if isinstance(make, type):
        return [f.name for f in fields(make) if f.init and f.default is MISSING and f.default_factory is MISSING]
    return [name for name, p in inspect.signature(make).parameters.items() if p.default is p.empty]
