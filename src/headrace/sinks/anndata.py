"""An AnnData in memory, for data that fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from ..afterwards import Reading
from ..chunk import Chunk, Matrix, StreamSpec
from ..errors import without_docstrings
from ..protocols import Sink, Writer
from ..support.columns import without_unused_colors


@dataclass(frozen=True)
class InMemory(Sink):
    """Collects the cells; `result` holds the AnnData afterwards."""

    result: list[Any] = field(default_factory=list)
    gives_back = True

    def check(self, spec: StreamSpec) -> None:
        """Import what `finish` needs, which takes seconds, or fails, before anything is read."""
        del spec
        try:
            import anndata  # noqa: F401
        except AttributeError as error:
            raise without_docstrings(error) from error

    @contextmanager
    def open(self, spec: StreamSpec) -> Iterator[InMemoryWriter]:
        """Begin with no cells."""
        writer = InMemoryWriter(spec)
        yield writer
        self.result.append(writer.adata)


class InMemoryWriter(Writer):
    """Collects chunks; see `InMemory`."""

    def __init__(self, spec: StreamSpec) -> None:
        self.obs: list[pd.DataFrame] = [spec.obs]
        self.matrices: dict[str, list[Matrix]] = {}
        self.obsm: dict[str, list[npt.NDArray[Any]]] = {}
        self.adata: Any = None

    def write(self, chunk: Chunk) -> None:
        """Keep the cells."""
        self.obs.append(chunk.obs)
        for name, X in {"": chunk.X, **chunk.layers}.items():
            self.matrices.setdefault(name, []).append(X)
        self.add(chunk.obsm)

    def again(self) -> Sequence[Reading]:
        """Return what gives the cells once more."""
        chunks = (Chunk(X, pd.DataFrame(index=range(X.shape[0]))) for X in self.matrices[""])
        return [lambda chunk=chunk: lambda: chunk for chunk in chunks]  # type: ignore[misc] # bound now

    def add(self, obsm: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep arrays of cells."""
        for name, values in obsm.items():
            self.obsm.setdefault(name, []).append(values)

    def finish(self, spec: StreamSpec) -> None:
        """Put the parts together."""
        import anndata  # slow to import, and only needed here

        obs = pd.concat(self.obs) if len(self.obs) > 1 else self.obs[0]
        used: dict[str, npt.NDArray[np.bool_]] = {}
        for name in obs.columns:
            dtype = obs[name].dtype
            if isinstance(dtype, pd.CategoricalDtype) and not dtype.ordered:
                used[name] = np.isin(np.arange(len(dtype.categories)), obs[name].cat.codes)
                obs[name] = obs[name].cat.remove_unused_categories()
        matrices = {name: _stack(parts) for name, parts in self.matrices.items()}
        empty = sparse.csr_matrix((len(obs), spec.n_vars), dtype=np.float32)
        layers = {name: matrices.get(name, empty) for name in spec.layers}
        self.adata = anndata.AnnData(
            matrices.get("", empty),
            obs=obs,
            var=spec.var.copy(),
            uns=without_unused_colors(spec.uns, used),
            layers=layers,
            raw=None if spec.raw is None else {"X": layers[spec.raw], "var": spec.var.copy()},
            obsm={name: np.concatenate([empty, *self.obsm.get(name, ())]) for name, empty in spec.obsm.items()},
            varm={name: values.copy() for name, values in spec.varm.items()},
        )


def _stack(parts: list[Matrix]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return sparse.csr_matrix(sparse.vstack(parts, format="csr"))
