"""Gene length and logarithm."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, replace
from math import e, isfinite, log
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..chunk import Chunk, Holds, StreamSpec
from ..errors import InputError, PlanError, nearest
from ..protocols import Accumulator, Fit, Transform
from ..stats import kernels
from ..support.given import check_fields
from .check import check_defined
from .select import KeepGenes

FULL_GENE_ASSAYS = MappingProxyType(
    {
        "EFO:0003755": "FL-cDNA",
        "EFO:0008747": "FRISCR",
        "EFO:0008763": "Hi-SCL",
        "EFO:0008797": "MATQ-seq",
        "EFO:0008877": "Quartz-seq",
        "EFO:0008930": "Smart-seq",
        "EFO:0008931": "Smart-seq2",
        "EFO:0008956": "SUPeR-seq",
        "EFO:0009999": "G&T-Seq",
        "EFO:0010004": "SCRB-seq",
        "EFO:0010006": "scM&T-seq",
        "EFO:0010022": "Smart-3Seq",
        "EFO:0010058": "Fluidigm C1 SMARTer",
        "EFO:0010184": "Smart-like",
        "EFO:0022396": "TruSeq",
        "EFO:0022488": "Smart-seq3",
        "EFO:0022839": "STORM-seq",
        "EFO:0030031": "SCOPE-chip",
        "EFO:0030060": "mCT-seq",
        "EFO:0030061": "mcSCRB-seq",
        "EFO:0700016": "Smart-seq v4",
    }
)
"""The assays whose reads the Census divides by gene length for its `normalized` layer (schema 2.4.0).
SCRB-seq, mcSCRB-seq and Smart-3Seq count 3' tags; leave them out with `NormalizeLength(assays=...)`.

Examples
--------
>>> import headrace as hr
>>> hr.FULL_GENE_ASSAYS["EFO:0008931"]
'Smart-seq2'
"""


@dataclass(frozen=True)
class NormalizeLength(Fit):
    """Divide counts by gene length, in the cells whose assay reads whole transcripts.

    A long transcript gives more reads than a short one of the same abundance, unless the assay
    counts one end of each molecule. Decided cell by cell by `obs["assay_ontology_term_id"]`;
    `obs["length_normalized"]` says in which cells it was done, `uns["headrace"]["length_normalized_assays"]` how many
    cells of which assays these are, among the cells that were kept.

    Parameters
    ----------
    assays
        EFO ids of the assays to correct; by default the 21 of the Census (`FULL_GENE_ASSAYS`).
        "all" corrects every cell and needs no assay column.
    unit
        "base": x / feature_length, as in the Census notebook. "kilobase": 1000 times that.
    missing
        What to do with genes whose length is missing, zero or negative: "error", or "drop" them.
    column
        Column of `var` with the lengths, in bases.

    Notes
    -----
    Source: the Census notebook "Normalizing full-length gene sequencing data". What `feature_length`
    measures changed between Census releases; `uns["headrace"]` says which it was.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.NormalizeLength(unit="kilobase").unit
    'kilobase'
    """

    assays: Sequence[str] | Literal["all"] = tuple(FULL_GENE_ASSAYS)
    unit: Literal["base", "kilobase"] = "base"
    missing: Literal["error", "drop"] = "error"
    column: str = "feature_length"
    passes = 0
    needs_counts = True

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.assays, str) and self.assays != "all":
            raise InputError(f"NormalizeLength(assays={self.assays!r}): give a list of EFO ids, or 'all'")
        if not isinstance(self.assays, str):
            object.__setattr__(self, "assays", tuple(self.assays))
            if not self.assays:
                raise InputError("NormalizeLength(assays=[]): the list is empty; give EFO ids, or leave the step out")
        if self.unit not in ("base", "kilobase"):
            raise InputError(f"NormalizeLength(unit={self.unit!r}): 'base' or 'kilobase'")
        if self.missing not in ("error", "drop"):
            raise InputError(f"NormalizeLength(missing={self.missing!r}): 'error' or 'drop'")

    @property
    def corrects_length(self) -> Collection[str] | Literal["all"]:
        """The assays."""
        return self.assays

    def preview(self, spec: StreamSpec) -> StreamSpec:
        """Raise if the stream has no lengths or no assays, or has been logged."""
        if spec.holds not in (Holds.COUNTS, Holds.UNKNOWN):
            raise PlanError(f"NormalizeLength needs counts, but X is {spec.holds} here; put it before that step")
        if self.column not in spec.var:
            raise PlanError(f"NormalizeLength: var has no column {self.column!r}; {nearest(self.column, spec.var)}")
        if self.assays != "all" and "assay_ontology_term_id" not in spec.obs:
            raise PlanError(
                "NormalizeLength: obs has no column 'assay_ontology_term_id', so the cells to correct are not known; "
                "NormalizeLength(assays='all') corrects every cell"
            )
        return self._resolve(spec).out(spec)

    def fit(self, spec: StreamSpec) -> Generator[Accumulator[Any], Any, Transform]:
        """Look the lengths up; no data is read."""
        return self._resolve(spec)
        yield  # a generator that needs no data

    def _resolve(self, spec: StreamSpec) -> Transform:
        mask = self._mask(spec)
        lengths = spec.var[self.column].to_numpy(np.float64)[mask] / (1000.0 if self.unit == "kilobase" else 1.0)
        divide = DivideByLength(lengths, None if self.assays == "all" else tuple(self.assays))
        return divide if mask.all() else Chain((KeepGenes(mask), divide))

    def _mask(self, spec: StreamSpec) -> npt.NDArray[np.bool_]:
        """Mark the genes with a length, or raise and name those without."""
        good = np.asarray(pd.to_numeric(spec.var[self.column], errors="coerce") > 0)
        if not good.all() and self.missing == "error":
            bad = spec.var.index[~good]
            shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
            raise PlanError(
                f"NormalizeLength: {len(bad)} of {len(good)} genes have no positive {self.column}: {shown}; "
                "NormalizeLength(missing='drop') drops them"
            )
        if not good.any():
            raise PlanError(f"NormalizeLength: no gene has a positive {self.column}")
        return good


@dataclass(frozen=True, eq=False)
class DivideByLength(Transform):
    """Divide the values of the cells of some assays by gene length.

    Parameters
    ----------
    lengths
        Shape (n_vars,), float64, positive.
    assays
        EFO ids, or None for every cell.
    """

    lengths: npt.NDArray[np.float64]
    assays: tuple[str, ...] | None

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the corrected cells."""
        rows = np.ones(chunk.n_obs, dtype=bool)
        if self.assays is not None:
            rows = chunk.column("assay_ontology_term_id").isin(self.assays).to_numpy(bool)
        X = chunk.X
        assert not isinstance(X, np.ndarray), "counts are sparse"
        data = np.empty_like(X.data)
        kernels.divide_columns(X.indptr, X.indices, X.data, rows, self.lengths, data)
        return chunk.with_data(data).with_obs(length_normalized=rows)

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream of corrected cells."""
        return replace(spec, holds=Holds.NORMALIZED).with_obs(length_normalized=bool)


def length_normalized(obs: pd.DataFrame) -> dict[str, int]:
    """Count the cells of each assay that were divided by length; empty if none were, or nothing says so."""
    if "length_normalized" not in obs or "assay_ontology_term_id" not in obs:
        return {}
    assays = obs["assay_ontology_term_id"][obs["length_normalized"].to_numpy(bool)]
    return {str(assay): int(n) for assay, n in assays.value_counts().items() if n}


@dataclass(frozen=True)
class Chain(Transform):
    """Transforms one after another, as one."""

    transforms: tuple[Transform, ...]

    def __call__(self, chunk: Chunk) -> Chunk:
        """Apply them in order."""
        for transform in self.transforms:
            chunk = transform(chunk)
        return chunk

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the stream that comes out of the last."""
        for transform in self.transforms:
            spec = transform.out(spec)
        return spec


@dataclass(frozen=True)
class Log1p(Transform):
    """Take the logarithm of 1 + x, as `scanpy.pp.log1p`.

    Parameters
    ----------
    base
        Base of the logarithm; None is e. Noted in `uns["log1p"]`.

    Raises
    ------
    CountsError
        While reading: at a value of -1 or less, for which scanpy writes NaN.

    Examples
    --------
    >>> import headrace as hr
    >>> hr.Log1p(base=2)
    Log1p(base=2)
    """

    base: float | None = None
    reads_obs = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.base is not None and not (self.base > 0 and self.base != 1 and isfinite(self.base)):
            raise InputError(f"Log1p(base={self.base!r}): a positive number other than 1, or None for e")

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the logged cells, and what they were before."""
        values = chunk.X.data if sparse.issparse(chunk.X) else chunk.X.ravel()
        logged = np.empty_like(values)
        kernels.log1p(values, 1.0 if self.base is None else 1.0 / log(self.base), logged)
        check_defined("Log1p", "logarithm of 1 + x", chunk, logged)
        X = logged.reshape(chunk.X.shape) if isinstance(chunk.X, np.ndarray) else None
        after = chunk.with_data(logged) if X is None else chunk.with_X(X)
        return after.replaced(unlogged=chunk.X)

    def out(self, spec: StreamSpec) -> StreamSpec:
        """Describe the logged stream, or raise if it was logged before."""
        if spec.holds in (Holds.LOGGED, Holds.STANDARDIZED):
            raise PlanError(f"Log1p: X is {spec.holds} here already; remove one of the two steps")
        entry = {"base": e if self.base is None else self.base}
        return replace(spec, holds=Holds.LOGGED).with_uns(log1p=entry)
