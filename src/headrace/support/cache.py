"""What was fetched and never changes, kept on disk for the next run.

An entry is one file: a digest of its key and content, then the content. It is written beside its place and renamed, so
that any number of processes may share the folder, on file systems without locks too; one that is damaged is removed and
fetched again. A folder that cannot be written is done without. Beyond a limit the entries go that were not used for
longest.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .atomic import write_atomically
from .memory import parse_bytes

ENVIRONMENT = "HEADRACE_CACHE"
"""Names another folder, or turns the cache off."""

LIMIT = "HEADRACE_CACHE_LIMIT"
"""Bytes of all entries at most, e.g. "500MB"."""

OFF = ("", "0", "off", "no", "none", "false")
MOST_BYTES = 2 * 10**9
TOUCHED_AFTER = 600.0
"""Seconds after which the use of an entry is noted again."""
LEFT_BEHIND = 3600.0
"""Seconds after which a file that was never finished is nobody's."""

_DIGEST = hashlib.sha256().digest_size
_ABOUT = "about.json"


@dataclass(frozen=True)
class Group:
    """Entries that belong together: those of one release.

    Parameters
    ----------
    name
        Of its folder.
    title
        What it is of, for people.
    n_entries, nbytes
        How many there are, and how large they are together.
    used
        When one of them was last used, in seconds since 1970.
    """

    name: str
    title: str
    n_entries: int
    nbytes: int
    used: float


@dataclass
class Cache:
    """A folder of entries in groups.

    Parameters
    ----------
    folder
        Where; it is made when something is kept.
    limit
        Bytes of all entries together, at most.

    Examples
    --------
    >>> import tempfile
    >>> cache = Cache(Path(tempfile.mkdtemp()))
    >>> cache.put("2025-11-08", "datasets", b"...")
    >>> cache.get("2025-11-08", "datasets"), cache.get("2025-11-08", "var")
    (b'...', None)
    """

    folder: Path
    limit: int = MOST_BYTES
    writable: bool = True
    unseen: int = field(default=1 << 62, repr=False)
    """Bytes that were written since the folder was last looked through."""

    def get(self, group: str, key: str) -> bytes | None:
        """Return the content of an entry, or None if there is none or it is damaged."""
        path = self._path(group, key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        content = data[_DIGEST:]
        if data[:_DIGEST] != _digest(key, content):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > TOUCHED_AFTER:
                os.utime(path)
        return content

    def put(self, group: str, key: str, content: bytes) -> None:
        """Keep an entry, if the folder can be written."""
        if not self.writable or len(content) > self.limit // 4:
            return
        path = self._path(group, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(_digest(key, content) + content, path, shared=True)
        except OSError:
            self.writable = False
            return
        self.unseen += len(content)
        if self.unseen > self.limit // 20:
            self._trim()

    def describe(self, group: str, title: str) -> None:
        """Say what a group is of."""
        path = self.folder / group / _ABOUT
        if self.writable and not path.exists():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(json.dumps({"title": title}).encode(), path, shared=True)
            except OSError:
                self.writable = False

    def groups(self) -> list[Group]:
        """List what there is, by name."""
        found = []
        for folder in sorted(self._folders()):
            entries = self._entries(folder)
            title = ""
            with suppress(OSError, ValueError, KeyError, TypeError):
                title = str(json.loads((folder / _ABOUT).read_bytes())["title"])
            if entries:
                used = max(entry[0] for entry in entries)
                found.append(Group(folder.name, title, len(entries), sum(entry[1] for entry in entries), used))
        return found

    def clear(self) -> tuple[int, int]:
        """Remove all entries; return how many there were, and their bytes."""
        n = nbytes = 0
        for folder in self._folders():
            for _, size, path in self._entries(folder):
                with suppress(OSError):
                    path.unlink()
                    n, nbytes = n + 1, nbytes + size
            for path in (folder / _ABOUT, *folder.glob(".*.partial")):
                with suppress(OSError):
                    path.unlink()
            with suppress(OSError):
                folder.rmdir()
        return n, nbytes

    def _path(self, group: str, key: str) -> Path:
        return self.folder / group / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.entry"

    def _folders(self) -> list[Path]:
        try:
            return [path for path in self.folder.iterdir() if path.is_dir()]
        except OSError:
            return []

    def _entries(self, folder: Path) -> list[tuple[float, int, Path]]:
        """Return when each entry was last used, its bytes, and its file."""
        found = []
        with suppress(OSError), os.scandir(folder) as inside:
            for one in inside:
                if one.name.endswith(".entry"):
                    with suppress(OSError):
                        stat = one.stat()
                        found.append((stat.st_mtime, stat.st_size, Path(one.path)))
        return found

    def _trim(self) -> None:
        """Remove what was not used for longest until all is well below the limit; and what was never finished."""
        self.unseen = 0
        entries = [entry for folder in self._folders() for entry in self._entries(folder)]
        total = sum(size for _, size, _ in entries)
        if total > self.limit:
            for _, size, path in sorted(entries):
                with suppress(OSError):
                    path.unlink()
                total -= size
                if total <= 0.8 * self.limit:
                    break
        for folder in self._folders():
            for path in folder.glob(".*.partial"):
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > LEFT_BEHIND:
                        path.unlink()


def open_cache() -> Cache | None:
    """Return the user's cache, as the environment has it; None if it is turned off.

    Raises
    ------
    InputError
        If HEADRACE_CACHE_LIMIT is no amount.
    """
    named = os.environ.get(ENVIRONMENT)
    if named is not None and named.strip().lower() in OFF:
        return None
    limit = os.environ.get(LIMIT)
    return Cache(_folder(named), parse_bytes(limit) if limit else MOST_BYTES)


def _folder(named: str | None) -> Path:
    if named is not None:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("headrace", appauthor=False))


def _digest(key: str, content: bytes) -> bytes:
    made = hashlib.sha256(key.encode())
    made.update(b"\0")
    made.update(content)
    return made.digest()
