"""Time and memory of headrace by number of cells, beside the bare scan: `make bench-scaling`.

python benchmarks/scaling.py --sizes 50k,100k,200k,500k --census '/censuses/{size}' --plot benchmarks/scaling.svg
python benchmarks/scaling.py --print --plot benchmarks/scaling.svg
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from harness.inputs import cells_of, locate, read_by
from harness.measure import run, stoppable, warm
from harness.results import Results, Row, best, peak, read
from stream import OUT, SCRIPTS, described

SCAN = ("soma.init_buffer_bytes=4194304", "sm.mem.total_budget=167772160")  # TileDB's best
LINES = {
    "bare scan": ("run_scan_soma.py", "scan", SCAN),
    "normalise, log1p, HVG seurat, write": ("run_headrace.py", "nlh", ()),
    "HVG seurat_v3, normalise, log1p, write": ("run_headrace.py", "nlh_v3", ()),
    "QC, filters, HVG seurat_v3, normalise, log1p, write": ("run_headrace.py", "qc", ()),
    "HVG seurat_v3 alone": ("run_headrace.py", "hvg", ()),
}


def measure(given: argparse.Namespace, results: Results) -> None:
    """Run every line at every size, sizes from small to large, lines in turn."""
    with tempfile.TemporaryDirectory(dir=given.work, prefix="scaling-") as folder:
        work = Path(folder).absolute()
        output, genes = work / "out.h5ad", work / "genes"
        for size in given.sizes.split(","):
            path = locate("soma", size, given.census)
            for _ in range(given.repeat):
                for name, (script, job, options) in LINES.items():
                    more = options or (f"memory={given.memory}",)
                    command = [sys.executable, str(SCRIPTS / script), job, str(path), str(output), str(genes), *more]
                    warm(read_by("soma", path))
                    most = int(psutil.virtual_memory().total * 0.85)
                    got = run(command, work, timeout=given.timeout, most_memory=most, log=OUT / "scaling.log")
                    row = {
                        "name": name,
                        "size": size,
                        "cells": cells_of(size),
                        "memory": given.memory,
                        **described(got),
                    }
                    results.add(row)
                    print(f"{size:<6}{name:<52}{got.status:<6}{got.wall:>8.1f} s{got.peak / 1e6:>8,.0f} MB", flush=True)
                    output.unlink(missing_ok=True)


def table(rows: Sequence[Row]) -> str:
    """Return seconds, times the bare scan, and peak memory, a line per size and plan."""
    lines = [
        "| cells | non-zeros | | wall s | x scan | CPU s | peak MB | predicted MB |",
        "|---:|---:|---|" + "---:|" * 5,
    ]
    for cells in sorted({row["cells"] for row in rows}):
        here = [row for row in rows if row["cells"] == cells]
        scan = best(row for row in here if row["name"] == "bare scan")
        for name in LINES:
            runs = [row for row in here if row["name"] == name]
            least = best(runs)
            if least is None:
                lines.append(f"| {cells:,} | | {name} | {runs[0]['status'] if runs else 'not run'} |" + " |" * 4)
                continue
            times = f"{least['wall'] / scan['wall']:.2f}" if scan else "-"
            predicted = f"{least['predicted'] / 1e6:,.0f}" if "predicted" in least else "-"
            lines.append(
                f"| {cells:,} | {least['nnz']:,} | {name} | {least['wall']:.1f} | {times} "
                f"| {least['user'] + least['system']:.1f} | {peak(runs) / 1e6:,.0f} | {predicted} |"
            )
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw wall time and peak memory by number of cells."""
    import matplotlib

    matplotlib.use("svg" if path.suffix == ".svg" else "agg")
    matplotlib.rcParams["svg.hashsalt"] = "headrace"  # the same figures give the same bytes
    import matplotlib.pyplot as plt

    figure, (time, memory) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name in LINES:
        sizes = sorted({row["cells"] for row in rows if row["name"] == name and row["status"] == "ok"})
        runs = [[row for row in rows if row["name"] == name and row["cells"] == cells] for cells in sizes]
        style = {"color": "0.5", "linestyle": "--"} if name == "bare scan" else {}
        thousands = [cells / 1000 for cells in sizes]
        time.plot(thousands, [(best(some) or {})["wall"] for some in runs], marker="o", label=name, **style)
        memory.plot(thousands, [peak(some) / 1e6 for some in runs], marker="o", **style)
    budget = next((row["memory"] for row in rows), "1GB")
    memory.axhline(1000, color="tab:red", linewidth=0.8)
    memory.annotate(
        f'memory="{budget}"', (0.02, 1000), xycoords=("axes fraction", "data"), va="bottom", color="tab:red"
    )
    time.set(xlabel="thousand cells", ylabel="seconds", title="Wall time", xlim=(0, None), ylim=(0, None))
    memory.set(xlabel="thousand cells", ylabel="MB", title="Peak resident memory", xlim=(0, None), ylim=(0, 1150))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    for axes in (time, memory):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Measure, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="50k,100k,200k,500k")
    parser.add_argument("--census", default="", help="path of a Census, with {size} in it")
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=1800, help="seconds")
    parser.add_argument("--work", default=str(OUT))
    parser.add_argument("--results", default=str(OUT / "scaling.jsonl"))
    parser.add_argument("--plot", default="", help="an .svg or .png file to draw (needs matplotlib)")
    parser.add_argument("--print", action="store_true", help="from the results of the last time, run nothing")
    given = parser.parse_args()
    stoppable()
    Path(given.work).mkdir(parents=True, exist_ok=True)
    if given.print:
        rows = read(Path(given.results))
    else:
        results = Results(Path(given.results), kind="soma")
        measure(given, results)
        rows = results.rows
    print("\n" + table(rows))
    if given.plot:
        plot(rows, Path(given.plot))


if __name__ == "__main__":
    main()
