"""From arguments to a source: a Census, a SOMA experiment, an .h5ad file, or 10x files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

import headrace as hr

from ..errors import InputError, nearest
from ..support.places import look
from .samples import NAMES as SAMPLED
from .values import read_text

MOST_BYTES = 64 << 20
"""Of a list of genes."""

GENE_RULES = ("measured", "any", "all")
CENSUS_LAYERS = ("raw", "normalized")

KINDS = {
    "census": "a Census (--census)",
    "soma": "a SOMA experiment (--soma)",
    "h5ad": "a file (--h5ad)",
    "tenx": "10x files (--tenx)",
}
TAKES = {
    "census": {"organism", "dataset_id", "obs_filter", "obs_joinids", "genes", "primary_only", "layer", "var_names"}
    | {"tiledb_config", "reader", "outside", "retry_for"},
    "soma": {"obs_filter", "obs_joinids", "genes", "layer", "measurement", "var_index", "var_names"}
    | {"tiledb_config", "reader", "outside", "use_nnz", "retry_for"},
    "h5ad": {"layer", "raw", "holds", "var_index", "var_names", "modality"},
    "tenx": {"feature_type", "genome", "var_names"},
}
"""What may be said of each."""

WHOLE = {
    "h5ad": "; a file is read whole, and steps choose its cells and genes",
    "tenx": "; those are read whole, and steps choose cells and genes",
}
OPTIONS = {"layer": "--layer-in", "use_nnz": "--ignore-nnz"}


def asked(given: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that is said of the source: on the command line, which wins, and in a recipe file."""
    said = {
        **{name: given[name] for name in ("organism", "obs_filter", "primary_only", "measurement")},
        **{name: given[name] or None for name in ("raw", "holds", "var_index", "tiledb_config", "reader", "var_names")},
        "outside": given["outside"] or None,
        "use_nnz": False if given["ignore_nnz"] else None,
        "retry_for": given["retry_for"],
        **{name: given[name] for name in ("feature_type", "genome", "modality")},
        "dataset_id": list(given["dataset_id"]) or None,
        "genes": None if given["genes"] is None else read_genes(given["genes"]),
        "layer": given["layer_in"],
    }
    return {**recipe, **{name: value for name, value in said.items() if value is not None}}


def check_source(given: Mapping[str, Any], asked: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """Return what kind of source is meant; raise if options do not say it, say it twice, or do not fit it."""
    kinds = [kind for kind in KINDS if given[kind] is not None]
    if len(kinds) > 1:
        raise _usage(f"{' and '.join(f'--{kind}' for kind in kinds)} all say where cells come from; give one")
    kind = kinds[0] if kinds else "census"
    wrong = [name for name in asked if name not in TAKES[kind]]
    if wrong:
        others = [words for other, words in KINDS.items() if set(wrong) & TAKES[other]]
        names = ", ".join(
            f"{name} of the recipe" if name in recipe and asked[name] == recipe[name] else _option(name)
            for name in wrong
        )
        raise _usage(f"{names}: for {' or '.join(others)}{WHOLE.get(kind, '')}")
    if kind == "tenx" and any(given[name] not in (None, False) for name in SAMPLED):
        raise _usage("--sample and --per-group: for a Census, a SOMA experiment or a file (--h5ad)")
    if not kinds:
        raise _usage("Missing option '--census'. (A local file is given by --h5ad, a SOMA experiment by --soma.)")
    if kind == "census":
        if asked.get("layer") not in (None, *CENSUS_LAYERS):
            raise _usage(f"--layer-in: {asked['layer']!r} is not one of 'raw', 'normalized'")
        if "organism" not in asked:
            raise _usage("Missing option '--organism'.")
    if kind == "soma" and isinstance(asked.get("genes"), str):
        raise _usage(f"--genes {asked['genes']}: a rule for --census; for --soma, give a file that lists genes")
    return kind


def open_source(kind: str, given: Mapping[str, Any], asked: Mapping[str, Any]) -> Any:
    """Open what cells come from."""
    if kind == "tenx":
        return hr.open_10x(given["tenx"], **asked)
    if kind == "h5ad":
        return hr.open_h5ad(given["h5ad"], **asked)
    if kind == "soma":
        return hr.open_soma(given["soma"], **asked)
    of_census = ("tiledb_config", "reader", "outside", "retry_for")
    opened = hr.open_census(given["census"], **{name: asked[name] for name in of_census if name in asked})
    return opened.query(**{name: value for name, value in asked.items() if name not in of_census})


def read_genes(genes: str) -> str | list[str]:
    """Return a rule for genes as it is, or the genes listed in a file, one a line; # begins a comment.

    Raises
    ------
    InputError
        If it is neither.
    """
    if genes in GENE_RULES:
        return genes
    path = Path(genes)
    if not look(path) or not path.is_file():
        raise InputError(f"--genes {genes}: there is no such file, and it is no rule; {nearest(genes, GENE_RULES)}")
    lines = read_text(path, "list of genes", MOST_BYTES).splitlines()
    if any("\t" in line.strip() for line in lines):
        gmt = ", as in a .gmt file: cut -f3- FILE | tr '\\t' '\\n' makes one" if path.suffix == ".gmt" else ""
        raise InputError(f"--genes {genes}: it is no list, but has several columns{gmt}; write one id or name a line")
    listed = [line.partition("#")[0].strip() for line in lines]
    if not any(listed):
        raise InputError(f"--genes {genes}: the file lists no gene; write one id or name a line")
    return [gene for gene in listed if gene]


def _option(name: str) -> str:
    return OPTIONS.get(name, f"--{name.replace('_', '-')}")


def _usage(message: str) -> click.UsageError:
    return click.UsageError(message, ctx=click.get_current_context())
