"""Warnings of the readers of tables."""

from __future__ import annotations


class AnnotationWarning(UserWarning):
    """Some samples or genes are not in the table that describes them."""


class MissingTranscriptsWarning(UserWarning):
    """Some transcripts have no gene in `tx2gene`, and their counts are left out."""


class TextEncodingWarning(UserWarning):
    """A table is not UTF-8 and was read as latin-1: names with accents may be wrong."""


class UnnamedSamplesWarning(UserWarning):
    """A table of several samples has no header, so their names are made up."""
