"""Python without assertions and docstrings: what can run does, and what cannot says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXPORT = """
import sys
import headrace as hr
table = sys.argv[1]
open(table, "w").write("gene,s1,s2,s3\\ng1,5,6,7\\ng2,9,8,10\\n")
plan = hr.Plan(hr.open_counts(table, orientation="genes x samples"), [hr.NormalizeTotal(10)])
plan.write(hr.Table(sys.argv[2]))
print(open(sys.argv[2]).read())
"""


def test_a_plan_needs_no_assertions(tmp_path: Path) -> None:
    said = []
    for number, flag in enumerate(("-B", "-O", "-OO")):
        command = [sys.executable, flag, "-c", EXPORT, tmp_path / "in.csv", tmp_path / f"{number}.csv"]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert said[0].startswith('"gene"')
    assert said[1:] == said[:1] * 2


def test_what_anndata_cannot_do_is_said(tmp_path: Path) -> None:
    code = "import headrace as hr; hr.open_census"
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=False)
    if not done.returncode:
        pytest.skip("this anndata does without docstrings")
    assert "InputError: anndata, and with it tiledbsoma, cannot be imported under python -OO" in done.stderr
    assert "use -O" in done.stderr
