"""The spool: read once, bit for bit, go on after an interruption, never read anything wrong."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.chunk import Chunk, csr
from headrace.engine.spool import MAGIC, Spool, check_spool_fits, clean, decode, encode, found, need, sections
from headrace.events import Fetched, Notice
from headrace.protocols import Source
from headrace.traffic import Traffic
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
        [[65536, 1]],
        [[0.5, 0, 1e-45], [1.5e38, -3, 7]],
        [[np.nan, 1, 0]],
        wide(65536),
        wide(65537),
        wide(200_000),
        [[254, 255, 256, 0, 65534, 65535, 65536, 3]],
        np.r_[np.full(525, 300.0), np.full(75, 70_000.0)][None],
        (np.arange(200_000) % 400 == 399).astype(float)[None],
        (np.arange(6000) % 255 == 0).astype(float).reshape(2, 3000),
        [[1, 2, np.inf]],
    ],
    ids=[
        *["eye", "empty", "large", "one large", "fractions", "nan", "65536", "65537", "wide", "bytes"],
        *["most large", "far apart", "255 apart", "inf"],
    ],
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


# ------------------------------------------------------------------------------------------ one pass, from far away
ONE_PASS = [hr.NormalizeTotal(1e4), hr.Log1p()]


class Far(Counting):
    """A source that says that it is far away."""

    line = Traffic()

    def around(self, source: Source[Any]) -> Far:
        return Far(source, self.log, self.breaks_at)

    @property
    def traffic(self) -> Traffic:
        return self.line


def test_one_pass_from_far_away_goes_on(liver: Any, tmp_path: Path) -> None:
    hr.Plan(Counting(liver), ONE_PASS).write_h5ad(tmp_path / "whole.h5ad")
    assert [path.name for path in tmp_path.iterdir()] == ["whole.h5ad"]
    cut = Far(liver, breaks_at=4)
    assert "for the spool, while it runs" in str(hr.Plan(cut, ONE_PASS).explain())
    with pytest.raises(RuntimeError, match="the line is cut"):
        hr.Plan(cut, ONE_PASS).write_h5ad(tmp_path / "out.h5ad", executor=hr.Serial())
    again, told = Far(liver), []
    hr.Plan(again, ONE_PASS).write_h5ad(tmp_path / "out.h5ad", on_event=told.append)
    assert not set(again.log) & set(cut.log), "what was read is not read again"
    assert len(again.log) + len(cut.log) == len(liver.refs(40_000))
    assert any(isinstance(event, Notice) and "going on" in event.message for event in told)
    first = next(event for event in told if isinstance(event, Fetched))
    left = sum(ref.stop - ref.start for ref in again.log) / liver.spec.n_obs
    assert first.planned == pytest.approx(left * again.cost().bytes, abs=1)
    assert (tmp_path / "out.h5ad").read_bytes() == (tmp_path / "whole.h5ad").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5ad", "whole.h5ad"]


@pytest.mark.parametrize("far", [False, True])
def test_what_is_not_to_go_on_keeps_nothing(far: bool, liver: Any, tmp_path: Path) -> None:
    cut = (Far if far else Counting)(liver, breaks_at=4)
    with pytest.raises(RuntimeError):
        hr.Plan(cut, ONE_PASS).write_h5ad(tmp_path / "out.h5ad", executor=hr.Serial(), resume=not far)
    assert list(tmp_path.iterdir()) == []


def test_one_pass_does_without_a_spool_that_cannot_be(liver: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told: list[Any] = []
    out = tmp_path / "out.h5ad"
    hr.Plan(Far(liver), ONE_PASS).write_h5ad(out, spool=tmp_path / "file" / "x", on_event=told.append)
    assert out.exists()
    notices = [event.message for event in told if isinstance(event, Notice)]
    assert len(notices) == 1
    assert notices[0].startswith("a run that is interrupted cannot go on later: cannot make the spool")


def test_one_pass_does_without_a_spool_that_is_full(
    liver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stored = Spool.store, []

    def store(self: Spool, start: int, stop: int, chunk: Chunk) -> None:
        stored.append(start)
        if len(stored) > 2:
            raise hr.OutputError("cannot write to the spool: no space left")
        whole(self, start, stop, chunk)

    monkeypatch.setattr(Spool, "store", store)
    told: list[Any] = []
    hr.Plan(Far(liver), ONE_PASS).write_h5ad(tmp_path / "out.h5ad", executor=hr.Serial(), on_event=told.append)
    assert (tmp_path / "out.h5ad").exists()
    assert len(stored) == 3
    assert ["no space left" in event.message for event in told if isinstance(event, Notice)] == [True]


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


# ------------------------------------------------------------------------------------------- what lies on the disk
def held_by(tmp_path: Path, name: str = "a") -> Spool:
    return Spool(tmp_path / name, chunk_of(np.eye(4)).obs.iloc[:0])


def test_a_part_cut_anywhere_or_longer_is_no_part() -> None:
    chunk = chunk_of(np.eye(4))
    stored = encode(chunk)
    for length in range(len(stored)):
        with pytest.raises(ValueError, match="it does not begin as a part|its header is not|a checksum is wrong"):
            sections(stored[:length])
    with pytest.raises(ValueError, match="it is longer than it was written"):
        sections(stored + b"\0")
    with pytest.raises(ValueError, match="it does not begin as a part"):
        sections(b"x" + stored[1:])


def test_a_part_has_its_sections_as_they_were_written() -> None:
    def part(n: int) -> bytes:
        texts = [str(i).encode() for i in range(n)]
        start = MAGIC + struct.pack("<I", n) + b"".join(struct.pack("<QI", len(t), zlib.crc32(t)) for t in texts)
        return b"".join([start, struct.pack("<I", zlib.crc32(start)), *texts])

    for n in (0, 1, 7, 1024):
        assert [bytes(section) for section in sections(part(n))] == [str(i).encode() for i in range(n)]
    with pytest.raises(ValueError, match="its header is not as it was written"):
        sections(part(1025))


BYTES = {"deltas": "|u1", "far": 0, "far_dtype": "<u2"}
FULL = np.r_[np.full(525, 300.0), np.full(75, 70_000.0)][None]
APART = (np.arange(200_000) % 400 == 399).astype(float)[None]


@pytest.mark.parametrize(
    ("X", "said"),
    [
        (np.eye(4), {"shape": [4, 4], "nnz": 4, **BYTES, "plain": False, "values": "|u1", "large": 0}),
        (np.zeros((3, 5)), {"shape": [3, 5], "nnz": 0, **BYTES, "plain": True, "values": "|u1", "large": 0}),
        ([[254, 255, 256, 0, 7]], {"shape": [1, 5], "nnz": 4, **BYTES, "plain": False, "values": "|u1", "large": 2}),
        (FULL, {"shape": [1, 600], "nnz": 600, **BYTES, "plain": False, "values": "<u2", "large": 75}),
        ([[0.5, 65536]], {"shape": [1, 2], "nnz": 2, **BYTES, "plain": False, "values": "<f4"}),
        (wide(65536), {"shape": [3, 65536], "nnz": 3, **BYTES, "plain": True, "far": 2, "values": "|u1", "large": 0}),
        (
            wide(65537),
            {
                "shape": [3, 65537],
                "nnz": 3,
                **BYTES,
                "plain": True,
                "far": 2,
                "far_dtype": "<u4",
                "values": "|u1",
                "large": 0,
            },
        ),
        (APART, {"shape": [1, 200_000], "nnz": 500, "deltas": "<u4", "values": "|u1", "large": 0}),
    ],
)
def test_a_part_says_what_is_in_it(X: Any, said: dict[str, Any]) -> None:
    """A run of another version reads it: the same magic, the same words."""
    stored = encode(chunk_of(X))
    assert stored.startswith(b"headrace spool 4\n")
    assert json.loads(bytes(sections(stored)[0])) == {**said, "obsm": []}


def test_names_of_parts_sort_as_the_cells_do(tmp_path: Path) -> None:
    spool = held_by(tmp_path)
    assert spool.path(0, 4).name == "cells-000000000000-000000000004.part"
    assert spool.path(74_000_000, 74_000_128).name == "cells-000074000000-000074000128.part"


def test_only_whole_parts_are_taken_over(tmp_path: Path) -> None:
    spool = held_by(tmp_path)
    with spool.opened({}, keep=True):
        spool.store(0, 4, chunk_of(np.eye(4)))
        spool.store(4, 8, chunk_of(np.eye(4)))
        broken = bytearray(spool.path(4, 8).read_bytes())
        broken[-1] ^= 1
        spool.path(4, 8).write_bytes(broken)
        spool.path(12, 16).mkdir()
        assert [spool.whole(start, start + 4) for start in (0, 4, 8, 12)] == [True, False, False, False]
        assert [path.name for path in spool.folder.glob("*.part")] == [spool.path(0, 4).name]
        spool.path(12, 16).mkdir()
        with pytest.raises(hr.SourceError, match="cannot be read: Is a directory; run again to read it anew"):
            spool.load(12, 16)
        with pytest.raises(hr.OutputError, match="cannot write to the spool .*choose another folder with spool="):
            spool.store(12, 16, chunk_of(np.eye(4)))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_left_of_a_spool(keep: bool, fails: bool, shared: bool, tmp_path: Path) -> None:
    parent = tmp_path / "s"
    spool = held_by(parent)
    if shared:
        (parent / "b").mkdir(parents=True)
    try:
        with spool.opened({"who": "first"}, keep=keep):
            spool.store(0, 4, chunk_of(np.eye(4)))
            if fails:
                raise RuntimeError("the line is cut")
    except RuntimeError:
        assert fails
    stays = keep or fails
    assert [path.name for path in tmp_path.rglob("*.part")] == [spool.path(0, 4).name] * stays
    assert spool.folder.exists() == stays
    assert parent.exists() == (stays or shared)
    with spool.opened({"who": "second"}, keep=True):
        assert json.loads((spool.folder / "about.json").read_text()) == {"who": "first" if stays else "second"}


def test_what_spools_there_are(tmp_path: Path) -> None:
    assert found(tmp_path / "nowhere") == []
    for name in ("b" * 64, "a" * 16, "a" * 15, "c" * 65, "A" * 16, "x"):
        (tmp_path / name).mkdir()
    (tmp_path / ("d" * 16)).write_text("a file")
    first, second = tmp_path / ("a" * 16), tmp_path / ("b" * 64)
    (first / "about.json").write_text('{"n": 1}')
    (first / "1.part").write_bytes(b"123")
    (first / "2.part").write_bytes(b"4567")
    (first / ".3.part.partial").write_bytes(b"8")
    (second / "about.json").write_text("{")
    entries = [
        {"folder": str(first), "bytes": 7, "parts": 2, "about": {"n": 1}},
        {"folder": str(second), "bytes": 0, "parts": 0, "about": {}},
    ]
    assert found(tmp_path) == entries


def test_a_spool_in_use_is_not_cleaned(tmp_path: Path) -> None:
    used, idle, last = (held_by(tmp_path, letter * 16) for letter in "abc")
    for spool in (used, idle, last):
        with spool.opened({}, keep=True):
            spool.store(0, 4, chunk_of(np.eye(4)))
    told: list[Path] = []
    with used.opened({}, keep=True):
        assert clean(tmp_path, told.append) == 2
    assert told == [idle.folder, last.folder]
    assert list(tmp_path.iterdir()) == [used.folder]
    assert clean(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_room_is_reckoned_by_non_zeros_and_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert need(1000, 10**6) == 2 * 10**6 + 60_000
    asked: list[Path] = []
    usage = shutil.disk_usage(tmp_path)._replace(free=5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or usage)
    check_spool_fits(tmp_path / "not" / "yet", 5_000_000)
    assert asked == [tmp_path]
    with pytest.raises(hr.OutputError, match="the spool needs about 9 MB in .*yet, where 5 MB are free"):
        check_spool_fits(tmp_path / "not" / "yet", 9_000_000)
    with pytest.raises(hr.OutputError):
        check_spool_fits(tmp_path, 5_000_001)
