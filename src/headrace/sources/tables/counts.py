"""Counts of bulk samples: a table, an .h5ad file, or what is in memory, as a source."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from ...chunk import Chunk, Holds, StreamSpec
from ...errors import InputError, nearest
from ...support.given import check_call
from ...support.memory import opening
from ..arrays import ArraySource
from ..foreign import H5AD, is_hdf5, recognized
from ..summary import is_summary
from .annotations import annotation, beside, joined, tx2gene_of
from .checks import checked, files_of, of_genes, without_summary
from .counters import Strandedness, check_strandedness
from .frames import matrix_of, read_h5ad
from .lengths import gene_lengths
from .load import How, load
from .numerals import Decimal
from .quantifiers import CountsFromAbundance, summarized
from .text import is_pipe

Orientation = Literal["genes x samples", "samples x genes"]
GENE_ID = re.compile(r"(ENS[A-Z]*[GT]\d{6,}|FBgn\d{5,}|WBGene\d{5,}|Y[A-P][LR]\d{3}[WC]|SP[ABC][A-Z]*\d+\.)")

DENSE_VALUES = 4_000_000
"""At most so many values per chunk of samples if a step makes them dense."""


@dataclass(frozen=True, eq=False)
class BulkCounts(ArraySource):
    """Samples x genes in memory, as a source; see `open_counts`.

    Parameters
    ----------
    orientation
        How the table was read: "genes x samples" or "samples x genes".
    reason
        Why so.

    Examples
    --------
    >>> table = pd.DataFrame({"s1": [3, 1, 0], "s2": [0, 2, 4]}, index=["g1", "g2", "g3"])
    >>> counts = open_counts(table)
    >>> counts.orientation, counts.reason
    ('genes x samples', 'there are more genes than samples')
    >>> counts.X.toarray()
    array([[3., 1., 0.],
           [0., 2., 4.]], dtype=float32)
    """

    orientation: Orientation = "samples x genes"
    reason: str = ""
    notes: tuple[str, ...] = ()
    """What else was understood: separator, program, columns that describe genes."""
    lengths: pd.DataFrame | None = None
    """Effective lengths of a quantifier's genes, samples x genes, in bases; they become the layer "length"."""
    files: tuple[Path, ...] = ()
    """The files that were read; nothing is written over them."""
    counts_checked = True
    layer = "counts"

    @property
    def spec(self) -> StreamSpec:
        """What is known of the stream."""
        layers = {} if self.lengths is None else {"length": Holds.NORMALIZED}
        return replace(super().spec, samples=True, layers=layers)

    def read(self, refs: Sequence[tuple[int, int]]) -> Iterator[Chunk]:
        """Yield the samples between positions, in order, with their lengths if there are any."""
        for (start, stop), chunk in zip(refs, super().read(refs), strict=True):
            if self.lengths is not None:
                length = self.lengths.iloc[start:stop].to_numpy(np.float32)
                chunk = chunk.replaced(layers={"length": length})
            yield chunk


def open_counts(
    data: Any,
    *,
    samples: str | os.PathLike[str] | pd.DataFrame | None = None,
    genes: str | os.PathLike[str] | pd.DataFrame | None = None,
    orientation: Orientation | None = None,
    lengths: str | pd.Series | pd.DataFrame | Any = None,
    strandedness: Strandedness | None = None,
    tx2gene: str | os.PathLike[str] | pd.DataFrame | pd.Series | None = None,
    counts_from_abundance: CountsFromAbundance = "no",
    layer: str | None = None,
    raw: bool = False,
    holds: Literal["counts"] | None = None,
    separator: str | None = None,
    decimal: Decimal | None = None,
    header: bool | None = None,
    memory: int | str | None = None,
) -> BulkCounts:
    r"""Open counts of bulk samples as a source: samples are its cells.

    Parameters
    ----------
    data
        A table of text (also packed by gzip, bzip2, xz, zstd or zip; also a pipe or "-"), parquet or GCT; files of
        HTSeq, STAR, featureCounts, salmon, kallisto or RSEM; several of them: a list, {sample: path} or a folder; an
        .h5ad file; a DataFrame; or an AnnData. One sample is named by its file or folder. Columns of text describe
        genes.
    samples, genes
        What describes samples and genes: a file whose first column holds their ids, or a DataFrame indexed by
        them. None: "x.samples.csv" and "x.genes.csv" beside "x.csv" or "x.counts.csv", if they are there.
    orientation
        "genes x samples" or "samples x genes". None: told by the ids in `samples` and `genes`, by ids that look like
        those of genes, or by there being more genes than samples. `.orientation` and `.reason` of the result,
        and `uns["headrace"]`, say what was found. Not for AnnData.
    lengths
        Gene lengths in bases, for `var["feature_length"]`: the name of a column of `genes`; or a table by gene
        id, with or without version: a Series, a DataFrame with "feature_length" (indexed by id, or with
        "feature_id"), or a query of a Census.
    strandedness
        Which column of STAR's ReadsPerGene.out.tab: "unstranded", "forward" or "reverse". Required if they differ;
        refused for other tables.
    tx2gene
        Transcripts and their genes: a table's first two columns; or "gene_id", RSEM's own column of them. A
        quantifier's transcripts are summed to genes (also if `genes` is given).
    counts_from_abundance
        tximport's countsFromAbundance: "no" (counts as estimated; the layer "length" keeps the effective lengths,
        samples x genes, of which tximport's offsets are made), "scaledTPM" or "lengthScaledTPM" (no offset is needed,
        and no layer is kept). `var["feature_length"]` is the mean over samples in each case.
    layer, raw
        Which matrix of an .h5ad file or AnnData to read; X by default.
    holds
        "counts": read X of an .h5ad file as expected counts, though it is not whole.
    separator, decimal, header
        How a table of text is written, where that cannot be told: ",", "\t", ";", "|" or " "; "." or ",";
        whether its first line is names. A first line whose fields after the id are all numbers is data, unless the
        id's own field is blank or such as "gene_id".
    memory
        The most that reading text may take, e.g. "1GB": it is held in memory, with its numbers, some 16 bytes a byte.

    Returns
    -------
    A source whose X is float32, and dense where it is written (`dense=False` keeps it sparse). Sums of summary rows
    (HTSeq's `__no_feature`, STAR's `N_unmapped`) are in `obs`.

    Raises
    ------
    InputError
        If ids come twice or rows are ragged. `CountsError`: a count is negative, missing or text. Names row and column.

    Warns
    -----
    FractionalCountsWarning
        If counts are not whole.
    RoundedCountsWarning
        If a count above 2**24 is not a float32.
    AnnotationWarning
        If some samples or genes are not described.
    SummaryRowsWarning, MissingTranscriptsWarning, TextEncodingWarning, UnnamedSamplesWarning
        What was left out, and what was guessed.

    Examples
    --------
    >>> import pandas as pd, headrace as hr
    >>> table = pd.DataFrame({"s1": [5, 0, 2], "s2": [7, 1, 0]}, index=["ENSG00000000003", "g2", "g3"])
    >>> source = hr.open_counts(table)
    >>> source.orientation, source.spec.n_obs, source.spec.n_vars
    ('genes x samples', 2, 3)
    """
    check_call(open_counts, locals())
    check_strandedness(strandedness)
    origin: dict[str, Any] = {"source": "counts"}
    if counts_from_abundance not in get_args(CountsFromAbundance):
        known = get_args(CountsFromAbundance)
        raise InputError(
            f"counts_from_abundance={counts_from_abundance!r}; {nearest(str(counts_from_abundance), known)}"
        )
    if holds not in (None, "counts"):
        raise InputError(f"holds={holds!r}: open_counts reads counts; hr.open_h5ad(holds=...) reads other values")
    if isinstance(data, (str, os.PathLike)) and not os.fspath(data):
        raise InputError("open_counts(''): the path is empty (an unset variable?)")
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    path = Path(data) if isinstance(data, (str, os.PathLike)) and not is_pipe(data) else None
    if path is not None:
        origin["path"] = str(path)
        if path.is_file() and (path.suffix == ".h5ad" or (is_hdf5(path) and recognized(str(path)) is H5AD)):
            data = read_h5ad(path, layer, raw, sure=holds == "counts")
        elif path.is_file():
            samples = beside(path, "samples") if samples is None else samples
            genes = beside(path, "genes") if genes is None else genes
    read = files_of(data, path, samples, genes, tx2gene)
    if not hasattr(data, "obs_names") and (layer is not None or raw):
        raise InputError("layer= and raw= are for .h5ad files and AnnData")
    for name, given in (("samples", samples), ("genes", genes)):
        if isinstance(given, (str, os.PathLike)):
            origin[name] = str(given)
    notes: list[str] = []
    length: pd.DataFrame | None = None
    if hasattr(data, "obs_names"):
        if orientation not in (None, "samples x genes"):
            raise InputError(f"orientation={orientation!r}: an AnnData is samples x genes")
        orientation, reason = "samples x genes", "it is an AnnData"
        read_already = path is not None
        X, var = (data.X, data.var) if read_already else matrix_of(data, layer, raw, sure=holds == "counts")
        expected = False
        X, own, var = of_genes(X, data.obs, var)
        obs, var = joined(own, annotation(samples), "samples"), joined(var, annotation(genes), "genes")
    else:
        with opening(memory):
            loaded = load(data, How(strandedness, separator, decimal, header))
        notes, numbers, about = loaded.notes, loaded.numbers, loaded.rows
        expected = loaded.run is not None
        if loaded.run is not None:
            if tx2gene is None and genes is not None and not loaded.run.of_genes:
                tx2gene, genes = genes, None  # of transcripts, what describes them is their gene
            table = None if tx2gene is None else tx2gene_of(tx2gene, loaded.run)
            run = summarized(loaded.run, table, counts_from_abundance)
            numbers, length = run.counts, run.length
            about = about if table is None else pd.DataFrame(index=numbers.index)
        elif tx2gene is not None or counts_from_abundance != "no":
            raise InputError("tx2gene and counts_from_abundance are for files of salmon, kallisto or RSEM")
        with opening(memory):
            obs_table, var_table = annotation(samples), annotation(genes)
        orientation, reason = _orientation(numbers, obs_table, var_table, orientation, loaded.genes_first)
        columns = loaded.columns
        if orientation == "samples x genes":
            numbers, about, columns = numbers.T, columns, about
        numbers, sums = without_summary(numbers)
        about = about[~is_summary(about.index.astype(str))]
        X = numbers.T.to_numpy()
        obs = joined(columns.join(sums), obs_table, "samples")
        var = joined(about, var_table, "genes")
    X, kind = checked(X, obs.index, var.index, quiet=expected)
    if length is not None:
        var = var.assign(feature_length=length.mean(axis=1).to_numpy())
        length = length.T if counts_from_abundance == "no" else None
    if lengths is not None:
        var = var.assign(feature_length=gene_lengths(lengths, var))
    n_obs = max(1, DENSE_VALUES // max(1, X.shape[1]))
    origin |= {"orientation": orientation, "orientation_because": reason, "understood": "; ".join(notes)}
    if expected:
        origin["counts_from_abundance"] = counts_from_abundance
    return BulkCounts(
        X,
        obs,
        var,
        kind,
        origin,
        n_obs,
        orientation=orientation,
        reason=reason,
        notes=tuple(notes),
        lengths=length,
        files=read,
    )


def _orientation(
    frame: pd.DataFrame, obs: pd.DataFrame | None, var: pd.DataFrame | None, given: Orientation | None, known: str = ""
) -> tuple[Orientation, str]:
    """Tell which way round the table is, and why."""
    if given not in (None, "genes x samples", "samples x genes"):
        raise InputError(f"orientation={given!r}: 'genes x samples' or 'samples x genes'")
    if known and given == "samples x genes":
        raise InputError(f"orientation={given!r}: rows are genes here, {known}; leave it out")
    if given is not None:
        return given, "it was said"
    if known:
        return "genes x samples", known
    by_summary = [is_summary(names.astype(str)).any() for names in (frame.index, frame.columns)]
    if by_summary[0] != by_summary[1]:
        return ("genes x samples" if by_summary[0] else "samples x genes"), "by the summary rows of a counter"
    rows, columns = frame.index.astype(str), frame.columns.astype(str)
    evidence: list[tuple[float, float, str]] = []
    if obs is not None:
        evidence.append((columns.isin(obs.index).mean(), rows.isin(obs.index).mean(), "ids of the sample table"))
    if var is not None:
        evidence.append((rows.isin(var.index).mean(), columns.isin(var.index).mean(), "ids of the gene table"))
    by_rows, by_columns = (float(np.mean([bool(GENE_ID.match(name)) for name in names])) for names in (rows, columns))
    evidence.append((by_rows, by_columns, "names like gene ids"))
    for genes_first, samples_first, what in evidence:
        if genes_first != samples_first:
            first = genes_first > samples_first
            return ("genes x samples" if first else "samples x genes"), f"by the {what}"
    if len(rows) == len(columns):
        raise InputError(
            f"the table is {len(rows)} x {len(columns)} and its names do not tell genes from samples; say "
            "orientation='genes x samples' or 'samples x genes'"
        )
    many = len(rows) > len(columns)
    return ("genes x samples" if many else "samples x genes"), "there are more genes than samples"
