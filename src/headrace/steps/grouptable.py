"""Groups of cells as a stream: one row per group, one layer per statistic."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..chunk import Chunk, Cost, Holds, StreamSpec, csr
from ..errors import RoundedCountsWarning
from ..protocols import Source
from ..sources.arrays import rounded
from ..stats.exact import variance
from ..stats.groups import Groups
from ..stats.moments import as_float
from ..stats.statistics import OfGroup, Statistics
from ..support.columns import column

MOST_VALUES = 2_000_000
"""Groups times genes of a chunk, at most."""

Span = tuple[int, int]


@dataclass(frozen=True, eq=False)
class GroupTable(Source[Span]):
    """Statistics of groups as a source; see `GroupStatistics`.

    Parameters
    ----------
    statistics
        What was found; it is read from memory, or from its temporary file, as the groups are asked for.
    obs
        One row per group, in their order.
    before
        The stream that ended.
    layers
        The names of the layers, with what they hold; the first is also X.
    uns
        Unstructured annotations.
    """

    statistics: Statistics
    obs: pd.DataFrame
    before: StreamSpec
    layers: Mapping[str, Holds]
    uns: Mapping[str, Any]
    told: list[str] = field(default_factory=list)
    """What was warned of."""
    lock: Any = field(default_factory=threading.Lock)

    @property
    def spec(self) -> StreamSpec:
        """What is known of the stream."""
        n = len(self.obs)
        made = StreamSpec(
            self.before.var, self.obs.iloc[:0], n, n * self.before.n_vars, next(iter(self.layers.values()))
        )
        return replace(
            made,
            layers=self.layers,
            uns=self.uns,
            varm=self.before.varm,
            fractional=None,
            whole_obs=self.obs,
            values=self.value_counts,
        )

    def refs(self, nnz: int) -> list[Span]:
        """Return the first and last-plus-one position of each chunk."""
        step = max(1, min(nnz, MOST_VALUES) // max(1, self.before.n_vars))
        return [(start, min(start + step, len(self.obs))) for start in range(0, len(self.obs), step)]

    def read(self, refs: Sequence[Span]) -> Iterator[Chunk]:
        """Yield the groups between positions, in order."""
        codes = self.statistics.codes
        found = self.statistics.of([code for start, stop in refs for code in codes[start:stop]])
        for start, stop in refs:
            layers = self._layers([next(found) for _ in range(start, stop)], self.obs.index[start:stop])
            yield Chunk(next(iter(layers.values())), self.obs.iloc[start:stop], layers)

    def cost(self) -> Cost:
        """Return what is held: nothing else has to be read."""
        return Cost(0, 0, 0)

    def value_counts(self, column: str) -> dict[str, int]:
        """Count the groups of each value of a column of `obs`."""
        if column not in self.obs:
            return {}
        return {str(k): int(v) for k, v in self.obs[column].value_counts().items() if v}

    def _layers(self, groups: list[OfGroup], names: pd.Index) -> dict[str, sparse.csr_array]:
        """Return the statistics of some groups."""
        measured = self.statistics.measured is not None
        of = [self.statistics.n(group.code) if measured else np.array(group.n_cells) for group in groups]
        words = np.concatenate([group.words for group in groups])
        genes = np.concatenate([group.genes for group in groups])
        lengths = [len(group.genes) for group in groups]
        each = [
            n[group.genes] if measured else np.full(len(group.genes), n) for n, group in zip(of, groups, strict=True)
        ]
        n = np.concatenate(each).astype(np.float64)
        made = {
            "sum": lambda: self._sums(as_float(words[:, :2]), genes, np.repeat(names, lengths)),
            "mean": lambda: as_float(words[:, :2]) / n,
            "var": lambda: variance(words, n),
            "count_nonzero": lambda: words[:, 4].astype(np.float64),
            "fraction": lambda: words[:, 4] / n,
        }
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        out = {}
        for name in self.layers:
            if name == "n_obs":
                out[name] = sparse.csr_array(np.stack(of).astype(np.float32))
                continue
            least = 2 if name == "var" else 1
            unknown = [np.broadcast_to(cells < least, self.before.n_vars) for cells in of]
            out[name] = self._matrix(made[name](), genes, indptr, unknown)
        return out

    def _matrix(
        self,
        values: npt.NDArray[np.float64],
        genes: npt.NDArray[np.int32],
        indptr: npt.NDArray[np.int32],
        unknown: list[npt.NDArray[np.bool_]],
    ) -> sparse.csr_array:
        """Put values together, row by row; NaN where nothing is known."""
        n_vars = self.before.n_vars
        data = values.astype(np.float32)
        if any(row.any() for row in unknown):
            dense = np.zeros((len(unknown), n_vars), dtype=np.float32)
            dense[np.repeat(np.arange(len(unknown)), np.diff(indptr)), genes] = data
            dense[np.stack(unknown)] = np.nan
            return sparse.csr_array(dense)
        if not data.all():  # a variance of 0
            there = data != 0
            data, genes = data[there], genes[there]
            indptr = np.concatenate([[0], np.cumsum(there)])[indptr].astype(np.int32)
        return csr(data, genes, indptr, n_vars)

    def _sums(
        self, sums: npt.NDArray[np.float64], genes: npt.NDArray[np.int32], names: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        """Return the sums, and warn, once, if whole ones are no float32 numbers."""
        at = rounded(sums) if self.layers["sum"] == Holds.COUNTS else np.empty(0, dtype=np.int64)
        with self.lock:
            if len(at) and not self.told:
                example = f"{sums[at[0]]:.0f} in group {names[at[0]]!r}, gene {self.before.var.index[genes[at[0]]]!r}"
                self.told.append(example)
                warnings.warn(
                    "GroupStatistics: sums above 2**24 that are no float32 numbers are rounded, by at most 6e-8 of "
                    f"their value, e.g. {example}",
                    RoundedCountsWarning,
                    stacklevel=4,
                )
        return sums


def described(groups: Groups, codes: Sequence[int], columns: pd.DataFrame) -> pd.DataFrame:
    """Return the values of the group columns, with the dtypes of `columns`, one row per group.

    The index joins them by "_", as `scanpy.get.aggregate`; where that is not unique, by "|", and a "|" or backslash
    within a value gets a backslash before it.
    """
    sizes = [len(categories) for categories in groups.categories]
    places = np.unravel_index(np.asarray(codes, dtype=np.int64), sizes)
    texts = [[categories[at] for at in place] for categories, place in zip(groups.categories, places, strict=True)]
    index = pd.Index(["_".join(key) for key in zip(*texts, strict=True)], dtype=object)
    if not index.is_unique:
        escaped = ([one.replace("\\", "\\\\").replace("|", "\\|") for one in values] for values in texts)
        index = pd.Index(["|".join(key) for key in zip(*escaped, strict=True)], dtype=object)
    obs = pd.DataFrame(index=index)
    for name, place, values in zip(groups.columns, places, texts, strict=True):
        dtype = columns[name].dtype
        if isinstance(dtype, pd.CategoricalDtype):
            obs[name] = pd.Categorical.from_codes(place, dtype=dtype)
        elif pd.api.types.is_bool_dtype(dtype):
            obs[name] = column([value == "True" for value in values], dtype, index)
        elif pd.api.types.is_numeric_dtype(dtype):
            kind = np.dtype(dtype.type).type
            obs[name] = column([kind(value) for value in values], dtype, index)
        else:
            obs[name] = column(values, dtype, index)
    return obs
