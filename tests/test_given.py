"""Wrong types and values in the Python interface: our error, where they are given. A new step joins by itself."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.protocols import Executor, Sink, Step
from headrace.sources.arrays import ArraySource
from headrace.support.given import taken

NOTHING_TAKES = [
    object(),
    1j,
    b"bytes",
    Fraction(1, 3),
    np.zeros((2, 2)),
    float("nan"),
    np.datetime64("2020-01-01"),
    len,
]


def made_by_users() -> dict[str, Any]:
    """Return the public classes that are made of parameters: steps, executors, sinks."""
    public = {name: getattr(hr, name) for name in hr.__all__}
    classes = {name: one for name, one in public.items() if isinstance(one, type) and is_dataclass(one)}
    return {name: one for name, one in classes.items() if issubclass(one, (Step, Sequence, Executor, Sink))}


def wrong(hint: Any) -> list[Any]:
    """Return values that no parameter of this type takes."""
    kinds = set(_flat(hint))
    values: list[Any] = list(NOTHING_TAKES)
    if not kinds & {str, Mapping}:
        values += ["1e4", "", "x", "50"]
    if str not in kinds:
        values += [["a"]] if not kinds & {Sequence, Collection, tuple} else []
    if bool not in kinds:
        values += [True, False, np.bool_(True)]
    if not kinds & {int, float}:
        values += [1, 2.5, np.int64(3), float("inf")]
    if float not in kinds:
        values += [1.5, np.float64(0.5), float("inf"), 10**400]
    if not kinds & {Mapping}:
        values += [{"a": 1}, {}]
    if NoneType not in kinds and kinds != {Sequence}:
        values.append(None)
    if str in kinds and Literal not in kinds:
        values += ["", "a\0b", "\ud800"]
    return values


def _flat(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, UnionType):
        return [kind for one in get_args(hint) for kind in _flat(one)]
    if get_origin(hint) is Literal:
        return [str, Literal]
    return [get_origin(hint) or hint]


def required(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    needed = [one.name for one in fields(cls) if one.default is MISSING and one.default_factory is MISSING]
    good: dict[Any, Any] = {str: "a.csv", tuple: ("a",), Sequence: ["a"]}
    out = {name: next(good[kind] for kind in reversed(_flat(hints[name])) if kind in good) for name in needed}
    if cls in (hr.FilterCells, hr.FilterGenes):
        out["min_counts"] = 3
    return out


CASES = [
    pytest.param(cls, one.name, get_type_hints(cls)[one.name], id=f"{name}-{one.name}")
    for name, cls in made_by_users().items()
    for one in fields(cls)
    if one.init
]


def test_all_steps_are_tried() -> None:
    assert len(made_by_users()) >= 31
    assert len(CASES) > 75


@pytest.mark.parametrize(("cls", "name", "hint"), CASES)
def test_wrong_types_are_refused_when_the_step_is_made(cls: Any, name: str, hint: Any) -> None:
    for value in wrong(hint):
        with pytest.raises(hr.InputError) as error:
            cls(**{**required(cls), name: value})
        assert cls.__name__ in str(error.value)
        assert name in str(error.value)
        assert len(str(error.value)) < 600


@pytest.mark.parametrize(("cls", "name", "hint"), [case for case in CASES if "Literal" in str(case.values[2])])
def test_words_that_there_are_not(cls: Any, name: str, hint: Any) -> None:
    with pytest.raises(hr.InputError, match="no such word|does not use"):
        cls(**{**required(cls), name: "no such word"})


@pytest.mark.parametrize("cls", made_by_users().values())
def test_numpys_scalars_are_pythons(cls: Any) -> None:
    first = cls(**required(cls))
    numpys = {bool: np.bool_, int: np.int64, float: np.float64, str: np.str_}
    given = {name: numpys[type(value)](value) for name, value in vars(first).items() if type(value) in numpys}
    again = cls(**{**required(cls), **given})
    for name in given:
        value = vars(again)[name]
        assert type(value) in (bool, int, float, str, type(vars(first)[name]))
        assert value == vars(first)[name]


OF_ITS_OWN = [
    (lambda: hr.NormalizeTotal("1e4"), r"NormalizeTotal\(target_sum='1e4'\): it takes a number or None, not str"),
    (lambda: hr.NormalizeTotal(1e300), "target_sum=1e\\+300\\): from 1e-30 to 1e\\+30"),
    (lambda: hr.NormalizeTotal(1e-300), "from 1e-30"),
    (lambda: hr.NormalizeTotal(-1), "a positive number"),
    (lambda: hr.NormalizeTotal(0), "a positive number"),
    (lambda: hr.NormalizeTotal(float("inf")), "a positive number"),
    (lambda: hr.NormalizeTotal(float("nan")), "NaN is no number"),
    (lambda: hr.NormalizeTotal(True), "it takes a number or None, not bool"),
    (lambda: hr.HighlyVariableGenes(n_top_genes=1.5), "it takes a whole number or None, not float"),
    (lambda: hr.HighlyVariableGenes(n_top_genes=0), "at least 1"),
    (lambda: hr.HighlyVariableGenes(n_top_genes=2**70), "it is too large"),
    (lambda: hr.HighlyVariableGenes(n_bins=10**12), "n_bins=1000000000000\\): from 1 to 100000"),
    (lambda: hr.HighlyVariableGenes(batch_key=[]), "the list is empty"),
    (lambda: hr.HighlyVariableGenes(flavor="seurat_v4"), "flavor"),
    (lambda: hr.Threads(0), r"Threads\(workers=0\): from 1 to"),
    (lambda: hr.Threads(2, -1), "in_flight=-1"),
    (lambda: hr.Serial(0), "in_flight=0"),
    (lambda: hr.SelectGenes([]), "the list is empty"),
    (lambda: hr.ScoreGenes([]), "the list is empty"),
    (lambda: hr.open_counts(""), "the path is empty"),
    (lambda: hr.SelectGenes(["a", 3]), "it takes text or a list of text"),
    (lambda: hr.SelectGenes([None]), "it takes text or a list of text"),
    (lambda: hr.SaveLayer("."), "'.' cannot be the name of a layer"),
    (lambda: hr.SaveLayer("a/../b"), "cannot be the name of a layer"),
    (lambda: hr.SaveLayer(""), "it is empty"),
    (lambda: hr.SaveLayer("X"), "cannot be the name of a layer"),
    (lambda: hr.SaveLayer("a\0b"), "it has a NUL"),
    (lambda: hr.Arcsinh(1e-300), "from 1e-30"),
    (lambda: hr.NormalizeLength(assays=[]), "the list is empty"),
    (lambda: hr.QCMetrics(percent_top=[1.5]), "percent_top"),
    (lambda: hr.QCMetrics({"mt": 3}), "qc_vars"),
    (lambda: hr.QCMetrics(percent_top=[0]), "at least 1"),
    (lambda: hr.FilterCells(min={"a": "x"}), "min="),
    (lambda: hr.FilterCells(min={3: 1}), "min="),
    (lambda: hr.Pseudobulk([]), "one or more columns"),
    (lambda: hr.Pseudobulk(3), "by=3"),
    (lambda: hr.recipes.workbench(n_top_genes="2000"), r"workbench\(n_top_genes='2000'\): it takes a whole number"),
    (lambda: hr.recipes.cpm(target_sum="x"), r"cpm\(target_sum='x'\)"),
    (lambda: hr.open_h5ad(3), r"open_h5ad\(path=3\): it takes text or a path, not int"),
    (lambda: hr.open_h5ad(b"x.h5ad"), "not bytes"),
    (lambda: hr.open_h5ad("a\0b"), "NUL"),
    (lambda: hr.open_h5ad(""), "it is empty"),
    (lambda: hr.open_h5ad("x.h5ad", layer=3), r"open_h5ad\(layer=3\)"),
    (lambda: hr.open_h5ad("x.h5ad", raw="yes"), "raw='yes'"),
    (lambda: hr.open_soma(None), r"open_soma\(uri=None\)"),
    (lambda: hr.open_soma("x", obs_joinids="abc"), "obs_joinids='abc'"),
    (lambda: hr.open_soma("x", obs_joinids=[1.5]), "obs_joinids"),
    (lambda: hr.open_soma("x", genes="ENSG"), "genes='ENSG'"),
    (lambda: hr.open_soma("x", obs_filter=3), "obs_filter=3"),
    (lambda: hr.open_soma("x", tiledb_config=[1]), "tiledb_config"),
    (lambda: hr.open_soma("x", timestamp="now"), "timestamp='now'"),
    (lambda: hr.open_census(5), r"open_census\(census=5\)"),
    (lambda: hr.open_census("a\0b"), "NUL"),
    (lambda: hr.open_10x(5), "open_10x"),
    (lambda: hr.open_10x("x", genome=5), "genome=5"),
    (lambda: hr.open_counts("x", header="yes"), "header='yes'"),
    (lambda: hr.open_counts("x", separator=3), "separator=3"),
    (lambda: hr.verify_h5ad(4), r"verify_h5ad\(path=4\)"),
    (lambda: hr.Plan(3), "int is no source"),
]


@pytest.mark.parametrize(("make", "said"), OF_ITS_OWN)
def test_refused_with_what_it_takes(make: Any, said: str) -> None:
    with pytest.raises(hr.InputError, match=said):
        make()


@pytest.fixture
def small() -> ArraySource:
    return ArraySource(np.eye(3), pd.DataFrame(index=list("abc")), pd.DataFrame(index=list("xyz")))


OF_A_PLAN = [
    ("write_h5ad", dict(path=5)), ("write_h5ad", dict(path="x.h5ad", overwrite="yes")),
    ("write_h5ad", dict(path="x.h5ad", executor=5)), ("write_h5ad", dict(path="x.h5ad", memory=[1])),
    ("write_h5ad", dict(path="x.h5ad", memory=True)), ("write_h5ad", dict(path="x.h5ad", compression=1)),
    ("write_h5ad", dict(path="x.h5ad", counts=1)), ("write_h5ad", dict(path="x.h5ad", spool=1)),
    ("write_h5ad", dict(path="x.h5ad", on_event=1)), ("write_h5ad", dict(path="x.h5ad", keep_spool=None)),
    ("write_h5ad", dict(path="x.h5ad", executor=hr.Threads)), ("write_h5ad", dict(path="")),
    ("to_anndata", dict(executor=5)), ("to_anndata", dict(memory=-1)), ("to_anndata", dict(dense=1)),
    ("var", dict(executor="threads")), ("var", dict(memory=0)), ("explain", dict(memory="much")),
    ("explain", dict(memory=1j)), ("explain", dict(memory="")), ("write", dict(sink=5)),
    ("write", dict(sink="x.h5ad")), ("write", dict(sink=hr.Table("x.csv"), settings=5)),
]  # fmt: skip


@pytest.mark.parametrize(("method", "given"), OF_A_PLAN)
def test_wrong_types_of_a_plan(
    method: str, given: dict[str, Any], small: ArraySource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((hr.InputError, hr.MemoryBudgetError)):
        getattr(hr.Plan(small, [hr.Log1p()]), method)(**given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [3, "abc", [3], [hr.Log1p], [["x"]], {hr.Log1p(): 1}, [None], [b"x"], len, [{}]])
def test_what_is_no_step(steps: Any, small: ArraySource) -> None:
    with pytest.raises(hr.InputError):
        hr.Plan(small, steps)


def test_a_list_within_itself(small: ArraySource) -> None:
    steps: list[Any] = [hr.Log1p()]
    steps.append(steps)
    with pytest.raises(hr.InputError, match="deep"):
        hr.Plan(small, steps)


@pytest.mark.parametrize("given", [dict(executor=5), dict(memory="x")])
def test_chunks_say_so_at_once(given: dict[str, Any], small: ArraySource) -> None:
    with pytest.raises(hr.InputError):
        next(hr.Plan(small).chunks(**given))


@pytest.mark.parametrize(
    "given",
    [
        *[dict(organism=3), dict(organism="mus_musculus", dataset_id=3), dict(organism="mus_musculus", genes=3)],
        *[dict(organism="mus_musculus", obs_joinids="1"), dict(organism="mus_musculus", primary_only="no")],
        *[dict(organism="mus_musculus", layer=3), dict(organism="mus_musculus", obs_joinids=[True])],
        *[dict(organism="mus_musculus", obs_filter=["x"]), dict(organism="mus_musculus", genes=[3])],
        *[dict(organism="mus_musculus", reader=3), dict(organism="mus_musculus", dataset_id=[3]), dict(organism="")],
    ],
)
def test_wrong_types_of_a_query(given: dict[str, Any], demo_census: Path) -> None:
    with pytest.raises(hr.InputError, match="query"):
        hr.open_census(demo_census).query(**given)


@pytest.mark.parametrize("huge", [10**30, -(10**30), 2**63, 10**300])
def test_whole_numbers_that_no_loop_takes_are_floats(huge: int, small: ArraySource) -> None:
    assert type(taken(huge, float)) is float
    assert taken(huge, float | None) == float(huge)
    for step in (hr.Scale(max_value=abs(huge)), hr.NormalizePearsonResiduals(theta=abs(huge), clip=abs(huge))):
        result = hr.Plan(small, [step]).to_anndata()
        assert np.isfinite(np.asarray(result.X)).all()
    hr.Plan(small, [hr.NormFactors(acutoff=huge)])


def test_what_is_taken_as_it_always_was() -> None:
    assert hr.NormalizeTotal(10_000) == hr.NormalizeTotal(np.float32(1e4)) == hr.NormalizeTotal(1e4)
    assert hr.HighlyVariableGenes(n_top_genes=2000.0).n_top_genes == 2000
    assert hr.SelectGenes(pd.Index(["a", "b"])) == hr.SelectGenes(np.array(["a", "b"])) == hr.SelectGenes(iter("ab"))
    assert hr.FilterCells(min={"a": np.float32(2)}).describe() == "FilterCells(min={'a': 2.0})"
    assert hr.NormalizePearsonResiduals(theta=float("inf")).theta == float("inf")
    assert taken(np.arange(3), Sequence[int]).tolist() == [0, 1, 2]


def test_every_public_function_is_tried() -> None:
    public = {name for name in hr.__all__ if inspect.isfunction(getattr(hr, name))}
    assert public == {"open_10x", "open_census", "open_counts", "open_h5ad", "open_soma", "verify_h5ad"}, "try it here"
