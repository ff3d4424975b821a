"""`headrace count`, and samples on the command line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import anndata as ad
import pytest

import headrace as hr
from headrace.cli import main


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_counts_in_three_forms(demo_census: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["count", "--census", demo_census, "--organism", "homo_sapiens", "--by", "assay, sex"]
    expected = hr.open_census(demo_census).count("homo_sapiens", by=["assay", "sex"]).to_dict("records")
    assert json.loads(told(capsys, *command, "--json")) == expected
    lines = list(csv.DictReader(io.StringIO(told(capsys, *command, "--csv"))))
    assert lines == [{name: str(value) for name, value in one.items()} for one in expected]
    table = told(capsys, *command).splitlines()
    assert table[0].split() == ["assay", "sex", "n_obs", "n_duplicates"]
    assert len({len(line) for line in table}) == 1
    assert table[1].split()[-2].replace(",", "") == str(expected[0]["n_obs"])


def test_counts_of_some_cells(demo_census: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["count", "--census", demo_census, "--organism", "homo_sapiens", "--json"]
    (found,) = json.loads(told(capsys, *command, "--primary-only", "--obs-filter", "sex == 'female'"))
    census = hr.open_census(demo_census)
    query = census.query("homo_sapiens", primary_only=True, obs_filter="sex == 'female'", genes="any")
    assert found == {"n_obs": query.spec.n_obs, "n_duplicates": 0}


def test_a_wrong_column(demo_census: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", "--census", str(demo_census), "--organism", "homo_sapiens", "--by", "asay"]) == 1
    assert "did you mean 'assay'?" in capsys.readouterr().err
    command = ["count", "--census", str(demo_census), "--organism", "homo_sapiens", "--json", "--csv"]
    assert main(command) == 2


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (["--sample", "50", "--seed", "3"], {"n": 50, "seed": 3}),
        (["--sample", "0.1"], {"fraction": 0.1}),
        (["--sample-by", "cell_type,sex", "--per-group", "4"], {"by": ["cell_type", "sex"], "per_group": 4}),
        (["--sample", "40", "--sample-by", "assay", "--balanced"], {"n": 40, "by": "assay", "balanced": True}),
    ],
)
def test_a_sample(demo_census: Path, tmp_path: Path, options: list[str], asked: dict) -> None:
    command = ["export", "--census", str(demo_census), "--organism", "homo_sapiens", "--keep-duplicates"]
    assert main([*command, *options, "--genes", "any", "--out", str(tmp_path / "some.h5ad")]) == 0
    query = hr.open_census(demo_census).query("homo_sapiens", genes="any", primary_only=False).sample(**asked)
    assert ad.read_h5ad(tmp_path / "some.h5ad").obs["soma_joinid"].tolist() == query.cells.joinids[:].tolist()
    command = ["export", "--h5ad", str(tmp_path / "some.h5ad"), "--holds", "counts", "--sample", "7"]
    assert main([*command, "--out", str(tmp_path / "few.h5ad")]) == 0
    assert ad.read_h5ad(tmp_path / "few.h5ad").n_obs == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "3"], "--seed is of a sample: --sample says how many cells"),
        (["--sample", "many"], "'many' is neither a number of cells nor a part of them"),
        (["--tenx", "x.h5", "--sample", "5"], "--sample and --per-group: for a Census"),
    ],
)
def test_samples_that_make_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["export", "--out", str(tmp_path / "x.h5ad"), *options]) == 2
    assert message in capsys.readouterr().err
