"""What programs that count reads per gene write beside genes: summary rows, and columns by strandedness."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from ...errors import InputError, nearest
from ...support.places import absolute
from ..summary import STAR as STAR_ROWS
from ..summary import is_summary

Strandedness = Literal["unstranded", "forward", "reverse"]

STAR = re.compile(STAR_ROWS)
STAR_COLUMNS: dict[str, int] = {"unstranded": 0, "forward": 1, "reverse": 2}
TCGA_COLUMNS = ("unstranded", "stranded_first", "stranded_second")
GENERIC = (
    "quant",
    "quant.genes",
    "abundance",
    "abundances",
    "ReadsPerGene.out",
    "ReadsPerGene",
    "counts",
    "t_data",
    "gene_counts",
    "results",
)
"""Names of files that every run has: the sample is named by the folder."""

ENDINGS = re.compile(
    r"(\.(gz|bz2|xz|zip|zst))?$|(\.(csv|tsv|tab|txt|sf|parquet|quant|xprs))$|"
    r"([._-]?(ReadsPerGene\.out|genes\.results|isoforms\.results|alleles\.results|quant\.genes|quant|abundance|"
    r"augmented_star_gene_counts|rna_seq|htseq_counts|htseq|star_counts|featureCounts|gene_counts|counts?))$",
    re.IGNORECASE,
)


def is_star(names: Sequence[str], header: Sequence[str] | None, said: str | None = None, where: str = "") -> bool:
    """Return whether a table of three columns is STAR's ReadsPerGene.out.tab, by its first rows or its name.

    Parameters
    ----------
    said
        The strandedness that was given: only STAR's tables have one.
    """
    if header is not None:
        lowered = [name.lower() for name in header]
        return all(name in lowered for name in TCGA_COLUMNS)
    return said is not None or "ReadsPerGene" in Path(where).name or any(STAR.fullmatch(name) for name in names[:4])


def star_column(frame: pd.DataFrame, name: str, strandedness: Strandedness | None) -> pd.DataFrame:
    """Choose a column of STAR's three; `frame` has them in STAR's order.

    Raises
    ------
    InputError
        If no strandedness is given and the columns differ: their sums are named, and nothing is guessed.
    """
    check_strandedness(strandedness)
    values = frame.to_numpy()
    if strandedness is None:
        if (values == values[:, :1]).all():
            return frame.iloc[:, [0]]
        genes = values[~is_summary(frame.index)]
        sums = ", ".join(f"{at} {total:,.0f}" for at, total in zip(STAR_COLUMNS, genes.sum(axis=0), strict=True))
        raise InputError(
            f"{name} is STAR's, with a column of counts for each kind of library ({sums}); say which it is: "
            "strandedness='unstranded', 'forward' or 'reverse'"
        )
    return frame.iloc[:, [STAR_COLUMNS[strandedness]]]


def check_strandedness(given: str | None) -> None:
    """Raise if there is no such strandedness."""
    if given is not None and given not in get_args(Strandedness):
        raise InputError(f"strandedness={given!r}; {nearest(str(given), get_args(Strandedness))}")


def refuse_strandedness(given: str | None, where: str) -> None:
    """Raise if a strandedness was given for a table that has no choice of columns."""
    if given is not None:
        raise InputError(f"strandedness={given!r} chooses a column of STAR's, but {where} is none; leave it out")


def sample_of(path: str | Path) -> str:
    """Return the sample that a file is of: by its name, or by its folder if all such files are called the same.

    Examples
    --------
    >>> sample_of("runs/s1/quant.sf"), sample_of("s2.genes.results"), sample_of("s3_ReadsPerGene.out.tab.gz")
    ('s1', 's2', 's3')
    """
    path = Path(path)
    name = path.name
    while True:
        shorter = ENDINGS.sub("", name, count=1).rstrip("._- ")
        if not shorter or shorter == name:
            break
        name = shorter
    generic = {one.lower() for one in GENERIC}
    if not ENDINGS.sub("", name, count=1) or name.lower() in generic:
        return absolute(path).parent.name or name
    return name
