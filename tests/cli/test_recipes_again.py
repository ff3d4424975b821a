"""A plan that is written as a recipe and read again is the same plan; None, which TOML has not, is `false`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pytest

import headrace as hr
from headrace.cli.recipe_file import _parameters, known_recipes, known_steps, read
from headrace.engine.provenance import provenance
from headrace.engine.recipe import NOT_NONE, recipe_of, recipe_text
from headrace.engine.schedule import flatten
from tests.laws.registry import REFERENCE, STEPS, source

BESIDE: list[Any] = [
    hr.FilterByExpr(),
    hr.GroupStatistics(["cell_type"]),
    hr.NormFactors("TMM"),
    hr.ProjectPCA(str(REFERENCE)),
    hr.Pseudobulk(["donor_id"]),
    hr.QCMetrics(),
]
"""Steps that the registry has not, or not as they are written."""


def again(text: str, folder: Path) -> list[Any]:
    """Read a recipe."""
    path = folder / "recipe.toml"
    path.write_text(text)
    return list(read(path).steps)


def nothing() -> Iterator[tuple[Any, Field[Any]]]:
    """Give each step with each of its parameters that may be None."""
    seen = {}
    for step in [*BESIDE, *(step for steps in STEPS.values() for step in steps)]:
        if is_dataclass(step) and type(step).__name__ in known_steps():
            seen.setdefault(type(step).__name__, step)
    for step in seen.values():
        hints = _parameters(type(step))
        for field in fields(step):
            if field.init and NoneType in get_args(hints[field.name]):
                yield step, field


NOTHING = list(nothing())


@pytest.mark.parametrize("name", STEPS)
def test_the_steps_of_a_recipe_are_those_that_were_written(name: str, tmp_path: Path) -> None:
    steps = flatten(STEPS[name])
    assert flatten(again(recipe_text(steps, {}), tmp_path)) == steps


@pytest.mark.parametrize("name", STEPS)
def test_so_are_those_of_a_file_that_says_how_it_was_made(name: str, tmp_path: Path) -> None:
    plan = hr.Plan(source(), STEPS[name])
    made = provenance(plan.source, plan.steps)
    assert hr.Plan(source(), again(recipe_of(made), tmp_path)).steps == plan.steps


def test_of_every_step_all_parameters_that_may_be_none_are_tried() -> None:
    expected = {
        (name, parameter)
        for name, step in known_steps().items()
        for parameter, hint in _parameters(step).items()
        if NoneType in get_args(hint)
    }
    assert {(type(step).__name__, field.name) for step, field in NOTHING} == expected
    others = {
        (type(step).__name__, f.name) for step, f in NOTHING if f.default is not None and f.default is not MISSING
    }
    assert others == NOT_NONE, "what a file says of them is None is not what leaving them out gives"
    required = [(type(step).__name__, field.name) for step, field in NOTHING if field.default is MISSING]
    assert not required, "a file may not leave them out"


@pytest.mark.parametrize(
    ("step", "field"), [pytest.param(*one, id=f"{type(one[0]).__name__}-{one[1].name}") for one in NOTHING]
)
def test_none_is_written_and_read(step: Any, field: Field[Any], tmp_path: Path) -> None:
    hint = _parameters(type(step))[field.name]
    none = replace(step, **{field.name: None})
    written = recipe_text(flatten([none]), {})
    assert flatten(again(written, tmp_path)) == flatten([none])
    of = json.dumps([{"step": type(none).__name__, **{f.name: getattr(none, f.name) for f in fields(none)}}])
    assert again(recipe_of({"steps": of}), tmp_path) == [none]
    if bool in get_args(hint):
        assert field.default is None, "false is False here, so that None can only be left out"
        return
    lines = [line for line in written.splitlines() if not line.startswith(f"{field.name} =")]
    assert flatten(again("\n".join([*lines, f"{field.name} = false"]), tmp_path)) == flatten([none])


def test_false_is_false_where_true_or_false_is_asked_for(tmp_path: Path) -> None:
    text = '[[step]]\nstep = "HighlyVariableGenes"\nmeasured_only = false\n'
    assert again(text, tmp_path)[0].measured_only is False


def test_recipes_take_it_too(tmp_path: Path) -> None:
    assert "workbench" in known_recipes()
    assert again('[[step]]\nrecipe = "workbench"\npca = false\n', tmp_path)[0] == hr.recipes.workbench(pca=None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('step = "PCA"\nzero_center = 0', "zero_center = 0, but it takes true or false"),
        ('step = "PCA"\nmask_var = true', "mask_var = True, but it takes text"),
        ('step = "PCA"\nmask = false', "there is no 'mask'; did you mean 'mask_var'?"),
        ('step = "SaveLayer"\nname = false', "name = False, but it takes text"),
        ('step = "NormalizeTotal"\ntarget_sum = 0', "a positive number"),
    ],
)
def test_what_is_not_none_is_not_taken_for_it(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(hr.InputError) as error:
        again(f"[[step]]\n{text}\n", tmp_path)
    assert said in str(error.value)


def test_all_genes_of_a_recipe(tmp_path: Path) -> None:
    """The example of the documentation, against what Python gives."""
    text = '[[step]]\nrecipe = "cp10k"\n[[step]]\nstep = "PCA"\nn_comps = 3\nmask_var = false\n'
    (tmp_path / "recipe.toml").write_text(text)
    *_, pca = read(tmp_path / "recipe.toml").steps
    assert pca == hr.PCA(3, mask_var=None)
