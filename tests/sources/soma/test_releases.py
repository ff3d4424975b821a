"""Releases by name, as the Census's directory has them: it is asked for once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

import headrace as hr
from headrace.sources.soma.releases import find_release

SOMA = "s3://bucket/cell-census/2025-11-08/soma/"
DIRECTORY = {
    "stable": "2025-11-08",
    "latest": "2025-11-17",
    **{
        day: {
            "release_date": day,
            "release_build": day,
            "soma": {"uri": SOMA, "relative_uri": "/x/", "s3_region": "us-west-2"},
            "h5ads": {"uri": "s3://bucket/x/", "relative_uri": "/x/", "s3_region": "us-west-2"},
            "flags": {"lts": day == "2025-11-08"},
        }
        for day in ("2025-11-08", "2025-11-17")
    },
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were asked for."""
    found: list[str] = []

    def get(url: str, **_: Any) -> requests.Response:
        found.append(url)
        answer = requests.Response()
        answer.status_code, answer._content = 200, json.dumps(DIRECTORY).encode()
        return answer

    monkeypatch.setattr(requests, "get", get)
    return found


@pytest.mark.parametrize(
    ("name", "day"), [("2025-11-08", "2025-11-08"), ("stable", "2025-11-08"), ("latest", "2025-11-17")]
)
def test_the_directory_is_asked_once(asked: list[str], name: str, day: str) -> None:
    release = find_release(name)
    assert (release.date, release.uri, release.region) == (day, SOMA, "us-west-2")
    assert len(asked) == 1


def test_a_release_that_is_not_there(asked: list[str]) -> None:
    with pytest.raises(hr.InputError, match=r"no Census release '2025-11-09'; did you mean '2025-11-08'"):
        hr.open_census("2025-11-09")


def test_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def get(url: str, **_: Any) -> requests.Response:
        raise requests.ConnectionError("no route to host")

    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(hr.SourceError, match="cannot look up the Census release 'stable'.*no route to host"):
        hr.open_census("stable")
