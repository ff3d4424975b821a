"""What a plan will do, and what a file says about how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import version
from typing import Any

import pandas as pd

from ..chunk import StreamSpec
from ..protocols import Source
from ..steps.layers import SaveLayer
from ..steps.normalize import FULL_GENE_ASSAYS, NormalizeLength
from ..steps.qc import QCCells, QCGenes, QCMetrics
from ..support.memory import Budget
from .spool import need

TEXT_BYTES, COLUMN_BYTES, FILE_BYTES, HDF5_CHUNK = 64, 4096, 40_000, 1 << 20
"""Of the output: a text with its place, what belongs to a column of obs or var, the rest of a file, a stored chunk."""

PACKAGES = ("anndata", "h5py", "headrace", "numpy", "scipy", "tiledbsoma")


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

    def __str__(self) -> str:
        return "\n".join(self.lines)


def explain(
    source: Source[Any],
    steps: Sequence[Any],
    out: StreamSpec,
    passes: Sequence[Sequence[str]],
    from_source: int,
    budget: Budget,
) -> Explanation:
    """Put a plan into words."""
    spec, cost = source.spec, source.cost()
    spooled = source.spooled and from_source > 1
    wide = spec.nnz is None or spec.nnz > 2**31 - 1
    index = "int64" if wide else "int32"
    output = _size(out, steps, cost.nnz, 8 if wide else 4)
    lines = [
        f"source     {spec.n_obs:,} cells x {spec.n_vars:,} genes, {cost.nnz:,} non-zeros over all genes",
        f"reading    1 pass over the source, about {_amount(cost.bytes)}"
        if spooled or from_source == 1
        else f"reading    {from_source} passes over the source, which is at hand",
    ]
    for number, purposes in enumerate(passes, 1):
        why = " + ".join(dict.fromkeys(called(purpose) for purpose in purposes))
        where = "the source" if number == 1 or not spooled else "the spool"
        where = where if number <= from_source else "the samples it made"
        reason = "" if "write" in purposes else ": must see all cells before what follows"
        lines.append(f"  pass {number}   from {where}: {why}{reason}")
    if spooled:
        lines.append(f"disk       about {_amount(need(spec.n_obs, cost.nnz))} for the spool, while it runs")
    if cost.disk:
        lines.append(f"disk       about {_amount(cost.disk)} of temporary files, while it runs")
    aside = sum(step.disk(spec) for step in steps if hasattr(step, "disk"))
    if aside:
        lines.append(f"disk       about {_amount(aside)} of temporary files, if many counts are large")
    lines.append("steps")
    lines += [f"  {describe(step)}" for step in as_given(steps)] or ["  none"]
    lines += _assays(source, steps, spec)
    lines += [
        f"output     at most {out.n_obs:,} cells x {out.n_vars:,} genes, X float32, indices and indptr {index}"
        + (f", layers {', '.join(out.layers)}" if out.layers else ""),
        f"size       at most about {_amount(output)} uncompressed",
        f"memory     predicted peak {budget.peak / 1e6:,.0f} MB of {budget.total / 1e6:,.0f} MB, "
        f"chunks of about {budget.chunk_nnz:,} non-zeros",
    ]
    return Explanation(tuple(lines), spec.n_obs, spec.n_vars, cost.nnz, len(passes), budget.peak, output)


def describe(step: Any) -> str:
    """Write a step with the parameters that differ from their defaults."""
    if not is_dataclass(step):
        return type(step).__name__
    given = [f"{f.name}={getattr(step, f.name)!r}" for f in fields(step) if getattr(step, f.name) != f.default]
    return f"{type(step).__name__}({', '.join(given)})"


def called(step: str) -> str:
    """Return the name that the user knows a step by, given that of its class.

    Examples
    --------
    >>> called("QCGenes"), called("FilterGenes")
    ('QCMetrics', 'FilterGenes')
    """
    return "QCMetrics" if step in ("QCCells", "QCGenes") else step


def as_given(steps: Sequence[Any]) -> Iterator[Any]:
    """Yield steps as the user gave them: the two parts of `QCMetrics` are one."""
    left = list(steps)
    while left:
        step = left.pop(0)
        if isinstance(step, QCCells) and left and isinstance(left[0], QCGenes):
            del left[0]
            step = QCMetrics(**vars(step))
        yield step


def parameters(step: Any) -> dict[str, Any]:
    """Return a step as plain values: its name and all its parameters."""
    values = {f.name: getattr(step, f.name) for f in fields(step)} if is_dataclass(step) else {}
    return {"step": type(step).__name__, **values}


def corrected_assays(source: Source[Any], steps: Sequence[Any]) -> dict[str, int] | None:
    """Return the assays whose cells are corrected for gene length, with their cells; None without that step."""
    for step in steps:
        if isinstance(step, NormalizeLength):
            counts = source.value_counts("assay_ontology_term_id")
            return {k: n for k, n in counts.items() if step.assays == "all" or k in step.assays}
    return None


def release() -> str:
    """Return the version of headrace."""
    return version("headrace")


def provenance(source: Source[Any], steps: Sequence[Any]) -> dict[str, Any]:
    """Say how a file was made: source, steps, versions, and a fingerprint of source and steps."""
    origin = source.provenance()
    done = json.dumps([parameters(step) for step in steps], default=str)
    corrected = corrected_assays(source, steps)
    text = json.dumps([origin, done], sort_keys=True, default=str)
    entry = {
        **origin,
        "steps": done,
        "versions": {name: version(name) for name in PACKAGES},
        "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
    }
    if corrected is not None:
        entry["length_normalized_assays"] = json.dumps(corrected)
    return _plain(entry)  # type: ignore[no-any-return] # a dictionary stays one


def _plain(value: Any) -> Any:
    """Turn lists into JSON, since not every reader knows arrays of text in `uns`."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return json.dumps(list(value)) if isinstance(value, (list, tuple)) else value


def _assays(source: Source[Any], steps: Sequence[Any], spec: StreamSpec) -> list[str]:
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


def _size(out: StreamSpec, steps: Sequence[Any], nnz: int, index: int) -> int:
    """Return the bytes of the file that is written, at most, if nothing is compressed."""
    cells = out.n_obs * out.n_vars
    made_dense = [getattr(step, "densifies", False) for step in steps]
    after = steps[made_dense.index(True) :] if any(made_dense) else ()
    n_dense = min(any(made_dense) + sum(isinstance(step, SaveLayer) for step in after), 1 + len(out.layers))
    n_sparse = 1 + len(out.layers) - n_dense
    parts = [cells * 4] * n_dense + [min(nnz, cells) * 4, min(nnz, cells) * index, out.n_obs * index] * n_sparse
    # a whole number of chunks, unless it is less than one
    matrices = sum(part if part < HDF5_CHUNK else part + HDF5_CHUNK for part in parts)
    return matrices + _table_size(out.obs, out.n_obs) + _table_size(out.var, out.n_vars) + FILE_BYTES


def _table_size(table: pd.DataFrame, n: int) -> int:
    """Return the bytes of a table of `n` rows; how long its texts are is not known."""
    a_row = TEXT_BYTES
    for dtype in table.dtypes:
        if isinstance(dtype, pd.CategoricalDtype):
            a_row += 1 if len(dtype.categories) < 128 else 2 if len(dtype.categories) < 32768 else 4
        else:
            kind = getattr(dtype, "numpy_dtype", dtype)
            a_row += TEXT_BYTES if kind.kind not in "biuf" else kind.itemsize + (kind is not dtype)
    return n * a_row + len(table.columns) * COLUMN_BYTES


def _amount(n_bytes: int) -> str:
    """Write a number of bytes for people."""
    if n_bytes < 10**6:
        return f"{max(1, n_bytes / 1e3):,.0f} kB"
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes < 10**7 else f"{n_bytes / 1e6:,.0f} MB"
