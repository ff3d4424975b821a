"""One file or many, of any program, as one table of counts: genes x samples, or as it stands."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ...errors import InputError
from ...support.places import absolute
from ..foreign import FOLDER, is_hdf5, recognized, refusal
from .counters import STAR_COLUMNS, TCGA_COLUMNS, Strandedness, is_star, refuse_strandedness, sample_of, star_column
from .frames import described
from .numerals import Decimal
from .parquet import read_parquet
from .quantifiers import Run, format_of, joined, run_of, same_ids
from .read import FEATURE_COUNTS, Sheet, name_samples, read_counts
from .text import Text, is_pipe, read_text

FOLDERS = (
    "quant.sf",
    "abundance.tsv",
    "*.genes.results",
    "*.isoforms.results",
    "*ReadsPerGene.out.tab",
    "quant.genes.sf",
)
"""What is looked for in a folder, the first that is there; each also packed (.gz)."""

MERGED_ALREADY = re.compile(r"(tpm_|fpkm_|rpkm_)", re.IGNORECASE)


@dataclass
class Loaded:
    """Numbers with a name per row and column, what describes both, and what was understood."""

    numbers: pd.DataFrame
    rows: pd.DataFrame
    columns: pd.DataFrame
    genes_first: str = ""
    """Why rows are genes, if the format says so."""
    notes: list[str] = field(default_factory=list)
    run: Run | None = None


@dataclass(frozen=True)
class How:
    """What the user said of the files."""

    strandedness: Strandedness | None = None
    separator: str | None = None
    decimal: Decimal | None = None
    header: bool | None = None


def load(data: Any, how: How) -> Loaded:
    """Read what `open_counts` is given, unless it is an AnnData or an .h5ad file.

    Raises
    ------
    InputError
        If it is nothing of the kind, or files do not fit together.
    """
    if isinstance(data, pd.DataFrame):
        numbers, rows, columns = described(data)
        return Loaded(numbers, rows, columns)
    if isinstance(data, Mapping):
        odd = next((k for k, v in data.items() if not isinstance(v, (str, os.PathLike))), None)
        if odd is not None:
            raise InputError(f"open_counts: {odd!r} has no path, but {type(data[odd]).__name__}; or give a DataFrame")
        return _many(list(data.values()), [str(name) for name in data], how)
    if isinstance(data, (str, os.PathLike)):
        if not is_pipe(data) and Path(data).is_dir():
            files = in_folder(Path(data))
            return _many(files, _names(files), how)
        return _one(data, None, how)
    if isinstance(data, Sequence) and data and all(isinstance(one, (str, os.PathLike)) for one in data):
        return _one(data[0], None, how) if len(data) == 1 else _many(list(data), _names(data), how)
    raise InputError(f"open_counts takes a path, paths, a DataFrame or an AnnData, not {type(data).__name__}")


def in_folder(folder: Path) -> list[Path]:
    """Return the files of quantifiers or counters in a folder and two levels below.

    Raises
    ------
    InputError
        If there are none, or of several programs.
    """
    found = {}
    for name in FOLDERS:
        files = [f for depth in ("", "*/", "*/*/") for end in ("", ".gz") for f in folder.glob(depth + name + end)]
        if files:
            found[name] = sorted(set(files))
    if "*.genes.results" in found:
        found.pop("*.isoforms.results", None)  # RSEM writes both
    if "quant.sf" in found:
        found.pop("quant.genes.sf", None)
    if not found:
        if recognized(str(folder)) is not FOLDER:
            raise InputError(str(refusal(folder, "no table")))
        tables = sorted(f for f in folder.iterdir() if re.search(r"\.(counts?|htseq|tsv|txt|tab|csv)(\.gz)?$", f.name))
        tables = [f for f in tables if not re.search(r"\.(samples|genes|summary)\.", f.name)]
        if not tables:
            raise InputError(
                f"there is no table in the folder {folder}: looked for {', '.join(FOLDERS)} and *.counts, *.tsv"
            )
        return tables
    if len(found) > 1:
        raise InputError(f"{folder} has files of several programs: {', '.join(found)}; give a list of one kind")
    return next(iter(found.values()))


def _names(files: Sequence[Any]) -> list[str]:
    """Return a sample name per file: of the file or its folder, or of the nearest folder that differs."""
    names = [sample_of(file) for file in files]
    level = 0
    paths = [absolute(file) for file in files]
    while len(set(names)) < len(names):
        if any(level >= len(path.parents) - 1 for path in paths):
            raise InputError(f"files cannot be told apart by name: {names[0]!r}; give them as {{name: path}}")
        names = [path.parents[level].name for path in paths]
        level += 1
    return names


def _many(files: Sequence[Any], names: list[str], how: How) -> Loaded:
    if not files:
        raise InputError("open_counts: the list of files is empty")
    parts = [_one(file, name, how) for file, name in zip(files, names, strict=True)]
    shown = [os.fspath(file) for file in files]
    if any(part.run for part in parts):
        runs = [part.run for part in parts if part.run is not None]
        if len(runs) < len(parts):
            odd = next(s for s, part in zip(shown, parts, strict=True) if part.run is None)
            raise InputError(f"{odd} is no file of {runs[0].program}, but others are; give one kind at a time")
        run = joined(runs, shown)
        return Loaded(
            run.counts,
            parts[0].rows.loc[run.counts.index],
            pd.DataFrame(index=run.counts.columns),
            parts[0].genes_first,
            parts[0].notes,
            run,
        )
    ids = same_ids([part.numbers for part in parts], shown)
    numbers = pd.concat([part.numbers.loc[ids] for part in parts], axis=1)
    return Loaded(
        numbers,
        parts[0].rows.loc[ids],
        pd.concat([part.columns for part in parts]),
        parts[0].genes_first or "several files are samples",
        parts[0].notes,
    )


def _one(path: Any, sample: str | None, how: How) -> Loaded:
    if not is_pipe(path) and not Path(path).is_file():
        raise InputError(
            f"there is no file {os.fspath(path)}; give a .csv, .tsv, .parquet (or .gz of them) or .h5ad file"
        )
    where = os.fspath(path)
    name = sample or ("counts" if is_pipe(path) else sample_of(path))
    if not is_pipe(path):
        if is_hdf5(path):
            raise InputError(refusal(path, "no table") or f"{where!r} is a damaged HDF5 file, no table: fetch it again")
        with open(path, "rb") as file:
            parquet = file.read(4) == b"PAR1"
        if parquet:
            return _of_parquet(Path(path))
    text = read_text(path)
    if text.data.startswith(b"#1.2") or text.data.startswith(b"#1.3"):
        return _of_gct(text, how)
    sheet = read_counts(text, how.separator, how.decimal, how.header)
    return _understood(sheet, where, name, sample is not None, how)


def _understood(sheet: Sheet, where: str, name: str, named: bool, how: How) -> Loaded:
    both = pd.concat([sheet.about, sheet.numbers], axis=1)
    if sheet.header is not None:
        form = format_of([_id_of(sheet, both), *map(str, both.columns)])
        if form is not None:
            if form.program == "RSEM" and not form.of_genes and "transcript_id(s)" in both:
                form = format_of(["gene_id", *map(str, both.columns)])
            assert form is not None
            if form.id == "target_id" and form.id in both:
                both = both.set_index(form.id)
            of_genes = "genes" in Path(where).name.lower()
            run = run_of(both, form, name, of_genes)
            keep = [c for c in sheet.about if sheet.about[c].dtype == object]
            notes = [*sheet.notes, f"{form.program}'s {'genes' if run.of_genes else 'transcripts'}"]
            rows = sheet.about[keep].set_axis(both.index)
            return Loaded(run.counts, rows, pd.DataFrame(index=[name]), f"it is {form.program}'s", notes, run)
    names = sheet.numbers.index
    if sheet.header is None:
        if is_star(names, None, how.strandedness, where) and sheet.numbers.shape[1] == 3:
            sheet.numbers = star_column(sheet.numbers, where, how.strandedness)
        else:
            refuse_strandedness(how.strandedness, where)
        name_samples(sheet, name, where)
        return Loaded(
            sheet.numbers,
            sheet.about,
            pd.DataFrame(index=sheet.numbers.columns),
            "it has no header" if sheet.numbers.shape[1] == 1 else "",
            sheet.notes,
        )
    if is_star(names, sheet.header):
        by = {str(one).lower(): one for one in both.columns}
        three = both[[by[one] for one in TCGA_COLUMNS]].astype(float).set_axis(list(STAR_COLUMNS), axis=1)
        sheet.numbers = star_column(three, where, how.strandedness).set_axis([name], axis=1)
    else:
        refuse_strandedness(how.strandedness, where)
    extra = [one for one in FEATURE_COUNTS if one in sheet.about]
    rows = sheet.about
    why = ""
    if len(extra) == len(FEATURE_COUNTS):
        rows = rows.rename(columns={"Length": "feature_length"})
        rows["feature_length"] = pd.to_numeric(rows["feature_length"], errors="coerce").astype(float)
        why = "it is featureCounts'"
    if set(names) >= {"Assigned", "Unassigned_Unmapped"}:
        raise InputError(f"{where} is the summary of featureCounts, with no genes; give the table beside it")
    if named and sheet.numbers.shape[1] == 1 and not why:
        sheet.numbers = sheet.numbers.set_axis([name], axis=1)
    return Loaded(sheet.numbers, rows, pd.DataFrame(index=sheet.numbers.columns), why, sheet.notes)


def _id_of(sheet: Sheet, both: pd.DataFrame) -> str:
    """Return what the column of ids is called, as far as the other columns tell."""
    lowered = {str(name).lower() for name in both.columns}
    if sheet.first:
        return sheet.first
    return "transcript_id" if "gene_id" in lowered else ""


def _of_parquet(path: Path) -> Loaded:
    numbers, rows, columns = described(read_parquet(path))
    return Loaded(numbers, rows, columns, notes=["parquet"])


def _of_gct(text: Text, how: How) -> Loaded:
    """Read GCT 1.2 and 1.3: Name, Description, counts; row and column annotations."""
    lines = text.data.split(b"\n", 3)
    if len(lines) < 4:
        raise InputError(f"{text.name} is cut off: GCT has its size in the second line, and a header")
    try:
        sizes = [int(one) for one in lines[1].split()]
    except ValueError:
        sizes = []
    if len(sizes) < 2:
        raise InputError(f"{text.name}, line 2: {lines[1].decode()[:40]!r} is no size of a GCT table")
    header = [one.strip('"') for one in lines[2].decode().rstrip("\r").split("\t")]
    body = lines[3]
    n_meta = sizes[3] if len(sizes) > 3 else 0
    n_about = sizes[2] if len(sizes) > 2 else 1
    meta = [line.decode().rstrip("\r").split("\t") for line in body.split(b"\n", n_meta)[:n_meta]]
    wide = next((row for row in meta if len(row) != len(header)), None)
    if n_meta < 0 or len(meta) < n_meta or body.count(b"\n") < n_meta or wide is not None:
        what = "" if wide is None else f"row {wide[0]!r} has {len(wide)} fields instead of {len(header)}; "
        raise InputError(f"{text.name} has no {n_meta} rows that describe samples, as it says: {what}it may be cut off")
    body = body.split(b"\n", n_meta)[n_meta]
    skip_id = header[:3] == ["id", "Name", "Description"]
    first = 1 + n_about + skip_id
    sheet = read_counts(Text(text.name, lines[2] + b"\n" + body), "\t", how.decimal, True)
    both = pd.concat([sheet.about, sheet.numbers], axis=1)
    if skip_id:
        both = both.set_index("Name")
    samples = header[first:]
    if len(sheet.numbers) != sizes[0] or len(samples) != sizes[1]:
        raise InputError(
            f"{text.name} says that it has {sizes[0]} x {sizes[1]} values, but has {len(both)} x {len(samples)}; "
            "it may be cut off, so copy it again"
        )
    about = [one for one in header[1:first] if one in both and one != "Name"]
    wrong = [one for one in samples if one not in sheet.numbers]
    if wrong:
        raise InputError(f"{text.name}: sample {wrong[0]!r} holds text")
    columns = pd.DataFrame({row[0]: pd.Series(row[first:], index=samples) for row in meta}, index=samples)
    for name in columns:
        numeric = pd.to_numeric(columns[name], errors="coerce")
        columns[name] = numeric if numeric.notna().all() else columns[name]
    numbers = both[samples].astype(float)
    return Loaded(numbers, both[about], columns, "it is GCT", [*sheet.notes, "GCT"])
