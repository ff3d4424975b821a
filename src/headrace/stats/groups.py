"""Which group of cells a cell belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import Chunk, StreamSpec
from ..errors import PlanError, SourceError, nearest


@dataclass(frozen=True)
class Groups:
    """The values of one or several columns of `obs`, or one group for all cells.

    Columns may be of any type that has few values: categoricals, text, booleans, numbers; a cell without a value
    belongs to no group.

    Several columns make one group per combination of their categories, in sorted order of the
    columns as given; `("a", "b")` of one pair never meets `("a_b",)` of another.

    Parameters
    ----------
    columns
        Names of columns of `obs`; none for one group of all cells.
    categories
        For each column its categories, in the order that numbers them.
    """

    columns: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()

    @staticmethod
    def of(spec: StreamSpec, by: str | tuple[str, ...] | list[str] | None, step: str) -> Groups:
        """Look the columns up in a stream's `obs`; `step` is named where one is missing."""
        columns = () if by is None else (by,) if isinstance(by, str) else tuple(by)
        categories = []
        for column in columns:
            if column not in spec.obs:
                raise PlanError(f"{step}: obs has no column {column!r}; {nearest(column, spec.obs.columns)}")
            dtype = spec.obs[column].dtype
            if isinstance(dtype, pd.CategoricalDtype):
                categories.append(tuple(map(str, dtype.categories)))
            elif pd.api.types.is_bool_dtype(dtype):
                categories.append(("False", "True"))
            else:
                categories.append(_values(spec, column, step))
        return Groups(columns, tuple(categories))

    def reads_obs(self, measured: object | None) -> tuple[str, ...]:
        """Return the columns of `obs` that a statistic by group reads, if `measured` matters to it."""
        return self.columns if measured is None else (*self.columns, "dataset_id")

    def __len__(self) -> int:
        return int(np.prod([len(c) for c in self.categories], dtype=np.int64))

    @property
    def names(self) -> list[tuple[str, ...]]:
        """The groups' categories, one for each column, in order."""
        index = np.indices([len(c) for c in self.categories]).reshape(len(self.categories), -1)
        return [tuple(c[i] for c, i in zip(self.categories, row, strict=True)) for row in index.T]

    def name(self, code: int) -> tuple[str, ...]:
        """Return the categories of one group, one for each column."""
        sizes = [len(c) for c in self.categories]
        place = np.unravel_index(code, sizes) if sizes else ()
        return tuple(c[int(i)] for c, i in zip(self.categories, place, strict=True))

    def label(self, code: int) -> str:
        """Name a group in a message, e.g. ``donor_id='A', assay='10x'``."""
        pairs = zip(self.columns, self.name(code), strict=True)
        return ", ".join(f"{column}={value!r}" for column, value in pairs) or "all cells"

    def codes(self, chunk: Chunk) -> npt.NDArray[np.int64]:
        """Return the number of every cell's group, shape (n_obs,); -1 where a column has no value."""
        codes = np.zeros(chunk.n_obs, dtype=np.int64)
        missing = np.zeros(chunk.n_obs, dtype=bool)
        for column, categories in zip(self.columns, self.categories, strict=True):
            part = _codes(chunk.column(column), categories)
            missing |= part < 0
            codes = codes * len(categories) + part
        codes[missing] = -1
        return codes


MOST_VALUES = 10_000
"""Groups that a column which is no categorical may make."""

FEW_VALUES = 10
"""So many values are never too many for the cells."""


def refuse_many(found: Mapping[str, int], step: str, column: str, dtype: Any, most: int | None = None) -> None:
    """Raise `PlanError` if the values of a column, with their numbers of cells, make no groups: one for each cell."""
    n, n_cells = len(found), sum(found.values())
    if n > (n if most is None else most) or (n > FEW_VALUES and 2 * n > n_cells):
        raise PlanError(
            f"{step}: obs[{column!r}] ({dtype}) has {n:,} different values in {n_cells:,} cells: these are no groups; "
            "choose another column"
        )


def _values(spec: StreamSpec, column: str, step: str) -> tuple[str, ...]:
    """Return the values of a column of text or numbers, in order, or raise `PlanError` if they are no groups."""
    dtype = spec.obs[column].dtype
    found = {} if spec.values is None else spec.values(column)
    if not found:
        raise PlanError(
            f"{step}: obs[{column!r}] is {dtype}, not categorical, and its values are not known before reading; make "
            "it a categorical of the source, or leave out the step that adds it"
        )
    refuse_many(found, step, column, dtype, MOST_VALUES)
    return tuple(sorted(found, key=float if pd.api.types.is_numeric_dtype(dtype) else str))


def _codes(values: pd.Series, categories: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return the place of each value among the categories, shape (n,); -1 where it is missing."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return np.asarray(values.cat.codes, dtype=np.int64)
    codes, found = pd.factorize(values, use_na_sentinel=True)
    place = {category: number for number, category in enumerate(categories)}
    unknown = next((value for value in found if str(value) not in place), None)
    if unknown is not None:
        raise SourceError(f"obs[{values.name!r}] has {unknown!r}, which it had not when the plan was made")
    places = np.array([*(place[str(value)] for value in found), -1], dtype=np.int64)
    return np.asarray(places[codes])
