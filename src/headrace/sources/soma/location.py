"""Where a SOMA object is and how to reach it. The only place that makes a TileDB context."""

from __future__ import annotations

import os
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from types import NoneType
from typing import Any

import pyarrow as pa
import tiledbsoma as soma

from ...errors import HeadraceError, InputError, SourceError
from ...support.faults import MISSING, failure
from ...support.limits import check_address_space, check_threads, stack_bytes, whole
from ...support.memory import n_cores
from ...support.places import absolute, look
from ...support.retry import call
from ...support.shortage import files_remedy
from ...traffic import RETRY_FOR, Traffic
from ..foreign import FOLDER, recognized, refusal, remedy
from .members import refuse_outside

BUFFER_BYTES = 4 << 20
"""Of each of the three columns of X. Larger ones are no faster, and leave the processor's cache."""

TABLE_BUFFER_BYTES = 1 << 19
"""Of each column of obs or var, of which there are dozens."""

TILE_BYTES = 160 << 20
"""For decoded tiles of X. Twice as fast as TileDB's default of 10 GiB, since memory is reused."""

LEAST_IO = 8
"""Requests at once: they wait more than they work."""

ALL_TIMES = 4_102_444_800_000
"""The year 2100, in ms: where no time was asked for, TileDB takes its own clock, which may be behind the data's."""

ROOM = 150 << 20
"""Bytes that TileDB takes to open an experiment."""

_LEVELS = ("sm.compute_concurrency_level", "sm.io_concurrency_level")
"""TileDB's two pools of threads; without these, each has as many as the machine has processors."""

_PREPROCESS_TILE_MERGE = "sm.query.sparse_global_order.preprocess_tile_merge"
"""Off: TileDB 2.30 merges the order of tiles in a thread that may outlive the query whose memory it uses, which
breaks the heap (TileDB pull request 5723). It is of use only to arrays of many overlapping fragments."""


_NO_GAPS = {"vfs.min_batch_gap": 0, "vfs.min_batch_size": 0}
"""TileDB reads half a megabyte between two tiles along with them, and up to 20 MB: of a few rows of the presence matrix
that is nearly all of it."""


@dataclass(frozen=True)
class Location:
    """A URI and TileDB settings; opens nothing by itself and pickles small.

    Parameters
    ----------
    uri
        A path, or a URI that TileDB knows, e.g. `s3://bucket/census/soma`.
    config
        TileDB settings as sorted pairs of text; they win over headrace's own.
    timestamp
        Time up to which writes are seen, in ms since 1970; None for all.
    root
        What the user named: members of it have to be below it, or in the same bucket.
    outside
        Whether members may be anywhere.
    traffic
        What comes from there, if it is far away; shared by all locations made of this one.
    """

    uri: str
    config: tuple[tuple[str, str], ...] = ()
    timestamp: int | None = None
    root: str = ""
    outside: bool = False
    traffic: Traffic | None = field(default=None, compare=False, repr=False)

    @staticmethod
    def of(
        uri: str | os.PathLike[str],
        tiledb_config: Mapping[str, Any] | None = None,
        outside: bool = False,
        retry_for: float = RETRY_FOR,
    ) -> Location:
        """Take a path or URI, a dictionary of TileDB settings, and for how many seconds to try again."""
        text = os.fspath(uri)
        if not isinstance(tiledb_config, (Mapping, NoneType)):
            raise InputError(
                f"tiledb_config= is a dictionary of TileDB's settings, e.g. {{'vfs.s3.region': 'us-west-2'}}, not "
                f"{type(tiledb_config).__name__}"
            )
        if "://" not in text:
            text = str(absolute(text))
            if look(text) is None:
                raise InputError(f"there is nothing at {text!r}")
        config = tuple(sorted((k, _text(v)) for k, v in (tiledb_config or {}).items()))
        where = Location(text.rstrip("/"), config, root=text.rstrip("/"), outside=outside)
        if "://" not in text or text.startswith("file://"):
            return where
        settings = where.settings()
        port = settings.get("vfs.s3.proxy_port", "")
        proxy = settings.get("vfs.s3.proxy_host", "") + (f":{port}" if port else "")
        return replace(where, traffic=Traffic(retry_for, proxy if text.startswith("s3://") else ""))

    def at(self, *names: str) -> Location:
        """Return the location of a member, by its path below this one."""
        return replace(self, uri="/".join((self.uri, *names)))

    def check_members(self, opened: Any, *names: str, copy: str = "") -> None:
        """Raise `InputError` if members of an open collection are elsewhere, unless they may be.

        `copy` is a folder of this machine where a part of the collection was fetched to.
        """
        if not self.outside and hasattr(opened, "members"):
            refuse_outside([self.root or self.uri, *([copy] if copy else [])], opened, *names)

    def open_members(self, opened: Any, *names: str, copy: str = "") -> None:
        """Open members of an open collection that it has, or raise `InputError` or `SourceError`."""
        self.check_members(opened, *names, copy=copy)
        with reading(opened.uri):
            for name in names:
                if hasattr(opened, "members") and name in opened:
                    opened[name]

    @property
    def remedy(self) -> str:
        """What opens what is here, for messages about its being something else than was wanted."""
        path = self.uri.removeprefix("file://")
        kind = None if self.traffic is not None else recognized(path)
        if kind is None or kind is FOLDER:
            return "hr.open_soma reads experiments, hr.open_census a Census"
        return remedy(path, kind)

    def settings(self) -> dict[str, str]:
        """Return the user's settings over the Census's for S3 and the environment's proxy."""
        own = dict(self.config)
        return {**(_s3_defaults(own) if self.uri.startswith("s3://") else {}), **own}

    def context(
        self, tile_bytes: int = TILE_BYTES, buffer_bytes: int = TABLE_BUFFER_BYTES, gaps: bool = True
    ) -> soma.SOMATileDBContext:
        """Make a TileDB context: Census defaults for S3, small buffers, the environment's proxy.

        Without `gaps`, what lies between tiles is not read along with them.
        """
        ours: dict[str, Any] = {
            "soma.init_buffer_bytes": buffer_bytes,
            "sm.mem.total_budget": tile_bytes,
            _PREPROCESS_TILE_MERGE: 0,
            **_concurrency(),
            **({} if gaps else _NO_GAPS),
            **self.settings(),
        }
        what = f"opening {self.uri}"
        threads = _threads(ours)
        check_address_space(ROOM + threads * stack_bytes(), what)
        check_threads(threads, what)
        known, given = _known_settings(), dict(self.config)
        config = {name: value for name, value in ours.items() if name in known or name in given or not known}
        until = ALL_TIMES if self.timestamp is None else self.timestamp
        return soma.SOMATileDBContext(tiledb_config=config, timestamp=until)

    def open(self, context: soma.SOMATileDBContext | None = None) -> Any:
        """Open the SOMA object for reading, or raise `InputError` if there is none."""
        return call(self.traffic, self.uri, lambda: self._open(context or self.context()))

    def _open(self, context: soma.SOMATileDBContext) -> Any:
        try:
            return soma.open(self.uri, context=context)
        except soma.DoesNotExistError as error:
            failed = failure(f"opening {self.uri}", error) if self.traffic is not None else None
            if failed is not None and failed.words != MISSING:  # what TileDB cannot see is not there, it says
                raise failed from error
            local = self.traffic is None and recognized(self.uri.removeprefix("file://"))
            if local and local is not FOLDER:
                raise InputError(str(refusal(self.uri, "no SOMA object"))) from None
            if files_remedy(error):
                raise SourceError(f"cannot open {self.uri!r}: {files_remedy(error)}") from error
            inside = " (there is one in the folder 'soma' inside it)" if os.path.isdir(f"{self.uri}/soma") else ""
            raise InputError(f"no SOMA object at {self.uri!r}{inside}: {_first_line(error)}") from None
        except (soma.SOMAError, RuntimeError, TypeError, ValueError, KeyError, OSError) as error:
            failed = failure(f"opening {self.uri}", error) if self.traffic is not None else None
            if failed is not None:
                raise failed from error
            raise SourceError(_with(f"cannot open {self.uri!r}: {_first_line(error)}", files_remedy(error))) from error


def _concurrency() -> dict[str, int]:
    """Return how many threads TileDB may start; it looks at the machine and not at what this process may use of it."""
    n = n_cores()
    if n >= (os.cpu_count() or 1):
        return {}
    return dict(zip(_LEVELS, (n, max(n, LEAST_IO)), strict=True))


def _threads(config: Mapping[str, Any]) -> int:
    """Return how many threads a context starts: of both pools, and two that are all contexts'."""
    levels = [whole(str(config.get(name, ""))) for name in _LEVELS]
    return sum(os.cpu_count() or 1 if level is None else level for level in levels) + 2


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn an error of TileDB within the block into a `SourceError` that says what was being read."""
    try:
        yield
    except HeadraceError:
        raise
    except (soma.SOMAError, RuntimeError, ValueError, TypeError, LookupError, OSError, pa.ArrowException) as error:
        failed = failure(f"reading {what}", error)
        if failed is not None:
            raise failed from error
        text = _first_line(error)
        remedy = files_remedy(error)
        if remedy:
            pass
        elif "tile offsets" in text or "memory budget" in text.lower():
            remedy = "give TileDB more memory: tiledb_config={'sm.mem.total_budget': 4 * 1024**3}"
        elif "buffers are too small" in text.lower():
            remedy = "a value is longer than the buffer: tiledb_config={'soma.init_buffer_bytes': 256 * 1024**2}"
        elif "curl" in text.lower() or "s3:" in text.lower() or "timeout" in text.lower():
            remedy = "check the network and the proxy, and try again"
        raise SourceError(f"while reading {what}: {_with(text, remedy)}") from error


@cache
def _known_settings() -> frozenset[str]:
    """Return the settings that this version of TileDB has; they differ between versions. Empty if it does not tell."""
    try:
        config = soma.SOMATileDBContext(tiledb_config=dict.fromkeys(_LEVELS, 1)).native_context.config()
    except (AttributeError, TypeError):
        return frozenset()
    return frozenset(config) | {"soma.init_buffer_bytes"}  # tiledbsoma's own


def _s3_defaults(config: Mapping[str, str]) -> dict[str, str]:
    """Return the Census's own S3 settings, unsigned, and the proxy of the environment if it applies."""
    settings = {"vfs.s3.region": "us-west-2", "vfs.s3.no_sign_request": "true"}
    endpoint = config.get("vfs.s3.endpoint_override") or "s3.us-west-2.amazonaws.com"
    scheme = config.get("vfs.s3.scheme", "https")
    proxies = urllib.request.getproxies()
    if scheme in proxies and not urllib.request.proxy_bypass(endpoint):
        proxy = urllib.parse.urlsplit(proxies[scheme] if "://" in proxies[scheme] else f"http://{proxies[scheme]}")
        if proxy.hostname:
            settings |= {"vfs.s3.proxy_host": proxy.hostname, "vfs.s3.proxy_scheme": proxy.scheme}
            settings |= {"vfs.s3.proxy_port": str(proxy.port or {"http": 80, "https": 443}.get(proxy.scheme, 3128))}
            if proxy.username:
                settings["vfs.s3.proxy_username"] = urllib.parse.unquote(proxy.username)
                settings["vfs.s3.proxy_password"] = urllib.parse.unquote(proxy.password or "")
    return settings


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _with(text: str, remedy: str) -> str:
    return f"{text}; {remedy}" if remedy else text


def _first_line(error: BaseException) -> str:
    """Return what TileDB says, without the stack that it appends."""
    return re.sub(r"^(SOMAError: )?'?|'?$", "", str(error).split("\n\nAt:")[0].strip()).split("\n")[0]
