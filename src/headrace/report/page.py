"""The page: one file of HTML, without scripts, and with nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import figures, samples
from .advice import advise, notes
from .amounts import seconds, share, short, size, whole
from .figures import Figure
from .lengths import length_bias
from .record import Record

MOST_ASSAYS = 8
"""Assays whose gene length bias is drawn."""


def load() -> Any:
    """Return what fills in the template, or say how to get it, before anything is read."""
    try:
        import jinja2
    except ImportError:
        raise InputError(
            "a report needs jinja2, which is not installed: pip install 'headrace[report]' (or pip install jinja2)"
        ) from None
    here = Path(__file__).parent
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(whole=whole, size=size, seconds=seconds, short=short)
    environment.globals.update(share=share, style=(here / "page.css").read_text("utf-8"))
    return environment.from_string((here / "page.html").read_text("utf-8"))


def page(name: str, data: Mapping[str, Any], made: Mapping[str, Any], record: Record | None) -> str:
    """Return the page.

    Parameters
    ----------
    name
        Of the file that it is about.
    data
        What was kept of the run (`engine/kept.py`).
    made
        `uns["headrace"]` of the file.
    record
        What happened in the run; None if it is not known any more.
    """
    funnel = data["funnel"]
    text = load().render(
        name=name,
        cards=_cards(funnel, record),
        advice=advise(data, made, record, samples.advise_samples(data.get("samples"))),
        notes=notes(record),
        funnel=_funnel(funnel),
        groups=_groups(funnel),
        measures=_measures(data),
        genes=figures.variable_genes(data["genes"]) if data["genes"] and data["genes"]["cells"] else None,
        libraries=samples.libraries(data.get("samples")),
        variances=samples.variances(data.get("variances")),
        unit="samples" if funnel[0]["samples"] else "cells",
        lengths=_lengths(data),
        corrected=data["corrected"],
        other_assays=_other_assays(data),
        factors=[_histogram(name, about) for name, about in data["measures"].items() if "factor" in about],
        components=figures.components(data["variance_ratio"]) if data["variance_ratio"] else None,
        grids=[drawn for grid in data["grids"].items() if (drawn := figures.grid(*grid)) is not None],
        run=None if record is None else _run(record),
        provenance=_provenance(made),
        recipe=data["recipe"],
    )
    assert isinstance(text, str)
    return text


def _cards(funnel: Sequence[Mapping[str, Any]], record: Record | None) -> list[tuple[str, str, str]]:
    """Return the key numbers: a name, the number, and what stands below it."""
    first, last = funnel[0], funnel[-1]
    what = "samples" if last["samples"] else "cells"
    of = f"of {whole(first['cells'])}" + (" cells" if last["samples"] and not first["samples"] else "")
    cards = [
        (what, whole(last["cells"]), of if last["cells"] != first["cells"] else "all of them"),
        ("genes", whole(last["genes"]), f"of {whole(first['genes'])}" if last["genes"] != first["genes"] else "all"),
    ]
    if record is not None and record.passes:
        cards.append(("time", seconds(record.ended), _plural(len(record.passes), "pass", "passes")))
        cards.append(("peak memory", size(record.peak), f"of {size(record.total)}"))
    return cards


def _plural(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _funnel(funnel: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table of what was left, each with the parts of a bar."""
    rows: list[dict[str, Any]] = []
    start = next((row["cells"] for row in funnel if row["cells"]), 1)
    most_genes = max(row["genes"] for row in funnel) or 1
    cells, genes, samples = None, None, False
    for number, row in enumerate(funnel):
        again = row["samples"] and not samples  # cells became samples: a new beginning
        start = row["cells"] if again and row["cells"] else start
        now = cells if row["cells"] is None else row["cells"]
        gone = None if cells is None or now is None or again else cells - now
        lost = None if genes is None else genes - row["genes"]
        rows.append(
            {
                "step": row["after"] or ("at the start" if number == 0 else "at the end"),
                "cells": now,
                "gone": gone,
                "part": 100 * (now or 0) / max(start, 1),
                "genes": row["genes"],
                "lost": lost,
                "gene_part": 100 * row["genes"] / most_genes,
                "rules": [_rule(rule) for rule in row["rules"]],
                "unit": "samples" if row["samples"] else "cells",
            }
        )
        cells, genes, samples = now, row["genes"], row["samples"]
    if len(rows) > 1 and not (
        rows[-1]["gone"] or rows[-1]["lost"] or rows[-1]["rules"] or funnel[-1]["samples"] != funnel[-2]["samples"]
    ):
        rows[-1]["step"] = "at the end"
    return rows


def _rule(rule: Mapping[str, Any]) -> tuple[str, int]:
    """Return a limit in words: what it keeps out, and how many cells."""
    bound = f"below {short(rule['low'])}" if rule["low"] is not None else f"above {short(rule['high'])}"
    return f"{rule['measure']} {bound}", rule["removed"]


def _groups(funnel: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return tables of the cells of each dataset and assay at each point."""
    rows = [row for row in funnel if row["by"] and not row["samples"]]
    out = []
    for column, title in (("dataset_id", "dataset"), ("assay", "assay"), ("assay_ontology_term_id", "assay")):
        there = [row for row in rows if column in row["by"]]
        if not there or not there[0]["by"][column]:
            continue
        names = [row["after"].splitlines()[-1].partition("(")[0] if row["after"] else "" for row in there]
        heads = [
            "at the start",
            *(f"after {name}" for name in names[1:-1]),
            *(["at the end"] if len(names) > 1 else []),
        ]
        values = list(there[0]["by"][column])
        lines = [(value, [row["by"][column].get(value, 0) for row in there]) for value in values]
        out.append({"title": title, "heads": heads, "lines": lines})
    return out


def _histogram(name: str, about: Mapping[str, Any]) -> Figure | None:
    return figures.histogram(name, {"factor": about["factor"], "limits": []})


def _measures(data: Mapping[str, Any]) -> list[Figure]:
    drawn = [
        figures.histogram(name, about)
        for name, about in data["measures"].items()
        if "before" in about or "after" in about
    ]
    drawn.append(figures.together(data["together"]) if data["together"] else None)
    return [figure for figure in drawn if figure is not None]


def _assays(data: Mapping[str, Any]) -> list[str]:
    """Return the assays whose length bias is known, those of whole transcripts first."""
    about = data["lengths"].get("after") or data["lengths"].get("before")
    names = list(about["assays"]) if about else []
    return sorted(names, key=lambda name: name not in data["full_length"])


def _lengths(data: Mapping[str, Any]) -> list[Figure]:
    drawn = [length_bias(data["lengths"], name, data["corrected"]) for name in _assays(data)[:MOST_ASSAYS]]
    return [figure for figure in drawn if figure is not None]


def _other_assays(data: Mapping[str, Any]) -> list[str]:
    return _assays(data)[MOST_ASSAYS:]


def _run(record: Record) -> dict[str, Any]:
    """Return what is said of the run itself."""
    passes = [
        {
            "number": number,
            "purpose": " + ".join(dict.fromkeys(one.purpose.split(" + "))),
            "cells": one.seen,
            "seconds": one.seconds,
            "rate": one.seen / one.seconds if one.seconds else 0,
            "nnz": one.nnz,
            "peak": one.peak,
        }
        for number, one in enumerate(record.passes, 1)
    ]
    begun = [one.began for one in record.passes]
    facts = [
        ("budget", size(record.total)),
        ("predicted peak", size(record.predicted)),
        ("peak seen", size(record.peak)),
    ]
    if record.fetched is not None:
        facts.append(("fetched", f"{size(record.fetched.bytes)}, {record.fetched.retries} requests made again"))
        if record.fetched.rate:
            facts.append(("rate of the line, lately", f"{size(record.fetched.rate)}/s"))
    elif record.to_read:
        first = record.passes[0].seconds if record.passes else 0
        rate = f", {size(record.to_read / first)}/s in the first pass" if first else ""
        facts.append(("read from the source, about", size(record.to_read) + rate))
    facts += [(f"written: {name}", size(n)) for name, n in record.written]
    return {"passes": passes, "facts": facts, "memory": figures.memory(record.samples, begun, record.total)}


def _provenance(made: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a file says of how it was made, as pairs of text."""
    pairs: list[tuple[str, str]] = []
    for name, value in made.items():
        if name in ("steps", "report", "log1p"):
            continue
        if isinstance(value, Mapping):
            pairs += [(f"{name}: {key}", _text(one)) for key, one in value.items()]
        else:
            pairs.append((name.replace("_", " "), _text(value)))
    return [pair for pair in pairs if pair[1]]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_text(one)}" for key, one in value.items())
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return _text(json.loads(value))
        except ValueError:
            return value
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
