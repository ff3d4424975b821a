"""Compare what two programs made of the same cells. Runs in a process of its own: see the package's docstring.

python -m harness.agree OURS.h5ad THEIRS.h5ad [variances|scores]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

CELLS = 200
"""How many cells are compared, spread evenly over the file."""

NEAR = 1e-3
"""Scores of a component that differ by less, in standard deviations of the component, are the same."""

LEAST_P = 1e-290
"""Below, float64 has fewer digits."""

Rows = npt.NDArray[np.float64]


def compare(ours: Path, theirs: Path, result: str = "") -> dict[str, Any]:
    """Return the largest relative difference of values of X, and of another result, or why there is none.

    Cells are taken by position, genes by id. A value that only one file has differs by 1.
    """
    with h5py.File(ours) as left, h5py.File(theirs) as right:
        shapes = _shape(left["X"]), _shape(right["X"])
        names = _index(left["var"]), _index(right["var"])
        if shapes[0][0] != shapes[1][0]:
            return {"why": f"{shapes[1][0]:,} cells, not {shapes[0][0]:,}"}
        if len(names[1]) != shapes[1][1]:
            return {"why": f"{len(names[1]):,} names for {shapes[1][1]:,} genes"}
        place = {name: i for i, name in enumerate(names[1])}
        if set(place) != set(names[0]):
            return {
                "why": f"{len(place):,} genes, {len(set(place) & set(names[0])):,} of them in our {len(names[0]):,}"
            }
        order = np.array([place[name] for name in names[0]])
        cells = np.unique(np.linspace(0, shapes[0][0] - 1, CELLS).astype(int))
        expected, found = _rows(left["X"], cells), _rows(right["X"], cells)[:, order]
        most = np.maximum(np.abs(expected), np.abs(found))
        apart = np.abs(expected - found) / np.where(most == 0, 1, most)
        return {
            "x": float(apart.max()) if np.isfinite(found).all() else float("inf"),
            "layout": _layout(right["X"]),
            **(RESULTS[result](left, right) if result else {}),
        }


def components(left: Any, right: Any) -> dict[str, Any]:
    """Compare principal components: their variances, and scores up to their sign.

    Those whose variances are nearly the same may be turned within the space that they span.
    """
    ours, theirs = (np.asarray(file["uns/pca/variance"], dtype=np.float64) for file in (left, right))
    if ours.shape != theirs.shape:
        return {"why": f"{len(theirs)} components, not {len(ours)}"}
    mine, other = (np.asarray(file["obsm/X_pca"], dtype=np.float64) for file in (left, right))
    other *= np.sign((mine * other).sum(axis=0))
    same = np.abs(mine - other).max(axis=0) <= NEAR * mine.std(axis=0)
    return {
        "result": _furthest(ours, theirs, 0.0),
        "said": f"scores of {same.sum()} of {len(ours)} components are the same within {NEAR:g} deviations",
    }


def markers(left: Any, right: Any) -> dict[str, Any]:
    """Compare the tables of markers: scores, and p-values that are not all but 0, gene by gene."""
    ours, theirs = left["uns/rank_genes_groups"], right["uns/rank_genes_groups"]
    groups = ours["names"].dtype.names
    if set(groups) != set(theirs["names"].dtype.names):
        return {"why": f"{len(theirs['names'].dtype.names)} groups, not our {len(groups)}"}
    scores = p = 0.0
    for group in groups:
        order, other = np.argsort(ours["names"][group]), np.argsort(theirs["names"][group])
        if not np.array_equal(ours["names"][group][order], theirs["names"][group][other]):
            return {"why": f"other genes in group {group!r}"}
        scores = max(scores, _furthest(ours["scores"][group][order], theirs["scores"][group][other], 1.0))
        values = ours["pvals"][group][order], theirs["pvals"][group][other]
        there = np.maximum(*values) > LEAST_P
        p = max(p, _furthest(values[0][there], values[1][there], 0.0))
    return {"result": scores, "said": f"p-values differ by {p:.0e}"}


RESULTS = {"variances": components, "scores": markers}


def _furthest(ours: Any, theirs: Any, least: float) -> float:
    """Return the largest difference, relative to the larger of both and to `least`; infinity for what is no number."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    most = np.maximum(np.maximum(np.abs(ours), np.abs(theirs)), least)
    apart = np.abs(ours - theirs) / np.where(most == 0, 1, most)
    apart[np.isnan(ours) & np.isnan(theirs)] = 0
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0))


def _shape(X: Any) -> tuple[int, int]:
    """Return cells and genes of a matrix, sparse or dense."""
    shape = X.attrs["shape"] if isinstance(X, h5py.Group) else X.shape
    return int(shape[0]), int(shape[1])


def _layout(X: Any) -> str:
    """Say how a matrix is stored."""
    if not isinstance(X, h5py.Group):
        return f"dense {X.dtype} {X.compression or ''}".strip()
    kind = X.attrs["encoding-type"]
    return f"{kind if isinstance(kind, str) else kind.decode()} {X['data'].dtype} {X['data'].compression or ''}".strip()


def _index(table: Any) -> list[str]:
    """Return the index of a table of an h5ad file."""
    name = table.attrs["_index"]
    column = table[name if isinstance(name, str) else name.decode()]
    if isinstance(column, h5py.Group):  # nullable strings
        column = column["values"]
    return [str(value) for value in column.asstr()[:]]


def _rows(X: Any, cells: npt.NDArray[np.intp]) -> Rows:
    """Read some cells of X as a dense matrix."""
    if not isinstance(X, h5py.Group):
        return np.asarray(X[cells], dtype=np.float64)
    rows = np.zeros((len(cells), _shape(X)[1]))
    if "csc" in _layout(X):
        indptr, indices, data = (X[name][:] for name in ("indptr", "indices", "data"))
        gene = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        where = np.full(_shape(X)[0], -1)
        where[cells] = np.arange(len(cells))
        taken = where[indices] >= 0
        rows[where[indices[taken]], gene[taken]] = data[taken]
        return rows
    indptr = X["indptr"][:]
    for row, cell in enumerate(cells):
        place = slice(int(indptr[cell]), int(indptr[cell + 1]))
        rows[row, X["indices"][place]] = X["data"][place]
    return rows


if __name__ == "__main__":
    try:
        print(json.dumps(compare(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])))
    except (KeyError, OSError, ValueError, TypeError) as error:
        print(json.dumps({"why": f"cannot be read: {error}"[:120]}))
