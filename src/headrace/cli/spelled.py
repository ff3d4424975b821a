"""Messages of the library, in the words of the command line.

An error of the library names its remedy as Python writes it (``raw=True``). Here that becomes the option which does the
same (``--raw``), if the command that runs has it; all else stays as it was said.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from functools import partial

STEPS = {
    "SaveLayer": "--layer",
    "FilterCells": "--min-genes",
    "FilterGenes": "--min-cells",
    "Pseudobulk": "--pseudobulk",
    "NormFactors": "--method",
    "NormalizeLength": "--length-normalize",
    "NormalizeTotal": "--target-sum",
    "Log1p": "--log1p",
    "HighlyVariableGenes": "--hvg",
    "FilterByExpr": "--filter",
}
"""The options that make steps."""

RULES = (
    # the option that the command must have; what the library says; what is said instead
    ("--raw", r"\braw=True\b", "--raw"),
    ("--layer-in", r"(?:(?<=ask for )|(?<=\()|(?<=raw\.X, ))layer='([^']*)'", r"--layer-in \1"),
    ("--layer-in", r"\bchoose the layer with counts", "choose the layer with counts (--layer-in, --raw)"),
    ("--holds", r"\bholds='(\w+)'", r"--holds \1"),
    ("--holds", r"\bholds=$", "--holds"),
    ("--var-index", r"\bvar_index='([^']*)'", r"--var-index \1"),
    ("--modality", r"\bmodality='([^']*)'", r"--modality \1"),
    ("--counts", r"\bcounts='int32'", "--counts int32"),
    ("--var-names", r"\bvar_names='([^']*)'", r"--var-names \1"),
    ("--soma", r"\bhr\.open_soma\b", "--soma"),
    ("--census", r"\bhr\.open_soma\b", "hr.open_soma in Python"),
    ("--h5ad", r"\bscratch=", "TMPDIR"),
    ("--tiledb-config", r"\btiledb_config=\{'([\w.]+)': 4 \* 1024\*\*3\}", r"--tiledb-config \1=4294967296"),
    ("--ignore-nnz", r"\buse_nnz=False\b", "--ignore-nnz"),
    ("--outside", r"\boutside=True\b", "--outside"),
    ("--tiledb-config", r"\btiledb_config=\{'([\w.]+)': '([\w.-]+)'\}", r"--tiledb-config \1=\2"),
    ("--rate", r"\brate= says how long that takes, e\.g\. rate='(\w+)'", r"--rate \1 says how long that takes"),
    ("--reader", r"\breader='(\w+)'", r"--reader \1"),
    ("--genes", r"\bgenes='(any|all)'", r"--genes \1"),
    ("--primary-only", r"\bprimary_only=True\b", "--primary-only"),
    ("--keep-duplicates", r"\bprimary_only=False\b", "--keep-duplicates"),
    ("--memory", r"\braise memory\b=?", "raise --memory"),
    ("--overwrite", r"\boverwrite=True \(on the command line --overwrite\)", "--overwrite"),
    ("--recipe", r"\bmask_var=None\b", "mask_var = false in a recipe file"),
    ("--spool", r"\bspool=", "--spool"),
    ("--samples", r"\(genes=\.\.\., samples=\.\.\.\)", "(--genes, --samples)"),
    ("--lengths", r"\blengths='([^']*)'", r"--lengths \1"),
    ("--lengths", r"\bopen_counts\(\.\.\., lengths=\.\.\.\) takes them from", "--lengths takes them from a column of"),
    ("--orientation", r"\borientation='genes x samples' or 'samples x genes'", "--orientation"),
    ("--strandedness", r"\bstrandedness='(\w+)', '(\w+)' or '(\w+)'", r"--strandedness \1, \2 or \3"),
    ("--separator", r"\bseparator='([^']*)'", r"--separator \1"),
    ("--decimal", r"\bdecimal='([.,])'", r"--decimal \1"),
    ("--layer", r"\bSaveLayer\('counts'\) before they are changed keeps", "--layer counts --hvg-layer counts keeps"),
    ("--hvg-layer", r"\blayer='([^']*)' has them", r"--hvg-layer \1 has them"),
    ("--hvg-batch", r"\bbatch_key='([^']*)'", r"--hvg-batch \1"),
    ("--hvg-flavor", r"\bHighlyVariableGenes\(flavor='([^']*)'\)", r"--hvg-flavor \1"),
    ("--hvg", r"\bHighlyVariableGenes\(n_top_genes=(.*?)\): at least 1, or None", r"--hvg \1: at least 1"),
    ("--log1p", r"\bput Log1p\(\) before it", "give --log1p too"),
    ("--target-sum", r"\bNormalizeTotal\(target_sum=(.*?)\)", r"--target-sum \1"),
    ("--target-sum", r"\bor None for the median", "or median"),
    ("--length-normalize", r"\bNormalizeLength\(assays='all'\)", "--length-normalize all"),
    ("--min-genes", r"\bFilterCells\(min_genes=(.*?)\)", r"--min-genes \1"),
    ("--min-cells", r"\bFilterGenes\(min_cells=([^,)]*).*?\)", r"--min-cells \1"),
    ("--log1p", r"(?<=here already; )remove one of the two steps", "leave --log1p out"),
    ("--layer", r"\bput it before(?: that step)?(?:, or UseLayer\('counts'\))?$", "read counts (--layer-in, --raw)"),
    ("--method", r"\b(?:NormFactors\()?method='(\w+)'\)?", r"--method \1"),
    ("--prior-count", r"\bLogCPM\(prior_count=(.*?)\)", r"--prior-count \1"),
    *((option, rf"\b{step}(?=[:,;]| needs)", option) for step, option in STEPS.items()),
)


def spelled(text: str, options: Collection[str]) -> str:
    """Return what the library says, in words of the command line.

    Parameters
    ----------
    text
        A message.
    options
        The options that the command has. Those that make steps are left out where a recipe makes them.

    Examples
    --------
    >>> spelled("Whole numbers are what raw/X has: ask for raw=True", ["--raw"])
    'Whole numbers are what raw/X has: ask for --raw'
    >>> spelled("Whole numbers are what raw/X has: ask for raw=True", ["--memory"])
    'Whole numbers are what raw/X has: ask for raw=True'
    """
    for option, python, shell in RULES:
        if option in options:
            text = re.sub(python, partial(_filled, shell), text)
    return text


def _filled(shell: str, found: re.Match[str]) -> str:
    """Put what was found into its place, as a shell takes it."""
    return re.sub(r"\\(\d)", lambda place: shlex.quote(found[int(place[1])]), shell)
