"""Checks of a plan before it runs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..chunk import Holds, StreamSpec
from ..errors import OutputError, StorageWarning
from ..protocols import Sink, Source, Step, Transform
from ..steps.check import CheckCounts
from ..steps.totals import ScaledTwiceWarning
from ..support.atomic import followed
from ..support.target import check_output_fits, no_locks, same_disk, try_target


def count_checks(source: Source[Any], steps: Sequence[Step]) -> tuple[Transform, ...]:
    """Return what checks the source's values on the way, if steps take them for counts."""
    spec = source.spec
    needing = () if source.counts_checked else tuple(dict.fromkeys(counting(steps, spec)))
    whole = not (spec.fractional and spec.holds is Holds.COUNTS)
    return (CheckCounts(needing, f"layer {source.layer!r} of the source", spec.var.index, whole),) if needing else ()


def counting(steps: Sequence[Step], spec: StreamSpec) -> list[str]:
    """Return the names of the steps that take the source's own values for counts."""
    names: list[str] = []
    for step in steps:
        holds = spec.holds if step.layer is None else spec.layers.get(step.layer)
        unchecked = step.layer is not None or not spec.whole
        if unchecked and step.needs_counts and holds in (Holds.COUNTS, Holds.UNKNOWN):
            names.append(step.label)
        spec = step.preview(spec)
    return names


def warn_if_scaled_twice(steps: Sequence[Step]) -> None:
    """Warn if cells are scaled to totals twice, and nothing between changes X: scanpy allows it, few mean it."""
    before = None
    for step in steps:
        if step.scales_cells:
            if before is not None:
                warnings.warn(
                    f"{step.describe()} scales cells that {before.describe()} has scaled already; leave one of the two "
                    "out",
                    ScaledTwiceWarning,
                    stacklevel=3,
                )
            before = step
        elif not step.keeps_values:
            before = None


def refuse_to_overwrite(source: Source[Any], sink: Sink) -> None:
    """Raise `OutputError` if the sink writes a file that the source reads, under any name."""
    for target in sink.files:
        for read in source.files:
            if same_file(target, read):
                raise OutputError(f"{target} is what this plan reads; write to another name")


def check_outputs(sink: Sink, spool: Path | None, certain: int = 0, likely: int = 0, spooled: int = 0) -> None:
    """Try, before anything is read, where a plan will write; warn of what may go wrong there.

    Parameters
    ----------
    sink
        What writes.
    spool
        The folder of the spool, if there will be one.
    certain, likely
        Bytes of the output, at least and at most; 0 where that is not known.
    spooled
        Bytes of the spool that are still to be written.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    folders = dict.fromkeys(followed(path).parent for path in sink.files)
    for path in sink.files:
        try_target(path)
    told = [no_locks(folder) for folder in dict.fromkeys([*folders, *([] if spool is None else [spool])])]
    for folder in folders:
        beside = spooled if spool is not None and same_disk(folder, spool) else 0
        told.append(check_output_fits(folder, certain, likely, beside))
    for message in dict.fromkeys(told):
        if message is not None:
            warnings.warn(message, StorageWarning, stacklevel=4)


def same_file(target: Path, read: Path) -> bool:
    """Return whether a file is another one, or lies within a folder, links and hard links followed."""
    if os.path.exists(target) and os.path.exists(read) and os.path.samefile(target, read):
        return True
    return os.path.isdir(read) and Path(os.path.realpath(target)).is_relative_to(os.path.realpath(read))
