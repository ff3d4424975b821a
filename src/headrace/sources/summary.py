"""Summary rows of programs that count reads: no genes, though they stand among them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..chunk import csr
from ..rows import ObsRows, as_table

HTSEQ = r"__[A-Za-z]\w*|no_feature|ambiguous|too_low_a_?[Qq]ual|not_aligned|alignment_not_unique"
STAR = r"[Nn]_(?:unmapped|multimapping|no[Ff]eature|ambiguous)"
OTHERS = r"_total_\w+|_ambiguous|_ambiguous_readpair_position|_empty|_lowaqual|_notaligned|unmapped|Unassigned_\w+"
"""Rows of QoRTs, DEXSeq, CITE-seq-Count and of featureCounts' summary."""

SUMMARY = re.compile(f"{HTSEQ}|{STAR}|{OTHERS}")
BEGINS = frozenset("_nNatuU")
"""What they begin with: few names of genes do."""


class SummaryRowsWarning(UserWarning):
    """Summary rows of a counter, such as `__no_feature`, are no genes: left out, with their sums in `obs`.

    Examples
    --------
    >>> import warnings, pandas as pd, headrace as hr
    >>> table = pd.DataFrame({"s1": [3, 1], "s2": [0, 2]}, index=["g1", "__no_feature"])
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     counts = hr.open_counts(table, orientation="genes x samples")
    >>> print(told[0].message)
    1 rows are no genes, but a counter's summary, and are left out: __no_feature (3) counts; ...
    """


def is_summary(names: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Return which names are summary rows of a counter and no genes.

    Examples
    --------
    >>> is_summary(["ENSG00000000003", "__no_feature", "N_unmapped", "ambiguous"]).tolist()
    [False, True, True, True]
    """
    return np.array([name[:1] in BEGINS and SUMMARY.fullmatch(name) is not None for name in names], dtype=bool)


@dataclass(frozen=True, eq=False)
class Exact:
    """Counts of summary rows that X, which is float32, would round: of reads of a sample there are many.

    Parameters
    ----------
    columns
        The features that are summary rows.
    values
        The counts, by cell and feature; filled while X is read.
    """

    columns: frozenset[int] = frozenset()
    values: dict[tuple[int, int], float] = field(default_factory=dict)

    @staticmethod
    def among(*names: Iterable[str]) -> Exact:
        """Make one for features, by their names."""
        found = np.logical_or.reduce([is_summary(map(str, way)) for way in names])
        return Exact(frozenset(np.flatnonzero(found).tolist()))

    def keep(self, cell: int, feature: int, value: float) -> bool:
        """Keep a count if it is of a summary row; say whether it is."""
        if feature in self.columns:
            self.values[cell, feature] = float(value)
            return True
        return False

    def put(self, feature: int, first: int, values: npt.NDArray[np.float64]) -> None:
        """Put what was kept of a feature into its values of the cells from `first` on."""
        for row in np.flatnonzero(values >= 2**24).tolist() if self.values else ():
            values[row] = self.values.get((first + row, feature), values[row])


@dataclass(frozen=True)
class Summaries:
    """The summary rows among the features of a source of cells: they are left out, and their counts are in obs.

    Parameters
    ----------
    keep
        Which features are none, shape (n_features,).
    columns
        What they are called in obs, by their place among the features.
    """

    keep: npt.NDArray[np.bool_]
    columns: dict[int, str]

    @staticmethod
    def among(*names: Iterable[str], taken: Collection[str] = (), of: npt.NDArray[np.bool_] | None = None) -> Summaries:
        """Find them among features by their names.

        Parameters
        ----------
        names
            What the features are called, one or several ways.
        taken
            Names that obs has already.
        of
            Which features are looked at; None: all.
        """
        ways = [[str(name) for name in way] for way in names]
        each = [is_summary(way) for way in ways]
        found = np.logical_or.reduce(each) if of is None else np.logical_or.reduce(each) & of
        columns: dict[int, str] = {}
        used = set(taken)
        for at in np.flatnonzero(found).tolist():
            name = next(way[at] for way, said in zip(ways, each, strict=True) if said[at])
            while name in used:
                name += "_sum"
            used.add(name)
            columns[at] = name
        return Summaries(~found if of is None else of & ~found, columns)

    def genes(self, var: pd.DataFrame) -> pd.DataFrame:
        """Return the features that are genes."""
        return var if self.keep.all() else var[self.keep]

    def empty(self, obs: pd.DataFrame) -> pd.DataFrame:
        """Return obs of no cells with the columns that there will be."""
        if not self.columns:
            return obs
        return obs.assign(**{name: np.empty(0) for name in self.columns.values()})

    def split(
        self, X: sparse.csr_array, obs: ObsRows, first: int = 0, exact: Exact | None = None
    ) -> tuple[sparse.csr_array, ObsRows]:
        """Return the values of the features that are kept, and obs with those of the others.

        Parameters
        ----------
        first, exact
            The number of the first cell, and counts of summary rows that X has rounded.
        """
        if self.columns:
            obs = as_table(obs).copy(deep=False)
            for at, name in self.columns.items():
                sums = np.array(X[:, [at]].sum(axis=1), np.float64).ravel()
                if exact is not None:
                    exact.put(at, first, sums)
                obs[name] = sums
        if not self.keep.all():
            X = X[:, np.flatnonzero(self.keep)]
            X.sort_indices()
            X = csr(X.data, X.indices.astype(np.int32), X.indptr.astype(np.int32), X.shape[1])
        return X, obs

    def warn(self, where: str, stacklevel: int) -> None:
        """Say which were left out, if any were."""
        names = list(self.columns.values())
        if names:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            warnings.warn(
                f"{len(names)} features of {where} are no genes, but a counter's summary, and are left out: {shown}; "
                "their counts by cell are in obs",
                SummaryRowsWarning,
                stacklevel=stacklevel + 1,
            )
