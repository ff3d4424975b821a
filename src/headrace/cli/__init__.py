"""The command line. It has no logic of its own: arguments, or a recipe file, become a `Plan`.

A command is a function with `@headrace.command()` in a module of its own; importing the module here adds it.
What is slow to import, a command imports when it runs: `headrace --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..cli import aggregate, bulk, cache, count, datasets, demo, export, queue, report, spool, verify
from ..support.limits import LIBRARIES, check_address_space
from .console import DONE, Session, leave, plain_warnings, stoppable
from .group import headrace
from .streams import open_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        What follows the program's name; by default what the process was given.

    Returns
    -------
    The exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted (143 terminated, 129 hung up).

    Examples
    --------
    >>> main(["--version"])
    headrace 0.1.0
    0
    """
    if arguments is None:
        open_streams()
    session = Session()
    with stoppable(session, for_good=arguments is None), plain_warnings(session):
        try:
            asked = sys.argv[1:] if arguments is None else arguments
            if asked and not {"--help", "-h", "--version"} & set(asked):
                check_address_space(LIBRARIES, "headrace")
                if arguments is None:  # threads for linear algebra, of which there is next to none
                    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            headrace.main(args=arguments, prog_name="headrace", standalone_mode=False, obj=session)
            sys.stdout.flush()
        except BaseException as error:  # whatever it is, it becomes an exit code
            code = session.ended(error)
            if session.stopped and arguments is None:
                leave(code)
            return code
    return DONE


__all__ = [
    "aggregate",
    "bulk",
    "cache",
    "count",
    "datasets",
    "demo",
    "export",
    "headrace",
    "main",
    "queue",
    "report",
    "spool",
    "verify",
]
