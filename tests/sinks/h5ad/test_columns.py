"""What pandas can hold in a column of obs or var goes through an .h5ad and comes back equal, or is refused by name."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headrace as hr
from headrace.errors import HeadraceError, OutputError
from headrace.sinks.h5ad.sink import H5ad
from headrace.sources.arrays import ArraySource

N = 6


def written(obs: pd.DataFrame, folder: Path, var: pd.DataFrame | None = None, n_obs: int | None = 4) -> ad.AnnData:
    """Write it, in chunks of which the first may have no missing value, and read it with anndata."""
    var = pd.DataFrame(index=["g", "h"]) if var is None else var
    source = ArraySource(np.ones((len(obs), len(var))), obs, var, n_obs=n_obs)
    hr.Plan(source).write_h5ad(folder / "out.h5ad", overwrite=True)
    assert hr.verify_h5ad(folder / "out.h5ad").problems == ()
    return ad.read_h5ad(folder / "out.h5ad")


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns, index=[f"c{i}" for i in range(N)])


COLUMNS = {
    "Int8": pd.array([1, 2, 3, 4, None, 6], dtype="Int8"),
    "Int64": pd.array([2**62 + 1, 2, 3, 4, None, -6], dtype="Int64"),
    "Int64 without a missing one": pd.array([2**62 + 1, 2, 3, 4, 5, 6], dtype="Int64"),
    "UInt64": pd.array([2**64 - 1, 2, 3, None, 5, 6], dtype="UInt64"),
    "boolean": pd.array([True, False, True, True, None, False], dtype="boolean"),
    "string": pd.array(["a", "b", "", "d", None, "f"], dtype="string"),
    "string without a missing one": pd.array(list("abcdef"), dtype="string"),
    "text": np.array(["a", "b", "", "d", "é", "f" * 400], dtype=object),
    "float64": np.array([1.5, np.nan, np.inf, -0.0, 5e-324, 1e308]),
    "float32": np.array([1.5, np.nan, 1, 2, 3, 4], dtype=np.float32),
    "float16": np.arange(N, dtype=np.float16),
    "int8": np.arange(N, dtype=np.int8),
    "uint64": np.array([2**64 - 1, 1, 2, 3, 4, 5], dtype=np.uint64),
    "bool": np.array([True, False, True, False, True, True]),
    "category": pd.Categorical(["a", "b", None, "a", "b", "a"]),
    "category of numbers": pd.Categorical([1, 2, None, 1, 2, 1]),
    "category of floats": pd.Categorical([1.5, 2.5, None, 1.5, 2.5, 1.5]),
    "category of booleans": pd.Categorical([True, False, None, True, False, True]),
    "ordered": pd.Categorical(["lo", "lo", "lo", None, "lo", "lo"], ["lo", "mid", "hi"], ordered=True),
}


NO_TEXTS = {
    "int": [1, "a", "b", "c", "d", "e"],
    "float": ["a", 0.5, "b", "c", "d", "e"],
    "bool": ["a", True, "b", "c", "d", None],
    "bytes": [b"a"] * N,
    "list": [[1]] * N,
    "dict": [{}] * N,
    "tuple": [("a", "b")] * N,
    "date": [date(2020, 1, 1)] * N,
    "Decimal": [Decimal(1)] * N,
    "NUL": ["a", "a\0b"] * 3,
    "Unicode": ["a", "\ud800"] * 3,
}
"""Columns of objects that are no text, and what the error names."""


def objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    obs = table(x=COLUMNS[kind])
    var = obs.rename(index=lambda name: f"g{name}")
    got = written(obs, tmp_path, var)
    pd.testing.assert_series_equal(got.obs["x"], obs["x"])
    pd.testing.assert_series_equal(got.var["x"], var["x"])
    again = hr.Plan(hr.open_h5ad(tmp_path / "out.h5ad"), [hr.FilterGenes(min_cells=1)])
    pd.testing.assert_series_equal(again.to_anndata().obs["x"], obs["x"])
    again.write_h5ad(tmp_path / "again.h5ad", compression="gzip")
    pd.testing.assert_series_equal(ad.read_h5ad(tmp_path / "again.h5ad").obs["x"], obs["x"])


def test_text_that_is_missing_is_missing(tmp_path: Path) -> None:
    obs = table(x=np.array(["a", "b", "", "d", None, np.nan], dtype=object))
    got = written(obs, tmp_path).obs["x"]
    assert got.isna().tolist() == [False] * 4 + [True] * 2
    assert got.tolist()[:4] == ["a", "b", "", "d"]
    with h5py.File(tmp_path / "out.h5ad") as file:
        assert file["obs/x"].attrs["encoding-type"] == "nullable-string-array"


def test_unordered_levels_that_no_cell_has_are_dropped(tmp_path: Path) -> None:
    obs = table(x=pd.Categorical(list("aabbab"), list("abc")))
    assert written(obs, tmp_path).obs["x"].cat.categories.tolist() == ["a", "b"]


def test_ordered_levels_stay_in_memory_too() -> None:
    obs = table(x=COLUMNS["ordered"])
    source = ArraySource(np.ones((N, 1)), obs, pd.DataFrame(index=["g"]))
    assert hr.Plan(source).to_anndata().obs["x"].cat.categories.tolist() == ["lo", "mid", "hi"]


@pytest.mark.parametrize(
    ("column", "named"),
    [
        (pd.array([1.5] * N, dtype="Float64"), "Float64"),
        (pd.to_datetime(["2020-01-01"] * N), "datetime64"),
        (pd.to_timedelta([1] * N), "timedelta64"),
        (pd.period_range("2020", periods=N, freq="M"), "period"),
        (pd.cut(np.arange(N), 2), "interval"),
        (pd.arrays.SparseArray([0, 1] * 3), "Sparse"),
        (pd.array([1] * N, dtype="int64[pyarrow]"), "pyarrow"),
        (np.arange(N) * 1j, "complex128"),
        (pd.Categorical(pd.to_datetime(["2020-01-01"] * N)), "datetime64"),
        (pd.Categorical(["a\0", "b"] * 3), "NUL"),
        (pd.to_datetime(["2020-01-01"] * N, utc=True), "datetime64"),
        (pd.Categorical(pd.to_timedelta([1, 2] * 3)), "timedelta64"),
        (pd.Categorical(pd.period_range("2020", periods=N, freq="M")), "period"),
        (pd.Categorical(np.arange(N) * 1j), "complex128"),
        (pd.Categorical([b"a", b"b"] * 3), "bytes"),
        (pd.Categorical([1, "b"] * 3), "int"),
        (pd.Categorical([(1, 2), (3,)] * 3), "tuple"),
        (np.array(["2020-01-01"] * N, dtype="M8[D]"), "datetime64"),
        (pd.array(["a"] * N, dtype="string[pyarrow]").astype(pd.ArrowDtype(pa.string())), "pyarrow"),
        *((objects(values), named) for named, values in NO_TEXTS.items()),
    ],
)
def test_types_that_no_h5ad_holds_are_refused_by_name_before_reading(column: Any, named: str, tmp_path: Path) -> None:
    class Unread(ArraySource):
        def read(self, refs: Any) -> Any:
            raise AssertionError("it was read")

    source = Unread(np.ones((N, 1)), table(when=column), pd.DataFrame(index=["g"]))
    with pytest.raises(OutputError, match=f"obs\\['when'\\].*{named}"):
        hr.Plan(source).write_h5ad(tmp_path / "out.h5ad")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("named", NO_TEXTS)
def test_what_is_no_text_is_refused_while_writing_too(named: str, tmp_path: Path) -> None:
    class Far(ArraySource):
        """Does not know all of its obs before it reads it."""

        @property
        def spec(self) -> hr.StreamSpec:
            return replace(super().spec, whole_obs=None)

    source = Far(np.ones((N, 1)), table(odd=objects(NO_TEXTS[named])), pd.DataFrame(index=["g"]))
    with pytest.raises(hr.InputError, match="obs/odd"):
        hr.Plan(source).write_h5ad(tmp_path / "out.h5ad")
    assert not list(tmp_path.iterdir())


def test_text_of_fixed_length_with_a_nul_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    written(table(x=np.array(list("abcdef"), dtype=object)), tmp_path)
    with h5py.File(tmp_path / "out.h5ad", "r+") as file:
        attributes = dict(file["obs/x"].attrs)
        del file["obs/x"]
        file["obs/x"] = np.array([b"abc", b"a\0b"] * 3, "S3")
        file["obs/x"].attrs.update(attributes)
    with pytest.raises(hr.InputError, match=r"obs of .*'x' has 'a.x00b', with a NUL"):
        hr.open_h5ad(tmp_path / "out.h5ad")


@pytest.mark.parametrize("name", ["", ".", "a/", "/a", "a//b", "a/./b", "a\0b", 5, "_index", ("a", "b")])
def test_names_that_no_h5ad_holds_are_refused_before_reading(name: Any, tmp_path: Path) -> None:
    obs = table(x=np.arange(N))
    obs.columns = pd.Index([name], tupleize_cols=False)
    for where, source in {
        "obs": ArraySource(np.ones((N, N)), obs, table()),
        "var": ArraySource(np.ones((N, N)), table(), obs),
    }.items():
        with pytest.raises(OutputError, match=where):
            hr.Plan(source).write_h5ad(tmp_path / "out.h5ad")


def test_two_columns_of_a_name(tmp_path: Path) -> None:
    obs = pd.concat([table(x=np.arange(N))] * 2, axis=1)
    with pytest.raises(OutputError, match="2 columns 'x'"):
        hr.Plan(ArraySource(np.ones((N, N)), obs, table())).write_h5ad(tmp_path / "out.h5ad")
    obs = table(**{"a": np.arange(N), "a/b": np.arange(N)})
    with pytest.raises(OutputError, match="'a' and 'a/b'"):
        hr.Plan(ArraySource(np.ones((N, N)), obs, table())).write_h5ad(tmp_path / "out.h5ad")


def test_a_slash_within_a_name_is_anndatas(tmp_path: Path) -> None:
    obs = table(
        **{
            "a/b": pd.array([1, None] * 3, dtype="Int64"),
            "a/c": pd.Categorical(list("xyxyxy")),
            "a/d": np.array(["x", None] * 3, dtype=object),
            "a/e/f": np.arange(N),
        }
    )
    got = written(obs, tmp_path).obs
    pd.testing.assert_frame_equal(got.drop(columns="a/d"), obs.drop(columns="a/d"))
    assert got["a/d"].isna().sum() == 3
    assert hr.Plan(hr.open_h5ad(tmp_path / "out.h5ad")).to_anndata().obs["a/c"].tolist() == list("xyxyxy")


@pytest.mark.parametrize("layer", ["raw/counts", ".", "a\0b"])
def test_layers_that_anndata_cannot_open_are_refused(layer: str, tmp_path: Path) -> None:
    source = ArraySource(np.ones((N, N)), table(), table())
    with pytest.raises(HeadraceError, match="(?i)layer"):
        hr.Plan(source, [hr.SaveLayer(layer)]).write_h5ad(tmp_path / "out.h5ad")


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_is_a_link_is_written_where_it_points(overwrite: bool, tmp_path: Path) -> None:
    target, link = tmp_path / "there.h5ad", tmp_path / "link.h5ad"
    link.symlink_to("there.h5ad")
    plan = hr.Plan(ArraySource(np.ones((N, N)), table(), table()))
    if overwrite:
        target.write_text("old")
        with pytest.raises(OutputError, match="exists"):
            plan.write_h5ad(link)
    plan.write_h5ad(link, overwrite=overwrite)
    assert link.is_symlink()
    assert not target.is_symlink()
    assert ad.read_h5ad(target).shape == (N, N)


def test_a_link_to_nowhere_and_in_a_circle_is_refused(tmp_path: Path) -> None:
    link, circle = tmp_path / "link.h5ad", tmp_path / "circle.h5ad"
    link.symlink_to(tmp_path / "no" / "folder.h5ad")
    circle.symlink_to(circle)
    plan = hr.Plan(ArraySource(np.ones((N, N)), table(), table()))
    for path, named in {link: "no folder.*links there", circle: "circle"}.items():
        with pytest.raises(OutputError, match=named):
            plan.write_h5ad(path, overwrite=True)


def _series() -> st.SearchStrategy[pd.Series]:
    """A column of any type that pandas has."""
    text = st.one_of(st.none(), st.text(max_size=4))
    return st.one_of(
        st.lists(text, min_size=N, max_size=N).map(lambda values: pd.Series(values, dtype=object)),
        st.lists(text, min_size=N, max_size=N).map(lambda values: pd.Series(values, dtype="string")),
        st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=N, max_size=N).map(
            lambda values: pd.Series(values, dtype="Int64")
        ),
        st.lists(st.one_of(st.none(), st.booleans()), min_size=N, max_size=N).map(
            lambda values: pd.Series(values, dtype="boolean")
        ),
        st.lists(st.floats(), min_size=N, max_size=N).map(lambda values: pd.Series(values, dtype="float64")),
        st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "ü", ""])), min_size=N, max_size=N).map(
            lambda values: pd.Series(pd.Categorical(values, ["a", "b", "ü", ""], ordered=True))
        ),
        st.lists(
            st.one_of(st.none(), st.text(max_size=2), st.integers(), st.floats(), st.binary(max_size=2)),
            min_size=N,
            max_size=N,
        ).map(lambda values: pd.Series(values, dtype=object)),
        st.lists(_value(), min_size=N, max_size=N).map(lambda values: pd.Series(objects(values))),
        st.one_of(*map(_six, _KINDS)).map(lambda values: pd.Series(values)),
        st.one_of(*map(_six, _KINDS)).map(_categorical),
    )


_KINDS = (
    *(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), st.timedeltas(timedelta(-999), timedelta(999))),
    *(st.integers(0, 9).map(lambda n: pd.Period(2000 + n)), st.integers(0, 9).map(lambda n: pd.Interval(n, n + 1))),
    *(
        st.complex_numbers(allow_nan=False, allow_infinity=False),
        st.binary(max_size=2),
        st.integers(),
        st.booleans(),
        st.dates(),
    ),
    *(st.floats(allow_nan=False), st.text(max_size=2), st.tuples(st.integers(), st.integers())),
)


def _six(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(of, min_size=N, max_size=N)


def _value() -> st.SearchStrategy[Any]:
    """Anything that may stand in a column of objects, lists of lists too."""
    return st.recursive(st.one_of(st.none(), *_KINDS), lambda inner: st.lists(inner, max_size=2), max_leaves=3)


def _categorical(values: list[Any]) -> pd.Series:
    levels = pd.Index(pd.unique(pd.Series(values)))
    return pd.Series(pd.Categorical(values, levels))


@settings(max_examples=120, deadline=None)
@given(values=_series(), name=st.text(max_size=3))
def test_whatever_pandas_holds_comes_back_equal_or_is_refused_by_name(values: pd.Series, name: str) -> None:
    obs = pd.DataFrame({name: values.to_numpy() if values.dtype == object else values.array}, index=table().index)
    with tempfile.TemporaryDirectory() as folder:
        try:
            got = written(obs, Path(folder)).obs[name]
        except hr.HeadraceError as error:
            assert repr(name) in str(error) or f"obs/{name}" in str(error)  # noqa: PT017
            return
    if obs[name].dtype == object:
        assert got.isna().tolist() == obs[name].isna().tolist()
        assert got.dropna().tolist() == obs[name].dropna().tolist()
    else:
        pd.testing.assert_series_equal(got, obs[name])


def per_chunk(categories: list[str]) -> list[pd.DataFrame]:
    """Two frames of one column, whose second has other categories than the first."""
    first = pd.DataFrame({"kind": pd.Categorical(["a", "b"], ["a", "b", "c"])}, index=["c0", "c1"])
    second = pd.DataFrame({"kind": pd.Categorical(["b", None, categories[0]], categories)}, index=["c2", "c3", "c4"])
    return [first, second]


@pytest.mark.parametrize("categories", [["c", "b", "a"], ["c", "b"], ["a", "b", "z"]], ids=str)
def test_categories_in_another_order_keep_their_cells(categories: list[str], tmp_path: Path) -> None:
    """A step of one's own may make them anew in each chunk; codes of another order would be other values."""
    frames = per_chunk(categories)
    write(tmp_path, frames)
    back = ad.read_h5ad(tmp_path / "x.h5ad").obs["kind"].astype(object)
    assert back.where(back.notna(), None).tolist() == ["a", "b", "b", None, categories[0]]


def test_a_category_that_the_column_has_not(tmp_path: Path) -> None:
    with pytest.raises(hr.InputError, match="column 'kind' has other categories in some cells than its dtype says"):
        write(tmp_path, per_chunk(["z", "b"]))


def write(tmp_path: Path, frames: list[pd.DataFrame]) -> None:
    obs = pd.concat([frames[0]] * 3).iloc[:5].set_axis([f"c{i}" for i in range(5)])
    spec = ArraySource(np.ones((5, 1), np.float32), obs, pd.DataFrame(index=["g"])).spec
    with H5ad(tmp_path / "x.h5ad").open(spec) as writer:
        for frame in frames:
            writer.write(hr.Chunk(np.ones((len(frame), 1), np.float32), frame))
        writer.finish(spec)
