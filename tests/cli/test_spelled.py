"""What the library says in Python's words, the command line says in its own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import headrace as hr
from headrace.cli import main
from headrace.cli.options import PLAN
from headrace.cli.spelled import RULES, spelled
from headrace.sources.arrays import ArraySource

SOURCES = Path(hr.__file__).parent


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in: `cxg.h5ad` has its counts in raw.X and a layer, `twice.h5ad` the names of genes twice."""
    monkeypatch.chdir(tmp_path)
    X = sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (20, 10)).astype(np.float32))
    adata = ad.AnnData(X.copy(), obs=pd.DataFrame(index=[f"c{i}" for i in range(20)]))
    adata.layers["as counted"] = X
    adata.raw = adata.copy()
    adata.X = X.log1p()
    adata.write_h5ad("cxg.h5ad")
    del adata.raw
    adata.X = X
    adata.var_names = pd.Index([f"g{i // 2}" for i in range(10)])
    adata.var["gene_ids"] = [f"ENSG{i}" for i in range(10)]
    adata.write_h5ad("twice.h5ad")
    return tmp_path


SAID = [
    ("explain --h5ad cxg.h5ad", "ask for --raw"),
    ("explain --h5ad cxg.h5ad", "ask for --layer-in 'as counted'"),
    ("explain --h5ad cxg.h5ad", "--holds counts if they are counts that are not whole"),
    ("explain --h5ad cxg.h5ad --recipe cp10k", "ask for --raw"),
    ("explain --h5ad cxg.h5ad --raw --layer-in x", "--raw reads raw.X, --layer-in x a layer: give one"),
    ("explain --h5ad twice.h5ad", "--var-index gene_ids takes the ids"),
    ("explain --h5ad twice.h5ad --var-index gene_id", "--var-index gene_id: var of"),
    ("explain --h5ad .", "is a folder, no .h5ad: it holds no SOMA experiment"),
    ("explain --h5ad cxg.h5ad --raw --memory 1MB", "raise --memory"),
    ("export --h5ad cxg.h5ad --raw --out twice.h5ad", "twice.h5ad exists; --overwrite replaces it"),
    ("export CENSUS --out x.h5ad --target-sum median --spool cxg.h5ad", "folder with --spool"),
    ("explain CENSUS --layer X", "--layer: 'X' cannot be the name"),
    ("explain CENSUS --hvg 5", "--hvg-flavor seurat takes logged values, but X is counts here; give --log1p too"),
    ("explain CENSUS --log1p --hvg 0", "--hvg 0: at least 1\n"),
    ("explain CENSUS --log1p --hvg 5 --hvg-layer x", "--hvg: no layer 'x' was saved"),
    ("explain CENSUS --log1p --hvg 5 --hvg-flavor seurat_v3", "--layer counts --hvg-layer counts keeps them"),
    ("explain CENSUS --layer c --log1p --hvg 5 --hvg-flavor seurat_v3", "--hvg-layer c has them"),
    ("explain CENSUS --target-sum 0", "--target-sum 0.0: a positive number, or median"),
    ("explain CENSUS --min-genes -1", "--min-genes -1: a bound"),
    ("export CENSUS --min-cells 9999 --out x.h5ad", "--min-cells 9999: none of the"),
    ("explain CENSUS --pseudobulk donor", "--pseudobulk: obs has no column 'donor'"),
    (
        "explain CENSUS --layer-in normalized --length-normalize auto",
        "needs counts, but X is normalized here; read counts",
    ),
    ("explain --h5ad cxg.h5ad --holds logged --log1p", "--log1p: X is logged here already; leave --log1p out"),
    ("explain --h5ad cxg.h5ad --raw --length-normalize auto", "--length-normalize: var has no column"),
]


@pytest.mark.parametrize(("arguments", "said"), SAID)
def test_a_remedy_is_an_option(
    arguments: str, said: str, files: Path, demo_census: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    census = f"--census {shlex.quote(str(demo_census))} --organism mus_musculus"
    assert main(shlex.split(arguments.replace("CENSUS", census))) == 1
    err = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]+\n", err)
    assert said in err
    assert not re.search(r"\b(raw|layer|holds|var_index|spool|overwrite|memory|flavor)=", err), err


@pytest.mark.filterwarnings("default::headrace.DuplicateCellsWarning")
def test_a_warning_too(demo_census: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--census", str(demo_census), "--organism", "homo_sapiens"]) == 0
    assert "--primary-only leaves them out, --keep-duplicates keeps them" in capsys.readouterr().err


def test_a_recipe_file_has_the_words_of_python(
    demo_census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a recipe makes the steps, the options for them are refused: they are no remedy."""
    file = tmp_path / "recipe.toml"
    file.write_text('[[step]]\nstep = "HighlyVariableGenes"\nn_top_genes = 5\n')
    assert main(["explain", "--census", str(demo_census), "--organism", "mus_musculus", "--recipe", str(file)]) == 1
    said = capsys.readouterr().err
    assert (
        "HighlyVariableGenes(flavor='seurat') takes logged values, but X is counts here; put Log1p() before it" in said
    )


def test_a_table_of_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("gene,a,b\ng,1,2\nh,3,4\n")
    bulk = ["bulk", str(tmp_path / "x.csv"), "--out", str(tmp_path / "out.h5ad")]
    for more, said in {
        "--orientation genes-x-samples --lengths length": "--lengths length: genes have no such column",
        "--orientation genes-x-samples --log --prior-count 0": "--prior-count 0.0: a number above 0",
        "--orientation genes-x-samples --filter condition": "--filter: obs has no column 'condition'",
        "--orientation genes-x-samples --to tpm": "--lengths takes them from a column of",
        "": "say --orientation\n",
    }.items():
        assert main([*bulk, *more.split()]) == 1
        assert said in capsys.readouterr().err


def test_methods_are_spelled_as_in_edger_too(tmp_path: Path) -> None:
    """So that what an error names, e.g. TMMwsp, is taken."""
    (tmp_path / "x.csv").write_text("gene,a,b\ng,1,2\nh,3,4\n")
    base = ["bulk", str(tmp_path / "x.csv"), "--orientation", "genes-x-samples", "--out", str(tmp_path / "out.h5ad")]
    assert main([*base, "--method", "TMMwsp"]) == 0
    assert main([*base, "--method", "tmmwsp", "--overwrite"]) == 0


def every_option() -> set[str]:
    def command() -> None: ...

    for one in PLAN:
        one(command)
    named = {name for param in command.__click_params__ for name in (*param.opts, *param.secondary_opts)}  # type: ignore[attr-defined]
    named |= {"--samples", "--lengths", "--orientation", "--filter", "--prior-count", "--rate"}
    return named | {"--strandedness", "--separator", "--decimal"}


def test_every_option_that_is_named_is_there() -> None:
    assert {option for option, _, _ in RULES} <= every_option()
    assert {name for _, _, said in RULES for name in re.findall(r"--[a-z0-9-]+", said)} <= every_option()


# Messages that are hard to come by: as they stand in the source, and what becomes of them.
IN_SOURCE = {
    "sources/h5ad/values.py": ("say what they are with holds=", "say what they are with --holds"),
    "sources/h5ad/transposed.py": ("choose another folder with scratch=", "choose another folder with TMPDIR"),
    "sources/soma/location.py": (
        "tiledb_config={'sm.mem.total_budget': 4 * 1024**3}",
        f"--tiledb-config sm.mem.total_budget={4 * 1024**3}",
    ),
    "sources/soma/query.py": ("genes='any' takes those", "--genes any takes those"),
    "sources/tables/read.py": ("a file of its own (genes=..., samples=...)", "a file of its own (--genes, --samples)"),
    "steps/check.py": (
        "choose the layer with counts, or leave",
        "choose the layer with counts (--layer-in, --raw), or leave",
    ),
    "steps/normalize.py": (
        "NormalizeLength(assays='all') corrects every cell",
        "--length-normalize all corrects every cell",
    ),
    "stats/libraries.py": ("use method='TMMwsp'", "use --method TMMwsp"),
}


@pytest.mark.parametrize("where", IN_SOURCE)
def test_what_is_rarely_said(where: str) -> None:
    python, said = IN_SOURCE[where]
    assert python in (SOURCES / where).read_text()
    assert spelled(python, every_option()) == said


def test_no_rule_is_for_what_is_never_said() -> None:
    """Every rule speaks for something that is tested here; a message that is worded anew takes its rule along."""
    steps: list[Callable[[], object]] = [
        lambda: hr.HighlyVariableGenes(n_top_genes=0),
        lambda: hr.NormalizeTotal(0),
        lambda: hr.FilterCells(min_genes=-1),
        lambda: hr.LogCPM(0),
        lambda: hr.Plan(
            ArraySource(np.eye(3), pd.DataFrame(index=list("abc")), pd.DataFrame(index=list("def"))), [hr.RPKM()]
        ),
    ]
    for make in steps:
        with pytest.raises(hr.InputError) as caught:
            make()
        assert spelled(str(caught.value), every_option()) != str(caught.value)
    assert spelled("a path with raw=True_or_not, no gene 'CPM', obs['layer']", every_option()).endswith("obs['layer']")
