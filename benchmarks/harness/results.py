"""Results: a line of JSON per run, kept; and the table, which can be printed from them again."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.inputs import BENCHMARKS
from harness.jobs import HEADRACE, JOBS
from harness.measure import cores

Row = dict[str, Any]

COLUMNS = ("wall s", "spread", "CPU s", "imports", "peak MB", "x wall", "x memory", "genes", "X differs")
BUSY = 0.1
"""Share of the machine that others may use before a run counts as disturbed."""


class Results:
    """A file of rows that grows. Every row has the fields given here, which say what was run and where."""

    def __init__(self, path: Path, **common: Any) -> None:
        self.path = path
        self.common = {"session": datetime.now().isoformat(timespec="seconds"), **machine(), **common}
        self.rows: list[Row] = []
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, row: Row) -> None:
        """Keep a row."""
        row = {**self.common, **row}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def machine() -> Row:
    """Say what this ran on."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        model = next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    return {"processor": model, "cores": cores(), "commit": commit.stdout.strip()}


def read(path: Path, session: str = "") -> list[Row]:
    """Read the rows of a session; of the last one by default."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    wanted = session or (rows[-1]["session"] if rows else "")
    return [row for row in rows if row["session"].startswith(wanted)]


def table(rows: Sequence[Row]) -> str:
    """Return the tables of the rows, in Markdown: one for each job and kind of input."""
    sections = dict.fromkeys((row["kind"], row["size"], row["job"]) for row in rows)
    parts = []
    for kind, size, job in sections:
        mine = [row for row in rows if (row["kind"], row["size"], row["job"]) == (kind, size, job)]
        parts.append("\n".join(section(mine, f"{'SOMA' if kind == 'soma' else kind}, {size}: {JOBS[job].title}")))
    return "\n\n".join(parts)


def section(rows: Sequence[Row], title: str) -> list[str]:
    """Return the lines of one table."""
    names = dict.fromkeys(row["name"] for row in rows)
    ours = best([row for row in rows if row["name"] == HEADRACE])
    nnz = next((row["nnz"] for row in rows if row.get("nnz")), 0)
    lines = [f"### {title}", f"{nnz:,} non-zeros" if nnz else "", ""]
    result = JOBS[rows[0]["job"]].result
    columns = [*COLUMNS, f"{result} differ"] if result else COLUMNS
    lines += [f"| | {' | '.join(columns)} | |", "|---|" + "---:|" * len(columns) + "---|"]
    for name in names:
        runs = [row for row in rows if row["name"] == name]
        lines.append(f"| {name} | {' | '.join(cells(runs, ours, len(columns)))} | {remarks(runs)} |")
    return lines


def best(runs: Iterable[Row]) -> Row | None:
    """Return the fastest of the runs that went well."""
    return min((run for run in runs if run["status"] == "ok"), key=lambda run: run["wall"], default=None)


def peak(runs: Iterable[Row]) -> float:
    """Return the highest peak of the runs that went well, in bytes."""
    return max((run["peak"] for run in runs if run["status"] == "ok"), default=0.0)


def cells(runs: Sequence[Row], ours: Row | None, columns: int) -> list[str]:
    """Return the figures of one line, "-" for what is not known."""
    least = best(runs)
    if least is None:
        return ["-"] * columns
    walls = [run["wall"] for run in runs if run["status"] == "ok"]
    agreed: Row = next((run["agree"] for run in runs if run.get("agree")), {})
    versus = least["wall"] / ours["wall"] if ours else None
    memory = peak(runs) / ours["peak"] if ours else None
    return [
        f"{least['wall']:.1f}",
        f"+{max(walls) - least['wall']:.1f}" if len(walls) > 1 else "-",
        f"{least['user'] + least['system']:.1f}",
        f"{least['imports']:.1f}" if least.get("imports") is not None else "-",
        f"{peak(runs) / 1e6:,.0f}",
        f"{versus:.2f}" if versus else "-",
        f"{memory:.2f}" if memory else "-",
        f"{agreed['genes']:,}" if "genes" in agreed else "-",
        f"{agreed['x']:.0e}" if "x" in agreed else "-",
        f"{agreed['result']:.0e}" if "result" in agreed else "-",
    ][:columns]


def remarks(runs: Sequence[Row]) -> str:
    """Return what a reader must know about a line: that it failed and why, or that it was disturbed."""
    failed = dict.fromkeys(run["status"] for run in runs if run["status"] != "ok")
    agreed: Row = next((run["agree"] for run in runs if run.get("agree")), {})
    said = [*failed, *(agreed[key] for key in ("why", "said") if key in agreed)]
    layout = agreed.get("layout", "")
    said += [f"writes {layout}"] if layout and not layout.startswith("csr_matrix float32") else []
    least = best(runs)
    if least and least["others"] > BUSY:
        said.append(f"disturbed: others used {least['others']:.0%} of the processors")
    return "; ".join(said).replace("|", "/")
