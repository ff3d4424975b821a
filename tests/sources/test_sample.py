"""Cells are counted and chosen from obs alone: as pandas counts them, and as a hash written anew chooses them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiledbsoma as soma

import headrace as hr
from headrace.errors import InputError
from headrace.sources.compact import BLOCK, Even, Joinids, Sizes
from headrace.sources.groups import Counts
from headrace.sources.sample import ranks
from headrace.sources.shares import Request
from headrace.sources.soma.arrays import Frame
from headrace.sources.soma.bands import MOST_CELLS, spans
from headrace.sources.tiles import TileReader, blocks
from headrace.sources.tiles import rows as rows_of_tiles

ORGANISM = "homo_sapiens"
BY = ["cell_type", "donor_id"]
MASK, STEP = 2**64 - 1, 0x9E3779B97F4A7C15


@pytest.fixture(scope="module")
def obs(demo_census: Path) -> pd.DataFrame:
    with soma.open(str(demo_census / "census_data" / ORGANISM)) as experiment:
        return experiment.obs.read().concat().to_pandas()


@pytest.fixture(scope="module")
def census(demo_census: Path) -> hr.Census:
    return hr.open_census(demo_census)


@pytest.fixture(scope="module")
def query(census: hr.Census) -> hr.CensusQuery:
    return census.query(ORGANISM, genes="any", primary_only=False)


def mixed(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def rank(number: int, seed: int) -> int:
    """Splitmix64, in whole numbers of Python."""
    return mixed((number * STEP + mixed((seed + STEP) & MASK)) & MASK)


def lowest(obs: pd.DataFrame, taken: dict, by: list[str], seed: int) -> list[int]:
    """Choose cells by sorting all of them."""
    ranked = obs.assign(rank=[rank(i, seed) for i in obs["soma_joinid"]]).sort_values("rank")
    out = []
    for key, part in ranked.groupby(by, observed=True) if by else [((), ranked)]:
        out += part["soma_joinid"].head(taken[key]).tolist()
    return sorted(out)


def chosen(query: hr.CensusQuery) -> list[int]:
    return query.cells.joinids[:].tolist()


# ------------------------------------------------------------------------------------------------------------ counts
@pytest.mark.parametrize("by", [["assay"], BY, ["is_primary_data", "tissue"], ["nnz"]])
@pytest.mark.parametrize("kept", [None, "sex == 'female'"])
def test_counts_are_those_of_pandas(census: hr.Census, obs: pd.DataFrame, by: list[str], kept: str | None) -> None:
    found = census.count(ORGANISM, by=by, obs_filter=kept)
    there = obs if kept is None else obs[obs["sex"] == "female"]
    expected = there.groupby(by, observed=True).agg(
        n_obs=("nnz", "size"), n_duplicates=("is_primary_data", lambda one: int((~one).sum()))
    )
    assert found["n_obs"].is_monotonic_decreasing
    assert list(found) == [*by, "n_obs", "n_duplicates"]
    assert dict(zip(zip(*(found[name] for name in by), strict=True), rows(found), strict=True)) == dict(
        zip([key if len(by) > 1 else (key,) for key in expected.index], rows(expected), strict=True)
    )


def rows(table: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(table["n_obs"], table["n_duplicates"], strict=True))


def test_counts_of_all_and_of_primary_cells(census: hr.Census, obs: pd.DataFrame) -> None:
    primary = int(obs["is_primary_data"].sum())
    assert 0 < primary < len(obs)
    (all_cells,) = census.count(ORGANISM).to_dict("records")
    assert all_cells == {"n_obs": len(obs), "n_duplicates": len(obs) - primary}
    (kept,) = census.count(ORGANISM, primary_only=True).to_dict("records")
    assert kept == {"n_obs": primary, "n_duplicates": 0}
    by = census.count(ORGANISM, "cell_type", primary_only=True).set_index("cell_type")["n_obs"].to_dict()
    assert by == obs[obs["is_primary_data"]]["cell_type"].astype(str).value_counts().to_dict()


def test_counts_do_not_depend_on_how_obs_comes(
    census: hr.Census, query: hr.CensusQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, drawn = census.count(ORGANISM, BY), chosen(query.sample(300, by=BY))
    read = Frame._read

    def in_pieces(self, columns, rows, value_filter):
        for table in read(self, columns, rows, value_filter):
            pieces = [table.slice(at, 97) for at in range(0, len(table), 97)]
            yield from reversed(pieces)

    monkeypatch.setattr(Frame, "_read", in_pieces)
    pd.testing.assert_frame_equal(census.count(ORGANISM, BY), whole)
    again = census.query(ORGANISM, genes="any", primary_only=False)
    assert chosen(again) == chosen(query)
    assert [part.tolist() for part in again.cells.nnz.parts()] == [part.tolist() for part in query.cells.nnz.parts()]
    assert chosen(again.sample(300, by=BY)) == drawn


def test_counts_of_a_query(census: hr.Census, obs: pd.DataFrame, query: hr.CensusQuery) -> None:
    joinids = obs["soma_joinid"][5:900:7].tolist()
    few = census.query(ORGANISM, obs_joinids=joinids, genes="any", primary_only=False)
    expected = obs[obs["soma_joinid"].isin(joinids)]["assay"].astype(str).value_counts().to_dict()
    assert few.count("assay").set_index("assay")["n_obs"].to_dict() == expected == few.value_counts("assay")
    assert query.value_counts("sex") == query.count("sex").set_index("sex")["n_obs"].to_dict()


def test_missing_values_are_a_group() -> None:
    counts = Counts(["donor", "age"])
    counts.add(pd.DataFrame({"donor": pd.Categorical(["a", None, "a"]), "age": [1.0, 2.0, np.nan]}))
    counts.add(pd.DataFrame({"donor": pd.Categorical([None, "b"]), "age": [2.0, 2.0]}))
    assert counts.sizes == {("a", 1.0): 1, (None, 2.0): 2, ("a", None): 1, ("b", 2.0): 1}
    assert counts.table(False)["donor"].tolist() == [None, "a", "a", "b"]


@pytest.mark.parametrize("what", ["count", "sample"])
def test_wrong_columns_are_named(census: hr.Census, query: hr.CensusQuery, what: str) -> None:
    ask = {"count": lambda by: census.count(ORGANISM, by=by), "sample": lambda by: query.sample(10, by=by)}[what]
    with pytest.raises(InputError, match=rf"{what}: by='cell_typ'.*did you mean 'cell_type'\?"):
        ask("cell_typ")
    with pytest.raises(InputError, match="'assay' twice"):
        ask(["assay", "assay"])


def test_a_count_of_nothing(census: hr.Census) -> None:
    with pytest.raises(InputError, match=r"tissue 'lungs' does not occur there, did you mean 'lung'\?"):
        census.count(ORGANISM, "assay", obs_filter="tissue == 'lungs'")
    assert census.count(ORGANISM, "assay", obs_filter="nnz < 0").empty
    assert census.count(ORGANISM, obs_filter="nnz < 0")["n_obs"].tolist() == [0]


# ------------------------------------------------------------------------------------------------------------ samples
@pytest.mark.parametrize("seed", [0, 7, -3, 2**70])
def test_a_sample_is_the_lowest_ranks(query: hr.CensusQuery, obs: pd.DataFrame, seed: int) -> None:
    assert ranks(np.array([0, 5, 2**40]), seed).tolist() == [rank(i, seed) for i in (0, 5, 2**40)]
    assert chosen(query.sample(250, seed=seed)) == lowest(obs, {(): 250}, [], seed)


def test_known_cells(query: hr.CensusQuery) -> None:
    """The same on every machine, and in every version: splitmix64 in whole numbers of Python says so."""
    assert mixed(STEP) == 0xE220A8397B1DCDAF  # its first number for seed 0, as published
    assert chosen(query.sample(5)) == [592, 1671, 1678, 2115, 2328]


def test_a_part_of_all(query: hr.CensusQuery, obs: pd.DataFrame) -> None:
    for fraction in (0.1, 0.5, 1 / 3, 1.0):
        n = int(Fraction(str(fraction)) * len(obs) + Fraction(1, 2))
        assert chosen(query.sample(fraction=fraction)) == lowest(obs, {(): n}, [], 0)


def test_so_many_of_each_group(query: hr.CensusQuery, obs: pd.DataFrame) -> None:
    sizes = obs.groupby(BY, observed=True).size()
    limit = int(sizes.median())
    small = sizes[sizes < limit]
    assert 0 < len(small) < len(sizes)
    with pytest.warns(hr.SmallGroupsWarning, match=f"{len(small)} of {len(sizes)} groups have fewer") as told:
        drawn = query.sample(by=BY, per_group=limit, seed=3)
    assert f"cell_type {small.index[0][0]!r}" in str(told[0].message)
    assert chosen(drawn) == lowest(obs, {key: min(limit, n) for key, n in sizes.items()}, BY, 3)


def test_groups_give_by_their_size(query: hr.CensusQuery, obs: pd.DataFrame) -> None:
    sizes = obs["cell_type"].astype(str).value_counts()
    found = query.sample(500, by="cell_type").value_counts("cell_type")
    assert sum(found.values()) == 500
    for name, n in sizes.items():
        assert abs(found.get(name, 0) - 500 * n / len(obs)) < 1


def test_groups_give_the_same(query: hr.CensusQuery, obs: pd.DataFrame) -> None:
    sizes = obs["cell_type"].astype(str).value_counts()
    n = int(sizes.min()) * len(sizes) + 101
    assert n < len(obs)
    with pytest.warns(hr.SmallGroupsWarning):
        drawn = query.sample(n, by="cell_type", balanced=True)
    found = drawn.value_counts("cell_type")
    assert sum(found.values()) == n == drawn.spec.n_obs
    others = [m for name, m in found.items() if m < sizes[name]]
    assert max(others) - min(others) <= 1
    assert all(m == sizes[name] for name, m in found.items() if m < min(others))


def test_small_groups_are_left_out(query: hr.CensusQuery, obs: pd.DataFrame) -> None:
    sizes = obs.groupby(BY, observed=True).size()
    least = int(sizes.quantile(0.7))
    kept = sizes[sizes >= least]
    with pytest.warns(hr.SmallGroupsWarning, match=f"nothing if they have fewer than {least}"):
        drawn = query.sample(by=BY, per_group=2, min_per_group=least)
    assert chosen(drawn) == lowest(obs, {key: least if key in kept.index else 0 for key in sizes.index}, BY, 0)


@pytest.mark.parametrize("balanced", [False, True])
def test_shares_are_exact(balanced: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = {(f"{k:03}",): int(n) for k, n in enumerate(rng.geometric(0.01, rng.integers(1, 30)))}
        least = int(rng.integers(1, 5))
        there = {key: n for key, n in sizes.items() if n >= least}
        if not there:
            continue
        total = int(rng.integers(least * len(there), sum(there.values()) + 1))
        asked = Request(("g",), n=total, balanced=balanced, min_per_group=least)
        shares, _ = asked.shares(sizes, "obs")
        assert sum(shares.values()) == total
        assert all(least <= shares[key] <= n for key, n in there.items())
        assert shares == asked.shares(dict(reversed(sizes.items())), "obs")[0]


def test_a_sample_of_a_sample_and_of_some_cells(census: hr.Census, query: hr.CensusQuery, obs: pd.DataFrame) -> None:
    first = query.sample(400, seed=1)
    within = obs[obs["soma_joinid"].isin(chosen(first))]
    assert chosen(first.sample(50, seed=2)) == lowest(within, {(): 50}, [], 2)
    female = census.query(ORGANISM, obs_filter="sex == 'female'", genes="any", primary_only=True)
    those = obs[(obs["sex"] == "female") & obs["is_primary_data"]]
    assert chosen(female.sample(60)) == lowest(those, {(): 60}, [], 0)


def test_a_sample_streams_what_the_query_would(query: hr.CensusQuery) -> None:
    drawn = pickle.loads(pickle.dumps(query.sample(333, by="assay")))
    whole, part = hr.Plan(query).to_anndata(), hr.Plan(drawn).to_anndata()
    pd.testing.assert_frame_equal(part.obs, whole[part.obs_names].obs.astype(part.obs.dtypes), check_categorical=False)
    assert (part.X != whole[part.obs_names, part.var_names].X).nnz == 0
    assert part.n_obs == 333
    assert "a sample of 333 of" in "\n".join(drawn.notes)
    small = list(hr.Plan(drawn).chunks(memory="600MB", executor=hr.Serial()))
    assert sum(chunk.n_obs for chunk in small) == 333


def test_both_readers_give_the_sample(census: hr.Census) -> None:
    found = []
    for reader in ("tiles", "tiledb"):
        source = census.query(ORGANISM, genes="any", primary_only=True, reader=reader).sample(100, seed=5)
        found.append(hr.Plan(source).to_anndata())
    assert (found[0].X != found[1].X).nnz == 0
    assert found[0].obs_names.equals(found[1].obs_names)


def test_tiles_of_cells_far_apart_are_not_held_at_once(query: hr.CensusQuery, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = query.sample(30)
    whole = hr.Plan(drawn).to_anndata()
    sizes = []
    decode = TileReader._decode
    monkeypatch.setattr(TileReader, "_decode", lambda self, block: sizes.append(block.cells) or decode(self, block))
    for module in (blocks, rows_of_tiles):
        monkeypatch.setattr(module, "MOST_TILES", 1)
    part = hr.Plan(replace(drawn, reader="tiles")).to_anndata()
    bands = len(set(np.array(chosen(drawn)) // 2048))
    assert bands > 1
    assert len(sizes) == bands
    assert (whole.X != part.X).nnz == 0


def test_what_was_left_out_is_in_uns(census: hr.Census, obs: pd.DataFrame) -> None:
    source = census.query(ORGANISM, genes="any", primary_only=True).sample(100, seed=5)
    said = hr.Plan(source).to_anndata().uns["headrace"]["query"]
    primary = int(obs["is_primary_data"].sum())
    assert (said["n_obs_with_duplicates"], said["n_duplicates"]) == (len(obs), len(obs) - primary)
    assert said["n_obs"] == 100
    assert f'"n_obs_before": {primary}' in said["sample"] or str(primary) in str(said["sample"])


def test_any_experiment(demo_census: Path, query: hr.CensusQuery) -> None:
    source = hr.open_soma(demo_census / "census_data" / ORGANISM)
    drawn = source.sample(77, by="assay", seed=4)
    assert chosen(drawn) == chosen(query.sample(77, by="assay", seed=4))
    assert source.count("assay").equals(query.count("assay"))
    assert hr.Plan(drawn).to_anndata().n_obs == 77
    assert drawn.identity() != source.identity()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "one of n, fraction and per_group: it has none"),
        ({"n": 5, "fraction": 0.1}, "it has n and fraction"),
        ({"n": 10**9}, "n=1,000,000,000, but the query has"),
        ({"n": 0}, "n=0; at least 1"),
        ({"n": 2.5}, "n=2.5 is no whole number"),
        ({"fraction": 1.5}, "above 0 and at most 1"),
        ({"fraction": b"x"}, "above 0 and at most 1"),
        ({"fraction": [0.5]}, "above 0 and at most 1"),
        ({"fraction": np.True_}, "above 0 and at most 1"),
        ({"fraction": float("nan")}, "above 0 and at most 1"),
        ({"n": 5, "by": float("nan")}, "by=nan is no name of a column"),
        ({"n": 5, "by": 3}, "by=3 is no name of a column"),
        ({"per_group": 5}, "per_group is of groups"),
        ({"n": 5, "balanced": True}, "balanced is of groups"),
        ({"n": 1, "by": "assay", "min_per_group": 2}, "1 cells do not do for min_per_group=2"),
        ({"n": 5, "by": "assay", "min_per_group": 10**9}, "no group of the query has min_per_group"),
        ({"n": 5, "seed": "x"}, "seed='x' is no whole number"),
    ],
)
def test_what_makes_no_sense_is_refused(query: hr.CensusQuery, asked: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        query.sample(**asked)


# --------------------------------------------------------------------------------------------------------------- h5ad
def test_rows_of_a_file(query: hr.CensusQuery, tmp_path: Path) -> None:
    hr.Plan(query).write_h5ad(tmp_path / "all.h5ad")
    source = hr.open_h5ad(tmp_path / "all.h5ad", holds="counts")
    whole = hr.Plan(source).to_anndata()
    table = whole.obs.assign(soma_joinid=np.arange(whole.n_obs))
    assert source.count("assay").set_index("assay")["n_obs"].to_dict() == query.value_counts("assay")
    sizes = table.groupby("cell_type", observed=True).size()
    with pytest.warns(hr.SmallGroupsWarning):
        drawn = source.sample(by="cell_type", per_group=int(sizes.max()) - 1, seed=9).sample(90)
    first = lowest(table, {(key,): min(n, int(sizes.max()) - 1) for key, n in sizes.items()}, ["cell_type"], 9)
    rows = lowest(table.iloc[first], {(): 90}, [], 0)
    part = hr.Plan(drawn).to_anndata()
    assert part.obs_names.tolist() == whole.obs_names[rows].tolist()
    assert (whole.X[rows] != part.X).nnz == 0
    assert drawn.count("assay")["n_obs"].sum() == 90
    with pytest.raises(InputError, match="did you mean 'assay'"):
        source.sample(10, by="assey")


# -------------------------------------------------------------------------------------------------------- in few bytes
def test_numbers_in_few_bytes() -> None:
    rng = np.random.default_rng(1)
    dense = np.flatnonzero(rng.random(5 * BLOCK) < 0.6)
    values = np.concatenate([dense, np.arange(7 * BLOCK, 9 * BLOCK + 3), np.array([2**40, 2**40 + 5])])
    cuts = np.sort(rng.integers(0, len(values), 30))
    made = Joinids()
    for part in np.split(values, cuts):
        made.extend(part)
    assert len(made) == len(values)
    assert made.digest() == Joinids(values).digest()
    assert np.array_equal(np.concatenate(list(made.parts())), values)
    assert made.nbytes < len(values) / 2
    for start, stop in np.sort(rng.integers(0, len(values) + 1, (50, 2)), axis=1).tolist():
        assert np.array_equal(made[start:stop], values[start:stop])
        low, high = values[start % len(values)], values[min(stop, len(values) - 1)]
        assert np.array_equal(made.between(low, high), values[(values >= low) & (values < high)])
    assert made[-1] == values[-1]


def test_sizes_in_few_bytes() -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(200, 4000, 3 * BLOCK + 17)
    made = Sizes()
    for part in np.split(values, [5, BLOCK, BLOCK + 1]):
        made.extend(part)
    assert made.total == values.sum()
    assert made.nbytes < 2 * len(values)
    for start, stop in np.sort(rng.integers(0, len(values) + 1, (50, 2)), axis=1).tolist():
        assert np.array_equal(made[start:stop], values[start:stop])
    assert Even(3, 5)[1:4].tolist() == [3, 3, 3]


def test_spans_of_cells_with_few_values() -> None:
    n = 200_001
    found = spans(Joinids(np.arange(5, 5 + n)), Even(1, n), 10**6)
    assert [one.start for one in found] == [0, *(one.stop for one in found[:-1])]
    assert found[-1].stop == n
    assert max(one.stop - one.start for one in found) <= MOST_CELLS
    assert all((5 + one.start) % 2048 == 0 for one in found[1:])
