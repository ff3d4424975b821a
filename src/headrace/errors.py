"""What can go wrong, each with its remedy in the message."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class HeadraceError(Exception):
    """The base of every error headrace raises on purpose.

    Examples
    --------
    >>> import headrace as hr
    >>> try:
    ...     hr.open_h5ad("nowhere.h5ad")
    ... except hr.HeadraceError as error:  # whatever headrace itself has to say
    ...     print(type(error).__name__)
    InputError
    """


class InputError(HeadraceError, ValueError):
    """Something the user gave cannot be used: a name, a filter, a file, a value.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.FilterCells(min_genes=-1)
    Traceback (most recent call last):
    headrace.errors.InputError: FilterCells(min_genes=-1): a bound is a number that is not negative
    """


class CountsError(InputError):
    """A layer that must hold counts holds something else.

    Examples
    --------
    >>> import numpy as np, pandas as pd, headrace as hr
    >>> hr.open_counts(pd.DataFrame({"s1": [3, -1], "s2": [0, 2]}, index=["g1", "g2"]), orientation="genes x samples")
    Traceback (most recent call last):
    headrace.errors.CountsError: ...sample 's1', gene 'g2': -1 is no count; counts are numbers from 0 on
    """


class PlanError(InputError):
    """The steps do not fit together, or do not fit the source.

    Examples
    --------
    >>> import pandas as pd, headrace as hr
    >>> counts = pd.DataFrame({"s1": [3, 1], "s2": [0, 2]}, index=["g1", "g2"])
    >>> table = hr.open_counts(counts, orientation="genes x samples")
    >>> hr.Plan(table, [hr.UseLayer("counts")])  # no step has saved it
    Traceback (most recent call last):
    headrace.errors.PlanError: ...
    """


class MemoryBudgetError(HeadraceError):
    """The memory budget cannot be kept; the message names the least that would do.

    Examples
    --------
    >>> import pandas as pd, headrace as hr
    >>> counts = pd.DataFrame({"s1": [3, 1], "s2": [0, 2]}, index=["g1", "g2"])
    >>> table = hr.open_counts(counts, orientation="genes x samples")
    >>> hr.Plan(table).to_anndata(memory="1MB")
    Traceback (most recent call last):
    headrace.errors.MemoryBudgetError: ...
    """


class SourceError(HeadraceError):
    r"""Reading failed: the source is broken, gone, or contradicts itself.

    Examples
    --------
    >>> import pathlib, tempfile, headrace as hr
    >>> cut = pathlib.Path(tempfile.mkdtemp()) / "cut.h5ad"
    >>> _ = cut.write_bytes(b"\x89HDF\r\n\x1a\n")
    >>> hr.open_h5ad(cut)
    Traceback (most recent call last):
    headrace.errors.SourceError: ...
    """


class LineError(SourceError):
    """The way to the data failed: the network, the server, the address, permissions.

    Parameters
    ----------
    words
        What is wrong, without where and what to do.
    kind
        Whether it passes: "passes", "may pass" (if something came this way before), "stays".

    Examples
    --------
    >>> import headrace as hr
    >>> def census_or_none(release):
    ...     try:
    ...         return hr.open_census(release)
    ...     except hr.LineError as error:
    ...         print(f"no way to the Census: {error}")  # what failed, how often it was tried, what to look at
    """

    def __init__(self, message: str, words: str = "", kind: str = "stays") -> None:
        super().__init__(message)
        self.words, self.kind = words, kind
        self.final = False
        """Whether it was tried again, as long as that was of use."""


class ContradictionError(SourceError):
    """The source holds what cannot be: reading it again does not help."""


class WorkersError(HeadraceError):
    """The processes that do the passes of a run are gone, or fail: what they did is kept, and a run goes on from it.

    Examples
    --------
    >>> import headrace as hr
    >>> def export(plan, path, address):
    ...     try:
    ...         plan.write_h5ad(path, executor=hr.Distributed(address))
    ...     except hr.WorkersError as error:  # the message says how far the run came
    ...         print(f"start the cluster, and call this again: it goes on where it was ({error})")
    """


class OutputError(HeadraceError):
    """Writing failed or was refused; nothing was left under the final name.

    Examples
    --------
    >>> import pathlib, tempfile, pandas as pd, headrace as hr
    >>> counts = pd.DataFrame({"s1": [3, 1], "s2": [0, 2]}, index=["g1", "g2"])
    >>> table = hr.open_counts(counts, orientation="genes x samples")
    >>> there = pathlib.Path(tempfile.mkdtemp()) / "there.h5ad"
    >>> _ = there.write_text("somebody's")
    >>> hr.Plan(table).write_h5ad(there)
    Traceback (most recent call last):
    headrace.errors.OutputError: ...there.h5ad exists...
    """


class RoundedCountsWarning(UserWarning):
    """Counts above 2**24 are rounded: X is float32, which does not hold every whole number beyond.

    Examples
    --------
    >>> import warnings, pandas as pd, headrace as hr
    >>> table = pd.DataFrame({"s1": [2**24 + 1, 1], "s2": [0, 2]}, index=["g1", "g2"])
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     counts = hr.open_counts(table, orientation="genes x samples")
    >>> print(told[0].message)
    1 counts are no float32 numbers and are rounded, by at most 6e-8 of their value: 16777217 in sample 's1', gene 'g1'
    """


class FractionalCountsWarning(UserWarning):
    """Counts are not whole: expected counts, as of RSEM or salmon, corrected ones, or no counts at all.

    Examples
    --------
    >>> import warnings, pandas as pd, headrace as hr
    >>> table = pd.DataFrame({"s1": [31.5, 1], "s2": [0, 2]}, index=["g1", "g2"])
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     counts = hr.open_counts(table, orientation="genes x samples")
    >>> print(told[0].message)
    1 counts are not whole, e.g. 31.5 in sample 's1', gene 'g1': taken for expected counts
    >>> with warnings.catch_warnings():  # where that is known and right
    ...     warnings.simplefilter("ignore", hr.FractionalCountsWarning)
    ...     counts = hr.open_counts(table, orientation="genes x samples")
    """


class CellsAsReplicatesWarning(UserWarning):
    """Cells of one sample are no replicates: p-values of tests between groups of cells are far too small.

    Examples
    --------
    >>> import warnings, numpy as np, pandas as pd, headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> kinds = pd.DataFrame({"kind": pd.Categorical(["a", "a", "b", "b"])}, index=list("wxyz"))
    >>> cells = ArraySource(np.array([[3.0, 1], [4, 1], [0, 1], [1, 2]]), kinds, pd.DataFrame(index=["g", "h"]))
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     ranked = hr.Plan(cells, [hr.NormalizeTotal(10), hr.Log1p(), hr.RankGenesGroups("kind")]).to_anndata()
    >>> print(told[0].message)
    RankGenesGroups takes cells for replicates...
    """


class UntestedGroupsWarning(UserWarning):
    """Groups of one cell, whose variance is not known, were left out of a test.

    Examples
    --------
    >>> import warnings, numpy as np, pandas as pd, headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> kinds = pd.DataFrame({"kind": pd.Categorical(["a", "a", "b", "b", "rare"])}, index=list("vwxyz"))
    >>> X = np.array([[3.0, 1], [4, 1], [0, 1], [1, 2], [5, 5]])
    >>> cells = ArraySource(X, kinds, pd.DataFrame(index=["g", "h"]))
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     ranked = hr.Plan(cells, [hr.NormalizeTotal(10), hr.Log1p(), hr.RankGenesGroups("kind")]).to_anndata()
    >>> print(next(one.message for one in told if one.category is hr.UntestedGroupsWarning))
    RankGenesGroups: groups of one cell were not tested: rare
    """


class UnmeasuredGenesWarning(UserWarning):
    """Genes that were asked for were not measured, and left out.

    Examples
    --------
    >>> import warnings, numpy as np, pandas as pd, headrace as hr
    >>> from headrace.sources.arrays import ArraySource
    >>> names = pd.DataFrame(index=["CD3D", "CD19", "CD4", "CD8A"])
    >>> cells = ArraySource(np.array([[3.0, 1, 0, 1], [0, 2, 1, 1]]), pd.DataFrame(index=["x", "y"]), names)
    >>> score = hr.ScoreGenes(["CD3D", "CD3E"], ctrl_size=2, n_bins=2)
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     scored = hr.Plan(cells, [hr.NormalizeTotal(10), hr.Log1p(), score]).to_anndata()
    >>> print(told[0].message)
    score: 1 of 2 genes were not measured and are left out: CD3E
    """


class NotCarriedWarning(UserWarning):
    """Something of a file is of a kind that a stream does not carry: the output will not have it.

    Examples
    --------
    >>> import tempfile, warnings, anndata, numpy as np, headrace as hr
    >>> uns = {"neighbors": {"connectivities_key": "connectivities"}}  # of obsp, which a stream does not carry
    >>> path = tempfile.mkdtemp() + "/cells.h5ad"
    >>> anndata.AnnData(np.ones((2, 2), np.float32), uns=uns).write_h5ad(path)
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     cells = hr.open_h5ad(path, uns="keep")
    >>> print(told[0].message)
    of uns of ...cells.h5ad, not carried over: 'neighbors' (it refers to obsp...
    """


class StorageWarning(UserWarning):
    """Where something is written there may be too little space, or there are no locks; the run goes on.

    Examples
    --------
    >>> import warnings, headrace as hr
    >>> warnings.filterwarnings("error", category=hr.StorageWarning)  # let a run stop, rather than begin
    """


class CodeCacheWarning(UserWarning):
    """Compiled code cannot be kept for the next run, which takes some seconds longer for that.

    Examples
    --------
    >>> import warnings, headrace as hr
    >>> warnings.filterwarnings("ignore", category=hr.CodeCacheWarning)
    """


def without_docstrings(error: AttributeError) -> Exception:
    """Say why a library cannot be imported where Python leaves out docstrings; elsewhere return the error itself."""
    if sys.flags.optimize < 2:
        return error
    return InputError(
        "anndata, and with it tiledbsoma, cannot be imported under python -OO (or PYTHONOPTIMIZE=2), which leaves out "
        f"docstrings ({error}); use -O (PYTHONOPTIMIZE=1), or neither"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(name: str, known: Iterable[str], n: int = 3) -> str:
    """Name what is close to `name` among `known`, as the tail of a sentence.

    Examples
    --------
    >>> nearest("cell_typ", ["cell_type", "tissue"])
    "did you mean 'cell_type'?"
    >>> nearest("x", ["cell_type", "tissue"])
    'known: cell_type, tissue'
    """
    names = list(dict.fromkeys(map(str, known)))
    lowered = {item.lower(): item for item in reversed(names)}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=n, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(lowered[item]) for item in close)}?"
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return f"known: {shown or 'none'}"
