"""Totals of cells, compared with what obs says of them: damage on the way that nothing else notices."""

from __future__ import annotations

import numpy as np

from ...chunk import Chunk
from ...errors import SourceError

EXACT = 2**24
"""Totals up to which sums of float32 are exact."""


def compare_sums(chunk: Chunk) -> None:
    """Compare the total of each cell whose values are all there with `obs["raw_sum"]`, if obs has that and `nnz`.

    TileDB's format has no checksums, and an unencrypted line may change bytes. Of bits flipped at random in the file of
    values, these totals notice what decoding does not.

    Raises
    ------
    SourceError
        If they differ.
    """
    X, obs = chunk.X, chunk.obs
    assert not isinstance(X, np.ndarray), "a source's chunks are sparse"
    if not {"raw_sum", "nnz"} <= set(obs.columns) or not X.nnz:
        return
    lengths = np.diff(X.indptr)
    there = np.flatnonzero(lengths)
    totals = np.add.reduceat(X.data, X.indptr[there], dtype=np.float64)
    said = obs["raw_sum"].to_numpy()[there]
    whole = (lengths[there] == obs["nnz"].to_numpy()[there]) & (said < EXACT)
    wrong = np.flatnonzero(whole & (totals != said))
    if len(wrong):
        k = wrong[0]
        raise SourceError(
            f"the values of cell {obs.index[there[k]]} in X sum to {totals[k]:,.10g}, but its obs['raw_sum'] says "
            f"{said[k]:,.10g}: X is damaged, or the source contradicts itself; fetch the data again"
        )
