"""Runs of salmon, kallisto, RSEM and their kin: expected counts with effective lengths, as tximport reads them.

Definitions are tximport's (Soneson, Love & Robinson, F1000Research 2015, 4:1521).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import InputError, nearest
from .notices import MissingTranscriptsWarning

CountsFromAbundance = Literal["no", "scaledTPM", "lengthScaledTPM"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Format:
    """The columns of a quantifier's file."""

    program: str
    id: str
    length: str
    counts: str
    abundance: str | None
    full_length: str | None = None
    gene: str | None = None
    of_genes: bool = False


FORMATS = (
    Format("salmon", "Name", "EffectiveLength", "NumReads", "TPM", "Length"),
    Format("sailfish", "Name", "Length", "NumReads", "TPM"),
    Format("kallisto", "target_id", "eff_length", "est_counts", "tpm", "length"),
    Format("RSEM", "gene_id", "effective_length", "expected_count", "TPM", "length", of_genes=True),
    Format("RSEM", "transcript_id", "effective_length", "expected_count", "TPM", "length", gene="gene_id"),
    Format("eXpress", "target_id", "eff_length", "est_counts", "tpm", "length"),
    Format("piscem-infer", "target_name", "eelen", "ecount", "tpm", "len"),
    Format("oarfish", "tname", "len", "num_reads", None),
)
NO_COUNTS = (
    ({"fpkm_conf_lo", "fpkm"}, "Cufflinks' FPKM table"),
    ({"coverage", "fpkm", "tpm"}, "StringTie's gene abundances"),
    ({"t_id", "cov", "fpkm"}, "StringTie's t_data.ctab"),
)
"""Files that hold no counts."""


@dataclass(frozen=True)
class Run:
    """Matrices of transcripts or genes x samples.

    Parameters
    ----------
    counts, length, abundance
        Estimated reads; effective lengths in bases; transcripts per million.
    genes
        The gene of each transcript, if the file says it.
    """

    program: str
    counts: pd.DataFrame
    length: pd.DataFrame
    abundance: pd.DataFrame
    genes: pd.Series | None
    of_genes: bool


def format_of(names: list[str]) -> Format | None:
    """Return whose file has these columns (the id's first), or None.

    Raises
    ------
    InputError
        If it is one that holds no counts.
    """
    lowered = [name.lower() for name in names]
    for form in FORMATS:
        wanted = [form.length, form.counts, *([form.abundance] if form.abundance else [])]
        if lowered[0] in (form.id.lower(), "") and all(name.lower() in lowered for name in wanted):
            return form
        if form.program == "eXpress" and form.id in names and all(name in names for name in wanted):
            return form
    for columns, what in NO_COUNTS:
        if columns <= set(lowered):
            raise InputError(f"this is {what}, which holds no counts: give what counted reads, e.g. prepDE.py's matrix")
    return None


def run_of(frame: pd.DataFrame, form: Format, sample: str, of_genes: bool) -> Run:
    """Make a run of one file, whose columns are as in the file and whose index holds the ids."""
    by = {str(name).lower(): name for name in frame.columns}

    def column(name: str) -> pd.DataFrame:
        return pd.to_numeric(frame[by[name.lower()]], errors="coerce").astype(float).to_frame(sample)

    length, counts = column(form.length), column(form.counts)
    if form.abundance is None:
        rate = counts / length.where(length > 0)
        abundance = (rate / rate.sum() * 1e6).fillna(0.0)
    else:
        abundance = column(form.abundance)
    genes = frame[by[form.gene.lower()]].astype(str) if form.gene and form.gene.lower() in by else None
    if form.program == "RSEM" and not form.of_genes:
        length = length.clip(lower=1)  # as tximport
    return Run(form.program, counts, length, abundance, genes, form.of_genes or of_genes)


def joined(runs: list[Run], names: list[str]) -> Run:
    """Put samples beside one another; they must be of one program and the same ids."""
    first = runs[0]
    for run, name in zip(runs[1:], names[1:], strict=True):
        if (run.program, run.of_genes) != (first.program, first.of_genes):
            raise InputError(f"{names[0]} is of {first.program}, {name} of {run.program}, or of another level")
    ids = same_ids([run.counts for run in runs], names)

    def beside(tables: list[pd.DataFrame]) -> pd.DataFrame:
        return pd.concat([table.loc[ids] for table in tables], axis=1)

    return replace(
        first,
        counts=beside([run.counts for run in runs]),
        length=beside([run.length for run in runs]),
        abundance=beside([run.abundance for run in runs]),
    )


def same_ids(tables: list[pd.DataFrame], names: list[str]) -> pd.Index:
    """Return the ids of the first table, or raise unless all have the same, each once."""
    for table, name in zip(tables, names, strict=True):
        if not table.index.is_unique:
            raise InputError(f"{name}: {table.index[table.index.duplicated()][0]!r} comes more than once")
        odd = tables[0].index.symmetric_difference(table.index)
        if len(odd):
            raise InputError(
                f"{names[0]} and {name} are of other genes or transcripts: {len(odd)} are in one only, e.g. "
                f"{odd[0]!r}; count them with the same annotation"
            )
    return tables[0].index


def summarized(run: Run, tx2gene: pd.Series | None, how: CountsFromAbundance) -> Run:
    """Sum transcripts to genes, and take counts from abundances, as tximport's `summarizeToGene`.

    Parameters
    ----------
    tx2gene
        Genes, indexed by transcript. None: as they are.
    how
        tximport's `countsFromAbundance`.
    """
    if how not in get_args(CountsFromAbundance):
        raise InputError(f"counts_from_abundance={how!r}; {nearest(str(how), get_args(CountsFromAbundance))}")
    if how != "no" and run.of_genes:
        raise InputError(
            f"counts_from_abundance={how!r} needs transcripts, as in tximport, but these are genes; give "
            "quant.sf or *.isoforms.results"
        )
    if tx2gene is None and run.genes is not None and not run.of_genes and how != "no":
        tx2gene = None  # stays at transcripts: tximport's txOut=TRUE
    counts, abundance, length = (table.to_numpy() for table in (run.counts, run.abundance, run.length))
    ids: Any = run.counts.index
    if tx2gene is not None:
        known = matched(pd.Index(ids), tx2gene)
        there = known.notna().to_numpy()
        if not there.all():
            lost = counts[~there].sum()
            warnings.warn(
                f"{(~there).sum()} of {len(there)} transcripts have no gene in tx2gene, e.g. {ids[~there][0]!r}: they "
                f"and their {lost:,.0f} counts ({lost / max(counts.sum(), 1e-300):.2%}) are left out",
                MissingTranscriptsWarning,
                stacklevel=4,
            )
        codes, ids = pd.factorize(known[there].to_numpy(), sort=True)
        counts, abundance, length = counts[there], abundance[there], length[there]
        counts, abundance, length = _to_genes(counts, abundance, length, codes, len(ids))
    if how != "no":
        counts = counts_from(counts, abundance, length, how)
    index, columns = pd.Index(ids, dtype=object), run.counts.columns

    def table(values: Floats) -> pd.DataFrame:
        return pd.DataFrame(values, index, columns)

    return replace(run, counts=table(counts), length=table(length), abundance=table(abundance))


def _to_genes(
    counts: Floats, abundance: Floats, length: Floats, codes: npt.NDArray[np.intp], n: int
) -> tuple[Floats, Floats, Floats]:
    def rowsum(values: Floats) -> Floats:
        out = np.zeros((n, values.shape[1]))
        np.add.at(out, codes, values)
        return out

    total = rowsum(abundance)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = rowsum(abundance * length) / total
    plain = np.bincount(codes, length.mean(axis=1), n) / np.bincount(codes, minlength=n)
    missing = np.isnan(mean)
    for gene in np.flatnonzero(missing.any(axis=1)):  # tximport's replaceMissingLength
        gone = missing[gene]
        mean[gene, gone] = plain[gene] if gone.all() else np.exp(np.log(mean[gene, ~gone]).mean())
    return rowsum(counts), total, mean


def counts_from(counts: Floats, abundance: Floats, length: Floats, how: CountsFromAbundance) -> Floats:
    """Return abundances scaled to each sample's total of counts; "lengthScaledTPM": times the gene's mean length first.

    Examples
    --------
    >>> counts_from(np.array([[30.0], [70]]), np.array([[1.0], [4]]), np.array([[100.0], [100]]), "scaledTPM").ravel()
    array([20., 80.])
    """
    new = abundance * length.mean(axis=1, keepdims=True) if how == "lengthScaledTPM" else abundance
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = counts.sum(axis=0) / new.sum(axis=0)
    return new * np.where(np.isfinite(scale), scale, 0.0)


def matched(ids: pd.Index, tx2gene: pd.Series) -> pd.Series:
    """Find each transcript's gene: by its id, else by what stands before "|" (GENCODE), else without version.

    Raises
    ------
    InputError
        If none is found.
    """
    best = pd.Series(np.nan, index=ids, dtype=object)
    names, keys = pd.Series(ids.astype(str), index=ids), pd.Series(tx2gene.index.astype(str))
    for bar, version in ((False, False), (True, False), (False, True), (True, True)):
        cut, wanted = (names.str.split("|").str[0] if bar else names), keys
        if version:
            pattern = r"^(ENS[A-Z]*T\d+)\.\d+"
            cut, wanted = cut.str.replace(pattern, r"\1", regex=True), keys.str.replace(pattern, r"\1", regex=True)
        table = pd.Series(tx2gene.to_numpy(object), index=wanted.to_numpy())
        table = table[~table.index.duplicated()]
        found = pd.Series(table.reindex(cut.to_numpy()).to_numpy(object), index=ids)
        if found.notna().sum() > best.notna().sum():
            best = found
    if not best.notna().any():
        raise InputError(
            f"tx2gene has none of {len(ids)} transcripts, e.g. {ids[0]!r}; it begins with {tx2gene.index[0]!r}: use "
            "the same annotation for both, transcripts in its first column, genes in its second"
        )
    return best
