"""What becomes of the spool of a run that did not end well."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import ContradictionError, HeadraceError, InputError, SourceError
from ..support.places import look, temporary
from .spool import Spool, size_of

SPOOLS = ".headrace-spool"
"""The folder of spools beside outputs."""

HOPELESS = (InputError, ContradictionError, GeneratorExit)
"""What ends a run that would end so again: the data's fault. (A caller who wants no more chunks has what they want.)"""


def is_of_use(spool: Spool, error: BaseException, local: bool) -> bool:
    """Return whether another run of the plan would go on from what is kept, after this error.

    Parameters
    ----------
    local
        Whether the source is on a disk of this machine: what is wrong with it, and no error of the system, stays so.
    """
    if isinstance(error, SourceError) and local and error.__cause__ is None:
        return False
    return not isinstance(error, HOPELESS) and bool(size_of(spool.folder))


def tell(spool: Spool, error: BaseException) -> None:
    """Have an error say where the spool is, how large, and what to do with it."""
    left = size_of(spool.folder)
    if not left:
        return
    told = (
        f"what was read is kept in the spool {spool.folder} ({left / 1e6:,.1f} MB): run it again to go on from there, "
        f"or remove it with 'headrace spool clean {spool.folder.parent}'"
    )
    if isinstance(error, HeadraceError) and error.args:
        error.args = (f"{error.args[0]}; {told}", *error.args[1:])
    elif isinstance(error, Exception):
        error.add_note(told)


def places(folder: Path | None) -> list[Path]:
    """Return the folders in which spools may lie.

    Parameters
    ----------
    folder
        A folder of spools, or one in which outputs are written. None: this one, and the system's temporary folder,
        where `Plan.to_anndata` and its like keep theirs.

    Raises
    ------
    InputError
        If the folder may not be looked into.
    """
    if folder is not None:
        look(folder)
        return [folder, folder / SPOOLS]
    named = temporary().glob(f"{SPOOLS.strip('.')}-{os.getuid()}*")
    return [Path(SPOOLS), *sorted(path for path in named if _own(path))]


def _own(path: Path) -> bool:
    """Return whether a path is a folder of this user, and no link."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
