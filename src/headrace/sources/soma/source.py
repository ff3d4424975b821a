"""Any SOMA experiment as a source of cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from ...chunk import Chunk, Cost, Holds, StreamSpec
from ...protocols import Source
from ...support.memory import MAX_CHUNK_NNZ
from ...support.prefetch import prefetch
from ...support.retry import call, resumed
from ...traffic import Traffic
from ..compact import Even, Joinids, Sizes
from ..names import named
from ..ranges import CellRange
from ..sample import Sample
from ..summary import Summaries
from ..tiles.readahead import Line
from ..tiles.rows import TileReader
from .bands import MOST_CELLS, largest_band, spans
from .cells import absent_values
from .checks import advised, check_finite, impossible
from .choice import Choice, Reader
from .chosen import ChosenCells
from .experiment import Experiment
from .genes import Genes, choose, id_column
from .location import BUFFER_BYTES, TILE_BYTES, Location, reading
from .matrix import BLOCK_NNZ, XReader
from .obs import TILE, Annotations
from .planned import MIN_TILE_BYTES, reading_memory
from .replica import Replica, experiment_replica
from .sums import compare_totals

ENOUGH_FOR_TILES = 240_000_000

IMPORTED = 80 << 20
"""What tiledbsoma and its libraries hold."""

ROW_BYTES, CHUNKS_ALIVE = 500, 8
"""What a cell's annotations take in pandas, and how many chunks of them there are at once."""


@dataclass(frozen=True)
class SomaSource(ChosenCells, Source[CellRange]):
    """Cells and genes of one measurement of a SOMA experiment; see `open_soma`.

    Holds a location and what was asked for, never an open handle: it pickles small, and every
    process opens the experiment for itself.
    """

    location: Location
    measurement: str = "RNA"
    layer: str = "raw"
    obs_filter: str | None = None
    obs_joinids: Joinids | None = None
    genes: tuple[str, ...] | None = None
    var_index: str | None = None
    holds: Holds = Holds.UNKNOWN
    reader: Reader = "auto"
    var_names: str | None = None
    samples: tuple[Sample, ...] = ()
    use_nnz: bool = True

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was opened or looked up."""
        return {k: v for k, v in self.__dict__.items() if k in self.__dataclass_fields__}

    spooled = True

    @property
    def traffic(self) -> Traffic | None:  # type: ignore[override] # it is the location's
        """What comes from there, if it is far away."""
        return self.location.traffic

    @cached_property
    def spec(self) -> StreamSpec:
        """What is known of the stream before X is read."""
        return call(self.traffic, f"obs of {self.where}", self._describe, self._forget)

    def _describe(self) -> StreamSpec:
        var = self._summaries.genes(self.columns.var)
        return StreamSpec(
            var if self.var_names is None else named(var, self.var_names, "var"),
            self._summaries.empty(self._annotations.empty()),
            len(self.cells.joinids),
            None if self.cells.nnz is None else self.cells.nnz.total,
            self.holds,
            values=self.value_counts,
        )

    def refs(self, nnz: int) -> list[CellRange]:
        """Return one span of cells per chunk, each of about `nnz` non-zeros."""
        return spans(self.cells.joinids, self._nnz_per_cell, nnz)

    def read(self, refs: Sequence[CellRange]) -> Iterator[Chunk]:
        """Read consecutive chunks, in order; X is read ahead of the cells' annotations. What fails is read again."""
        return resumed(self.traffic, f"X of {self.where}", self._chunks, refs)

    def _chunks(self, refs: Sequence[CellRange], again: bool) -> Iterator[Chunk]:
        if again:
            self._forget()
        reader = self._reader
        with self._annotations.begun(refs[0].start if refs else len(self.cells.joinids)):
            for span, X in zip(refs, advised(prefetch(reader.read(refs)), self._way_out), strict=True):
                joinids = self.cells.joinids[span.start : span.stop]
                check_finite(X, joinids, self.columns.var.index, f"{self.layer!r} of {self.where}")
                obs = self._annotations.read(span.start, span.stop)
                if span.start in reader.totals:
                    compare_totals(reader.totals.pop(span.start), X, obs, self._complete)
                yield Chunk(*self._summaries.split(X, obs))

    def identity(self) -> str:
        """Return the place, the version of X there, the cells and the genes, as a text."""
        cells, where = self.cells.joinids.digest(), self._experiment.x.uri
        genes = hashlib.sha256(self.columns.gene_map.tobytes()).hexdigest()
        return json.dumps([where, self._stored, self._experiment.fragments(), cells, genes, self.location.timestamp])

    def provenance(self) -> dict[str, Any]:
        """Say what was asked for, in plain values; never where it was read from."""
        asked: dict[str, Any] = {"measurement": self.measurement, "layer": self.layer}
        if self.obs_filter is not None:
            asked["obs_filter"] = self.obs_filter
        if self.obs_joinids is not None:
            asked["n_obs_joinids"] = len(self.obs_joinids)
        asked["genes"] = "all" if self.genes is None else f"{len(self.genes)} named genes"
        return {"query": {**asked, **self._left_out}}

    @property
    def notes(self) -> tuple[str, ...]:
        """Which reader reads X, and why; what it cannot notice."""
        notes = [f"X is read by: {self._choice.note}"]
        if self._choice.fragments and self.cells.nnz is None:
            notes.append("no nnz of obs to compare with: damage to X might not be noticed, its format has no checksums")
        if self.samples:
            notes.append(self._sampled)
        return tuple(notes)

    @property
    def _sampled(self) -> str:
        """What it costs that the cells of a sample lie apart."""
        n, of = self.samples[-1].n_obs, self.samples[0].of
        note = f"a sample of {n:,} of {of:,} cells"
        if not isinstance(self._reader, TileReader):
            return f"{note}; how many bytes that takes is not known where TileDB reads X"
        whole = sum(fragment.data_bytes for fragment in self._choice.fragments)
        stored = self._reader.stored_bytes()
        return (
            f"{note}: {n / of:.3%} of them, whose tiles are {stored / whole:.1%} of X "
            f"({stored / 1e6:,.1f} of {whole / 1e6:,.1f} MB)"
        )

    def cost(self) -> Cost:
        """Estimate what reading takes: of tiles exactly their bytes, else by those of a stored value."""
        nnz, n_obs = self._nnz_per_cell.total, len(self.cells.joinids)
        band = min(largest_band(self.cells.joinids, self._nnz_per_cell), BLOCK_NNZ)
        if isinstance(self._reader, TileReader):
            memory = self._reader.memory(band, nnz) + 200 * min(n_obs, TILE)
        else:
            memory = reading_memory(band, nnz, self._tile_bytes, n_obs)
        stored = self._reader.stored_bytes(nnz) + self._annotations.stored_bytes()
        return Cost(nnz, stored, memory + self._held, IMPORTED)

    @property
    def _held(self) -> int:
        """Bytes of what is held of each cell, and of the annotations of chunks on their way."""
        sizes = 0 if self.cells.nnz is None else self.cells.nnz.nbytes
        n_obs = len(self.cells.joinids)
        a_chunk = min(n_obs, MOST_CELLS, MAX_CHUNK_NNZ * n_obs // max(1, self._nnz_per_cell.total))
        return self.cells.joinids.nbytes + sizes + CHUNKS_ALIVE * ROW_BYTES * a_chunk

    def within(self, memory: int) -> Self:
        """Return the same source with less memory for tiles, if it must be."""
        tiles = TILE_BYTES if memory >= ENOUGH_FOR_TILES else MIN_TILE_BYTES
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)  # with what was looked up, unlike a copy
        if tiles != self._tile_base:
            for name in ("_array", "_reader", "_tile_bytes"):  # of either reader
                other.__dict__.pop(name, None)
            other.__dict__["_tile_base"] = tiles
        return other

    # ----------------------------------------------------------------------------------------- looking it up
    @property
    def where(self) -> str:
        """The experiment's name in messages."""
        return self.location.uri

    @property
    def value_filter(self) -> str | None:
        """The SOMA value filter of the cells."""
        return self.obs_filter

    _tile_base = TILE_BYTES
    _way_out = "X is damaged, or obs is of another X: then use_nnz=False leaves that out"
    _compared = _complete = False
    """Whether the total of each cell is compared with obs; whether none of its values can be of another gene."""

    def _forget(self) -> None:
        """Open all anew: what was opened may be damaged, and TileDB keeps what it has read."""
        if self.traffic is not None:
            self.traffic.forget()
        for name in ("_experiment", "_stored_array", "_array", "_reader", "_choice", "_annotations"):
            self.__dict__.pop(name, None)

    def _believes(self, nnz: Sizes) -> bool:
        """Whether obs['nnz'] counts the values of X: it may be of cells that had more genes before, or of another X."""
        whole = self.use_nnz and self.value_filter is None and self.obs_joinids is None and not self.samples
        genes = self._experiment.var["soma_joinid"].to_numpy()
        return whole and nnz.total == self._stored and impossible(nnz, genes) is None

    @cached_property
    def columns(self) -> Genes:
        """The genes of the query: the columns of X."""
        var = self._experiment.var
        index = id_column(var, self.var_index, self.where)
        return Genes.of(var if self.genes is None else choose(var, self.genes, index), index)

    @cached_property
    def _summaries(self) -> Summaries:
        """Features that are no genes, but the summary of a counter, such as `__no_feature`."""
        return Summaries.among(self.columns.var.index, taken=self._experiment.obs_names)

    @property
    def _asked(self) -> str:
        if self.value_filter is None:
            return "obs is empty"
        why = absent_values(self._experiment.obs, self.value_filter, None, self.obs_joinids, self.where)
        return self.value_filter + why

    @cached_property
    def _experiment(self) -> Experiment:
        return Experiment(self.location, self.measurement, self.layer, self._replica())

    def _replica(self) -> Replica | None:
        """List the files of the experiment, if it is far away."""
        return experiment_replica(self.location)

    @cached_property
    def _choice(self) -> Choice:
        """Who reads X."""
        return self._experiment.choose(self.reader)

    @cached_property
    def _line(self) -> Line:
        return Line("://" in self._experiment.x.uri.removeprefix("file://"))

    @cached_property
    def _stored(self) -> int:
        """How many values X holds; to look it up with TileDB takes a while."""
        if self._choice.fragments:
            return sum(fragment.n_cells for fragment in self._choice.fragments)
        with reading(self._experiment.x.uri):
            return int(self._stored_array.nnz)

    @cached_property
    def _stored_array(self) -> Any:
        """X as TileDB opens it by default."""
        return self._experiment.open_x()

    @cached_property
    def _array(self) -> Any:
        """X, opened with as much memory for tiles as its size needs."""
        return self._experiment.open_x(self._tile_base + self._stored // 80, BUFFER_BYTES)

    @cached_property
    def _tile_bytes(self) -> int:
        return int(dict(self.location.config).get("sm.mem.total_budget") or self._tile_base + self._stored // 80)

    @cached_property
    def _nnz_per_cell(self) -> Sizes | Even:
        """How many values each cell has, or the average where obs does not tell."""
        if self.cells.nnz is not None:
            return self.cells.nnz
        average = -(-self._stored // max(1, int(self._experiment.obs.array.count)))
        return Even(min(average, len(self._experiment.var)), len(self.cells.joinids))

    @cached_property
    def _reader(self) -> XReader | TileReader:
        asked = self.cells.joinids, self.cells.nnz, self.columns.gene_map
        if not self._choice.fragments:
            return XReader(self._array, *asked, self.location, self._stored, self._compared)
        small = self._tile_base < TILE_BYTES
        return TileReader(self._choice.fragments, *asked, line=self._line, small=small, add_up=self._compared)

    def open_x(self) -> None:
        """Find X and who reads it, so that a wrong measurement, layer or reader is named now, not later."""
        if not self._choice.fragments:
            self._array  # noqa: B018

    @cached_property
    def _annotations(self) -> Annotations:
        names = self._experiment.obs_names  # obs_id is what tiledbsoma.io calls the index
        ids = "obs_id" if "obs_id" in names else None
        return Annotations(self._experiment.obs, self.cells.joinids, names, ids, self.traffic)
