"""How loops are compiled, and how their machine code is kept between runs.

numba keeps it beside the package, in the user's cache folder, or in `NUMBA_CACHE_DIR`. There may be no such folder that
can be written, it may be full, and what is in it may be cut or anything else. None of this stops a run: an entry that
is not as it was written is a miss, and what cannot be kept is compiled anew, with one warning.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import caching, config, runtime, types
from numba.core.registry import cpu_target

from ...errors import CodeCacheWarning

_FUNCTION_CACHE: Any = caching.FunctionCache
_IMPL: Any = caching.CompileResultCacheImpl
_LOCATORS: Any = vars(caching)  # numba 0.60 has an underscore before their names
_IN_TREE: Any = _LOCATORS.get("InTreeCacheLocator") or _LOCATORS["_InTreeCacheLocator"]
_USER_PROVIDED: Any = _LOCATORS.get("UserProvidedCacheLocator") or _LOCATORS["_UserProvidedCacheLocator"]
_NULL_CACHE: Any = caching.NullCache
_INDEX_AND_DATA: Any = caching.IndexDataCacheFile
_CONFIG: Any = config
_cpu_target: Any = cpu_target
_rtsys: Any = vars(runtime)["rtsys"]
_unliteral: Any = types.unliteral
_CHECKSUM = 16
_told: list[str] = []


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use, for good: also where `NUMBA_DISABLE_JIT` is set, since as Python they would take days."""
    disabled, _CONFIG.DISABLE_JIT = _CONFIG.DISABLE_JIT, 0
    try:
        made: Any = numba.njit(function, nogil=True, error_model="numpy")
    finally:
        _CONFIG.DISABLE_JIT = disabled
    made._cache = _cache(function)
    template = made.get_call_template

    def call_template(args: Any, kws: Any) -> Any:
        """Type a call from another loop; numba would compile anew for each number that is written out in a call."""
        return template(tuple(map(_unliteral, args)), {name: _unliteral(kind) for name, kind in kws.items()})

    made.get_call_template = call_template
    return made  # type: ignore[no-any-return] # numba has no types


def load(everything: bool) -> None:
    """Load what the loops need, here and now.

    Parameters
    ----------
    everything
        Also what numba compiles with, which loads linear algebra, which starts threads of its own: half a second and
        50 MB, in vain where all code is kept.
    """
    _rtsys.initialize(_cpu_target.target_context)
    if everything:
        _cpu_target.target_context.refresh()


def _cache(function: Callable[..., Any]) -> Any:
    """Return where the code of a function is kept."""
    for kind in (_Kept, _OnlyRead):
        try:
            return kind(function)
        except Exception:  # no folder can be written, or none is known
            continue
    return _NotKept()


class _Kept(_FUNCTION_CACHE):  # type: ignore[misc] # numba has no types
    """The code of one function; whatever is wrong with what is kept, or with keeping it, is borne."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        impl = self._impl
        name = f"{impl.filename_base}.checked"  # other than numba's own, which know no checksum
        self._cache_file = _Entries(self._cache_path, name, impl.locator.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what is kept, or None; numba's own method would first load all that it compiles with."""
        try:
            _rtsys.initialize(target_context)
            found = self._load_overload(sig, target_context)
        except Exception:  # cut, or of another version of whatever it is made of: a miss
            found = None
        elsewhere = _CONFIG.CACHE_DIR and not self._cache_path.startswith(_CONFIG.CACHE_DIR)
        if found is None and elsewhere and not isinstance(self, _OnlyRead):
            _tell(f"NUMBA_CACHE_DIR={_CONFIG.CACHE_DIR} cannot be written: compiled code is kept in {self._cache_path}")
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep it, if that can be done."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _tell_not_kept(f"{self._cache_path}: {getattr(error, 'strerror', None) or error}")


class _Named(_USER_PROVIDED):  # type: ignore[misc] # the same
    """`NUMBA_CACHE_DIR`, which an image of a container has filled and nobody can write."""

    def ensure_cache_path(self) -> None:
        """Raise OSError if it is not there."""
        os.scandir(self._cache_path).close()


class _Beside(_IN_TREE):  # type: ignore[misc] # the same
    """The package's folder, likewise."""

    ensure_cache_path = _Named.ensure_cache_path


class _Found(_IMPL):  # type: ignore[misc] # the same
    """Looks for folders that are there, whether they can be written or not."""

    _locator_classes = (_Named, _Beside)


class _OnlyRead(_Kept):
    """Code that was kept by somebody else."""

    _impl_class = _Found


class _NotKept(_NULL_CACHE):  # type: ignore[misc] # the same
    """No folder to keep code in."""

    def save_overload(self, sig: Any, data: Any) -> None:
        """Say so, when something would have been kept."""
        del sig, data
        places = "the package's folder nor the user's cache folder can be written"
        given = f"NUMBA_CACHE_DIR={_CONFIG.CACHE_DIR}, " if _CONFIG.CACHE_DIR else ""
        _tell_not_kept(f"neither {given}{places}")


class _Entries(_INDEX_AND_DATA):  # type: ignore[misc] # the same
    """An index and files of code, each with its checksum; a file of code also says what it is the code of."""

    def save(self, key: Any, data: Any) -> None:
        """Keep code."""
        super().save(key, (_name(key), data))

    def load(self, key: Any) -> Any:
        """Return the code, or None."""
        found = super().load(key)
        return found[1] if found is not None and found[0] == _name(key) else None

    def _load_index(self) -> Any:
        try:
            return dict(super()._load_index())
        except Exception:  # a new one takes its place
            return {}

    def _load_data(self, name: str) -> Any:
        stored = Path(self._data_path(name)).read_bytes()
        pickled = stored[:-_CHECKSUM]
        return pickle.loads(pickled) if _checksum(pickled) == stored[-_CHECKSUM:] else None

    def _dump(self, obj: Any) -> bytes:
        pickled = super()._dump(obj)
        return bytes(pickled + _checksum(pickled))


def _name(key: Any) -> bytes:
    """Name what a piece of code is the code of: types, processor, instructions."""
    return _checksum(repr(key).encode())


def _checksum(stored: bytes) -> bytes:
    return hashlib.blake2b(stored, digest_size=_CHECKSUM, usedforsecurity=False).digest()


def _tell_not_kept(why: str) -> None:
    _tell(
        f"compiled code cannot be kept ({why}): every run compiles anew, for some ten seconds; set NUMBA_CACHE_DIR "
        "to a folder of your own that can be written"
    )


def _tell(message: str) -> None:
    """Warn, once in a process."""
    if not _told:
        _told.append(message)
        warnings.warn(message, CodeCacheWarning, stacklevel=2)
