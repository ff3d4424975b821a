"""What can go wrong, each with its remedy in the message."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class HeadraceError(Exception):
    """The base of every error headrace raises on purpose."""


class InputError(HeadraceError, ValueError):
    """Something the user gave cannot be used: a name, a filter, a file, a value."""


class CountsError(InputError):
    """A layer that must hold counts holds something else."""


class PlanError(InputError):
    """The steps do not fit together, or do not fit the source."""


class MemoryBudgetError(HeadraceError):
    """The memory budget cannot be kept; the message names the least that would do."""


class SourceError(HeadraceError):
    """Reading failed: the source is broken, gone, or contradicts itself."""


class LineError(SourceError):
    """The way to the data failed: the network, the server, the address, permissions.

    Parameters
    ----------
    words
        What is wrong, without where and what to do.
    kind
        Whether it passes: "passes", "may pass" (if something came this way before), "stays".
    """

    def __init__(self, message: str, words: str = "", kind: str = "stays") -> None:
        super().__init__(message)
        self.words, self.kind = words, kind
        self.final = False
        """Whether it was tried again, as long as that was of use."""


class ContradictionError(SourceError):
    """The source holds what cannot be: reading it again does not help."""


class WorkersError(HeadraceError):
    """The processes that do the passes of a run are gone, or fail: what they did is kept, and a run goes on from it."""


class OutputError(HeadraceError):
    """Writing failed or was refused; nothing was left under the final name."""


class RoundedCountsWarning(UserWarning):
    """Counts above 2**24 are rounded: X is float32, which does not hold every whole number beyond."""


class FractionalCountsWarning(UserWarning):
    """Counts are not whole: expected counts, as of RSEM or salmon, corrected ones, or no counts at all."""


class CellsAsReplicatesWarning(UserWarning):
    """Cells of one sample are no replicates: p-values of tests between groups of cells are far too small."""


class UntestedGroupsWarning(UserWarning):
    """Groups of one cell, whose variance is not known, were left out of a test."""


class UnmeasuredGenesWarning(UserWarning):
    """Genes that were asked for were not measured, and left out."""


class NotCarriedWarning(UserWarning):
    """Something of a file is of a kind that a stream does not carry: the output will not have it."""


class StorageWarning(UserWarning):
    """Where something is written there may be too little space, or there are no locks; the run goes on."""


class CodeCacheWarning(UserWarning):
    """Compiled code cannot be kept for the next run, which takes some seconds longer for that."""


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
