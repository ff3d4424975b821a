"""What a reader should know first: what may be wrong, what it means, what to do about it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .amounts import seconds, share, short, whole
from .lengths import slope
from .record import Record

MANY = 0.5
"""A filter that leaves out more than this part of the cells is worth a second look."""

LEFT = 0.5
"""Of the slope of expression over length: what a correction that works leaves less of."""


@dataclass(frozen=True)
class Advice:
    """A warning.

    Parameters
    ----------
    title
        What there is to see.
    means, remedy
        What it means, and what to do.
    grave
        Whether results are likely to be wrong, and not only worth a look.
    """

    title: str
    means: str
    remedy: str
    grave: bool = False


MEANINGS = {
    "DuplicateCellsWarning": (
        "The same cells are in several datasets of a Census; here they count more than once, in means, in variances "
        "and in the choice of genes.",
        "Ask for primary_only=True (--primary-only), unless you need each dataset whole.",
    ),
    "FewGenesWarning": (
        "Only genes that every dataset measured are kept, and one of the datasets measured few.",
        "Leave that dataset out, or ask for genes='any'.",
    ),
    "ScaledTwiceWarning": (
        "Cells were scaled to a common total twice; the second time undoes what lay between, or does nothing.",
        "Leave one of the two steps out.",
    ),
    "FractionalCountsWarning": (
        "Counts that are not whole come from programs that correct or estimate them.",
        "Put RoundCounts() first where a method needs whole counts.",
    ),
    "LoessJitterWarning": (
        "Too many genes have the same mean for a smooth trend, so seeded noise was added to find one.",
        "Filter genes that hardly any cell has (FilterGenes) before HighlyVariableGenes.",
    ),
    "UnfittedBatchWarning": (
        "Batches with too few cells or genes had no say in the choice of genes.",
        "Leave small batches out, or choose a batch_key with larger ones.",
    ),
    "NotCarriedWarning": (
        "The file that was read has parts that are not in the file that was written.",
        "Copy them by hand if you need them.",
    ),
    "StorageWarning": (
        "The disk that was written to may be full before the run ends, or cannot lock files.",
        "Write to another disk.",
    ),
}
"""What a warning of headrace's means, and what to do, by its class."""

OTHER = ("headrace said this while it ran.", "See the message itself.")


def advise(
    data: Mapping[str, Any], made: Mapping[str, Any], record: Record | None, more: Sequence[Advice] = ()
) -> list[Advice]:
    """Return all warnings about a run, the gravest first."""
    found = [*_lengths(data), *_duplicates(data), *_funnel(data), *_values(data), *more, *_run(record)]
    if _partly(made):
        n = _partly(made)
        found.append(
            Advice(
                f"{whole(n)} genes were not measured in all datasets",
                "A gene that a dataset did not measure is not zero there, but an .h5ad file has no other word for it. "
                "var['n_measured_cells'] says how many cells measured each gene.",
                "Compare such genes only within datasets that measured them, or ask for genes='measured'.",
            )
        )
    return sorted(found, key=lambda one: not one.grave)


def _partly(made: Mapping[str, Any]) -> int:
    query = made.get("query")
    n = query.get("n_genes_partly_measured", 0) if isinstance(query, Mapping) else 0
    kept = isinstance(query, Mapping) and query.get("genes") in ("any", "all")
    return int(n) if kept and isinstance(n, (int, float)) else 0


def _lengths(data: Mapping[str, Any]) -> list[Advice]:
    full = data["full_length"]
    if full and not data["corrected"]:
        assays = ", ".join(f"{name} ({whole(n)} cells)" for name, n in full.items())
        said = "was not corrected" if data["counts"] else "may not be corrected"
        return [
            Advice(
                f"Gene length {said}: {assays}",
                "These assays read whole transcripts: a long one gives more reads than a short one of the same "
                "abundance. Genes cannot be compared with one another, nor these cells with cells of 10x.",
                "Put NormalizeLength() before NormalizeTotal (--length-normalize auto, or --recipe full-length).",
                grave=data["counts"],
            )
        ]
    out = []
    before, after = (data["lengths"].get(when) for when in ("before", "after"))
    if data["corrected"] and before and after:
        for assay in after["assays"]:
            if assay not in before["assays"]:
                continue
            first, second = (slope(x["edges"], x["genes"], x["assays"][assay]["mean"]) for x in (before, after))
            if first and second and first > 0.02 and second > LEFT * first and second != first:
                out.append(
                    Advice(
                        f"{assay}: expression still rises with gene length after the correction",
                        f"By {short(second)} per doubling of length; before it was {short(first)}. Lengths of var may "
                        "not be those of the transcripts that were read.",
                        "Look at what feature_length is in this release (under Provenance), and at the picture below.",
                    )
                )
    return out


def _duplicates(data: Mapping[str, Any]) -> list[Advice]:
    by = data["funnel"][-1]["by"].get("is_primary_data") or {}
    n, total = by.get("False", 0), sum(by.values())
    if not n or n == total:
        return []
    means, remedy = MEANINGS["DuplicateCellsWarning"]
    return [Advice(f"{whole(n)} of {whole(total)} cells are also in another dataset", means, remedy, grave=True)]


def _funnel(data: Mapping[str, Any]) -> list[Advice]:
    out = []
    rows = [row for row in data["funnel"] if row["cells"] is not None and not row["samples"]]
    for before, after in itertools.pairwise(rows):
        gone = before["cells"] - after["cells"]
        if before["cells"] and gone > MANY * before["cells"]:
            out.append(
                Advice(
                    f"{after['after'] or 'A step'} left out {share(gone, before['cells'])} of the cells",
                    "A bound that most cells do not reach is often one for another kind of assay, or for counts that "
                    "are already normalised.",
                    "Look at the histograms below, where the limits are drawn, and choose it anew.",
                )
            )
    first, last = (rows[0], rows[-1]) if rows else ({"by": {}}, {"by": {}})
    for name, what in (("dataset_id", "datasets"), ("assay", "assays")):
        here = first["by"].get(name, {})
        lost = [value for value in here if value not in last["by"].get(name, here) and value != "(others)"]
        if lost and "(others)" not in here:
            out.append(
                Advice(
                    f"{len(lost)} of {len(here)} {what} have no cell left: {', '.join(lost[:3])}"
                    + (", …" if len(lost) > 3 else ""),
                    "All their cells were outside the limits; what is said of the whole is not said of them.",
                    "Look at the table of cells below, and at the limits.",
                    grave=True,
                )
            )
    return out


def _values(data: Mapping[str, Any]) -> list[Advice]:
    out = []
    for measure, about in data["measures"].items():
        before = about.get("before")
        if before and before["missing"] and about["limits"]:
            out.append(
                Advice(
                    f"{whole(before['missing'])} cells have no {measure}",
                    "A cell without a value is within no limit, and was left out.",
                    "See why it is missing: for percentages, cells without any counts.",
                )
            )
    empty = sum(n for i, n in data["measures"].get("n_counts", {}).get("after", {"bins": []})["bins"] if i < 0)
    if empty:
        out.append(
            Advice(
                f"{whole(empty)} cells have no counts at all",
                "They stay as they are, all zeros, and are in every mean.",
                "FilterCells(min_counts=1) leaves them out.",
            )
        )
    return out


def _run(record: Record | None) -> list[Advice]:
    if record is None:
        return []
    out = []
    for kind, message in record.warnings:
        means, remedy = MEANINGS.get(kind, OTHER)
        out.append(Advice(message, means, remedy))
    if record.total and record.peak > record.total:
        out.append(
            Advice(
                "The run took more memory than its budget",
                "What was predicted is an estimate; other parts of the process count, too.",
                "Give a larger budget, or fewer threads. Please report it.",
            )
        )
    if record.fetched is not None and record.fetched.retries:
        out.append(
            Advice(
                f"{whole(record.fetched.retries)} requests failed and were made again",
                "Nothing is missing: what did not come was asked for again, and is checked.",
                f"None, unless it was slow; the longest time without a byte was {seconds(record.waited)}.",
            )
        )
    return out


def notes(record: Record | None) -> Sequence[str]:
    """Return what the run said that is no warning."""
    return [] if record is None else record.notices
