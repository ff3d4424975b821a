"""A table of text: every byte of its three files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.sinks import table
from headrace.sinks.gz import gzipped
from headrace.sources.arrays import ArraySource

X = np.array([[5, 0, 2], [0, 0, 16777215]])
OBS = pd.DataFrame({"age": [1.5, 2.0]}, index=["s1", "s 2"])
VAR = pd.DataFrame({"symbol": ["A", "B,b", None]}, index=["g1", "g2", "g3"])


def source(values: Any = X, n_obs: int | None = None) -> ArraySource:
    return ArraySource(values, OBS, VAR, n_obs=n_obs)


def read(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


@pytest.mark.parametrize("n_obs", [None, 1])
@pytest.mark.parametrize("block", [1, 2, 4, 5, 2_000_000])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.counts.csv", "x.tsv.gz", "x.counts.csv.gz"])
def test_the_text_of_a_table(
    name: str, block: int, n_obs: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "BLOCK_VALUES", block)
    hr.Plan(source(n_obs=n_obs)).write(hr.Table(tmp_path / name))
    stored = (tmp_path / name).read_bytes()
    if name.endswith(".gz"):
        assert stored[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "no name, no time: the same counts, the same bytes"
        stored = gzip.decompress(stored)
    text = '"gene","s1","s 2"\n"g1",5,0\n"g2",0,0\n"g3",2,16777215\n'
    assert stored.decode() == (text.replace(",", "\t") if "tsv" in name else text)
    stem = name[: name.index(".csv" if ".csv" in name else ".tsv")]
    end, tabs = name.removeprefix(stem), "tsv" in name
    samples, genes = (read(tmp_path / f"{stem}.{what}{end}") for what in ("samples", "genes"))
    assert samples == ("sample\tage\ns1\t1.5\ns 2\t2.0\n" if tabs else "sample,age\ns1,1.5\ns 2,2.0\n")
    assert genes == ("gene\tsymbol\ng1\tA\ng2\tB,b\ng3\t\n" if tabs else 'gene,symbol\ng1,A\ng2,"B,b"\ng3,\n')
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("n_obs", [None, 1])
@pytest.mark.parametrize("dense", [False, True])
def test_numbers_that_are_not_whole_come_back_to_the_bit(dense: bool, n_obs: int | None, tmp_path: Path) -> None:
    steps: list[Any] = [hr.NormalizeTotal(10.0), hr.Log1p(), *([hr.Scale()] if dense else [])]
    of = source([[5, 0, 2], [1, 3, 3]], n_obs)
    hr.Plan(of, steps).write(hr.Table(tmp_path / "x.csv"))
    held = hr.Plan(of, steps).to_anndata()
    expected = held.X if dense else held.X.toarray()
    back = pd.read_csv(tmp_path / "x.csv", index_col="gene", dtype={"s1": np.float32, "s 2": np.float32})
    np.testing.assert_array_equal(back.to_numpy().T, expected, strict=True)
    assert (expected != np.floor(expected)).any()


@pytest.mark.parametrize(("value", "text"), [(2.0**61, "2305843009213693952"), (-3.0, "-3")])
def test_whole_numbers_have_no_point(value: float, text: str) -> None:
    assert cell(value) == text


@pytest.mark.parametrize("value", [2.0**62, -(2.0**62), 2.0**70, 0.5])
def test_numbers_that_are_too_large_for_an_integer_are_kept(value: float) -> None:
    assert np.float32(cell(value)) == np.float32(value)
    assert not cell(value).lstrip("-").isdigit() or abs(value) == 2.0**62


def cell(value: float) -> str:
    import io

    writer = table.TableWriter(None)
    writer.frames, writer.parts, writer.var = [OBS], [np.array([[value], [1]], np.float32)], VAR[:1]
    out = io.BytesIO()
    writer.write_table(out, ",")
    return out.getvalue().decode().splitlines()[1].split(",")[1]


def test_a_folder_that_goes_away_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, file: Any, separator: str) -> None:
        file.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table.TableWriter, "write_table", full)
    with pytest.raises(hr.OutputError, match=r"writing .*x\.csv\.gz failed: .*No space left on device"):
        hr.Plan(source()).write(hr.Table(tmp_path / "x.csv.gz"))
    assert not (tmp_path / "x.csv.gz").exists()


def test_gzip_is_closed_before_the_file_when_a_table_fails(tmp_path: Path) -> None:
    """Python 3.13 closes it later by itself, after the file, and complains."""
    kept: list[Any] = []
    with pytest.raises(ZeroDivisionError), (tmp_path / "t.tsv.gz").open("wb") as raw:  # noqa: SIM117 # in this order
        with gzipped(raw, tmp_path / "t.tsv.gz") as packed:
            kept.append(packed)
            packed.write(b"begun")
            raise ZeroDivisionError
    assert kept[0].closed
    assert gzip.decompress((tmp_path / "t.tsv.gz").read_bytes()) == b"begun"
