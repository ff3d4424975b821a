"""The contracts are all on one page: the engine asks for nothing else, and a misspelt name is refused."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import headrace as hr
from headrace.chunk import Chunk, StreamSpec
from headrace.contract import Contract
from headrace.protocols import Accumulator, Executor, Fit, Sink, Source, Step, Transform, Writer
from headrace.sources.arrays import ArraySource

ROOT = Path(hr.__file__).parent
ENGINE = sorted((ROOT / "engine").glob("*.py"))
CONTRACTS = (Source, Step, Transform, Fit, Accumulator, Sink, Writer, Executor)
FOLDERS = ("steps", "sources", "sinks", "stats")


def calls(path: Path, *names: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


def imported_from(path: Path, folders: tuple[str, ...]) -> set[str]:
    """Names that a module of the engine imports from other rooms."""
    return {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in folders
        for alias in node.names
    }


@pytest.mark.parametrize("path", ENGINE, ids=lambda path: path.name)
def test_the_engine_asks_for_nothing_by_name(path: Path) -> None:
    found = [f"{path.name}:{call.lineno}" for call in calls(path, "getattr", "hasattr", "setattr", "delattr")]
    assert not found, f"an attribute looked for by name is a contract that nobody can read: {found}"


@pytest.mark.parametrize("path", ENGINE, ids=lambda path: path.name)
def test_the_engine_knows_no_concrete_step_source_or_sink(path: Path) -> None:
    concrete = imported_from(path, FOLDERS)
    for call in calls(path, "isinstance", "issubclass"):
        kinds = {node.id for node in ast.walk(call.args[1]) if isinstance(node, ast.Name)}
        assert not kinds & concrete, f"{path.name}:{call.lineno} asks for {kinds & concrete}"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.In) for op in node.ops):
            text = ast.unparse(node)
            assert "__name__" not in text, f"{path.name}:{node.lineno} tells a step by its name: {text}"


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda one: one.__name__)
def test_everything_on_the_page_has_a_type_and_a_sentence(contract: type) -> None:
    for name, member in vars(contract).items():
        if name.startswith("_") and name != "__call__":
            continue
        function = member.fget if isinstance(member, property) else member
        if not inspect.isfunction(function):
            continue
        sentence = (function.__doc__ or "").strip()  # its own, not one that it inherits
        assert len(sentence.split()) > 1, f"{contract.__name__}.{name} has no sentence"
        assert sentence.endswith("."), f"{contract.__name__}.{name}: {sentence!r} is no sentence"
        assert "return" in function.__annotations__, f"{contract.__name__}.{name} has no type"


def test_what_has_a_default_need_not_be_said() -> None:
    """Two methods are a step, a source, a sink."""
    assert Transform.__abstractmethods__ == {"__call__", "out"}
    assert Fit.__abstractmethods__ == {"preview", "fit"}
    assert Source.__abstractmethods__ == {"spec", "refs", "read", "cost"}
    assert Sink.__abstractmethods__ == {"open"}


# ------------------------------------------------------------------------------------------------ misspelt, misused
@pytest.mark.parametrize("wrong", ["need_counts", "densify", "becomes_sources", "choose_genes", "by_genes", "memmory"])
def test_a_misspelt_name_is_refused_when_the_class_is_defined(wrong: str) -> None:
    with pytest.raises(TypeError, match=f"Mine.{wrong} is not in the contract: did you mean"):
        type("Mine", (Fit,), {wrong: True})


def test_names_of_ones_own_are_ones_own() -> None:
    @dataclass(frozen=True)
    class Mine(Transform):
        layers: int = 3  # a field, though close to `layer`
        factor = 2.0

        def __call__(self, chunk: Chunk) -> Chunk:
            return chunk.with_data(chunk.X.data * np.float32(self.factor))

        def out(self, spec: StreamSpec) -> StreamSpec:
            return spec

    source = ArraySource(np.array([[1, 0], [2, 3]]), pd.DataFrame(index=["a", "b"]), pd.DataFrame(index=["g", "h"]))
    assert hr.Plan(source, [Mine()]).to_anndata().X.toarray().tolist() == [[2, 0], [4, 6]]
    assert Mine(4).describe() == "Mine(layers=4)"


def test_a_field_that_hides_a_default_needs_one() -> None:
    with pytest.raises(TypeError, match=r"Mine.layer is part of the contract: give the field a default"):
        type("Mine", (Transform,), {"__annotations__": {"layer": "str"}})


def test_what_is_no_step_source_or_executor_is_named() -> None:
    class Old:
        def __call__(self, chunk: Chunk) -> Chunk:
            return chunk

        def out(self, spec: StreamSpec) -> StreamSpec:
            return spec

    source = ArraySource(np.ones((2, 2)), pd.DataFrame(index=["a", "b"]), pd.DataFrame(index=["g", "h"]))
    with pytest.raises(hr.PlanError, match="derives from Transform or Fit of headrace.protocols"):
        hr.Plan(source, [Old()])
    with pytest.raises(hr.PlanError, match=r"did you mean Log1p\(\)"):
        hr.Plan(source, [hr.Log1p])
    with pytest.raises(hr.InputError, match="Plan: str is no source"):
        hr.Plan("liver.h5ad", [])  # type: ignore[arg-type]


def test_contract_names_are_not_used_for_something_else() -> None:
    """Every public class that implements a contract says nothing that is close to the contract and not of it."""
    for name in hr.__all__:
        getattr(hr, name)  # would raise TypeError when it is defined
    assert all(issubclass(kind, Contract) for kind in CONTRACTS)


# --------------------------------------------------------------------------------------------------- obsm and varm
@dataclass(frozen=True)
class Coordinates(Transform):
    """Two numbers per cell and three per gene."""

    dtype: str = "float32"

    def __call__(self, chunk: Chunk) -> Chunk:
        totals = np.asarray(chunk.X.sum(axis=1), dtype=self.dtype).ravel()
        return chunk.with_obsm(X_two=np.stack([totals, -totals], axis=1))

    def out(self, spec: StreamSpec) -> StreamSpec:
        three = np.arange(3.0 * spec.n_vars).reshape(-1, 3)
        return spec.with_obsm(X_two=np.empty((0, 2), self.dtype)).with_varm(PCs=three)


MIN_CELLS = 45
STEPS = [Coordinates(), hr.FilterCells(min_genes=60), hr.FilterGenes(min_cells=MIN_CELLS), hr.NormalizeTotal(1e4)]


def measured(n_obs: int | None = None) -> ArraySource:
    rng = np.random.default_rng(0)
    X = rng.poisson(0.7, (130, 120))
    return ArraySource(
        X,
        pd.DataFrame(index=[f"c{i}" for i in range(130)]),
        pd.DataFrame(index=[f"g{i}" for i in range(120)]),
        n_obs=n_obs,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"checksum": False}, {"compression": "gzip"}])
def test_obsm_and_varm_are_cut_and_written(dtype: str, options: dict[str, object], tmp_path: Path) -> None:
    import anndata as ad

    source = measured(n_obs=17)
    X = source.X.toarray()
    cells = (X > 0).sum(axis=1) >= 60
    genes = (X[cells] > 0).sum(axis=0) >= MIN_CELLS
    assert 0 < cells.sum() < 130
    assert 0 < genes.sum() < 120
    totals = X.sum(axis=1, dtype=dtype)[cells]
    hr.Plan(source, [Coordinates(dtype), *STEPS[1:]]).write_h5ad(tmp_path / "out.h5ad", **options)
    held = hr.Plan(source, [Coordinates(dtype), *STEPS[1:]]).to_anndata()
    for adata in (ad.read_h5ad(tmp_path / "out.h5ad"), held):
        assert adata.obsm["X_two"].dtype == dtype
        np.testing.assert_array_equal(adata.obsm["X_two"], np.stack([totals, -totals], axis=1))
        np.testing.assert_array_equal(adata.varm["PCs"], np.arange(360.0).reshape(120, 3)[genes])
    assert not hr.verify_h5ad(tmp_path / "out.h5ad").problems


def test_obsm_has_the_same_bytes_however_the_stream_is_cut(tmp_path: Path) -> None:
    written = []
    for n_obs in (None, 1, 50):
        hr.Plan(measured(n_obs), STEPS).write_h5ad(tmp_path / f"{n_obs}.h5ad", executor=hr.Serial())
        written.append((tmp_path / f"{n_obs}.h5ad").read_bytes())
    assert written[0] == written[1] == written[2]


def test_the_spool_keeps_obsm() -> None:
    from headrace.engine.spool import decode, encode

    chunk = Coordinates("float64")(next(measured(9).read(measured(9).refs(10**9))))
    again = decode(encode(chunk), chunk.obs.iloc[:0])
    assert again.obsm["X_two"].dtype == np.float64
    np.testing.assert_array_equal(again.obsm["X_two"], chunk.obsm["X_two"])


# ---------------------------------------------------------------------------------------- nothing writes over its input
def test_no_sink_writes_over_what_the_plan_reads(tmp_path: Path) -> None:
    hr.Plan(measured(), []).write_h5ad(tmp_path / "in.h5ad")
    (tmp_path / "hard.h5ad").hardlink_to(tmp_path / "in.h5ad")
    (tmp_path / "link.h5ad").symlink_to(tmp_path / "in.h5ad")
    before = (tmp_path / "in.h5ad").read_bytes()
    for read in ("in", "link"):
        for target in ("in", "hard", "link"):
            plan = hr.Plan(hr.open_h5ad(tmp_path / f"{read}.h5ad"), [])
            with pytest.raises(hr.OutputError, match="is what this plan reads"):
                plan.write_h5ad(tmp_path / f"{target}.h5ad", overwrite=True)
    assert (tmp_path / "in.h5ad").read_bytes() == before
