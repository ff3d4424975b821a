"""Provenance: what a file says about how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from typing import Any

from ..chunk import StreamSpec
from ..protocols import Source, Step

PACKAGES = ("anndata", "h5py", "headrace", "numpy", "scipy", "tiledbsoma")


def provenance(source: Source[Any], steps: Sequence[Step]) -> dict[str, Any]:
    """Return the entry `uns["headrace"]`: source, steps, versions, and a fingerprint of source and steps."""
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


def parameters(step: Step) -> dict[str, Any]:
    """Return a step as plain values: its name and all its parameters."""
    values: dict[str, Any] = {f.name: vars(step)[f.name] for f in fields(step)} if is_dataclass(step) else {}
    return {"step": type(step).__name__, **values}


def corrected_assays(source: Source[Any], steps: Sequence[Step]) -> dict[str, int] | None:
    """Return the assays whose cells are corrected for gene length, with their cells; None without such a step."""
    for step in steps:
        if step.corrects_length:
            counts = source.value_counts("assay_ontology_term_id")
            return {k: n for k, n in counts.items() if step.corrects_length == "all" or k in step.corrects_length}
    return None


def recounted(spec: StreamSpec, corrected: Mapping[str, int]) -> StreamSpec:
    """Have the provenance count the cells that were written of each corrected assay, not those that were read."""
    made, name = spec.uns["headrace"], "length_normalized_assays"
    if name not in made:
        return spec
    kept = {assay: corrected[assay] for assay in json.loads(made[name]) if corrected[assay]}
    return spec.with_uns(headrace={**made, name: json.dumps(kept)})


def release() -> str:
    """Return the version of headrace."""
    return version("headrace")


def fingerprint(about: Mapping[str, Any], identity: str, chunk_nnz: int) -> str:
    """Name what the parts of a spool depend on: source and steps, cells and genes, chunks, version."""
    text = json.dumps([about, identity, chunk_nnz, release()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """Turn lists into JSON, since not every reader knows arrays of text in `uns`."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return json.dumps(list(value)) if isinstance(value, (list, tuple)) else value
