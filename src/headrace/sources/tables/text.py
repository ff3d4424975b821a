"""Bytes to text: where a table comes from, how it is compressed, how it is encoded."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import stat
import sys
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from ...errors import InputError
from ...support.memory import opening_budget
from ...support.places import absolute, look
from .notices import TextEncodingWarning

BLOCK = 1 << 24
HELD = 16
"""Bytes of memory that reading takes for each of text: 9 to 15 were seen, most where counts have one digit."""

BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NOT_TEXT = (
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file",
        "hr.open_h5ad reads .h5ad, hr.open_10x the .h5 of Cell Ranger; of kallisto, give abundance.tsv",
    ),
    (b"MuData", "a MuData file (.h5mu)", "hr.open_h5ad(path, modality=...) reads it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls)", "save the sheet as CSV or TSV"),
    (b"ARROW1", "an Arrow (feather) file", "pandas.read_feather(path) reads it; give open_counts the DataFrame"),
    (b"FEA1", "an Arrow (feather) file", "pandas.read_feather(path) reads it; give open_counts the DataFrame"),
    (b"%PDF", "a PDF", "ask for the table itself"),
    (b"<!DOC", "a web page", "download the file itself, not the page about it"),
    (b"<html", "a web page", "download the file itself, not the page about it"),
    (b"RDX", "an R data file", "in R: write.csv(x, 'counts.csv')"),
    (b"X\n\x00", "an R data file (.rds)", "in R: write.csv(readRDS(path), 'counts.csv')"),
    (b"\x93NUMPY", "a numpy file", "it has no names; make a DataFrame of it and give that"),
    (b"\x1f\x9d", "compressed by compress (.Z)", "uncompress it first"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
    (b"\x1f\x8b", "packed twice by gzip", "unpack it once first"),
    (b"BAM\x01", "a BAM file of alignments", "count its reads first, e.g. with featureCounts"),
    (b"CRAM", "a CRAM file of alignments", "count its reads first, e.g. with featureCounts"),
    (b"@HD\t", "a SAM file of alignments", "count its reads first, e.g. with featureCounts"),
    (b"##fileformat=VCF", "a VCF file of variants", "it holds no counts of genes"),
    (b">", "a FASTA file", "it holds sequences; count reads first, e.g. with salmon"),
    (b"{", "JSON", "pandas.read_json(path) may read it; give open_counts the DataFrame"),
    (b"SQLite format 3", "a SQLite file", "pandas.read_sql reads a table of it; give open_counts the DataFrame"),
    (b"\x04\x22\x4d\x18", "compressed by lz4", "unpack it first"),
    (b"\x80\x04", "a pickle of Python", "load it where it was made, and give open_counts the DataFrame"),
    (b"\x80\x05", "a pickle of Python", "load it where it was made, and give open_counts the DataFrame"),
    (b"%%MatrixMarket", "a Matrix Market file", "hr.open_10x reads the folder that it is in"),
)
"""What files that are no tables begin with, what they are, and what to do."""


@dataclass(frozen=True)
class Text:
    """A table as UTF-8, without a byte order mark.

    Parameters
    ----------
    name
        Where it is from, for messages.
    data
        Its bytes.
    """

    name: str
    data: bytes


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a pipe or standard input, which can be read once only."""
    if os.fspath(path) == "-":
        return True
    found = look(path)
    if found is None:
        return False
    mode = found.st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return what is in a file or pipe, unpacked: gzip, bzip2, xz, zstd, or a zip with one member.

    Raises
    ------
    InputError
        If it cannot be read, is damaged, or is larger unpacked than memory allows.
    """
    try:
        with _opened(path) as file:
            return _unpacked(file, os.fspath(path))
    except InputError:
        raise
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{os.fspath(path)} cannot be read: {why}; it may be damaged, so copy it again") from error
    except NotImplementedError as error:
        raise InputError(f"{os.fspath(path)} cannot be unpacked: {error}; unpack it first") from error


def _opened(path: str | os.PathLike[str]) -> Any:
    if os.fspath(path) != "-":
        return Path(path).open("rb")  # closed by the caller
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("'-' is standard input, but nothing is piped into it; e.g. zcat counts.csv.gz | ...")
    return open(sys.stdin.fileno(), "rb", closefd=False)


def _unpacked(file: IO[bytes], name: str) -> bytes:
    head = file.read(8)
    if not head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd", b"PK\x03\x04", b"PK\x05\x06")):
        return _limited(_Joined(head, file), name)
    packed = io.BytesIO(head + _limited(file, name))
    if head.startswith(b"PK"):
        return _of_zip(packed, name)
    inner: Any
    if head.startswith(b"\x1f\x8b"):
        inner = gzip.GzipFile(fileobj=packed)
    elif head.startswith(b"BZh"):
        inner = bz2.BZ2File(packed)
    elif head.startswith(b"\xfd7zXZ"):
        inner = lzma.LZMAFile(packed)  # noqa: SIM115 # closed with its bytes
    else:
        inner = pa.CompressedInputStream(packed, "zstd")
    return _limited(inner, name)


class _Joined:
    """A file of which the first bytes were read already."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self.head, self.file = head, file

    def read(self, n: int) -> bytes:
        head, self.head = self.head, b""
        return head or self.file.read(n)


def _of_zip(packed: IO[bytes], name: str) -> bytes:
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        if "[Content_Types].xml" in names or any(member.startswith("xl/") for member in names):
            raise InputError(
                f"{name} is an Excel file (.xlsx): save the sheet as CSV or TSV, or give open_counts what "
                "pandas.read_excel(path, index_col=0) returns. Look whether Excel has made dates of "
                "genes (SEPT2, MARCH1)"
            )
        if "mimetype" in names:
            raise InputError(f"{name} is a sheet of LibreOffice (.ods) or such: save it as CSV or TSV")
        members = [m for m in names if not m.endswith("/") and not m.startswith("__MACOSX/")]
        if any(member.endswith(".npy") for member in members):
            raise InputError(f"{name} is a numpy archive (.npz); it has no names: make a DataFrame of it and give that")
        if len(members) != 1:
            raise InputError(
                f"{name} is a zip with {len(members)} files ({', '.join(members[:5])}); unpack it and give one of them"
            )
        with archive.open(members[0]) as file:
            return _limited(file, name)


def _limited(file: Any, name: str) -> bytes:
    """Read all, but no more than memory allows."""
    limit = opening_budget() // HELD
    parts: list[bytes] = []
    total = 0
    while part := file.read(BLOCK):
        total += len(part)
        if total > limit:
            raise InputError(
                f"{name} has more than {limit / 1e6:,.0f} MB of text, which is held in memory with the numbers it "
                f"makes: raise memory=, cut it into parts, or write it as .h5ad and use hr.open_h5ad"
            )
        if len(parts) == 0 and part.count(0) == len(part) > 64:
            raise InputError(f"{name} holds nothing but NUL bytes; the file is damaged, so copy it again")
        parts.append(part)
    return b"".join(parts)


def read_text(path: str | os.PathLike[str]) -> Text:
    """Read a file or pipe of text: UTF-8 or UTF-16 with or without a mark, else latin-1 with a warning.

    Raises
    ------
    InputError
        If it is empty, no text, or holds NUL.
    """
    return decoded(read_bytes(path), "standard input" if os.fspath(path) == "-" else os.fspath(path))


def decoded(data: bytes, name: str) -> Text:
    """Return unpacked bytes as a `Text`; see `read_text`.

    Examples
    --------
    >>> decoded("gene,é".encode("utf-16"), "x").data.decode()
    'gene,é'
    """
    for magic, what, remedy in NOT_TEXT:
        if data.startswith(magic):
            raise InputError(f"{name} is {what}; {remedy}")
    if data[257:262] == b"ustar":
        raise InputError(f"{name} is a tar archive; unpack it, and give the files or the folder")
    for mark, encoding in BOMS:
        if data.startswith(mark):
            data = _recoded(data, encoding, name)
            break
    else:
        if data[1:200:2].count(0) > len(data[1:200:2]) * 0.8:
            data = _recoded(data, "utf-16-le", name)
        elif data[0:200:2].count(0) > len(data[0:200:2]) * 0.8:
            data = _recoded(data, "utf-16-be", name)
        else:
            data = _utf8(data, name)
    at = data.find(b"\0")
    if at >= 0:
        line = data.count(b"\n", 0, at) + 1
        raise InputError(f"{name}, line {line}: there is a NUL byte; the file is damaged or no text")
    if b"\n" not in data and b"\r" in data:
        data = data.replace(b"\r", b"\n")  # as Macintosh wrote them
    if not data.strip():
        raise InputError(f"{name} is empty")
    return Text(name, data)


def _utf8(data: bytes, name: str) -> bytes:
    try:
        if not data.isascii():
            data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        encoding = "latin-1"
        if any(byte in range(0x80, 0xA0) for byte in data):  # what Windows has there are letters and quotes
            encoding = "cp1252"
        warnings.warn(
            f"{name} is not UTF-8 (line {line}): read as {encoding}, so look at names with accents; saved as UTF-8, it "
            "is read without doubt",
            TextEncodingWarning,
            stacklevel=6,
        )
        try:
            return data.decode(encoding).encode()
        except UnicodeDecodeError:
            return data.decode("latin-1").encode()
    return data


def _recoded(data: bytes, encoding: str, name: str) -> bytes:
    try:
        return data.decode(encoding).encode()
    except UnicodeError as error:
        raise InputError(f"{name} cannot be read as {encoding.removesuffix('-sig')}: {error}") from error


def folder_of(path: str | os.PathLike[str]) -> str:
    """Return the name of the folder that a file is in."""
    return absolute(path).parent.name
