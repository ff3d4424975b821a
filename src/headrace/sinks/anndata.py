"""An AnnData in memory, for data that fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from ..chunk import Chunk, Matrix, StreamSpec


@dataclass(frozen=True)
class InMemory:
    """Collects the cells; `result` holds the AnnData afterwards."""

    result: list[Any] = field(default_factory=list)

    @contextmanager
    def open(self, spec: StreamSpec) -> Iterator[InMemoryWriter]:
        """Begin with no cells."""
        writer = InMemoryWriter(spec)
        yield writer
        self.result.append(writer.adata)


class InMemoryWriter:
    """Collects chunks; see `InMemory`."""

    def __init__(self, spec: StreamSpec) -> None:
        self.obs: list[pd.DataFrame] = [spec.obs]
        self.matrices: dict[str, list[Matrix]] = {}
        self.adata: Any = None

    def write(self, chunk: Chunk) -> None:
        """Keep the cells."""
        self.obs.append(chunk.obs)
        for name, X in {"": chunk.X, **chunk.layers}.items():
            self.matrices.setdefault(name, []).append(X)

    def finish(self, spec: StreamSpec) -> None:
        """Put the parts together."""
        import anndata  # slow to import, and only needed here

        obs = pd.concat(self.obs) if len(self.obs) > 1 else self.obs[0]
        for name in obs.columns:
            if isinstance(obs[name].dtype, pd.CategoricalDtype):
                obs[name] = obs[name].cat.remove_unused_categories()
        matrices = {name: _stack(parts) for name, parts in self.matrices.items()}
        empty = sparse.csr_matrix((len(obs), spec.n_vars), dtype=np.float32)
        layers = {name: matrices.get(name, empty) for name in spec.layers}
        self.adata = anndata.AnnData(
            matrices.get("", empty), obs=obs, var=spec.var.copy(), uns=dict(spec.uns), layers=layers
        )


def _stack(parts: list[Matrix]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return sparse.csr_matrix(sparse.vstack(parts, format="csr"))
