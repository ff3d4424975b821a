"""Recipe files, lists of genes and options that are not what they should be: our error, with the remedy, at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import headrace as hr
from headrace.cli import main
from headrace.cli.recipe_file import read
from headrace.cli.sources import read_genes

RECIPES: list[tuple[str, str | bytes, str]] = [
    ("arrays", "x = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    ("tables", "x = " + "{a=" * 5000 + "1" + "}" * 5000, "nested too deeply"),
    ("within a step", '[[step]]\nstep = "SelectGenes"\ngenes = ' + "[" * 9000 + "]" * 9000, "nested too deeply"),
    ("dots", ".".join(["a"] * 5000) + " = 1", "there is no 'a' in a recipe file"),
    ("binary", bytes(range(256)), "save it as UTF-8"),
    ("NUL", b'[query]\norganism = "a\0b"\n', "NUL"),
    ("UTF-16", '[query]\norganism = "mus_musculus"\n'.encode("utf-16"), "save it as UTF-8"),
    ("a key twice", '[query]\norganism = "a"\norganism = "b"\n', "is no recipe file: Cannot overwrite a value"),
    ("a table twice", '[query]\norganism = "a"\n[query]\n', "is no recipe file: Cannot declare"),
    ("digits", '[[step]]\nstep = "FilterCells"\nmin_genes = ' + "9" * 5000, "4300 digits"),
    ("large", '[[step]]\nstep = "FilterCells"\nmin_genes = 0x' + "f" * 900, "it is too large"),
    ("infinite", '[[step]]\nstep = "NormalizeTotal"\ntarget_sum = inf', "a positive number"),
    ("not a number", '[[step]]\nstep = "NormalizeTotal"\ntarget_sum = nan', "NaN is no number"),
    ("a date", '[[step]]\nstep = "NormalizeTotal"\ntarget_sum = 1979-05-27', "it takes a number"),
    ("a name with NUL", '[[step]]\nstep = "SaveLayer"\nname = "a\\u0000b"', "it has a NUL"),
    ("no name", '[[step]]\nstep = "SaveLayer"\nname = "."', "cannot be the name of a layer"),
    ("no genes", '[[step]]\nstep = "SelectGenes"\ngenes = []', "the list is empty"),
    ("megabytes", '[query]\norganism = "' + "a" * 2_000_000 + '"', "more than 1 MB"),
]


@pytest.mark.parametrize(("content", "said"), [case[1:] for case in RECIPES], ids=[case[0] for case in RECIPES])
def test_no_recipe(content: str | bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(hr.InputError, match=said) as error:
        read(path)
    assert len(str(error.value)) < 600
    assert main(["export", "--census", "x", "--recipe", str(path), "--out", str(tmp_path / "x.h5ad")]) in (1, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes('\ufeff[[step]]\nstep = "QCMetrics"\nqc_vars = {mt = "MT-"}\n'.encode())
    assert read(tmp_path / "recipe.toml").steps == (hr.QCMetrics({"mt": "MT-"}),)
    (tmp_path / "genes.txt").write_bytes("\ufeffENSG1\r\n# a comment\r\nENSG2 # another\r\n\r\n".encode())
    assert read_genes(str(tmp_path / "genes.txt")) == ["ENSG1", "ENSG2"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("sets.gmt", "SET\thttp://x\tA\tB\nOTHER\thttp://y\tC\n", r"several columns, as in a \.gmt file: cut -f3-"),
        ("table.tsv", "id\tname\nE1\tA\n", "several columns; write one id or name a line"),
        ("genes.txt", "A\0B\n", "NUL"),
        ("genes.txt", "A\nB\n".encode("utf-16"), "save it as UTF-8"),
        ("genes.txt", b"\x80\n", "save it as UTF-8"),
        ("genes.txt", "# nothing\n\n", "the file lists no gene"),
        ("genes.txt", "", "the file lists no gene"),
    ],
)
def test_no_list_of_genes(name: str, content: str | bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(hr.InputError, match=said):
        read_genes(str(tmp_path / name))


@pytest.mark.parametrize(
    "given",
    [
        *[["--obs-filter", ""], ["--obs-filter="], ["--obs-filter", "  "], ["--dataset-id", ""], ["--genes", ""]],
        *[
            ["--var-names", ""],
            ["--layer-in", ""],
            ["--recipe", ""],
            ["--memory", ""],
            ["--spool", ""],
            ["--layer", ""],
        ],
        *[["--organism", ""], ["--out", ""], ["--census", ""], ["--hvg-layer", ""], ["--pseudobulk", ""]],
    ],
)
def test_an_unset_variable_of_the_shell(
    given: Any, demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["export", "--census", str(demo_census), "--organism", "mus_musculus", "--out", "out.h5ad"]
    assert main([*base, *given]) != 0
    said = capsys.readouterr().err
    assert "empty" in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())
