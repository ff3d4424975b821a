"""Warnings of the readers of tables."""

from __future__ import annotations


class AnnotationWarning(UserWarning):
    """Some samples or genes are not in the table that describes them.

    Examples
    --------
    >>> import warnings, pandas as pd, headrace as hr
    >>> table = pd.DataFrame({"s1": [3, 1], "s2": [0, 2]}, index=["g1", "g2"])
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     counts = hr.open_counts(table, samples=pd.DataFrame({"sex": ["f"]}, index=["s1"]))
    >>> print(told[0].message)
    1 of 2 samples are not in the table that describes them, e.g. 's2'
    """


class MissingTranscriptsWarning(UserWarning):
    r"""Some transcripts have no gene in `tx2gene`, and their counts are left out.

    Examples
    --------
    >>> import pathlib, tempfile, warnings, pandas as pd, headrace as hr
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "quant.sf"
    >>> head = "Name\tLength\tEffectiveLength\tTPM\tNumReads"
    >>> _ = file.write_text(f"{head}\nT1\t900\t700\t1\t6\nT2\t900\t700\t1\t9\n")
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     counts = hr.open_counts(file, tx2gene=pd.Series({"T1": "A"}))
    >>> print(told[0].message)
    1 of 2 transcripts have no gene in tx2gene, e.g. 'T2': they and their 9 counts (60.00%) are left out
    """


class TextEncodingWarning(UserWarning):
    r"""A table is not UTF-8 and was read as latin-1: names with accents may be wrong.

    Examples
    --------
    >>> import pathlib, tempfile, warnings, headrace as hr
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "counts.csv"
    >>> _ = file.write_bytes(",Müller,Meyer\ng1,1,2\n".encode("latin-1"))
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     counts = hr.open_counts(file, orientation="genes x samples")
    >>> print(str(told[0].message).replace(str(file), "counts.csv"))
    counts.csv is not UTF-8 (line 1): read as latin-1, so look at names with accents; ...
    """


class UnnamedSamplesWarning(UserWarning):
    r"""A table of several samples has no header, so their names are made up.

    Examples
    --------
    >>> import pathlib, tempfile, warnings, headrace as hr
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "counts.tsv"
    >>> _ = file.write_text("7157\t5\t7\n672\t0\t1\n")
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     counts = hr.open_counts(file, orientation="genes x samples")
    >>> print(str(told[0].message).replace(str(file), "counts.tsv"))
    counts.tsv has no header: its 2 samples are called ...
    """
