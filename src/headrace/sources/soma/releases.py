"""Releases of the Census, by name: the directory that its makers keep."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...errors import InputError, LineError, SourceError, nearest
from ...support.faults import failure
from ...support.retry import call
from ...traffic import RETRY_FOR, Traffic


@dataclass(frozen=True)
class Release:
    """A release of the Census: its date, and where it is."""

    date: str
    uri: str
    region: str


def find_release(name: str, retry_for: float = RETRY_FOR) -> Release:
    """Look a release up in the Census's directory, over the network.

    Parameters
    ----------
    retry_for
        Seconds for which to try again.

    Raises
    ------
    SourceError
        If the directory cannot be reached.
    InputError
        If there is no such release.
    """
    import cellxgene_census  # seconds to import, and only needed here
    import requests

    def asked(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (requests.RequestException, OSError) as error:
            failed = failure("looking up the releases", error)
            if failed is None:
                raise
            raise failed from error

    traffic = Traffic(retry_for, urllib.request.getproxies().get("https", ""))
    what = "the Census's directory of releases"
    try:
        try:
            entry = call(traffic, what, lambda: asked(lambda: cellxgene_census.get_census_version_description(name)))
        except ValueError:  # it has looked through the directory, and only tells that it is not there
            directory = call(traffic, what, lambda: asked(cellxgene_census.get_census_version_directory))
            raise InputError(f"there is no Census release {name!r}; {nearest(name, directory)}") from None
    except (LineError, requests.RequestException, OSError) as error:
        raise SourceError(
            f"cannot look up the Census release {name!r}: give the path or s3:// URI of a Census, or check the network "
            f"(HTTPS_PROXY is honoured): {str(error).splitlines()[0]}"
        ) from error
    soma = entry["soma"]
    return Release(str(entry["release_build"]), soma["uri"], soma.get("s3_region") or "us-west-2")
