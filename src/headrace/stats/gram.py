"""Sums of products of pairs of genes, as principal components need them: exact, in any order.

Scaled and clipped values of a sparse gene are sparse plus what a zero becomes, and a constant does not change a
covariance: only values that are not zero take part. Each product is rounded once, to a whole number of a unit that is
known beforehand, and whole numbers are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, log2

import numpy as np
import numpy.typing as npt

from ..chunk import Chunk, Mask
from ..errors import CountsError
from ..protocols import Accumulator
from ..scaling import Scaling
from ..support.locks import Lock
from ..support.memory import n_cores
from . import kernels
from .moments import as_float
from .pairs import Pairs, Rows

Floats = npt.NDArray[np.float64]

BATCH = 1 << 18
"""Values that are multiplied at once: as many as the processor's cache holds, since each is read for many pairs."""

STRIPES = 32
"""Parts of the genes; each is added to by one thread at a time."""

LARGEST_LOG = 1024.0
"""Above any logarithm of 1 + a normalised count, and what proportional fitting makes of it."""


@dataclass(frozen=True, eq=False)
class Values:
    """What of a chunk is meant: chosen genes of X or a layer, scaled if they are to be, less what zero becomes.

    Parameters
    ----------
    genes
        The chosen ones, shape (n_vars,), bool.
    layer
        Name of a saved layer, or None for `X`.
    scaling
        Of all genes: how they are to be scaled, or were.
    weight
        By what values are multiplied, a power of two for each chosen gene.
    """

    genes: Mask
    layer: str | None = None
    scaling: Scaling | None = None
    weight: Floats | None = None

    def __post_init__(self) -> None:
        chosen = None if self.scaling is None else self.scaling.of(self.genes)
        n = int(self.genes.sum())
        zero = np.zeros(n) if chosen is None else chosen.zero
        mean, std, most, least = np.zeros(n), np.ones(n), inf, -inf
        if chosen is not None and not chosen.stored:
            mean, std, most = (chosen.mean if chosen.zero_center else mean), chosen.std, chosen.most
            least = -most if chosen.zero_center else -inf
        if chosen is not None and chosen.stored:
            zero = zero.astype(np.float32).astype(np.float64)
        gene_map = np.where(self.genes, np.cumsum(self.genes) - 1, -1).astype(np.int32)
        held = {"n": n, "zero": zero, "gene_map": gene_map, "scaled": (mean, std, least, most)}
        for name, value in held.items():
            object.__setattr__(self, f"_{name}", value)

    @property
    def n(self) -> int:
        """Number of chosen genes."""
        return int(self._n)  # type: ignore[attr-defined] # set in __post_init__

    @property
    def zero(self) -> Floats:
        """What a zero of each chosen gene becomes, shape (n,)."""
        return np.asarray(self._zero)  # type: ignore[attr-defined] # set in __post_init__

    @property
    def weights(self) -> Floats:
        """By what values are multiplied, shape (n,)."""
        return np.ones(self.n) if self.weight is None else self.weight

    def rows(self, chunk: Chunk, most: float = inf) -> Rows:
        """Return the values of a chunk; raise `CountsError` if one is above `most`."""
        X = chunk.X if self.layer is None else chunk.layers[self.layer]
        indptr = np.empty(chunk.n_obs + 1, dtype=np.int32)
        if isinstance(X, np.ndarray):
            genes, zero = np.flatnonzero(self.genes), self.zero.astype(np.float32)
            n = kernels.count_shifted(X, genes, zero, indptr)
            indices, data = np.empty(n, np.uint16), np.empty(n)
            largest = kernels.shifted_dense_rows(X, genes, zero, self.weights, indices, data)
        else:
            gene_map = self._gene_map  # type: ignore[attr-defined] # set in __post_init__
            n = kernels.count_kept(X.indptr, X.indices, gene_map, indptr)
            indices, data = np.empty(n, np.uint16), np.empty(n)
            # a stored matrix that is sparse was not centred: zero is 0 there
            scaled = *self._scaled, self.zero, self.weights  # type: ignore[attr-defined] # the same
            largest = kernels.shifted_rows(X.indices, X.data, gene_map, *scaled, indices, data)
        if not largest <= most:
            name = "X" if self.layer is None else f"layer {self.layer!r}"
            raise CountsError(
                f"PCA: {name} has values that are larger than what it holds allows, infinite, or none at all; look at "
                "its largest value, or put Scale(max_value=10, store=False) before PCA"
            )
        return Rows(indptr, indices, data)


@dataclass(frozen=True, eq=False)
class Products:
    """Sums over cells.

    Parameters
    ----------
    n
        Cells.
    totals
        Of the values, int64, shape (genes,).
    products
        Of the products of each pair of genes, int64, shape (genes, genes); only the upper triangle.
    """

    n: int
    totals: npt.NDArray[np.int64]
    products: npt.NDArray[np.int64]


class GramSums(Accumulator[Products]):
    """Accumulates sums of values and of products of pairs of genes.

    Parameters
    ----------
    values
        What of a chunk.
    bound
        No value of a gene is above it, shape (genes,).
    n_obs
        The most cells that can come.
    """

    parallel = True

    def __init__(self, values: Values, bound: Floats, n_obs: int) -> None:
        bits = int(min(25, (61 - ceil(log2(max(2, n_obs)))) // 2))
        with np.errstate(divide="ignore"):
            size = np.where(bound > 0, np.ceil(np.log2(np.maximum(bound, 1e-300))), 0.0)
        self.values = Values(values.genes, values.layer, values.scaling, np.exp2(bits - size))
        self.most = 2.0**bits
        self.unit = 2.0 ** min(50 - bits, 62 - bits - ceil(log2(max(2, n_obs))))
        self.n = 0
        self.totals = np.zeros(values.n, dtype=np.int64)
        self.products = np.zeros((values.n, values.n), dtype=np.int64)
        self.waiting: list[Rows] = []
        self.lock = Lock()
        """Held while cells are counted and begin to wait."""
        self.stripes = [Lock() for _ in range(STRIPES)]

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        rows = self.values.rows(chunk, self.most)
        with self.lock:
            self.n += chunk.n_obs
            kernels.add_rounded(rows.indices, rows.data, self.unit, self.totals)
            self.waiting.append(rows)
            if sum(len(each.data) for each in self.waiting) < BATCH:
                return
            batch, self.waiting = self.waiting, []
        self._multiply(batch)

    def _multiply(self, batch: list[Rows]) -> None:
        """Add the products of some cells, a stripe of genes after the other, first those that no thread is at."""
        n = self.values.n
        pairs = Pairs(batch, n)
        edges = np.linspace(0, n, STRIPES + 1).astype(np.int64)
        left = list(range(STRIPES))
        while left:
            free = next((stripe for stripe in left if self.stripes[stripe].acquire(blocking=False)), None)
            if free is None:
                free = left[0]
                self.stripes[free].acquire()
            try:
                pairs.add(edges[free], edges[free + 1], self.products)
            finally:
                self.stripes[free].release()
            left.remove(free)

    def merge(self, other: GramSums) -> None:
        """Add all that `other` has seen."""
        self.n += other.n
        self.totals += other.totals
        self.products += other.products
        self.waiting += other.waiting

    def result(self) -> Products:
        """Return the sums; they are not copied."""
        if self.waiting:
            batch, self.waiting = self.waiting, []
            self._multiply(batch)
        kernels.fold(self.products)
        return Products(self.n, self.totals, self.products)

    @staticmethod
    def memory(genes: int) -> int:
        """Predict its bytes, and those of LAPACK; the covariances take the place of the sums."""
        threads = min(n_cores() + -(-n_cores() // 2), 8)  # of more not all multiply at once
        return 8 * genes**2 + threads * 64 * BATCH + (16 << 20)


class LargestValues(Accumulator[Floats]):
    """Finds the largest magnitude of each chosen gene; shape (genes,)."""

    reads_obs = ()

    def __init__(self, values: Values) -> None:
        self.values = values
        self.largest = np.zeros(values.n)

    def update(self, chunk: Chunk) -> None:
        """Look at the cells of one chunk."""
        rows = self.values.rows(chunk)
        kernels.raise_largest(rows.indices, rows.data, self.largest)

    def merge(self, other: LargestValues) -> None:
        """Add all that `other` has seen."""
        np.maximum(self.largest, other.largest, out=self.largest)

    def result(self) -> Floats:
        """Return the magnitudes."""
        return self.largest.copy()


class ValueSums(Accumulator[Floats]):
    """Finds the mean of each chosen gene, less what zero becomes; shape (genes,)."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self.n = 0
        self.words = np.zeros((values.n, 4), dtype=np.uint64)

    def update(self, chunk: Chunk) -> None:
        """Add the cells of one chunk."""
        rows = self.values.rows(chunk)
        self.n += chunk.n_obs
        kernels.add_fixed(rows.indptr, rows.indices, rows.data, np.arange(chunk.n_obs), self.words)

    def merge(self, other: ValueSums) -> None:
        """Add all that `other` has seen."""
        self.n += other.n
        kernels.merge_sums(self.words.reshape(-1, 2), other.words.reshape(-1, 2))

    def result(self) -> Floats:
        """Return the means."""
        return np.asarray(as_float(self.words[:, :2]) / max(1, self.n))
