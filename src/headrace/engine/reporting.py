"""A run that is reported on: what is looked at, what is kept, and the page that is written."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..chunk import StreamSpec
from ..errors import InputError, OutputError
from ..protocols import Source, Step
from ..report.page import load, page
from ..report.record import Record
from ..support.atomic import check_target, followed, write_atomically
from ..support.memory import Budget
from ..support.places import absolute
from ..support.target import try_target
from .checks import same_file
from .kept import VERSION, genes, keep, variance_ratio
from .observed import Observed
from .recipe import recipe_of
from .settings import Settings


class Reporting:
    """The report of one run.

    Parameters
    ----------
    path
        The .html file.
    overwrite
        Whether an existing file may be replaced.
    source, steps
        The plan's.
    outputs
        What else the run writes.

    Raises
    ------
    InputError
        If what makes pages is not installed, or the file's name is another file's.
    OutputError
        If it cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        overwrite: bool,
        source: Source[Any],
        steps: Sequence[Step],
        outputs: Sequence[Path] = (),
    ) -> None:
        self.path = absolute(path)
        if self.path.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"cannot write {os.fspath(path)!r}: the name of a report ends in .html")
        for other in (*outputs, *source.files):
            if same_file(self.path, other):
                raise OutputError(f"{self.path} is what this plan reads or writes; give the report another name")
        check_target(self.path, overwrite)
        load()
        try_target(self.path)
        self.source, self.plain = source, tuple(steps)
        self.outputs = tuple(outputs)
        self.observed = Observed(source.spec, steps)
        self.record = Record()

    @contextmanager
    def following(self, settings: Settings) -> Iterator[Settings]:
        """Listen to what happens within the block, warnings included."""
        listener, shown = settings.on_event, warnings.showwarning
        self.record.total = settings.memory

        def listen(event: Any) -> None:
            self.record(event)
            listener(event)

        def show(message: Any, category: Any, *where: Any, **more: Any) -> None:
            self.record.warned(str(message), category)
            shown(message, category, *where, **more)

        warnings.showwarning = show
        try:
            yield replace(settings, on_event=listen)
        finally:
            if warnings.showwarning is show:
                warnings.showwarning = shown

    def begins(self, budget: Budget) -> None:
        """Note what was predicted."""
        self.record.predicted = budget.peak
        self.record.to_read = self.source.cost().bytes
        self.record.far = self.source.traffic is not None

    def kept(self, spec: StreamSpec, specs: Sequence[StreamSpec]) -> StreamSpec:
        """Return the stream with what is kept of the run in its `uns`."""
        at = [specs[i] for i in self.observed.points()]
        data = keep(self.source, self.plain, self.observed, at, spec.n_obs)
        return spec.with_uns(headrace={**spec.uns["headrace"], "report": json.dumps(data, separators=(",", ":"))})

    def write(self, spec: StreamSpec) -> None:
        """Write the page about a run that is over."""
        made = dict(spec.uns["headrace"])
        data = json.loads(made.pop("report"))
        if not self.plain and self.source.spec.made:
            made = {name: value for name, value in self.source.spec.made.items() if name != "report"} or made
            data["recipe"] = recipe_of(made)
        self.record.written = [(path.name, path.stat().st_size) for path in self.outputs]
        self._write(self._page(data, made, self.record))

    def from_file(self) -> bool:
        """Write the page from what the file holds, without reading its cells; say whether that was possible."""
        made, spec = dict(self.source.spec.made), self.source.spec
        data = _read(made.pop("report", None))
        if self.plain or data is None:
            return False
        try:
            if any(name not in data["grids"] for name in spec.obsm if name in ("X_pca", "X_umap")):
                return False
            data["variance_ratio"] = variance_ratio(spec.uns) or data["variance_ratio"]
            data["genes"] = data["genes"] or genes(spec.var)
            text = self._page(data, made, None)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return False  # it is not what a run keeps: whoever made the file has changed it
        self._write(text)
        return True

    def _page(self, data: Mapping[str, Any], made: Mapping[str, Any], record: Record | None) -> str:
        query = made.get("query")
        file = query.get("file") if isinstance(query, Mapping) else None
        name = self.outputs[0].name if self.outputs else file or self.path.stem
        if not self.outputs and not self.plain and self.source.files:
            name = self.source.files[0].name
        return page(name, data, made, record)

    def _write(self, text: str) -> None:
        try:
            write_atomically(text.encode(), followed(self.path))
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path}: {error.strerror}"
                + (f"; {self.outputs[0]} is whole, and `headrace report` makes a report of it" if self.outputs else "")
            ) from error


def _read(text: Any) -> dict[str, Any] | None:
    """Return what a run has kept; None if there is nothing, or of another version."""
    try:
        data = json.loads(text)
    except (TypeError, ValueError):
        return None
    return data if isinstance(data, dict) and data.get("version") == VERSION else None
