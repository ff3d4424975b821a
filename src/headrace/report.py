"""What a plan will do, and what a file says about how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import version
from typing import Any

from .chunk import StreamSpec
from .memory import Budget
from .protocols import Source
from .spool import need
from .steps.normalize import FULL_GENE_ASSAYS, NormalizeLength

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
    matrices = 1 + len(out.layers)
    wide = spec.nnz is None or spec.nnz > 2**31 - 1
    index = "int64" if wide else "int32"
    output = matrices * (cost.nnz * (12 if wide else 8) + spec.n_obs * (8 if wide else 4)) + spec.n_obs * 150
    lines = [
        f"source     {spec.n_obs:,} cells x {spec.n_vars:,} genes, {cost.nnz:,} non-zeros over all genes",
        f"reading    1 pass over the source, about {cost.bytes / 1e6:,.0f} MB"
        if spooled or from_source == 1
        else f"reading    {from_source} passes over the source, which is at hand",
    ]
    for number, purposes in enumerate(passes, 1):
        why = " + ".join(purposes)
        where = "the source" if number == 1 or not spooled else "the spool"
        where = where if number <= from_source else "the samples it made"
        reason = "" if "write" in purposes else ": must see all cells before what follows"
        lines.append(f"  pass {number}   from {where}: {why}{reason}")
    if spooled:
        lines.append(f"disk       about {need(spec.n_obs, cost.nnz) / 1e6:,.0f} MB for the spool, while it runs")
    if cost.disk:
        lines.append(f"disk       about {cost.disk / 1e6:,.0f} MB of temporary files, while it runs")
    aside = sum(step.disk(spec) for step in steps if hasattr(step, "disk"))
    if aside:
        lines.append(f"disk       about {aside / 1e6:,.0f} MB of temporary files, if many counts are large")
    lines.append("steps")
    lines += [f"  {describe(step)}" for step in steps] or ["  none"]
    lines += _assays(source, steps, spec)
    lines += [
        f"output     at most {out.n_obs:,} cells x {out.n_vars:,} genes, X float32, indices and indptr {index}"
        + (f", layers {', '.join(out.layers)}" if out.layers else ""),
        f"size       at most {output / 1e6:,.0f} MB uncompressed",
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
    names = dict(FULL_GENE_ASSAYS)
    lines = ["assays"]
    for assay, n in counts.items():
        if corrected is None:
            what = "not corrected for gene length"
            what += "; reads whole transcripts, consider NormalizeLength" if assay in FULL_GENE_ASSAYS else ""
        else:
            what = "divided by gene length" if assay in corrected else "counted as it is (one end of each molecule)"
        label = f"{assay} {names.get(assay, '')}".strip()
        lines.append(f"  {label:<28} {n:>10,} cells  {what}")
    return lines
