"""The steps of a plan as a recipe file, which the command line reads."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..protocols import Step
from .explain import described

QUERY = ("organism", "dataset_id", "obs_filter", "genes", "primary_only")
"""What of a query a recipe file may say."""


def recipe_text(steps: Sequence[Step], query: Mapping[str, Any]) -> str:
    """Return a recipe file of steps, and of a query of a Census.

    What Python can say and TOML cannot is a comment: steps of one's own, and parameters that are no plain values.
    None is written `false`.

    Examples
    --------
    >>> from headrace.steps.cells import FilterCells
    >>> print(recipe_text([FilterCells(min_genes=500, max={"pct_counts_mt": 20})], {"organism": "mus_musculus"}))
    [query]
    organism = "mus_musculus"
    <BLANKLINE>
    [[step]]
    step = "FilterCells"
    min_genes = 500
    max = { pct_counts_mt = 20 }
    """
    parts = []
    asked = {name: query[name] for name in QUERY if query.get(name) is not None} if "organism" in query else {}
    if asked:
        parts.append("\n".join(["[query]", *(f"{key} = {toml(value)}" for key, value in asked.items())]))
    parts += [_step(text) for text in described(steps)]
    return "\n\n".join(parts)


def recipe_of(made: Mapping[str, Any]) -> str:
    """Return a recipe file of what a file says of how it was made: all parameters, defaults included."""
    try:
        steps = json.loads(made.get("steps", ""))
    except (TypeError, ValueError):
        return ""
    parts = []
    for step in steps if isinstance(steps, list) else []:
        name = PUBLIC.get(step.get("step"), step.get("step"))
        if name:
            given = {k: v for k, v in step.items() if k != "step" and (v is not None or (name, k) in NOT_NONE)}
            parts.append("\n".join(["[[step]]", f"step = {toml(name)}", *_parameters(given)]))
    return "\n\n".join(parts)


PUBLIC = {"QCCells": "QCMetrics", "QCGenes": None}
"""Steps that users know by another name, or not at all."""

NOT_NONE = {("PCA", "n_comps"), ("PCA", "mask_var")}
"""Parameters that may be None and are not if left out."""


def _step(text: str) -> str:
    """Turn a step as it is written in Python into a table of TOML."""
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise TypeError("no call with names")
        given = {one.arg: _value(one.value) for one in call.keywords if one.arg is not None}
        lines = _parameters(given)
    except (SyntaxError, TypeError, ValueError):
        return "\n".join(f"# {line}" for line in (text or "?").splitlines())
    return "\n".join(["[[step]]", f"step = {toml(call.func.id)}", *lines])


def _parameters(given: Mapping[str, Any]) -> list[str]:
    """Return the lines of parameters; TOML has no word for None, which is written as what is not there: false."""
    return [f"{key} = {'false' if value is None else toml(value)}" for key, value in given.items()]


def _value(node: ast.expr) -> Any:
    """Return the value of a literal; infinity is written inf."""
    if isinstance(node, ast.Name) and node.id == "inf":
        return math.inf
    return ast.literal_eval(node)


def toml(value: Any) -> str:
    r"""Write a value as TOML.

    Examples
    --------
    >>> toml(True), toml(1e-30), toml(("a", "b")), toml({"mt": ["MT-"]}), toml(float("inf"))
    ('true', '1e-30', '["a", "b"]', '{ mt = ["MT-"] }', 'inf')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (Sequence, set, frozenset)):
        return f"[{', '.join(toml(one) for one in value)}]"
    raise TypeError(f"{value!r} is no value of TOML")


def _key(key: Any) -> str:
    text = str(key)
    bare = text.isascii() and text.replace("_", "").replace("-", "").isalnum()
    return text if bare else json.dumps(text, ensure_ascii=False)
