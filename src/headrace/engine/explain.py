"""The explanation of a plan: what it will do and take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..chunk import StreamSpec
from ..protocols import Source, Step
from ..steps.normalize import FULL_GENE_ASSAYS
from ..support.amounts import duration
from ..support.memory import Budget
from ..traffic import Traffic
from . import ahead, schedule
from .provenance import corrected_assays
from .schedule import source_passes
from .spool import need

TEXT_BYTES, COLUMN_BYTES, FILE_BYTES, HDF5_CHUNK = 64, 4096, 40_000, 1 << 20
"""Bytes of the output: of a text and its offset, of what describes a column, of the rest of a file, of a chunk."""


@dataclass(frozen=True)
class Explanation:
    """A plan in words and numbers; `str()` of it is the text."""

    lines: tuple[str, ...]
    n_obs: int
    n_vars: int
    nnz: int
    passes: int
    peak_memory: int
    output_bytes: int
    fetched_bytes: int = 0
    """To be fetched from far away; 0 if all is at hand."""
    fetched_seconds: float | None = None
    """How long that takes; None if the rate of the line is not known."""

    def __str__(self) -> str:
        return "\n".join(self.lines)


def explain(
    source: Source[Any],
    steps: Sequence[Step],
    out: StreamSpec,
    waits: str,
    budget: Budget,
    spooled: bool,
    rate: float | None = None,
) -> Explanation:
    """Put a plan into words.

    Parameters
    ----------
    waits
        Why cells are not written ahead of what is added to them (`ahead.why_not`); nothing if they are.
    spooled
        Whether what is read is kept.
    rate
        Of the line, in bytes a second, if the user has said it.
    """
    spec, cost = source.spec, source.cost()
    passes = schedule.passes(steps) if waits else ahead.purposes(steps)
    from_source = source_passes(steps if waits else steps[:-1])
    far = source.traffic
    seen = rate or (far.rate if far is not None else 0.0)
    seconds = cost.bytes / seen if far is not None and seen else None
    wide = spec.nnz is None or spec.nnz > 2**31 - 1
    index = "int64" if wide else "int32"
    output = _size(spec, out, steps, cost.nnz, 8 if wide else 4)
    lines = [
        f"source     {spec.n_obs:,} cells x {spec.n_vars:,} genes, {cost.nnz:,} non-zeros over all genes",
        f"reading    1 pass over the source, about {_amount(cost.bytes)}{_to_fetch(far, seconds, seen, rate)}"
        if spooled or from_source == 1
        else f"reading    {from_source} passes over the source, which is at hand",
        *(f"           {note}" for note in source.notes),
    ]
    for number, purposes in enumerate(passes, 1):
        why = " + ".join(dict.fromkeys(purposes))
        where = "the source" if number == 1 or not spooled else "the spool"
        if number > from_source:
            looked_at = "X as written" if number == from_source + 1 else "its values kept aside"
            where = "the samples it made" if waits else looked_at
        reason = "" if "write" in purposes or number == len(passes) else ": must see all cells before what follows"
        lines.append(f"  pass {number}   from {where}: {why}{reason}")
    if spooled:
        lines.append(f"disk       about {_amount(need(spec.n_obs, cost.nnz))} for the spool, while it runs")
    if not waits:
        most = min(cost.nnz, out.n_obs * out.n_vars) * ahead.BYTES_PER_NNZ
        lines.append(
            f"disk       at most about {_amount(most)} for values of the genes of {steps[-1].label}, while it runs"
        )
    elif steps and steps[-1].adds_obsm:
        lines.append(f"           X is written in the last pass: {waits}")
    if cost.disk:
        lines.append(f"disk       about {_amount(cost.disk)} of temporary files, while it runs")
    aside = sum(step.disk(spec) for step in steps)
    if aside:
        lines.append(f"disk       about {_amount(aside)} of temporary files, if statistics do not fit in memory")
    lines.append("steps")
    lines += [f"  {text}" for text in described(steps)] or ["  none"]
    lines += _assays(source, steps, spec)
    lines += [
        f"output     at most {out.n_obs:,} cells x {out.n_vars:,} genes, X float32, indices and indptr {index}"
        + (f", layers {', '.join(out.layers)}" if out.layers else ""),
        f"size       at most about {_amount(output)} uncompressed",
        f"memory     predicted peak {budget.peak / 1e6:,.0f} MB of {budget.total / 1e6:,.0f} MB, "
        f"chunks of about {budget.chunk_nnz:,} non-zeros",
    ]
    return Explanation(
        tuple(lines),
        spec.n_obs,
        spec.n_vars,
        cost.nnz,
        len(passes),
        budget.peak,
        output,
        cost.bytes if far is not None else 0,
        seconds,
    )


def _to_fetch(far: Traffic | None, seconds: float | None, seen: float, given: float | None) -> str:
    """Say how long fetching takes, as the tail of a line."""
    if far is None:
        return ""
    if seconds is None:
        return " to fetch; rate= says how long that takes, e.g. rate='50Mbit'"
    how = f"{seen * 8e-6:,.3g} Mbit/s" if given else f"{seen * 8e-6:,.0f} Mbit/s, the most seen so far"
    return f" to fetch, {duration(seconds)} at {how}"


def described(steps: Sequence[Step]) -> list[str]:
    """Return the steps as they are written in Python; those that were given as one are one."""
    alone = [
        step
        for before, step in zip([None, *steps], steps, strict=False)
        if before is None or not step.belongs_to(before)
    ]
    return [step.describe() for step in alone]


def _assays(source: Source[Any], steps: Sequence[Step], spec: StreamSpec) -> list[str]:
    """Say for each assay what will happen to its cells."""
    counts = source.value_counts("assay_ontology_term_id")
    if not counts:
        return []
    corrected = corrected_assays(source, steps)
    names = _assay_names(source, counts)
    lines = ["assays"]
    labels = {assay: f"{assay} {names.get(assay, '')}".strip() for assay in counts}
    width = max(28, *map(len, labels.values()))
    for assay, n in counts.items():
        if corrected is None:
            what = "not corrected for gene length"
            what += "; reads whole transcripts, consider NormalizeLength" if assay in FULL_GENE_ASSAYS else ""
        else:
            what = "divided by gene length" if assay in corrected else "counted as it is (one end of each molecule)"
        lines.append(f"  {labels[assay]:<{width}} {n:>10,} cells  {what}")
    return lines


def _assay_names(source: Source[Any], counts: dict[str, int]) -> dict[str, str]:
    """Return the names of assays by their ids: the Census's, or those that obs has beside the ids.

    Both columns are counted apart, so a name is told by its number of cells, where no other has the same.
    """
    names = dict(FULL_GENE_ASSAYS)
    if set(counts) <= set(names):
        return names
    beside = source.value_counts("assay")
    if sorted(beside.values()) == sorted(counts.values()):
        by_cells = {n: name for name, n in beside.items() if list(beside.values()).count(n) == 1}
        names = {assay: by_cells[n] for assay, n in counts.items() if n in by_cells} | names
    return names


def _size(spec: StreamSpec, out: StreamSpec, steps: Sequence[Step], nnz: int, index: int) -> int:
    """Return the bytes of the file that is written, at most, if nothing is compressed."""
    cells = out.n_obs * out.n_vars
    n_dense = 1 + len(out.layers) if out.samples else _dense_matrices(spec, steps)
    n_sparse = 1 + len(out.layers) - n_dense
    parts = [cells * 4] * n_dense + [min(nnz, cells) * 4, min(nnz, cells) * index, out.n_obs * index] * n_sparse
    # a whole number of chunks, unless it is less than one
    matrices = sum(part if part < HDF5_CHUNK else part + HDF5_CHUNK for part in parts)
    aside: int = sum(out.n_obs * each.shape[1] * each.itemsize for each in out.obsm.values())
    aside += sum(each.nbytes for each in out.varm.values())
    return matrices + aside + _table_size(out.obs, out.n_obs) + _table_size(out.var, out.n_vars) + FILE_BYTES


def predicted(source: Source[Any], steps: Sequence[Step], out: StreamSpec, dense: bool) -> tuple[int, int]:
    """Return the bytes of an .h5ad file, at least and at most, uncompressed; `dense` if all its matrices are."""
    spec, nnz = source.spec, source.cost().nnz
    index = 8 if spec.nnz is None or spec.nnz > 2**31 - 1 else 4
    most = _size(spec, out, steps, nnz, index)
    # that all is written is known only where nothing is left out; of a Census, genes may be
    all_of_it = out.n_obs == spec.n_obs and out.n_vars == spec.n_vars and out.filters == spec.filters
    left_out = any(step.chooses_genes or step.becomes_source for step in steps) or source.spooled or spec.nnz is None
    matrices = 1 + len(out.layers)
    if dense:
        least = out.n_obs * out.n_vars * 4 * matrices
        most += least
    else:
        least = nnz * (4 + index) * (matrices - _dense_matrices(spec, steps))
    return (least if all_of_it and not left_out else 0), most


def _dense_matrices(spec: StreamSpec, steps: Sequence[Step]) -> int:
    """Count the dense ones among `X` and the layers at the end: X after a step that densifies, and layers of it."""
    dense = False
    layers: dict[str, bool] = {}
    for step in steps:
        before, spec = spec, step.preview(spec)
        dense = dense or step.densifies
        layers = {name: layers.get(name, False) for name in spec.layers}
        layers |= {name: dense for name in spec.layers if name not in before.layers}
    return dense + sum(layers.values())


def _table_size(table: pd.DataFrame, n: int) -> int:
    """Return the bytes of a table of `n` rows; how long its texts are is not known."""
    a_row = TEXT_BYTES
    for dtype in table.dtypes:
        if isinstance(dtype, pd.CategoricalDtype):
            a_row += 1 if len(dtype.categories) < 128 else 2 if len(dtype.categories) < 32768 else 4
        else:
            stored = np.dtype(dtype.type)
            a_row += TEXT_BYTES if stored.kind not in "biuf" else stored.itemsize + (stored is not dtype)
    return n * a_row + len(table.columns) * COLUMN_BYTES


def _amount(n_bytes: int) -> str:
    """Write a number of bytes for people."""
    if n_bytes < 10**6:
        return f"{max(1, n_bytes / 1e3):,.0f} kB"
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes < 10**7 else f"{n_bytes / 1e6:,.0f} MB"
