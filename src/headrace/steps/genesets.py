"""Sets of genes: who is meant, who was measured, and control genes drawn by scanpy's rule."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..chunk import StreamSpec
from ..errors import InputError, PlanError, UnmeasuredGenesWarning, nearest

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scoring:
    """The parameters of `ScoreGenes`, where they are described."""

    genes: str | Sequence[str]
    score_name: str = "score"
    ctrl_size: int = 50
    n_bins: int = 25
    gene_pool: Sequence[str] | None = None
    random_state: int = 0
    ctrl_as_ref: bool = True
    layer: str | None = None


def chosen(step: Scoring, spec: StreamSpec) -> tuple[Ints, Ints]:
    """Return the positions of the genes of the set that were measured, and of those to draw from."""
    if step.layer is not None and step.layer not in spec.layers:
        raise PlanError(f"ScoreGenes: no layer {step.layer!r} was saved; {nearest(step.layer, spec.layers)}")
    genes, _ = _found(step.genes, spec)
    if not len(genes):
        known = spec.var.get("feature_name", spec.var.index)
        first = step.genes[0] if step.genes else ""
        raise PlanError(
            f"ScoreGenes({step.score_name!r}): none of {len(step.genes)} genes was measured, e.g. {first!r}; "
            f"{nearest(first, known)}"
        )
    if step.gene_pool is None:
        seen = _seen(spec)
        pool = np.flatnonzero(seen) if seen is not None else np.arange(spec.n_vars)
    else:
        pool, _ = _found(step.gene_pool, spec)
    outside = np.setdiff1d(genes, pool)
    if len(outside):
        raise PlanError(
            f"ScoreGenes: gene_pool has not {spec.var.index[outside[0]]!r} of the set: its genes are binned with the "
            "others; add them to the pool"
        )
    if int(np.round(len(pool) / (step.n_bins - 1))) < 1:
        raise PlanError(f"ScoreGenes: {len(pool)} genes to draw from are too few for {step.n_bins} bins; lower n_bins")
    return genes, pool


def _found(names: Sequence[str], spec: StreamSpec) -> tuple[Ints, list[str]]:
    """Return the positions of genes that were measured, each once, in the order given, and the names of the others."""
    seen = _seen(spec)
    place = dict(zip(spec.var.index.astype(str), range(spec.n_vars), strict=True))
    called: dict[str, list[int]] = {}
    if "feature_name" in spec.var and any(name not in place for name in names):
        for at, symbol in enumerate(spec.var["feature_name"].astype(str)):
            called.setdefault(symbol, []).append(at)
    out: dict[int, None] = {}
    missing: dict[str, None] = {}
    for name in names:
        places = [place[name]] if name in place else called.get(name, [])
        if len(places) > 1:
            ids = ", ".join(map(repr, spec.var.index[places[:5]]))
            raise PlanError(f"{name!r} is the name of {len(places)} genes: {ids}; name the one that is meant by its id")
        if places and (seen is None or seen[places[0]]):
            out[places[0]] = None
        else:
            missing[name] = None
    return np.array(list(out), dtype=np.int64), list(missing)


def warn_of_unmeasured(step: Scoring, spec: StreamSpec) -> None:
    """Name the genes of the set that were not measured, if there are any."""
    _, missing = _found(step.genes, spec)
    if missing:
        more = f", and {len(missing) - 20} more" if len(missing) > 20 else ""
        warnings.warn(
            f"{step.score_name}: {len(missing)} of {len(step.genes)} genes were not measured and are left out: "
            f"{', '.join(missing[:20])}{more}",
            UnmeasuredGenesWarning,
            stacklevel=3,
        )


def _seen(spec: StreamSpec) -> npt.NDArray[np.bool_] | None:
    """Return which genes some dataset measured, if that is known."""
    return None if spec.measured is None else spec.measured.anywhere()


def controls(step: Scoring, genes: Ints, pool: Ints, mean: npt.NDArray[np.float64]) -> Ints:
    """Draw control genes, by scanpy's rule and with its random numbers."""
    n_items = int(np.round(len(pool) / (step.n_bins - 1)))
    cuts = pd.Series(mean[pool]).rank(method="min").to_numpy() // n_items
    random = np.random.RandomState(step.random_state)  # its numbers are those of scanpy
    drawn: list[Ints] = []
    for cut in np.unique(cuts[np.isin(pool, genes)]):
        alike = pool[cuts == cut]
        if not step.ctrl_as_ref:
            alike = alike[~np.isin(alike, genes)]
        if step.ctrl_size < len(alike):
            alike = alike[random.choice(len(alike), size=step.ctrl_size, replace=False)]
        drawn.append(alike)
    found = np.setdiff1d(np.concatenate(drawn), genes)
    if not len(found):
        raise InputError(
            f"ScoreGenes({step.score_name!r}): no control gene is left; raise ctrl_size, or enlarge gene_pool"
        )
    return found


def mask_of(genes: Ints, n_vars: int) -> npt.NDArray[np.bool_]:
    """Return which genes are meant, shape (n_vars,)."""
    mask = np.zeros(n_vars, dtype=bool)
    mask[genes] = True
    return mask
