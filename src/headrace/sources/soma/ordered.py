"""Cells of a query as they come, put in the order of their joinids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from ..compact import Ints, Joinids, Sizes

MOST_JOINIDS = 1 << 40
"""Of cells; what is beyond is damage."""


class Ordered:
    """Cells in the order of their joinids, whatever the order in which they come.

    In a Census they come in order. Where they do not, as in an experiment of several fragments, they are held until all
    are there, 12 bytes each.
    """

    def __init__(self, sized: bool, where: str) -> None:
        self.sized, self.where, self.last = sized, where, -1
        self.joinids, self.nnz = Joinids(), Sizes()
        self.held: list[tuple[Ints, npt.NDArray[np.int32]]] = []

    def add(self, joinids: Ints, nnz: npt.NDArray[Any] | None) -> None:
        """Take further cells."""
        if not len(joinids):
            return
        first, last = int(joinids.min()), int(joinids.max())
        if not 0 <= first <= last < MOST_JOINIDS:
            said = f"{self.where}/obs has soma_joinids from {first} to {last}"
            raise SourceError(f"{said}: no cells are numbered so")
        nnz = np.zeros(len(joinids), dtype=np.int32) if nnz is None else _int32(nnz)
        if not self.held and joinids[0] > self.last and (joinids[1:] > joinids[:-1]).all():
            self.last = int(joinids[-1])
            self._extend(joinids, nnz)
            return
        self.held.append((joinids.copy(), nnz))

    def finish(self) -> tuple[Joinids, Sizes | None]:
        """Return the cells in order."""
        if self.held:
            there = list(zip(self.joinids.parts(), self._in_step(), strict=True))
            joinids, nnz = (np.concatenate(one) for one in zip(*there, *self.held, strict=True))
            self.held, self.joinids, self.nnz = [], Joinids(), Sizes()
            order = np.argsort(joinids, kind="stable")
            joinids, nnz = joinids[order], nnz[order]
            twice = np.flatnonzero(joinids[1:] == joinids[:-1])
            if len(twice):
                said = f"{self.where}/obs has several cells with the soma_joinid {joinids[twice[0]]}"
                raise SourceError(f"{said}: which values are whose?")
            self._extend(joinids, nnz)
        return self.joinids, self.nnz if self.sized else None

    def _extend(self, joinids: Ints, nnz: npt.NDArray[np.int32]) -> None:
        self.joinids.extend(joinids)
        if self.sized:
            self.nnz.extend(nnz)

    def _in_step(self) -> Iterator[npt.NDArray[np.int32]]:
        """Yield the sizes that go with each part of the joinids."""
        at = 0
        for part in self.joinids.parts():
            n = len(part)
            yield (self.nnz[at : at + n] if self.sized else np.zeros(n)).astype(np.int32)
            at += n


def _int32(values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Return sizes; those that no cell can have stay so."""
    return np.clip(values.astype(np.int64), -1, 2**31 - 1).astype(np.int32)
