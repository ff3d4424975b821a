"""The spool: read once, bit for bit, go on after an interruption, never read anything wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.chunk import Chunk, csr
from headrace.engine.spool import Spool, clean, decode, encode, found
from headrace.events import Notice
from headrace.protocols import Source
from tests.conftest import LIVER
from tests.wrapped import Wrapped

STEPS = [
    hr.SaveLayer("counts"),
    hr.FilterCells(min_genes=200),
    hr.FilterGenes(min_cells=5),
    hr.NormalizeTotal(),
    hr.Log1p(),
    hr.HighlyVariableGenes(n_top_genes=100),
]


class Counting(Wrapped):
    """A source that counts what is read of it, and may break after some chunks."""

    def __init__(self, source: Source[Any], log: list[Any] | None = None, breaks_at: int | None = None) -> None:
        super().__init__(source)
        self.log = [] if log is None else log
        self.breaks_at = breaks_at

    def around(self, source: Source[Any]) -> Counting:
        return Counting(source, self.log, self.breaks_at)

    def refs(self, nnz: int) -> Sequence[Any]:
        return self.source.refs(min(nnz, 40_000))  # several chunks even of a small source

    def read(self, refs: Sequence[Any]) -> Iterator[Chunk]:
        for ref, chunk in zip(refs, self.source.read(refs), strict=True):
            if self.breaks_at is not None and len(self.log) == self.breaks_at:
                raise RuntimeError("the line is cut")
            self.log.append(ref)
            yield chunk


@pytest.fixture
def liver(demo_census: Path) -> Any:
    return hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)


# ------------------------------------------------------------------------------------------------------- the format
def chunk_of(X: Any) -> Chunk:
    X = sparse.csr_array(np.asarray(X, dtype=np.float32))
    obs = pd.DataFrame(
        {"kind": pd.Categorical(["a"] * X.shape[0], categories=["a", "b"]), "n": np.arange(X.shape[0])},
        index=pd.Index([str(i) for i in range(X.shape[0])], name="soma_joinid"),
    )
    return Chunk(csr(X.data, X.indices.astype(np.int32), X.indptr.astype(np.int32), X.shape[1]), obs)


def wide(n_vars: int) -> np.ndarray:
    X = np.zeros((3, n_vars))
    X[0, [0, n_vars - 1]] = X[2, n_vars // 2] = 1
    return X


@pytest.mark.parametrize(
    "X",
    [
        np.eye(4),
        np.zeros((3, 5)),
        [[1, 0, 65534], [65535, 65536, 0], [16777215, 2, 602793]],
        [[0.5, 0, 1e-45], [1.5e38, -3, 7]],
        [[np.nan, 1, 0]],
        wide(65536),
        wide(65537),
        wide(200_000),
    ],
    ids=["eye", "empty", "large", "fractions", "nan", "65536", "65537", "wide"],
)
def test_a_part_is_the_chunk_bit_for_bit(X: Any) -> None:
    chunk = chunk_of(X)
    back = decode(encode(chunk), chunk.obs.iloc[:0])
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(back.X, name).view(np.int32), getattr(chunk.X, name).view(np.int32))
    pd.testing.assert_frame_equal(back.obs, chunk.obs, check_exact=True)


def test_counts_are_compact(liver: Any) -> None:
    chunk = next(liver.read(liver.refs(10**7)[:1]))
    assert len(encode(chunk)) / chunk.nnz < 3, "full-length counts; UMI counts take half of it"


def test_any_flipped_bit_or_cut_is_noticed() -> None:
    rng = np.random.default_rng(0)
    chunk = chunk_of(rng.poisson(0.3, (200, 300)))
    stored, obs = encode(chunk), chunk.obs.iloc[:0]
    for at in rng.integers(0, len(stored) * 8, 300):
        broken = bytearray(stored)
        broken[at // 8] ^= 1 << (at % 8)
        with pytest.raises(ValueError, match="part|written|checksum"):
            decode(bytes(broken), obs)
    for length in rng.integers(0, len(stored), 50):
        with pytest.raises(ValueError, match="part|written|checksum"):
            decode(stored[:length], obs)


# --------------------------------------------------------------------------------------------------------- the plan
def test_one_pass_over_the_source_whatever_the_steps_ask(liver: Any, tmp_path: Path) -> None:
    source = Counting(liver)
    plan = hr.Plan(source, STEPS)
    assert "1 pass over the source" in str(plan.explain())
    plan.write_h5ad(tmp_path / "out.h5ad", executor=hr.Threads(2, 2))
    assert len(source.log) == len(set(source.log)) > 3
    assert [p.name for p in tmp_path.iterdir()] == ["out.h5ad"], "nothing else is left"


@pytest.mark.parametrize("breaks_at", [0, 1, 4])
def test_an_interrupted_run_goes_on(breaks_at: int, liver: Any, tmp_path: Path) -> None:
    hr.Plan(Counting(liver), STEPS).write_h5ad(tmp_path / "whole.h5ad")
    cut = Counting(liver, breaks_at=breaks_at)
    with pytest.raises(RuntimeError, match="the line is cut"):
        hr.Plan(cut, STEPS).write_h5ad(tmp_path / "out.h5ad", executor=hr.Serial())
    assert not (tmp_path / "out.h5ad").exists()
    again = Counting(liver)
    told: list[Any] = []
    hr.Plan(again, STEPS).write_h5ad(tmp_path / "out.h5ad", executor=hr.Serial(), on_event=told.append)
    assert not set(again.log) & set(cut.log), "what was read is not read again"
    assert len(again.log) + len(cut.log) == len(liver.refs(40_000))
    assert any(isinstance(event, Notice) and "going on" in event.message for event in told) == (breaks_at > 0)
    assert (tmp_path / "out.h5ad").read_bytes() == (tmp_path / "whole.h5ad").read_bytes()
    assert not found(tmp_path / ".headrace-spool")


@pytest.mark.parametrize("change", ["plan", "query", "no-resume"])
def test_another_plan_does_not_pick_up_old_parts(change: str, liver: Any, demo_census: Path, tmp_path: Path) -> None:
    cut = Counting(liver, breaks_at=3)
    with pytest.raises(RuntimeError):
        hr.Plan(cut, STEPS).write_h5ad(tmp_path / "out.h5ad", executor=hr.Serial())
    assert found(tmp_path / ".headrace-spool")[0]["parts"] == 3
    steps, source = STEPS, Counting(liver)
    if change == "plan":
        steps = [*STEPS[:-1], hr.HighlyVariableGenes(n_top_genes=101)]
    elif change == "query":
        census = hr.open_census(demo_census)
        source = Counting(census.query("mus_musculus", dataset_id=LIVER, obs_filter="nnz > 1"))
    hr.Plan(source, steps).write_h5ad(tmp_path / "out.h5ad", resume=change != "no-resume")
    assert len(source.log) == len(source.refs(10**9))


def test_a_damaged_part_is_read_anew(liver: Any, tmp_path: Path) -> None:
    cut = Counting(liver, breaks_at=4)
    with pytest.raises(RuntimeError):
        hr.Plan(cut, STEPS).write_h5ad(tmp_path / "out.h5ad", executor=hr.Serial())
    part = sorted((tmp_path / ".headrace-spool").glob("*/*.part"))[2]
    broken = bytearray(part.read_bytes())
    broken[len(broken) // 2] ^= 4
    part.write_bytes(broken)
    again = Counting(liver)
    hr.Plan(again, STEPS).write_h5ad(tmp_path / "out.h5ad", executor=hr.Serial())
    assert again.log[0] == cut.log[2]
    hr.Plan(Counting(liver), STEPS).write_h5ad(tmp_path / "whole.h5ad")
    assert (tmp_path / "out.h5ad").read_bytes() == (tmp_path / "whole.h5ad").read_bytes()


def test_a_part_that_goes_bad_during_the_run_is_named(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a", chunk_of(np.eye(4)).obs.iloc[:0])
    with spool.opened({}, keep=True):
        spool.store(0, 4, chunk_of(np.eye(4)))
        path = spool.path(0, 4)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(hr.SourceError, match="is damaged .* run again to read it anew"):
            spool.load(0, 4)
        with pytest.raises(hr.SourceError, match="has vanished"):
            spool.load(0, 4)


def test_two_runs_on_one_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a", chunk_of(np.eye(4)).obs.iloc[:0])
    with (
        spool.opened({}, keep=True),
        pytest.raises(hr.OutputError, match="another run is using the spool"),
        spool.opened({}, keep=True),
    ):
        pass


def test_a_spool_that_cannot_be_is_named(liver: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(hr.OutputError, match="cannot make the spool .* choose another folder with spool="):
        hr.Plan(liver, STEPS).write_h5ad(tmp_path / "out.h5ad", spool=tmp_path / "file" / "x")


def test_no_room_is_said_before_reading(liver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    source = Counting(liver)
    with pytest.raises(hr.OutputError, match="the spool needs about .* where 0 MB are free; choose another folder"):
        hr.Plan(source, STEPS).write_h5ad(tmp_path / "out.h5ad")
    assert source.log == []


def test_kept_and_cleaned(liver: Any, tmp_path: Path) -> None:
    hr.Plan(liver, STEPS).write_h5ad(tmp_path / "out.h5ad", spool=tmp_path / "s", keep_spool=True)
    (entry,) = found(tmp_path / "s")
    assert entry["parts"] == 1
    assert entry["bytes"] > 0
    assert entry["about"]["source"]["query"]["dataset_id"] == [LIVER]
    (tmp_path / "s" / "not ours").mkdir()
    (tmp_path / "s" / "not ours" / "about.json").write_text("{}")
    assert clean(tmp_path / "s") == 1
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["not ours"]
