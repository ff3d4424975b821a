"""Recipes by name and by file: the same plan as flags and as Python, and a remedy for every mistake."""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import pytest

import headrace as hr
from headrace.cli import main, recipe_file
from headrace.cli.recipe_file import known_recipes, known_steps, read, recipe
from headrace.cli.values import checked, fits, wording

LIVER = "4546e757-34d0-4d17-be06-538318925fcd"

FULL = """
[query]
organism = "mus_musculus"
dataset_id = "4546e757-34d0-4d17-be06-538318925fcd"
genes = "measured"

[[step]]
step = "SaveLayer"
name = "counts"
[[step]]
step = "FilterCells"
min_genes = 500
[[step]]
name = "FilterGenes"
min_cells = 5
[[step]]
name = "NormalizeLength"
[[step]]
name = "NormalizeTotal"
target_sum = 10_000
[[step]]
name = "Log1p"
[[step]]
name = "HighlyVariableGenes"
n_top_genes = 1000
"""
FLAGS = (
    "--layer counts --min-genes 500 --min-cells 5 --length-normalize auto --target-sum 1e4 --log1p --hvg 1000 "
    "--hvg-flavor seurat"
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


# ------------------------------------------------------------------------------------------------ the same plan
def test_flags_files_names_and_python_write_the_same_bytes(demo_census: Path, tmp_path: Path) -> None:
    census, file = ["--census", str(demo_census)], str(written(tmp_path, FULL))
    query = ["--organism", "mus_musculus", "--dataset-id", LIVER]
    assert main(["export", *census, *query, *FLAGS.split(), "--out", str(tmp_path / "flags.h5ad")]) == 0
    assert main(["export", *census, "--recipe", file, "--out", str(tmp_path / "file.h5ad")]) == 0
    name = ["--recipe", "full-length", "--memory", "1500MB"]
    assert main(["export", *census, *query, *name, "--out", str(tmp_path / "name.h5ad")]) == 0
    liver = hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)
    steps = [
        hr.SaveLayer("counts"),
        hr.FilterCells(min_genes=500),
        hr.FilterGenes(min_cells=5),
        hr.NormalizeLength(),
        hr.NormalizeTotal(target_sum=1e4),
        hr.Log1p(),
        hr.HighlyVariableGenes(n_top_genes=1000),
    ]
    hr.Plan(liver, steps).write_h5ad(tmp_path / "python.h5ad")
    expected = (tmp_path / "python.h5ad").read_bytes()
    for way in ("flags", "file", "name"):
        assert (tmp_path / f"{way}.h5ad").read_bytes() == expected, way


@pytest.mark.parametrize("name", ["full-length", "cp10k", "tpm", "census-normalized"])
def test_recipes_by_name(name: str) -> None:
    assert recipe(name).steps == tuple(getattr(hr.recipes, name.replace("-", "_"))())


def test_every_recipe_of_headrace_is_known() -> None:
    assert {name.replace("-", "_") for name in known_recipes()} == {
        name
        for name, value in vars(hr.recipes).items()
        if callable(value) and not name.startswith("_") and value.__module__ == "headrace.recipes"
    }


def test_a_recipe_is_a_step_of_a_file(tmp_path: Path) -> None:
    text = """
        step = [
          { name = "SelectGenes", genes = ["ENSMUSG00000020932"] },
          { recipe = "full-length", min_genes = 200, target_sum = 1000, assays = "all" },
          { name = "SelectGenes", genes = "highly_variable" },
        ]
    """
    first, nested, last = read(written(tmp_path, text)).steps
    assert first == hr.SelectGenes(["ENSMUSG00000020932"])
    assert nested == hr.recipes.full_length(min_genes=200, target_sum=1000.0, assays="all")
    assert last == hr.SelectGenes("highly_variable")


def test_a_step_is_named_by_step_or_by_name(tmp_path: Path) -> None:
    """By `step`, its parameters are those of Python; by `name`, one that is called `name` is written `layer`."""
    for step in ("SaveLayer", "UseLayer", "DropLayer"):
        for text in (f"step = '{step}'\nname = 'x'", f"name = '{step}'\nlayer = 'x'"):
            assert read(written(tmp_path, f"[[step]]\n{text}")).steps == (getattr(hr, step)(name="x"),)
    for kind in ("step", "name"):
        text = f"[[step]]\n{kind} = 'Pseudobulk'\nby = ['donor_id']\nlayer = 'counts'"
        assert read(written(tmp_path, text)).steps == (hr.Pseudobulk(["donor_id"], layer="counts"),)


def test_numbers_lists_and_infinity(tmp_path: Path) -> None:
    text = """
        [[step]]
        name = "NormalizeLength"
        assays = ["EFO:0008931"]
        [[step]]
        name = "NormalizeTotal"
        [[step]]
        name = "Log1p"
        base = 2
        [[step]]
        name = "HighlyVariableGenes"
        max_mean = inf
        min_disp = -inf
    """
    steps = read(written(tmp_path, text)).steps
    assert steps == (
        hr.NormalizeLength(assays=["EFO:0008931"]),
        hr.NormalizeTotal(),
        hr.Log1p(base=2.0),
        hr.HighlyVariableGenes(max_mean=float("inf"), min_disp=-float("inf")),
    )
    assert isinstance(steps[2].base, float)


def test_the_example_of_the_documentation_is_right(tmp_path: Path, demo_census: Path) -> None:
    """The two blocks of the module's page are one recipe file."""
    page = recipe_file.__doc__ or ""
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", page)
    assert len(blocks) == 2
    found = read(written(tmp_path, "".join(blocks)))
    assert found.steps[:2] == (hr.FilterCells(min_genes=500), hr.SaveLayer("counts"))
    assert found.steps[2] == hr.recipes.full_length(min_cells=10)
    assert found.output == recipe_file.Output("liver.h5ad", "gzip", "1GB")
    assert hr.open_census(demo_census).query(**found.query).spec.n_obs > 0


# ------------------------------------------------------------------------------------------------ every step
def test_the_registry_has_the_steps_and_nothing_else() -> None:
    steps = known_steps()
    assert {"SaveLayer", "FilterCells", "FilterGenes", "NormalizeLength", "NormalizeTotal", "Log1p"} <= set(steps)
    assert not {"Plan", "Chunk", "StreamSpec", "Census", "CensusQuery", "Threads", "Serial"} & set(steps)
    assert set(steps) <= set(hr.__all__)


def test_every_parameter_of_every_step_can_be_written() -> None:
    """No step has a parameter of a type that the reader does not know, or two that are written alike."""
    for name, step in known_steps().items():
        parameters = recipe_file._parameters(step)
        assert not {"name", "layer"} <= set(parameters), f"{name}: both would be written `layer`"
        assert not {"step", "recipe"} & set(parameters), name
        for parameter, hint in parameters.items():
            assert wording(hint) not in ("", "a list of values"), (name, parameter, hint)
            assert not fits(object(), hint), (name, parameter, hint)


# ------------------------------------------------------------------------------------------------ from the file
def test_query_and_output_come_from_the_file_and_the_command_line_wins(
    demo_census: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = """
        [query]
        organism = "homo_sapiens"
        obs_filter = "tissue == 'lung'"
        genes = "any"
        primary_only = false
        [output]
        path = "lung.h5ad"
        compression = "gzip"
        memory = "1200MB"
        [[step]]
        recipe = "cp10k"
    """
    export = ["export", "--census", str(demo_census), "--recipe", str(written(tmp_path, text))]
    assert main(export) == 0
    assert capsys.readouterr().err.startswith("wrote lung.h5ad: 900 cells x 2,700 genes")
    lung = ad.read_h5ad("lung.h5ad")
    assert set(lung.obs["tissue"]) == {"lung"}
    assert set(lung.layers) - {None} == {"counts"}
    plain = [*export, "--compression", "none", "--out", "plain.h5ad"]
    assert main(plain) == 0
    assert Path("lung.h5ad").stat().st_size < Path("plain.h5ad").stat().st_size
    blood = ["--obs-filter", "tissue == 'blood'", "--primary-only", "--genes", "measured", "--out", "blood.h5ad"]
    assert main([*export, *blood]) == 0
    assert ad.read_h5ad("blood.h5ad").n_obs == 600
    capsys.readouterr()
    assert main(["explain", *export[1:], "--overwrite"]) == 0
    assert "of 1,200 MB" in capsys.readouterr().out
    assert main(["explain", *export[1:], "--overwrite", "--memory", "1GB"]) == 0
    assert "of 1,000 MB" in capsys.readouterr().out


def test_a_file_without_steps_exports_counts(demo_census: Path, tmp_path: Path) -> None:
    file = written(tmp_path, f'[query]\norganism = "mus_musculus"\ndataset_id = ["{LIVER}"]\n')
    out = tmp_path / "out.h5ad"
    assert main(["export", "--census", str(demo_census), "--recipe", str(file), "--out", str(out)]) == 0
    assert ad.read_h5ad(out).shape == (700, 2000)


# ------------------------------------------------------------------------------------------------ mistakes
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; it needs [[step]] or [query] or [output]"),
        ("[[step]\nname = 'Log1p'", "is no recipe file: "),
        ("[[steps]]\nname = 'Log1p'", "there is no 'steps' in a recipe file; did you mean '[[step]]'?"),
        ("[step]\nname = 'Log1p'", "a step is a table that begins with the line [[step]]"),
        ("step = ['Log1p']", "a step is a table that begins with the line [[step]]"),
        ("query = 'liver'", "'query' is a table that begins with the line [query]"),
        ("[[step]]\nbase = 2", 'step 1: give either step = "..." or recipe = "..."'),
        ("[[step]]\nname = 'Log1p'\nrecipe = 'tpm'", "step 1: give either step"),
        ("[[step]]\nstep = 'Log1p'\nrecipe = 'tpm'", "step 1: give either step"),
        ("[[step]]\nname = 3", "step 1: give either step"),
        ("[[step]]\nstep = 'Log1p'\nname = 'x'", "step 1 (Log1p): there is no 'name'; known: base"),
        ("[[step]]\nstep = 'SaveLayer'", "step 1 (SaveLayer): name must be given"),
        ("[[step]]\nstep = 'SaveLayer'\nlayer = 'x'", "step 1 (SaveLayer): there is no 'layer'; known: name"),
        (
            "[[step]]\nname = 'Log1p'\n[[step]]\nname = 'Log2p'",
            "step 2: there is no step 'Log2p'; did you mean 'Log1p'",
        ),
        ("[[step]]\nname = 'Plan'", "there is no step 'Plan'"),
        ("[[step]]\nrecipe = 'full_lenght'", "there is no recipe 'full_lenght'; did you mean 'full-length'?"),
        (
            "[[step]]\nname = 'NormalizeTotal'\ntarget = 1e4",
            "step 1 (NormalizeTotal): there is no 'target'; did you mean 'target_sum'?",
        ),
        ("[[step]]\nrecipe = 'full-length'\nmin_gene = 3", "there is no 'min_gene'; did you mean 'min_genes'"),
        ("[[step]]\nname = 'NormalizeTotal'\ntarget_sum = '1e4'", "target_sum = '1e4', but it takes a number"),
        ("[[step]]\nname = 'FilterCells'\nmin_genes = 2.5", "min_genes = 2.5, but it takes a whole number"),
        ("[[step]]\nname = 'FilterCells'\nmin_genes = true", "min_genes = True, but it takes a whole number"),
        (
            "[[step]]\nname = 'NormalizeLength'\nunit = 'kilobases'",
            "takes 'base' or 'kilobase'; did you mean 'kilobase'",
        ),
        ("[[step]]\nname = 'NormalizeLength'\nassays = [1]", "it takes a list of text or 'all'"),
        ("[[step]]\nname = 'SaveLayer'", "step 1 (SaveLayer): layer must be given"),
        ("[[step]]\nname = 'SaveLayer'\nlayr = 'counts'", "there is no 'layr'; did you mean 'layer'?"),
        ("[[step]]\nname = 'NormalizeTotal'\ntarget_sum = -1", "a positive number"),
        ("[query]\norganisms = 'mus_musculus'", "[query]: there is no 'organisms'; did you mean 'organism'?"),
        ("[query]\nprimary_only = 'yes'", "primary_only = 'yes', but it takes true or false"),
        ("[query]\ngenes = 'measurd'", "did you mean 'measured'?"),
        ("[output]\nout = 'x.h5ad'", "[output]: there is no 'out'; known: path, compression, memory"),
        ("[output]\ncompression = 'zstd'", "compression = 'zstd', but it takes 'none' or 'gzip'"),
    ],
)
def test_mistakes_in_a_file(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, text)
    assert main(["explain", "--census", "x", "--organism", "y", "--recipe", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\n]+\n", err)
    assert said in err
    assert str(file) in err
    assert "unexpected" not in err


def test_a_file_that_is_not_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.toml"
    file.write_bytes(b"\x89HDF\xff\xfe")
    assert main(["explain", "--census", "x", "--organism", "y", "--recipe", str(file)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {file} is no recipe file: ")


def test_steps_of_a_file_that_cannot_be(demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, said in {
        "[[step]]\nname = 'HighlyVariableGenes'\nn_top_genes = 9": "put Log1p() before it",
        "[[step]]\nname = 'NormalizeLength'\ncolumn = 'feature_lenght'": "did you mean 'feature_length' or",
    }.items():
        file = written(tmp_path, text)
        assert main(["explain", "--census", str(demo_census), "--organism", "mus_musculus", "--recipe", str(file)]) == 1
        err = capsys.readouterr().err
        assert re.fullmatch(r"error: [^\n]+\n", err)
        assert said in err


# ------------------------------------------------------------------------------------------------ values
@pytest.mark.parametrize(
    ("hint", "good", "bad", "words"),
    [
        (int, [3], [3.0, "3", True, [3]], "a whole number"),
        (float | None, [3, 3.5, float("inf")], ["3", True], "a number"),
        (str, ["a"], [1, ["a"]], "text"),
        (bool, [True], [1, "true"], "true or false"),
        (typing.Literal["a", "b"] | None, ["a"], ["c", 1, ["a"]], "'a' or 'b'"),
        (str | Sequence[str] | None, ["a", ["a", "b"], []], [1, ["a", 1]], "text or a list of text"),
        (tuple[str, ...], [["a"]], ["a", [1]], "a list of text"),
        (Sequence[int], [[1, 2]], [[1.5], 1], "a list of whole numbers"),
        (typing.Mapping[str, float], [{"a": 1}], [{"a": "b"}, [1]], "a table"),
    ],
)
def test_values_and_their_types(hint: object, good: list[object], bad: list[object], words: str) -> None:
    assert wording(hint) == words
    for value in good:
        assert fits(value, hint), value
    for value in bad:
        assert not fits(value, hint), value
        with pytest.raises(hr.InputError, match=re.escape(f"x = {value!r}, but it takes {words}")):
            checked({"x": value}, {"x": hint}, "here")


def test_whole_numbers_become_floats_where_floats_are_wanted() -> None:
    """So that a file that says 10000 gives the same provenance as a flag that says 1e4."""
    hints = {"a": float | None, "b": int, "c": int | float}
    got = checked({"a": 1, "b": 1, "c": 1}, hints, "here")
    assert [type(value) for value in got.values()] == [float, int, int]


def test_steps_that_are_several_are_known(tmp_path: Path) -> None:
    """QCMetrics and PFlogPF are sequences of steps; a recipe names them like any other."""
    file = tmp_path / "recipe.toml"
    file.write_text('[[step]]\nstep = "QCMetrics"\npercent_top = [50]\n[[step]]\nstep = "PFlogPF"\n')
    qc, pflogpf = read(file).steps
    assert qc == hr.QCMetrics(percent_top=[50])
    assert [type(step).__name__ for step in pflogpf] == ["ProportionalFitting", "Log1p", "ProportionalFitting"]
