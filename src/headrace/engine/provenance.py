"""Provenance: what a file says about how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from typing import Any

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


def release() -> str:
    """Return the version of headrace."""
    return version("headrace")


def _plain(value: Any) -> Any:
    """Turn lists into JSON, since not every reader knows arrays of text in `uns`."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return json.dumps(list(value)) if isinstance(value, (list, tuple)) else value
