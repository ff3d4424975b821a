"""What `explain` predicts, and what a run then takes: `make bench-memory`.

    python benchmarks/budgets.py --inputs 20k,200k,200k:EFO:0008931,10k-smartseq2 --census '/censuses/{size}'

Over a grid of inputs, plans and budgets, each run in a fresh process: the predicted peak, the highest resident memory
that the kernel recorded for the process (VmHWM), and their ratio. A budget that `headrace` refuses says so. An input is
a size, or a size and the assay of the cells to take: `200k:EFO:0008931`.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from harness.inputs import locate, read_by
from harness.measure import run, stoppable, warm
from harness.results import Results, Row, read
from stream import OUT, SCRIPTS, described

BUDGETS = "256MB,400MB,512MB,700MB,1GB,2GB,4GB"
INPUTS = "20k,200k,200k:EFO:0009922,200k:EFO:0008931,10k-smartseq2"
PLANS = "nlh,nlh_v3,hvg,qc,full_length,nlh_gzip"
CLOSE = 0.2
"""How far from the measured peak a prediction may be."""


def measure(given: argparse.Namespace, results: Results) -> None:
    """Run the grid."""
    with tempfile.TemporaryDirectory(dir=given.work, prefix="budgets-") as folder:
        work = Path(folder).absolute()
        output, genes = work / "out.h5ad", work / "genes"
        for name in given.inputs.split(","):
            size, _, assay = name.partition(":")
            path = locate("soma", size, given.census)
            warm(read_by("soma", path))
            for plan in given.plans.split(","):
                for memory in given.budgets.split(","):
                    options = [f"memory={memory}", *([f"assay={assay}"] if assay else [])]
                    script = str(SCRIPTS / "run_headrace.py")
                    command = [sys.executable, script, plan, str(path), str(output), str(genes), *options]
                    most = int(psutil.virtual_memory().total * 0.85)
                    got = run(command, work, timeout=given.timeout, most_memory=most, log=OUT / "budgets.log")
                    row = {"input": name, "plan": plan, "memory": memory, **described(got)}
                    if got.status == "ok":  # what the process says of itself: a parent's pages are not in it
                        row["peak"] = int(re.findall(r'"peak": (\d+)', got.said)[-1])
                    results.add(row)
                    print(line(row), flush=True)
                    output.unlink(missing_ok=True)


def line(row: Row) -> str:
    """Return one line of the table."""
    start = f"| {row['input']} | {row['plan']} | {row['memory']} |"
    if row["status"] != "ok":
        least = re.search(r"refused: .*at least (\d+ MB)", row["status"])
        return f"{start} - | - | - | {f'refused: needs {least.group(1)}' if least else row['status']} |"
    predicted, measured = row["predicted"], row["peak"]
    said = [] if measured <= in_bytes(row["memory"]) else ["ABOVE THE BUDGET"]
    said += [] if abs(predicted / measured - 1) <= CLOSE else ["prediction off"]
    said = said or ["kept"]
    return f"{start} {predicted / 1e6:,.0f} | {measured / 1e6:,.0f} | {predicted / measured:.2f} | {', '.join(said)} |"


def in_bytes(memory: str) -> float:
    """Read "512MB" or "1GB"."""
    return float(memory[:-2]) * {"MB": 1e6, "GB": 1e9}[memory[-2:]]


def summary(rows: Sequence[Row]) -> str:
    """Return the table and what it comes to."""
    ran = [row for row in rows if row["status"] == "ok"]
    refused = sum("refused" in row["status"] for row in rows)
    kept = sum(row["peak"] <= in_bytes(row["memory"]) for row in ran)
    ratios = sorted(row["predicted"] / row["peak"] for row in ran)
    close = sum(abs(ratio - 1) <= CLOSE for ratio in ratios)
    lines = ["| input | plan | budget | predicted MB | measured MB | ratio | |", "|---|---|---:|---:|---:|---:|---|"]
    lines += [line(row) for row in rows]
    spread = f", predicted / measured from {ratios[0]:.2f} to {ratios[-1]:.2f}" if ratios else ""
    lines += ["", f"{len(ran)} runs: {kept} within the budget, {close} predicted within {CLOSE:.0%}{spread};"]
    lines += [f"{refused} budgets refused, {len(rows) - len(ran) - refused} runs failed"]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", default=INPUTS)
    parser.add_argument("--plans", default=PLANS)
    parser.add_argument("--budgets", default=BUDGETS)
    parser.add_argument("--census", default="", help="path of a Census, with {size} in it")
    parser.add_argument("--timeout", type=float, default=900, help="seconds")
    parser.add_argument("--work", default=str(OUT))
    parser.add_argument("--results", default=str(OUT / "budgets.jsonl"))
    parser.add_argument("--print", action="store_true", help="the results of the last time, run nothing")
    given = parser.parse_args()
    stoppable()
    Path(given.work).mkdir(parents=True, exist_ok=True)
    if given.print:
        print(summary(read(Path(given.results))))
        return
    results = Results(Path(given.results), kind="soma")
    measure(given, results)
    print("\n" + summary(results.rows))


if __name__ == "__main__":
    main()
