"""Summary rows of programs that count reads: no genes, though they stand among them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

HTSEQ = r"__[A-Za-z]\w*|no_feature|ambiguous|too_low_a_?[Qq]ual|not_aligned|alignment_not_unique"
STAR = r"[Nn]_(?:unmapped|multimapping|no[Ff]eature|ambiguous)"
OTHERS = r"_total_\w+|_ambiguous|_ambiguous_readpair_position|_empty|_lowaqual|_notaligned|unmapped|Unassigned_\w+"
"""Rows of QoRTs, DEXSeq, CITE-seq-Count and of featureCounts' summary."""

SUMMARY = re.compile(f"{HTSEQ}|{STAR}|{OTHERS}")


class SummaryRowsWarning(UserWarning):
    """Summary rows of a counter, such as `__no_feature`, are no genes: left out, with their sums in `obs`, or named.

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
    return np.array([SUMMARY.fullmatch(name) is not None for name in names], dtype=bool)


def told(where: str, names: Iterable[str]) -> str | None:
    """Return the warning about summary rows among the genes of a file of cells, which stay; None if there are none.

    Examples
    --------
    >>> print(told("x.h5ad", ["TP53", "__no_feature"]))
    features of x.h5ad are no genes, but a counter's summary: __no_feature; they count in totals, so leave them out ...
    """
    found = [name for name in map(str, names) if SUMMARY.fullmatch(name) is not None]
    if not found:
        return None
    shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    return (
        f"features of {where} are no genes, but a counter's summary: {shown}; they count in totals, so leave them out "
        "first: SelectGenes([name for name in source.spec.var.index if name not in (...)])"
    )
