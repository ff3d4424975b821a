"""Filters of cells: as pandas' own query, refused in our words, never a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiledbsoma as soma

import headrace as hr
from headrace.sources.soma.arrays import Frame
from headrace.sources.soma.location import Location
from headrace.sources.soma.selection import Selection, select_cells

N = 60


@pytest.fixture(scope="module")
def obs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A SOMA DataFrame with every type that obs has."""
    rng = np.random.default_rng(0)
    level = pa.DictionaryArray.from_arrays(rng.integers(0, 3, N).astype(np.int8), ["low", "mid", "high"], ordered=True)
    kind = pa.DictionaryArray.from_arrays(rng.integers(0, 3, N).astype(np.int8), ["x", "y", 'it\'s "z"'])
    depth = rng.normal(0, 2, N)
    depth[::7] = np.nan
    table = pa.table(
        {
            "soma_joinid": np.arange(N),
            "kind": kind,
            "level": level,
            "text": rng.choice(["a", "b", "", "é"], N),
            "a b.c": rng.integers(0, 4, N).astype(np.int64),
            "whole": rng.integers(-5, 6, N).astype(np.int32),
            "short": rng.integers(0, 9, N).astype(np.int16),
            "byte": rng.integers(0, 256, N).astype(np.uint8),
            "depth": depth,
            "depth32": depth.astype(np.float32),
            "flag": rng.random(N) < 0.5,
            "when": pa.array(rng.integers(0, 10**12, N), pa.timestamp("ms")),
            "missing": pa.array([None if i % 3 == 0 else i for i in range(N)], pa.int64()),
        }
    )
    uri = str(tmp_path_factory.mktemp("filters") / "obs")
    with soma.DataFrame.create(uri, schema=table.schema, domain=[[0, N - 1]]) as made:
        made.write(table)
    with Location.of(uri).open() as opened:
        yield Frame(opened, None)


@pytest.fixture(scope="module")
def frame(obs: Any) -> pd.DataFrame:
    frame: pd.DataFrame = obs.array.read().concat().to_pandas()
    return frame


def chosen(obs: Any, value_filter: str) -> list[int]:
    cells = select_cells(Selection(obs, value_filter, None, False, (), "here"), ())
    found: list[int] = cells.joinids[:].tolist()
    return found


ATOMS = (
    *("kind == 'x'", "kind != 'x'", "kind in ['x', 'q']", "kind not in ['x', 'y']", "kind == 'no such'"),
    *("kind != 'no such'", 'kind == "it\'s \\"z\\""', "level < 'high'", "level >= 'mid'", "text == ''", "text > 'a'"),
    *("text == 'é'", "text not in ['', 'a']", "'a' == text", "'a' < text", "whole < 2", "whole == -3", "whole != +2"),
    *("whole < 2.5", "whole >= 2.5", "whole > -2.5", "whole <= -2.5", "whole == 2.0", "2.5 > whole", "-1 < whole <= 3"),
    *("whole in [1, 2, -3]", "short in [1, 2]", "byte in [1, 2, 3, 100]", "byte < 300", "byte > 300", "byte >= -1"),
    *("byte < -1", "depth < 0.5", "depth >= 0.5", "depth == 0.5", "depth != 0.5", "depth32 <= 0.1", "depth > -1e999"),
    *("depth in [1, 0.5]", "depth not in [1, 2]", "-1 < depth < 1", "flag == True", "flag != True", "flag", "not flag"),
    *("flag in [True]", "flag not in [True]", "when < '1980-01-01'", "soma_joinid < 20", "soma_joinid in [1, 2, 99]"),
)


@pytest.mark.parametrize("atom", ATOMS)
@pytest.mark.parametrize("around", ["{}", "not ({} or whole == 1)", "not (not {} and flag)"])
def test_as_pandas_has_it(atom: str, around: str, obs: Any, frame: pd.DataFrame) -> None:
    asked = around.format(atom if around == "{}" else f"({atom})")
    theirs = frame.query(asked.replace("1e999", "1e308"))["soma_joinid"].tolist()
    assert chosen(obs, asked) == theirs


def test_trees_as_pandas_has_them(obs: Any, frame: pd.DataFrame) -> None:
    rng = np.random.default_rng(1)

    def tree(depth: int) -> str:
        if depth == 0 or rng.random() < 0.2:
            return f"({rng.choice([atom for atom in ATOMS if '1e999' not in atom])})"
        kind = rng.choice(["and", "or", "&", "|", "not", "~"])
        if kind in ("not", "~"):
            return f"({kind} {tree(depth - 1)})"
        return f"({f' {kind} '.join(tree(depth - 1) for _ in range(rng.integers(2, 4)))})"

    for _ in range(150):
        asked = tree(3)
        assert chosen(obs, asked) == frame.query(asked)["soma_joinid"].tolist(), asked


def test_columns_of_any_name(obs: Any, frame: pd.DataFrame) -> None:
    assert chosen(obs, "not (attr('a b.c') == 1)") == frame[frame["a b.c"] != 1]["soma_joinid"].tolist()
    assert chosen(obs, "attr('a b.c') in [val(1), 2]") == frame[frame["a b.c"].isin([1, 2])]["soma_joinid"].tolist()


@pytest.mark.parametrize("missing", ["missing == None", "missing is None", "not (missing != None)"])
def test_missing_values_are_found_by_none_and_pass_nothing_else(missing: str, obs: Any) -> None:
    none = list(range(0, N, 3))
    assert chosen(obs, missing) == none
    assert chosen(obs, f"not ({missing})") == sorted(set(range(N)) - set(none))
    for asked in ("missing != 4", "not (missing == 4)", "not (missing == 4 or missing == 5)", "missing not in [4]"):
        assert not set(chosen(obs, asked)) & set(none), "as tiledbsoma: != is of values"


REFUSED = [
    *[("", "the filter is empty"), (" \n", "the filter is empty"), ("kind = 'x'", "two signs compare: =="), ("(", "read")],
    *[("knd == 'x'", "names 'knd', which here/obs has not; did you mean 'kind'"), ("attr('whol') > 1", "did you mean")],
    *[("kind == 1", "kind holds text, which 1 is not"), ("whole == 'x'", "holds numbers"), ("flag == 2", "True or False")],
    *[("kind < 'y'", "categories without an order"), ("level < 'hi'", "no level of level; did you mean 'high'")],
    *[("kind in ['x'] == 'y'", "`in` stands by itself"), ("whole == 2.5", "whole numbers"), ("byte == 300", "from 0 to 255")],
    *[("kind == 'x' & whole == 1", "bind more closely"), ("kind == text", "two columns"), ("1 == 1", "no column")],
    *[("kind == x", "text stands in quotes"), ("kind in []", "a list of values"), ("kind in 'x'", "a list of values")],
    *[("kind.str.contains('x')", "there are no functions"), ("len(kind) == 1", "there are no functions")],
    *[("__import__('os').system('true')", "no functions"), ("orig.ident == 'x'", r"attr\('orig.ident'\)"), ("kind", "no compar")],
    *[("kind == b'x'", "is no value"), ("kind == f'x'", "is no value"), ("whole == 1j", "is no value"), ("1", "no comparison")],
    *[("whole == 10**3", "is no value"), ("whole == -'x'", "is no value"), ("text == 'a\\0'", "character"), ("x\0", "read")],
    *[("text == '\\ud800'", "character"), ("missing < None", "neither less nor more"), ("missing in [None]", "None in a list")],
    *[("lambda: 0", "no comparison"), ("[a for a in b]", "no comparison"), ("(a := 1) == 1", "no column"), ("a; b", "read")],
    *[("when == 'noon'", "holds times"), ("whole if flag else whole", "no comparison"), ("kind == ...", "is no value")],
    *[("x == 1) or (kind == 'x'", "cannot be read"), ("*kind", "read"), ("not", "read"), ("whole in range(3)", "no functions")],
    *[("(" * 300 + "whole == 1" + ")" * 300, "read|deep"), ("not " * 60 + "flag", "deep"), ("not " * 5000 + "flag", "deep")],
    *[("not " * 10**6 + "flag", "deep|read"), ("whole == " + "-" * 10**5 + "1", "deep|no value"), ("~" * 900 + "flag", "deep")],
    *[(" and ".join(["whole != 9"] * 1001), "more than 1,000 comparisons"), (" & ".join(["flag"] * 5000), "more than 1,000|deep")],
    *[(f"whole in [{','.join(map(str, range(100_001)))}]", "obs_joinids="), ("kind == '" + "a" * 9_000_000, "characters")],
]  # fmt: skip


@pytest.mark.parametrize(("asked", "said"), REFUSED, ids=[asked[:30].replace("\0", "NUL") for asked, _ in REFUSED])
def test_refused_in_our_words(asked: str, said: str, obs: Any) -> None:
    with pytest.raises(hr.InputError, match=said) as error:
        chosen(obs, asked)
    assert len(str(error.value)) < 2000


def test_what_is_allowed_is_not_small(obs: Any, frame: pd.DataFrame) -> None:
    assert chosen(obs, "not " * 40 + "flag") == frame[frame["flag"]]["soma_joinid"].tolist()
    assert chosen(obs, f"whole in {list(range(50_000))}") == frame[frame["whole"] >= 0]["soma_joinid"].tolist()
    assert chosen(obs, " or ".join(f"whole == {i % 3}" for i in range(500))) == chosen(obs, "whole in [0, 1, 2]")


@pytest.mark.parametrize("asked", ["", "  ", "nnz > 1) or (nnz > 0"])
def test_a_query_refuses_what_is_no_filter_by_itself(asked: str, demo_census: Path) -> None:
    with pytest.raises(hr.InputError, match="filter"):
        hr.open_census(demo_census).query("mus_musculus", obs_filter=asked)
    with pytest.raises(hr.InputError, match="filter"):
        hr.open_census(demo_census).query("mus_musculus", obs_filter=asked, primary_only=True)
    with pytest.raises(hr.InputError, match="filter"):
        hr.open_soma(demo_census / "census_data/mus_musculus", obs_filter=asked).spec  # noqa: B018


def test_a_filter_within_a_query(demo_census: Path) -> None:
    census = hr.open_census(demo_census)
    whole = census.query("mus_musculus", primary_only=True)
    asked = "not (nnz > 300 or assay == 'Smart-seq2')"
    few = census.query("mus_musculus", obs_filter=asked, primary_only=True)
    cells = pd.concat(chunk.obs for chunk in whole.read(whole.refs(10**6)))
    expected = cells.query(asked)["soma_joinid"].tolist()
    assert 0 < len(expected) < len(cells)
    assert few.cells.joinids.tolist() == expected


def test_two_cells_of_one_joinid(tmp_path: Path) -> None:
    uri = str(tmp_path / "obs")
    table = pa.table({"soma_joinid": [0, 1, 1], "name": ["a", "b", "c"]})
    with soma.DataFrame.create(uri, schema=table.schema, index_column_names=["name"], domain=[None]) as made:
        made.write(table)
    with Location.of(uri).open() as opened, pytest.raises(hr.SourceError, match="several cells with the soma_joinid 1"):
        select_cells(Selection(Frame(opened, None), None, None, False, (), "here"), ())


def test_an_empty_filter_is_refused_with_its_remedy(demo_census: Path) -> None:
    for make in (
        lambda: hr.open_census(demo_census).query("mus_musculus", obs_filter=""),
        lambda: hr.open_census(demo_census).query("mus_musculus", obs_filter=" \n").spec,
        lambda: hr.open_soma(f"{demo_census}/census_data/mus_musculus", obs_filter=""),
    ):
        with pytest.raises(hr.InputError, match=r"empty.*unset variable.*None.* takes all cells"):
            make()
