"""What was found in a file that was checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """What was found in a file.

    Parameters
    ----------
    problems
        What is wrong, a line each; empty if nothing is.
    n_obs, n_vars, nnz
        Sizes of X.
    provenance
        What the file says about how it was made.

    Examples
    --------
    >>> import headrace as hr, tempfile, anndata, numpy as np
    >>> path = tempfile.mkdtemp() + "/theirs.h5ad"
    >>> anndata.AnnData(np.ones((2, 3), np.float32)).write_h5ad(path)
    >>> verdict = hr.verify_h5ad(path)
    >>> verdict.n_obs, verdict.n_vars, verdict.nnz
    (2, 3, 6)
    >>> verdict.problems
    ('uns/headrace is missing: headrace did not write the file, ...',)
    """

    problems: tuple[str, ...]
    n_obs: int
    n_vars: int
    nnz: int
    provenance: dict[str, Any]
