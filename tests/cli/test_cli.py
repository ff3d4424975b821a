"""The command line: what it prints, where, and how it ends. In a process of its own where that is what counts."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import warnings
from importlib.metadata import entry_points
from pathlib import Path

import anndata as ad
import pytest

import headrace as hr
from headrace.cli import main
from headrace.cli.console import Interrupted, Session, plain_warnings
from headrace.cli.progress import Progress
from headrace.events import ChunkDone, Fetched, Notice, PassFinished, PassStarted, Waiting

LIVER = "4546e757-34d0-4d17-be06-538318925fcd"
ONE_LINE = re.compile(r"[^\n]+\n")


def mouse(census: Path, *more: str | Path) -> list[str]:
    """Arguments that ask for the mouse liver."""
    return ["--census", str(census), "--organism", "mus_musculus", "--dataset-id", LIVER, *map(str, more)]


def headrace(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    command = [sys.executable, "-m", "headrace", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def files(folder: Path) -> list[str]:
    """Names of the files in a folder and in what it keeps for the next run, the Census left out."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "census" not in path.parts
    )


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, its size and time."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


# ------------------------------------------------------------------------------------------------ starting
def test_help_imports_nothing_heavy() -> None:
    heavy = "{'numpy', 'pandas', 'scipy', 'numba', 'tiledbsoma', 'anndata', 'h5py', 'tqdm', 'cellxgene_census'}"
    for arguments in (["--help"], ["export", "--help"], ["--version"]):
        code = (
            f"import sys; from headrace.cli import main; main({arguments!r}); sys.exit(str({heavy} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stderr.strip() == "set()"


def test_version_by_the_module_and_by_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    done = headrace("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"headrace {hr.__version__}\n", "")
    (script,) = entry_points(group="console_scripts", name="headrace")
    assert script.load()(["--version"]) == 0
    assert capsys.readouterr().out == done.stdout


def test_no_command_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert re.search(r"Commands:\n(  .*\n)*  datasets", capsys.readouterr().out)


@pytest.mark.parametrize("command", ["export", "datasets"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"headrace {command} --census" in out.split("Examples:")[1]


def test_examples_in_the_help_are_right(tmp_path: Path, demo_census: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands of `export --help`, with this Census, and its recipe file."""
    assert main(["export", "--help"]) == 0
    commands, file = capsys.readouterr().out.split("Examples:")[1].split("A recipe file:")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(file)
    joined = re.sub(r"\\\n\s*", "", commands)
    found = re.findall(r"headrace export (--census .*)", joined)
    assert len(found) == 3
    for command in found:
        line = re.sub(r"--census \S+", f"--census {demo_census}", command).replace("recipe.toml", str(recipe))
        assert main(["explain", *shlex.split(line)]) == 0, command


# ------------------------------------------------------------------------------------------------ datasets
def test_datasets_as_a_table(demo_census: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "--census", str(demo_census), "--organism", "mus_musculus", "--assays"]) == 0
    out, err = capsys.readouterr()
    head, liver, lung = out.splitlines()
    assert head.split() == ["dataset_id", "title", "cells", "assays"]
    assert liver.startswith(f"{LIVER}  Liver - A single-cell")
    assert liver.endswith("  700  Smart-seq2 (700)")
    assert lung.endswith("  500  10x 3' v3 (500)")
    assert err == ""


def test_datasets_as_json(demo_census: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "--census", str(demo_census), "--json", "--assays"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert records == hr.open_census(demo_census).datasets(assays=True).to_dict("records")
    assert len(records) == 7
    assert [r["assays"] for r in records if r["dataset_id"] == LIVER] == [{"Smart-seq2": 700}]


@pytest.mark.parametrize(
    ("arguments", "n"),
    [
        (["--title", "LIVER"], 2),
        (["--title", "liver", "--organism", "mus_musculus"], 1),
        (["--dataset-id", LIVER], 1),
        (["--collection", "datasets of homo"], 5),
        (["--title", "no such title"], 0),
    ],
)
def test_datasets_are_chosen(
    arguments: list[str], n: int, demo_census: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["datasets", "--census", str(demo_census), *arguments, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == n
    assert main(["datasets", "--census", str(demo_census), *arguments]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == (n + 1 if n else 0)
    assert err == ("" if n else "no dataset matches\n")


def test_a_reader_that_has_read_enough() -> None:
    command = [sys.executable, "-m", "headrace", "export", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0, "the run did all that was asked"


# ------------------------------------------------------------------------------------------------ export
def test_export_is_quiet_in_a_pipe(demo_census: Path, tmp_path: Path) -> None:
    out = tmp_path / "liver.h5ad"
    done = headrace("export", *mouse(demo_census, "--recipe", "full-length", "--out", out))
    assert done.returncode == 0
    assert done.stdout == ""
    said = re.fullmatch(
        r"wrote (\S+): ([\d,]+) of 700 cells x ([\d,]+) of 2,000 genes, [\d.]+ [kMG]B, ([\d.]+) s, peak ([\d,]+) MB\n",
        done.stderr,
    )
    assert said, done.stderr
    adata = ad.read_h5ad(out)
    assert said.group(1) == str(out)
    assert (said.group(2), said.group(3)) == (f"{adata.n_obs:,}", f"{adata.n_vars:,}")
    assert 0 < float(said.group(4)) < 120
    assert 100 < int(said.group(5).replace(",", "")) < 4000
    assert files(tmp_path) == ["liver.h5ad"]


def test_export_of_raw_counts(demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "raw.h5ad"
    assert main(["export", *mouse(demo_census, "--out", out)]) == 0
    said, err = capsys.readouterr()
    assert said == ""
    assert err.startswith(f"wrote {out}: 700 cells x 2,000 genes, ")
    adata = ad.read_h5ad(out)
    expected = hr.Plan(hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)).to_anndata()
    assert adata.shape == expected.shape == (700, 2000)
    assert (adata.X != expected.X).nnz == 0
    assert not adata.layers


def test_flags_that_choose(demo_census: Path, tmp_path: Path) -> None:
    """Cells, genes, layers: each flag reaches the query that it names."""
    genes = tmp_path / "genes.txt"
    var = hr.open_census(demo_census).query("homo_sapiens", primary_only=True).spec.var
    genes.write_text(f"# two of them\n{var.index[5]}\n\n  {var.index[9]}  # by id\n")
    out = tmp_path / "out.h5ad"
    base = ["export", "--census", str(demo_census), "--organism", "Homo sapiens", "--out", str(out)]
    lung = ["--obs-filter", "tissue == 'lung'", "--layer-in", "normalized"]
    assert main([*base, "--genes", str(genes), "--primary-only", *lung, "--compression", "gzip"]) == 0
    adata = ad.read_h5ad(out)
    assert adata.shape == (900, 2)
    assert list(adata.var_names) == [var.index[5], var.index[9]]
    assert 0 < adata.X.max() <= 1
    assert main([*base, "--overwrite", "--keep-duplicates", "--genes", "any"]) == 0
    every = ad.read_h5ad(out)
    assert every.n_obs == 2650
    assert (~every.obs["is_primary_data"]).sum() == 250
    assert every.n_vars > len(var)


def test_step_flags_make_the_steps_in_their_order(
    demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.h5ad"
    flags = "--hvg 7 --hvg-flavor cell_ranger --log1p --target-sum median --length-normalize all --min-cells 3"
    assert main(["export", *mouse(demo_census, "--out", out), *flags.split(), "--min-genes", "9", "--layer", "c"]) == 0
    steps = json.loads(ad.read_h5ad(out).uns["headrace"]["steps"])
    expected = [
        ("SaveLayer", {"name": "c"}),
        ("FilterCells", {"min_genes": 9}),
        ("FilterGenes", {"min_cells": 3}),
        ("NormalizeLength", {"assays": "all"}),
        ("NormalizeTotal", {"target_sum": None}),
        ("Log1p", {"base": None}),
        ("HighlyVariableGenes", {"n_top_genes": 7, "flavor": "cell_ranger"}),
    ]
    assert [step["step"] for step in steps] == [name for name, _ in expected]
    for step, (_, given) in zip(steps, expected, strict=True):
        assert given.items() <= step.items()
    capsys.readouterr()
    seurat_v3 = "--layer counts --target-sum 1e4 --log1p --hvg 7 --hvg-flavor seurat_v3 --hvg-layer counts"
    assert main(["explain", *mouse(demo_census), *seurat_v3.split(), "--length-normalize", "off", "--no-log1p"]) == 0
    text = capsys.readouterr().out
    assert "HighlyVariableGenes(n_top_genes=7, flavor='seurat_v3', layer='counts')" in text
    assert "Log1p" not in text
    assert "NormalizeLength()" not in text
    batches = "--log1p --hvg 7 --hvg-batch donor_id"
    assert main(["explain", *mouse(demo_census), *batches.split()]) == 0
    assert "HighlyVariableGenes(n_top_genes=7, batch_key='donor_id')" in capsys.readouterr().out


def test_output_is_refused_without_overwrite(
    demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "liver.h5ad"
    out.write_text("mine")
    assert main(["export", *mouse(demo_census, "--out", out)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {out} exists; ")
    assert out.read_text() == "mine"
    assert main(["export", *mouse(demo_census, "--out", out, "--overwrite")]) == 0
    assert ad.read_h5ad(out).n_obs == 700


@pytest.mark.filterwarnings("default::headrace.DuplicateCellsWarning")
def test_warnings_are_one_line(demo_census: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--census", str(demo_census), "--organism", "homo_sapiens"]) == 0
    assert re.fullmatch(r"warning: 250 of 2650 cells are duplicates .*\n", capsys.readouterr().err)


@pytest.mark.filterwarnings("default")
def test_warnings_of_others_are_for_debugging(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_census(*args: object, **kwargs: object) -> None:
        warnings.warn("soon gone", FutureWarning, stacklevel=1)
        raise hr.InputError("no")

    monkeypatch.setattr("headrace.open_census", open_census)
    assert main(["datasets", "--census", "x"]) == 1
    assert capsys.readouterr().err == "error: no\n"
    assert main(["datasets", "--census", "x", "--debug"]) == 1
    assert "FutureWarning: soon gone" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ explain
def test_explain_is_the_plans(
    demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.support.memory.resident", lambda: 200_000_000)  # it would grow between the two
    monkeypatch.chdir(tmp_path)
    before = tree(demo_census)
    arguments = mouse(demo_census, "--recipe", "full-length", "--memory", "1GB")
    assert main(["explain", *arguments]) == 0
    out, err = capsys.readouterr()
    query = hr.open_census(demo_census).query("mus_musculus", dataset_id=LIVER)
    assert out == f"{hr.Plan(query, hr.recipes.full_length()).explain('1GB')}\n"
    assert err == ""
    assert main(["explain", *arguments, "--out", "liver.h5ad"]) == 0
    assert capsys.readouterr().out == out
    assert list(tmp_path.iterdir()) == []
    assert tree(demo_census) == before


def test_explain_says_what_the_user_knows(demo_census: Path) -> None:
    """Names of assays beside their ids, steps as they were given."""
    query = hr.open_census(demo_census).query("homo_sapiens", primary_only=True)
    steps = [hr.QCMetrics({"mt": "MT-"}, percent_top=[50]), hr.FilterCells(min_genes=5), hr.QCMetrics()[1]]
    lines = str(hr.Plan(query, steps).explain("1GB")).splitlines()
    assert "  pass 1   from the source: QCMetrics + write" in lines
    assert "  QCMetrics(qc_vars={'mt': 'MT-'}, percent_top=(50,))" in lines
    assert "  QCGenes()" in lines
    assert not [line for line in lines if "QCCells" in line]
    assays = [line.split("  ")[1] for line in lines if line.startswith("  EFO:")]
    assert assays == ["EFO:0009922 10x 3' v3", "EFO:0009899 10x 3' v2", "EFO:0008931 Smart-seq2"]


def test_names_of_assays_are_never_guessed(demo_census: Path) -> None:
    """Two assays with as many cells: which name is whose is not known."""
    census = hr.open_census(demo_census)
    obs = hr.Plan(census.query("homo_sapiens", primary_only=True)).to_anndata().obs
    ids = [obs.index[obs["assay"] == assay][:30].astype(int) for assay in ("10x 3' v3", "10x 3' v2")]
    text = str(hr.Plan(census.query("homo_sapiens", obs_joinids=sorted([*ids[0], *ids[1]]))).explain("1GB"))
    assert sorted(line.split()[:3] for line in text.splitlines() if "EFO:" in line) == [
        ["EFO:0009899", "30", "cells"],
        ["EFO:0009922", "30", "cells"],
    ]


SIZES = {
    "few": (7, []),
    "few, and qc": (7, [hr.QCMetrics({"mt": "mt-"})]),
    "counts": (1200, []),
    "full_length": (1200, hr.recipes.full_length()),
    "dense": (1200, hr.recipes.workbench(subset=False)),
    "pseudobulk": (1200, [hr.Pseudobulk(["donor_id"]), hr.LogCPM(), hr.SaveLayer("logcpm")]),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_predicted_size_is_not_too_small(name: str, demo_census: Path, tmp_path: Path) -> None:
    n_obs, steps = SIZES[name]
    plan = hr.Plan(hr.open_census(demo_census).query("mus_musculus", obs_joinids=range(n_obs)), steps)
    predicted = plan.explain().output_bytes
    plan.write_h5ad(tmp_path / "x.h5ad")
    written = (tmp_path / "x.h5ad").stat().st_size
    assert written <= predicted
    if name not in ("full_length", "pseudobulk"):  # what filters leave, and how many groups have cells, is not known
        assert predicted < 1.6 * written


# ------------------------------------------------------------------------------------------------ going wrong
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--organism mus_musculis", "no organism 'mus_musculis'; did you mean 'mus_musculus'?"),
        ("--dataset-id 4546e757-34d0-4d17-be06-538318925fce", f"did you mean '{LIVER}'?"),
        ("--obs-filter tisue=='liver'", "names 'tisue', which"),
        ("--obs-filter tisue=='liver'", "did you mean 'tissue'"),
        ("--obs-filter tissue=='livr'", "no cell of"),
        ("--obs-filter tissue='liver'", "cannot be used"),
        ("--genes measurd", "did you mean 'measured'?"),
        ("--genes EMPTY", "the file lists no gene"),
        ("--genes WRONG", "1 of 1 genes are unknown, e.g. 'Gapdhh'"),
        ("--recipe full-lenght", "no recipe 'full-lenght', nor a file of that name; did you mean 'full-length'?"),
        ("--recipe missing.toml", "no recipe file 'missing.toml'"),
        ("--hvg 5", "give --log1p too"),
        ("--log1p --hvg 5 --hvg-flavor seuratt", "--hvg-flavor seuratt: one of"),
        ("--target-sum 0", "a positive number"),
        ("--min-genes -1", "not negative"),
        ("--memory lots", "'lots' is no amount of memory"),
        ("--memory 1MB", "it needs at least"),
        ("--out nowhere/liver.h5ad", "there is no folder"),
        ("--out liver.zarr", "ends in .h5ad"),
    ],
)
def test_failures_are_explained_in_one_line(
    arguments: str,
    said: str,
    demo_census: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("EMPTY").write_text("# nothing\n\n")
    Path("WRONG").write_text("Gapdhh\n")
    given = {"--organism": "mus_musculus", "--out": "liver.h5ad"}
    more = [part for name, value in given.items() if name not in arguments for part in (name, value)]
    assert main(["export", "--census", str(demo_census), *more, *arguments.split()]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert ONE_LINE.fullmatch(err)
    assert err.startswith("error: ")
    assert said in err
    assert "unexpected" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["EMPTY", "WRONG"]


def test_a_census_that_is_not_there(demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (demo_census / "nope", demo_census / "census_data", tmp_path):
        assert main(["datasets", "--census", str(wrong)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert ONE_LINE.fullmatch(err)
        assert err.startswith("error: ")
        assert str(wrong) in err
        assert "unexpected" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("exprt", "there is no command 'exprt'; did you mean 'export' or 'report'?"),
        ("export", "Missing option '--census'."),
        ("export --census x", "Missing option '--organism'."),
        ("export --census x --organism y", "Missing option '--out'."),
        ("export --census x --organisme y", "--organism"),
        ("export --census x --layer-in rw", "'rw' is not one of"),
        ("export --census x --target-sum mean", "'mean' is neither a number nor 'median'"),
        ("export --census x --min-genes few", "'few' is not a valid integer"),
        ("export --census x --tiledb-config key", "'key' is not of the form KEY=VALUE"),
        ("export --census x --recipe cp10k --log1p --hvg 5", "--log1p, --hvg cannot be given with it"),
        ("export --census x --recipe cp10k --no-log1p", "--log1p cannot be given with it"),
        ("explain --census x --recipe cp10k --length-normalize off", "--length-normalize cannot be given with it"),
        ("explain --census x --hvg-flavor seurat", "--hvg says how many, and is missing"),
    ],
)
def test_wrong_usage(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: headrace ")
    assert "\nTry 'headrace" in err
    assert err.splitlines()[-1].startswith("error: ")
    assert said in err.splitlines()[-1]


def test_a_damaged_census(demo_census: Path, tmp_path: Path) -> None:
    """TileDB writes nothing of its own to either stream, and the error says what was being read."""
    census = shutil.copytree(demo_census, tmp_path / "census")
    (values,) = (census / "census_data/mus_musculus/ms/RNA/X/raw/__fragments").glob("*/a0.tdb")
    os.truncate(values, 1000)
    done = headrace("export", *mouse(census, "--out", tmp_path / "out.h5ad"))
    assert (done.returncode, done.stdout) == (1, "")
    assert ONE_LINE.fullmatch(done.stderr)
    assert done.stderr.startswith("error: while reading X of cells ")
    assert files(tmp_path) == []


def test_tiledb_settings_reach_tiledb(demo_census: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting = "sm.mem.total_budget=10"
    assert main(["explain", *mouse(demo_census, "--tiledb-config", setting)]) == 1
    assert "budget" in capsys.readouterr().err
    assert main(["datasets", "--census", str(demo_census), "--tiledb-config", setting]) == 1
    assert "budget" in capsys.readouterr().err


def test_a_bug_is_one_line_unless_debugging(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise KeyError("first\nsecond")

    monkeypatch.setattr("headrace.open_census", broken)
    said = "error: unexpected KeyError: 'first\\nsecond': please report, run again with --debug\n"
    assert main(["datasets", "--census", "x"]) == 1
    assert capsys.readouterr() == ("", said)
    for arguments in (["--debug", "datasets"], ["datasets", "--debug"]):
        assert main([*arguments, "--census", "x"]) == 1
        err = capsys.readouterr().err
        assert err.startswith("Traceback (most recent call last):")
        assert err.endswith(said)
    monkeypatch.setenv("HEADRACE_DEBUG", "1")
    assert main(["datasets", "--census", "x"]) == 1
    assert capsys.readouterr().err.startswith("Traceback")
    monkeypatch.setenv("HEADRACE_DEBUG", "0")
    assert main(["datasets", "--census", "x"]) == 1
    assert capsys.readouterr().err == said


def test_notes_follow_the_message(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        error = hr.SourceError("the disk is gone\nfor good")
        error.add_note("while reading cells 0 to 10")
        raise error

    monkeypatch.setattr("headrace.open_census", broken)
    assert main(["datasets", "--census", "x"]) == 1
    assert capsys.readouterr().err == "error: the disk is gone for good (while reading cells 0 to 10)\n"


# ------------------------------------------------------------------------------------------------ a terminal
def terminal(columns: int) -> tuple[int, int]:
    """Return both ends of a new terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return ours, theirs


def received(ours: int) -> str:
    """Return all that a terminal gets until its other end is closed."""
    got = b""
    while True:
        assert select.select([ours], [], [], 120)[0], "nothing came"
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            part = b""
        if not part:
            os.close(ours)
            return got.decode()
        got += part


def test_progress_on_a_terminal(demo_census: Path, tmp_path: Path) -> None:
    out = tmp_path / "liver.h5ad"
    ours, theirs = terminal(100)
    command = [sys.executable, "-m", "headrace", "export", *mouse(demo_census, "--recipe", "full-length", "--out", out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        text = received(ours)
        assert process.stdout.read() == b""
    assert process.returncode == 0
    assert re.search(r"pass 1 of 2: FilterGenes: +0%\|", text)
    assert re.search(r"pass 1 of 2: FilterGenes: 100%\|.*700/700 .*cells/s", text)
    assert re.search(r"pass 2 of 2: HighlyVariableGenes \+ write: 100%\|", text)
    assert text.splitlines()[-1].startswith(f"wrote {out}: ")


@pytest.mark.parametrize("columns", [0, 60, 200])
def test_the_bar_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some terminals say that they have no columns; the bar is shown there too."""
    ours, theirs = terminal(columns)
    with os.fdopen(theirs, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with Progress(Session()) as progress:
            progress(PassStarted(1, 3, "FilterGenes + QCMetrics", 2000))
            progress(ChunkDone(2000, 10))
            progress(Notice("half of it"))
            progress(PassFinished(1, 0.5))
    got = received(ours)
    assert "pass 1 of 3: FilterGenes + QCMetrics: 100%" in got
    assert "note: half of it" in got
    assert max(len(part) for part in re.split(r"[\r\n]", got)) <= (columns or 80)


def test_notices_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(Session()) as progress:
        progress(Notice("3 cells have no counts"))
    assert capsys.readouterr().err == "note: 3 cells have no counts\n"


FAR = [Fetched(0, 45_000_000, 0.0, None, 0), Fetched(12_300_000, 45_000_000, 1.5e6, 21.8, 2)]


def test_the_bar_of_what_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts bytes while they come, and cells in the passes after that."""
    ours, theirs = terminal(120)
    with os.fdopen(theirs, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with Progress(Session()) as progress:
            progress(PassStarted(1, 2, "FilterGenes", 2000))
            for event in FAR:
                progress(event)
                progress(ChunkDone(1000, 10))
            progress(Waiting(31.2, "obs of s3://x", "the connection was cut"))
            progress(PassFinished(1, 0.5))
            progress(PassStarted(2, 2, "write", 2000))
            progress(ChunkDone(2000, 10))
            progress(PassFinished(2, 0.5))
    got = received(ours)
    assert re.search(r"pass 1 of 2: FilterGenes: +27%\|.*12\.3M/45\.0M .*B/s, 2 retries", got)
    assert "note: no byte has come for 31 s, waiting for obs of s3://x (the connection was cut)" in got
    assert re.search(r"pass 2 of 2: write: 100%\|.*2\.00k/2\.00k", got)


def test_a_line_a_minute_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with Progress(Session(), clock=lambda: now[0]) as progress:
        progress(PassStarted(1, 1, "write", 2000))
        for second in range(150):
            now[0] = float(second)
            progress(Fetched(second * 10**6, 2_300_000_000, 1e6, 2300.0 - second, second // 70))
    assert capsys.readouterr().err.splitlines() == [
        "fetched 60.0 MB of 2.3 GB, 1.0 MB/s, 37 min 20 s left",
        "fetched 120.0 MB of 2.3 GB, 1.0 MB/s, 36 min 20 s left, 1 retry",
    ]


def test_what_the_library_logs_is_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    with plain_warnings(Session()):
        logging.getLogger("headrace").warning("no byte has come for %d s", 30)
    assert capsys.readouterr().err == "note: no byte has come for 30 s\n"


def test_retry_for_and_rate_are_read(demo_census: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A local Census has no line; but what is no time, and no rate, is told."""
    given = mouse(demo_census, "--target-sum", "1e4")
    assert main(["explain", *given, "--retry-for", "2min", "--rate", "50Mbit"]) == 0
    assert "to fetch" not in capsys.readouterr().out
    assert main(["explain", *given, "--retry-for", "soon"]) == 1
    assert "error: 'soon' is no time; write seconds, or e.g. '5min' or '1h'" in capsys.readouterr().err
    assert main(["explain", *given, "--rate", "fast"]) == 1
    assert "error: 'fast' is no rate of a line" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ being stopped
SLOWLY = """
import runpy, time
from headrace.sinks.h5ad.sink import H5adWriter
finish = H5adWriter.finish
H5adWriter.finish = lambda *given: (time.sleep(1), finish(*given))[1]  # time enough to be stopped in
runpy.run_module("headrace", run_name="__main__", alter_sys=True)
"""


def start(census: Path, out: Path) -> subprocess.Popen[str]:
    """Begin an export over an old file, and wait until it writes."""
    out.write_text("old")
    command = [sys.executable, "-c", SLOWLY, "export", *mouse(census, "--recipe", "full-length")]
    process = subprocess.Popen(
        [*command, "--overwrite", "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    partial = out.with_name(f".{out.name}.partial")
    end = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size) and process.poll() is None:
        assert time.monotonic() < end, "it does not begin to write"
        time.sleep(0.002)
    return process


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_stopped_while_it_writes(
    number: signal.Signals, code: int, said: str, demo_census: Path, tmp_path: Path
) -> None:
    out = tmp_path / "liver.h5ad"
    process = start(demo_census, out)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (code, "")
    kept = tmp_path / ".headrace-spool"
    assert stderr == f"{said}; nothing was written; run it again to go on from what is kept in {kept}\n"
    assert out.read_text() == "old"
    left = files(tmp_path)
    left.remove("liver.h5ad")
    assert left
    assert all(re.fullmatch(r"\.headrace-spool/\w+/(about\.json|[\w.-]+\.part|\.\w+)", name) for name in left), left


@pytest.mark.parametrize("seconds", [0.5, 1.0])
def test_interrupted_before_it_writes(seconds: float, demo_census: Path, tmp_path: Path) -> None:
    """While it imports or looks things up: the same words, no traceback."""
    command = [sys.executable, "-m", "headrace", "export", *mouse(demo_census, "--out", tmp_path / "out.h5ad")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_when_all_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Between the file's move into place and the end, "nothing was written" would be a lie."""
    session, out = Session(), tmp_path / "out.h5ad"
    session.watch(out)
    with pytest.raises(Interrupted) as caught:
        session.on_signal(signal.SIGINT, None)
    out.write_text("whole")
    assert session.ended(caught.value) == 130
    assert capsys.readouterr().err == f"interrupted; {out} had been written before, and is whole\n"


def test_an_interrupt_that_was_swallowed_stops_the_next_event() -> None:
    session = Session()
    with pytest.raises(Interrupted):
        session.on_signal(signal.SIGINT, None)
    with pytest.raises(Interrupted):
        Progress(session)(Notice("going on"))


def test_an_interrupt_in_a_finaliser_comes_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python ignores what a finaliser raises, the interrupt too."""

    class Finalised:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)
            for _ in range(10):
                pass

    def open_census(*args: object, **kwargs: object) -> None:
        Finalised()
        time.sleep(10)

    monkeypatch.setattr("headrace.open_census", open_census)
    started = time.monotonic()
    assert main(["datasets", "--census", "x"]) == 130
    assert time.monotonic() - started < 5
    assert capsys.readouterr() == ("", "interrupted; nothing was written\n")


def test_nothing_is_said_or_waited_for_after_an_interrupt() -> None:
    """What is half made tells of its errors when Python ends, and threads that hang are waited for: not here."""
    code = """
import signal, sys, threading, time
import headrace.cli, headrace.sources.soma.open

class HalfMade:
    def __del__(self):
        raise OSError("bad file descriptor")

def open_census(*args, **kwargs):
    half = HalfMade()
    threading.Thread(target=time.sleep, args=(30,)).start()
    signal.raise_signal(signal.SIGINT)
    time.sleep(30)

headrace.sources.soma.open.open_census = open_census
sys.argv = ["headrace", "datasets", "--census", "x"]
sys.exit(headrace.cli.main())
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted; nothing was written\n")
    assert time.monotonic() - started < 20


def test_signals_are_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert main(["--version"]) == 0
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ demo
@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder, and what the demo said there to someone whose shell does not find headrace."""
    folder = tmp_path_factory.mktemp("a folder")
    return folder, headrace("demo", "--out", "a demo", cwd=folder, env=os.environ | {"PATH": "/usr/bin:/bin"})


def test_demo(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = demo
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert files(folder / "a demo") == ["liver.h5ad"]
    adata = ad.read_h5ad(folder / "a demo" / "liver.h5ad")
    query = hr.open_census(folder / "a demo" / "census").query("mus_musculus", dataset_id=LIVER)
    expected = hr.Plan(query, hr.recipes.full_length()).to_anndata()
    assert (adata.X != expected.X).nnz == 0
    assert f"700 read, {adata.n_obs:,} with at least 500 genes" in done.stdout
    assert f"2,000 measured, {adata.n_vars:,} seen in at least 5" in done.stdout
    assert "divided out for Smart-seq2 (700 cells)" in done.stdout
    top = adata.var[adata.var["highly_variable"]].nlargest(5, "dispersions_norm")["feature_name"]
    assert f"most variable   {', '.join(top)} (of 1,000 marked genes)" in done.stdout
    assert re.search(r"Wrote a demo/liver.h5ad: [\d.]+ MB in [\d.]+ s, peak memory [\d,]+ MB\.", done.stdout)


def test_what_the_demo_says_to_try_next_works(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, done = demo
    commands = [line.strip() for line in done.stdout.split("Try next:\n")[1].splitlines()]
    assert len(commands) == 3
    monkeypatch.chdir(folder)
    for command in commands[:2]:
        python, dash_m, name, *arguments = shlex.split(command)
        assert (python, dash_m, name) == (sys.executable, "-m", "headrace")
        assert main(arguments) == 0, command
        assert capsys.readouterr().err == ""
    export = subprocess.run(commands[2], shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert export.returncode == 0
    assert export.stderr.startswith("wrote a demo/lung.h5ad: 900 cells x ")
    assert ad.read_h5ad(folder / "a demo" / "lung.h5ad").n_obs == 900


def test_a_second_demo_uses_the_census_of_the_first(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, done = demo
    monkeypatch.chdir(folder)
    before, old = tree(folder / "a demo" / "census"), (folder / "a demo" / "liver.h5ad").read_bytes()
    assert main(["demo", "--out", "a demo"]) == 0
    out = capsys.readouterr().out
    assert "Found a demo/census: 7 datasets." in out
    assert "Built" not in out
    assert "Built a demo/census: 7 datasets." in done.stdout
    assert tree(folder / "a demo" / "census") == before
    assert (folder / "a demo" / "liver.h5ad").read_bytes() == old


def test_a_demo_that_was_killed_builds_its_census_again(
    demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> None:
        (path / "census_data").mkdir(parents=True)
        raise MemoryError

    monkeypatch.setattr("headrace.testing.build_demo_census", killed)
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert (tmp_path / "census" / "census_data").is_dir()
    monkeypatch.setattr("headrace.testing.build_demo_census", lambda path: shutil.copytree(demo_census, path))
    assert main(["demo", "--out", str(tmp_path)]) == 0
    assert "Built" in capsys.readouterr().out
    assert files(tmp_path) == ["liver.h5ad"]


def test_the_demo_touches_nothing_that_is_not_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "liver.h5ad").write_text("mine")
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert "no demo made it; choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["liver.h5ad"]
    (tmp_path / "census").mkdir()
    (tmp_path / "census" / "notes.txt").write_text("mine")
    assert main(["demo", "--out", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert ONE_LINE.fullmatch(err)
    assert "is not the Census of the demo; choose another --out" in err
    assert (tmp_path / "liver.h5ad").read_text() == "mine"
    assert (tmp_path / "census" / "notes.txt").read_text() == "mine"
    assert main(["demo", "--out", str(tmp_path / "liver.h5ad")]) == 1
    assert capsys.readouterr().err.startswith("error: cannot write to ")
