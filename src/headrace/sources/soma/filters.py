"""Filters of cells: read here, checked against the columns of obs, and written anew for TileDB.

TileDB never sees what the user wrote. Its own parser breaks the process on `not` before anything but one comparison,
overlooks what follows `in [...]`, and compares whole numbers with 300.5 as if it were 300. Here `not` is pushed inwards
until it is gone. As in SOMA, a missing value passes no comparison, not even `!=`, but `== None`.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import InputError, nearest
from .conditions import Comparison, Filter, Joined, singly

MOST_BYTES = 8 << 20
MOST_DEPTH = 50
MOST_COMPARISONS = 1000
"""TileDB takes a second for as many, and 28 seconds for 10,000."""
MOST_VALUES = 100_000
"""Of all lists together."""

EXAMPLE = "tissue == 'liver' and cell_type in ['B cell', 'T cell']"

_WORDS = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.In: "in", ast.NotIn: "not in", ast.Is: "==", ast.IsNot: "!=",
}  # fmt: skip
_NEGATED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "in": "not in", "not in": "in"}
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that no column of text holds."""
_TURNED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}


def parsed(text: str) -> ast.expr:
    """Read a filter, or raise `InputError` if it is empty or no expression by itself."""
    if not isinstance(text, str):
        raise InputError(f"a filter is text, e.g. {EXAMPLE!r}, not {type(text).__name__}")
    if not text.strip():
        raise InputError("the filter is empty (an unset variable?); None, or none at all, takes all cells")
    if len(text) > MOST_BYTES:
        raise refusal(text, f"it has {len(text):,} characters; obs_joinids= takes any number of cells")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python, about its own syntax
            return ast.parse(text.strip(), mode="eval").body
    except (RecursionError, MemoryError):
        raise refusal(text, "it is nested too deeply") from None
    except (SyntaxError, ValueError) as error:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        hint = "; two signs compare: ==" if re.search(r"(?<![=<>!])=(?!=)", text) else ""
        raise refusal(text, f"it cannot be read: {said}{hint}") from None


def read_filter(text: str, schema: pa.Schema, levels: Callable[[str], list[Any]], where: str) -> Filter:
    """Read a filter and check it against the columns of obs.

    Parameters
    ----------
    text
        Comparisons of columns with values, joined by `and`, `or`, `not`, `&`, `|`, `~` and parentheses.
    schema
        Of obs.
    levels
        Returns the levels of an ordered column, from the least to the greatest.
    where
        The experiment, for messages.

    Raises
    ------
    InputError
        If it is anything else, names no column, or compares a column with what it cannot hold.
    """
    tree = _Reader(text, schema, levels, where).read()
    return Filter.of(tree, lambda name: value_type(schema.field(name).type))


def value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, be they stored as categories or not."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def refusal(text: str, why: str) -> InputError:
    """Say that a filter cannot be used, and what one looks like."""
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    return InputError(
        f"the filter {shown!r} cannot be used: {why}. A filter compares columns of obs with values, e.g. {EXAMPLE!r}"
    )


class _Reader:
    """From the syntax tree to comparisons."""

    def __init__(self, text: str, schema: pa.Schema, levels: Callable[[str], list[Any]], where: str) -> None:
        self.text, self.schema, self.levels, self.where = text, schema, levels, where
        self.comparisons = self.values = 0

    def read(self) -> Comparison | Joined:
        return self._condition(parsed(self.text), False, 0)

    def _no(self, why: str) -> InputError:
        return refusal(self.text, why)

    def _condition(self, node: ast.expr, negate: bool, depth: int) -> Comparison | Joined:
        if depth > MOST_DEPTH:
            raise self._no(f"it is nested more than {MOST_DEPTH} deep")
        if isinstance(node, ast.BoolOp):
            parts = node.values
            both = isinstance(node.op, ast.And)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
            both = isinstance(node.op, ast.BitAnd)
            parts = list(_flat(node))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert)):
            return self._condition(node.operand, not negate, depth + 1)
        elif isinstance(node, ast.Compare):
            return self._chain(node, negate)
        elif (name := self._name(node)) is not None and pa.types.is_boolean(self._type(name)):
            return self._one(name, "==", not negate)
        else:
            raise self._no(f"{_source(node)} is no comparison")
        return Joined("and" if both != negate else "or", tuple(self._condition(p, negate, depth + 1) for p in parts))

    def _chain(self, node: ast.Compare, negate: bool) -> Comparison | Joined:
        """Read a comparison, or several at once, as in 1 < n < 6."""
        sides = [node.left, *node.comparators]
        words = [_WORDS[type(op)] for op in node.ops]
        if len(words) > 1 and {"in", "not in"} & set(words):
            raise self._no(f"{_source(node)}: `in` stands by itself; join comparisons by `and`")
        if any(isinstance(side, ast.BinOp) and isinstance(side.op, (ast.BitAnd, ast.BitOr)) for side in sides):
            raise self._no("& and | bind more closely than comparisons: put these in parentheses, or write `and`, `or`")
        found = [
            self._compare(left, word, right, negate) for left, word, right in zip(sides, words, sides[1:], strict=False)
        ]
        return found[0] if len(found) == 1 else Joined("or" if negate else "and", tuple(found))

    def _compare(self, left: ast.expr, word: str, right: ast.expr, negate: bool) -> Comparison | Joined:
        name, other = self._name(left), self._name(right)
        if (name is None) == (other is None):
            both = "two columns" if name is not None else "no column"
            raise self._no(f"{_source(left)} {word} {_source(right)} compares {both}; text stands in quotes")
        if name is None:
            if word in ("in", "not in"):
                raise self._no(f"{_source(left)} {word} {other}: a column stands first, then a list of values")
            name, right, word = other, left, _TURNED[word]
        assert name is not None
        self._type(name)
        word = _NEGATED[word] if negate else word
        if word not in ("in", "not in"):
            return self._one(name, word, self._constant(right), or_nan=negate and word in ("<", "<=", ">", ">="))
        if not isinstance(right, (ast.List, ast.Tuple, ast.Set)) or not right.elts:
            raise self._no(f"{name} {word} takes a list of values, e.g. {name} {word} ['a', 'b']")
        self.values += len(right.elts)
        if self.values > MOST_VALUES:
            raise self._no(f"it lists more than {MOST_VALUES:,} values; obs_joinids= takes any number of cells")
        values = [self._constant(one) for one in right.elts]
        if None in values:
            raise self._no(f"None in a list: write {name} == None beside it")
        fitted = tuple(dict.fromkeys(self._fitted(name, "==", value)[1] for value in values))
        self._count(1 + len(singly(fitted, self._type(name))))
        return Comparison(name, word, fitted)

    def _one(self, name: str, word: str, value: Any, or_nan: bool = False) -> Comparison:
        self._count(1)
        kind = self._type(name)
        if value is None:
            if word not in ("==", "!="):
                raise self._no(f"{name} {word} None: a missing value is neither less nor more than another")
            return Comparison(name, word, None)
        word, value = self._fitted(name, word, value)
        return Comparison(name, word, value, or_nan and pa.types.is_floating(kind))

    def _count(self, n: int) -> None:
        self.comparisons += n
        if self.comparisons > MOST_COMPARISONS:
            raise self._no(f"it has more than {MOST_COMPARISONS:,} comparisons; `in [...]` is one with many values")

    def _name(self, node: ast.expr) -> str | None:
        """Return the column that is meant; None if it is none, but a value."""
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Attribute):
            raise self._no(f"{_source(node)}: a column with a dot in its name is written attr('orig.ident')")
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            if called not in ("attr", "val") or len(node.args) != 1 or node.keywords:
                raise self._no(f"{_source(node)}: there are no functions in a filter, but attr('a column') and val(1)")
            if called == "attr":
                (name,) = node.args
                if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
                    raise self._no(f"{_source(node)}: attr() takes the name of a column in quotes")
                return name.value
        return None

    def _type(self, name: str) -> pa.DataType:
        """Return the type of a column's values."""
        if name not in self.schema.names:
            shown = self.text if len(self.text) <= 200 else f"{self.text[:200]}..."
            raise InputError(
                f"the filter {shown!r} names {name!r}, which {self.where}/obs has not; "
                f"{nearest(name, self.schema.names)}"
            )
        return value_type(self.schema.field(name).type)

    def _constant(self, node: ast.expr) -> Any:
        sign = 1
        for _ in range(MOST_DEPTH):
            if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
                sign, node = -sign if isinstance(node.op, ast.USub) else sign, node.operand
            elif isinstance(node, ast.Call) and self._name(node) is None:
                (node,) = node.args
        value: Any = node.value if isinstance(node, ast.Constant) else ...
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if isinstance(node, ast.Name):
            raise self._no(f"{node.id} in the place of a value: text stands in quotes")
        if not number and (sign < 0 or not (value is None or isinstance(value, (str, bool)))):
            raise self._no(f"{_source(node)} is no value: these are numbers, text in quotes, True, False, None")
        if isinstance(value, str) and _UNSTORABLE.search(value):
            raise self._no(f"{value!r} has a character that no column of text holds")
        return sign * value if number else value

    def _fitted(self, name: str, word: str, value: Any) -> tuple[str, Any]:
        """Return a comparison with a value of the column's own type that says the same, or raise."""
        stored = self.schema.field(name).type
        kind = value_type(stored)
        if pa.types.is_dictionary(stored) and word not in ("==", "!="):
            if not stored.ordered:
                raise self._no(f"{name} has categories without an order, so none is {word} another; use == or in")
            if value not in (known := self.levels(name)):
                raise self._no(f"{value!r} is no level of {name}; {nearest(str(value), map(str, known))}")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if pa.types.is_boolean(kind) and word in ("==", "!=") and value in (0, 1):
            return word, bool(value)
        if _is_text(kind) and isinstance(value, str):
            return word, value
        if pa.types.is_temporal(kind) and isinstance(value, str):
            try:
                unit = np.datetime_data(kind.to_pandas_dtype())[0]
                return word, int(np.array(value, dtype=f"M8[{unit}]").astype(np.int64))
            except ValueError:
                raise self._no(f"{name} holds times, and {value!r} is none; write them as 2024-12-31T23:59") from None
        if (pa.types.is_integer(kind) or pa.types.is_temporal(kind)) and number:
            return self._whole(name, word, value, np.dtype(np.int64) if pa.types.is_temporal(kind) else kind)
        if pa.types.is_floating(kind) and number:
            return word, _float(value)
        holds = "text" if _is_text(kind) else "True or False" if pa.types.is_boolean(kind) else f"numbers ({kind})"
        raise self._no(f"{name} holds {holds}, which {value!r} is not")

    def _whole(self, name: str, word: str, value: float, kind: Any) -> tuple[str, int]:
        """Return a comparison of whole numbers that says the same, with a number that the column can hold."""
        info = np.iinfo(kind if isinstance(kind, np.dtype) else kind.to_pandas_dtype())
        if math.isfinite(value) and value == math.floor(value) and info.min <= value <= info.max:
            return word, int(value)
        if word in ("==", "!="):
            raise self._no(f"{name} holds whole numbers from {info.min} to {info.max}, of which none is {value!r}")
        if value > info.max:
            return ("<=", int(info.max)) if word[0] == "<" else (">", int(info.max))
        if value < info.min:
            return ("<", int(info.min)) if word[0] == "<" else (">=", int(info.min))
        return ("<=" if word[0] == "<" else ">"), math.floor(value)


def _flat(node: ast.expr) -> Iterator[ast.expr]:
    """Yield what is joined by a row of the same & or |, which Python nests to the left."""
    assert isinstance(node, ast.BinOp)
    kind, parts, left = type(node.op), [node.right], node.left
    while isinstance(left, ast.BinOp) and type(left.op) is kind:
        parts.append(left.right)
        left = left.left
    yield from (left, *reversed(parts))


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _is_text(kind: pa.DataType) -> bool:
    of = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(is_it(kind) for is_it in of)


def _source(node: ast.expr) -> str:
    """Return a piece of the filter as it was written, or the beginning of it."""
    try:
        text = ast.unparse(node)
    except (RecursionError, ValueError):
        text = type(node).__name__
    return text if len(text) <= 60 else f"{text[:60]}..."
