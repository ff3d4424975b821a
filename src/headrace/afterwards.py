"""What is added to cells after they were written: what steps, writers and sinks say of it. Every line has a default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .chunk import Chunk, Mask, StreamSpec
from .contract import Contract, Shown

Reading = Callable[[], Callable[[], Chunk]]
"""Reads some cells from where they are, and returns what makes a chunk of them: that may be called in any thread."""


class AddingStep(Shown):
    """Of a step."""

    @property
    def adds_obsm(self) -> bool:
        """Whether all it does to the cells is to add arrays to `obsm`, by `X` alone: they may be written before."""
        return False

    def reads_genes(self, spec: StreamSpec) -> Mask | None:
        """Mark the genes whose values it reads, shape (n_vars,), if it `adds_obsm`; None for all of them."""
        del spec
        return None


class AddingWriter(Contract):
    """Of a writer whose sink `gives_back`."""

    def again(self) -> Sequence[Reading]:
        """Return what reads back the cells that were written, `X` alone, in order."""
        raise NotImplementedError(f"{type(self).__name__} does not read back what it wrote; its sink has no gives_back")

    def add(self, obsm: Mapping[str, Any]) -> None:
        """Append rows to arrays of `obsm`, of cells that were written before, in order."""
        raise NotImplementedError(f"{type(self).__name__} adds nothing to cells; its sink has no gives_back")


class AddingSink(Contract):
    """Of a sink."""

    @property
    def gives_back(self) -> bool:
        """Whether its writer reads back the cells that it wrote (`again`), and adds to them afterwards (`add`)."""
        return False
