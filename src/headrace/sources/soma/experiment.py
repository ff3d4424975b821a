"""An open SOMA experiment: its cells, the genes of one measurement, and where X is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ...errors import InputError, nearest
from ..tiles.layout import Ints, fragment_folders
from .arrays import Frame
from .choice import Choice, Reader, choose_reader
from .location import TABLE_BUFFER_BYTES, TILE_BYTES, Location, reading
from .replica import Replica
from .tables import to_frame

PRESENCE = "feature_dataset_presence_matrix"


class Experiment:
    """One measurement and layer of an experiment.

    Parameters
    ----------
    location
        Of the experiment.
    measurement, layer
        Which ones; looked for when they are asked for.
    replica
        The files of the experiment, if it is far away and they were listed. What is at its known address is fetched
        at once: the axes, and what says how X and the presence matrix are stored.
    """

    def __init__(self, location: Location, measurement: str, layer: str, replica: Replica | None) -> None:
        self.location, self.measurement_name, self.layer, self.replica = location, measurement, layer, replica
        if replica is None:
            self.soma = location.open()
            self._open_axes()
            return
        rna = replica.at("ms", measurement)
        replica.fetch(
            replica.collection(),
            replica.at("obs").array(),
            replica.at("ms").collection(),
            rna.collection(),
            rna.at("var").table(),
            rna.at("X").collection(),
            rna.at("X", layer).matrix(),
            rna.at(PRESENCE).array(),
        )
        self.soma = replica.open()
        self._open_axes()

    @property
    def where(self) -> str:
        """The experiment's name in messages."""
        return self.location.uri

    @cached_property
    def obs(self) -> Frame:
        """The cells."""
        obs = self.soma.obs
        return Frame(obs, self._part(obs))

    @cached_property
    def obs_names(self) -> list[str]:
        """Names of the columns of obs."""
        return self.obs.names

    @cached_property
    def measurement(self) -> Any:
        """The measurement, or `InputError`."""
        known = list(self.soma.ms)
        if self.measurement_name not in known:
            raise InputError(
                f"{self.where} has no measurement {self.measurement_name!r}; {nearest(self.measurement_name, known)}"
            )
        self._open(self.soma.ms, self.measurement_name)
        measurement = self.soma.ms[self.measurement_name]
        self._open(measurement, "var", "X")
        self.location.check_members(measurement, PRESENCE, copy=self._copy)
        return measurement

    @property
    def layers(self) -> list[str]:
        """Names of the layers of X."""
        return list(self.measurement.X) if "X" in self.measurement else []

    @cached_property
    def var(self) -> pd.DataFrame:
        """All genes."""
        if "var" not in self.measurement:
            raise InputError(f"{self.where}/ms/{self.measurement_name} has no var, so its genes have no names")
        with reading(f"{self.where}/ms/{self.measurement_name}/var"):
            var = self.measurement.var
            frame = Frame(var, self._part(var))
            return to_frame(pa.concat_tables(frame.read(frame.names)))

    @cached_property
    def x(self) -> Location:
        """Where X is."""
        if self.layer not in self.layers:
            raise InputError(
                f"{self.where}/ms/{self.measurement_name}/X has no layer {self.layer!r}; "
                f"{nearest(self.layer, self.layers)}"
            )
        if self.x_replica is not None:  # what opening it here takes was not fetched
            self.location.check_members(self.measurement.X, self.layer, copy=self._copy)
            return self.x_replica.location
        self._open(self.measurement.X, self.layer)
        array = self.measurement.X[self.layer]
        self._check_sparse(array)
        return replace(self.location, uri=array.uri)

    @cached_property
    def x_replica(self) -> Replica | None:
        """The files of X, if it is far away, at its known address."""
        part = self._part(self.measurement.X) if self.replica is not None and "X" in self.measurement else None
        part = None if part is None else part.at(self.layer)
        return part if part is not None and any(path.startswith("__schema/") for path in part.list()) else None

    def choose(self, reader: Reader) -> Choice:
        """Decide who reads X."""
        return choose_reader(self.x, reader, self.x_replica)

    def open_x(self, tile_bytes: int = TILE_BYTES, buffer_bytes: int = TABLE_BUFFER_BYTES) -> Any:
        """Open X for TileDB, from where it is."""
        array = self.x.open(self.x.context(tile_bytes, buffer_bytes))
        self._check_sparse(array)
        return array

    def fragments(self) -> Sequence[str]:
        """Return the names of the fragments of X and of obs: they change with these."""
        obs = self.obs.array
        found: list[str] = []
        for uri, part in ((self.x.uri, self.x_replica), (obs.uri, self._part(obs))):
            folder = f"{uri.removeprefix('file://')}/__fragments"
            if part is not None:
                found += [path.rpartition("/")[2] for path in fragment_folders(part.list())]
            elif os.path.isdir(folder):
                found += sorted(os.listdir(folder))
        return found

    def presence(self, rows: Ints) -> Iterator[pa.Table] | None:
        """Read rows of the presence matrix, increasing, and no others; None if there is none."""
        with reading(f"{self.where}/ms/{self.measurement_name}"):
            if PRESENCE not in self.measurement:
                return None
            array = self.measurement[PRESENCE]
        part = self._part(array)
        if part is None:
            where = replace(self.location, uri=array.uri)
            array = where.open(where.context(gaps=False))
        return self._cells(Frame(array, part), np.asarray(rows), f"ms/{self.measurement_name}/{PRESENCE}")

    def _cells(self, frame: Frame, rows: Ints, name: str) -> Iterator[pa.Table]:
        with reading(f"{self.where}/{name}"):
            yield from frame.cells(rows)

    def _part(self, opened: Any) -> Replica | None:
        return None if self.replica is None else self.replica.part(opened.uri)

    def _open_axes(self) -> None:
        self._open(self.soma, "obs", "ms")
        for name in ("obs", "ms"):
            if getattr(self.soma, "soma_type", "") == "SOMAExperiment" and name not in self.soma:
                raise InputError(f"{self.where} is no SOMA experiment: it has no {name}; {self.location.remedy}")

    def _open(self, opened: Any, *names: str) -> None:
        """Open members where they are, or raise if that is elsewhere."""
        self.location.open_members(opened, *names, copy=self._copy)

    @property
    def _copy(self) -> str:
        return "" if self.replica is None else self.replica.fetched.folder

    def _check_sparse(self, array: Any) -> None:
        if not getattr(array, "is_sparse", False):
            raise InputError(f"layer {self.layer!r} of {self.where} is dense; headrace reads sparse layers")
        if len(array.shape) != 2:
            raise InputError(f"layer {self.layer!r} of {self.where} has {len(array.shape)} dimensions, not 2")
