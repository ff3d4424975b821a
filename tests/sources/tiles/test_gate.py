"""What is left to TileDB, each with its reason; and every `vfs.*` setting has a known meaning."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
import tiledbsoma as soma

from headrace.sources.tiles import Declined, open_fragments
from headrace.sources.tiles.settings import SETTINGS

DATA = Path(__file__).parents[2] / "data" / "tiles"


@pytest.fixture
def array(tmp_path: Path) -> Path:
    zipfile.ZipFile(DATA / "format_22_tiledb_py_0.36.1.zip").extractall(tmp_path)
    return tmp_path


def fragment(array: Path) -> Path:
    return next((array / "__fragments").iterdir())


def uncommit(array):
    next((array / "__commits").iterdir()).unlink()


def overlap(array):
    one = fragment(array)
    name = one.name.replace("_22", "", 1) if False else one.name[:-35] + "0" * 32 + "_22"
    shutil.copytree(one, one.parent / name)
    (array / "__commits" / f"{name}.wrt").touch()


CHANGES = {
    "not committed": uncommit,
    "rows of it are in several fragments": overlap,
    "cells were deleted": lambda array: (array / "__commits" / "__1_1_0_22.del").touch(),
    "joined and not vacuumed": lambda array: (array / "__commits" / "__1_1_0_22.vac").touch(),
    "other files than plain values": lambda array: (fragment(array) / "dt.tdb").touch(),
    "another layout": lambda array: (array / "__array_schema.tdb").touch(),
    "no timestamps where": lambda array: (fragment(array) / "t.tdb").touch(),
    "sizes of its files": lambda array: (fragment(array) / "a0.tdb").write_bytes(b"short"),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_declined(array: Path, reason: str) -> None:
    open_fragments(str(array), {})
    CHANGES[reason](array)
    with pytest.raises(Declined, match=reason):
        open_fragments(str(array), {})


def test_what_is_from_the_future(array: Path) -> None:
    with pytest.raises(Declined, match="later than this computer's clock"):
        open_fragments(str(array), {}, now=1000)


@pytest.mark.parametrize("name", ["vfs.s3.aws_role_arn", "vfs.new.setting", "sm.encryption_key", "ssl.ca_file"])
def test_settings_that_only_tiledb_follows(array: Path, name: str) -> None:
    with pytest.raises(Declined):
        open_fragments(str(array), {name: "something"})


def test_every_setting_of_tiledb_is_known() -> None:
    config = soma.SOMATileDBContext().native_context.config()
    assert {name for name in config if name.startswith("vfs.")} <= set(SETTINGS)
