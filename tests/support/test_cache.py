"""What is kept on disk: found again, or fetched again; never something else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import headrace as hr
from headrace.support.cache import Cache, open_cache


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.entry"))


def test_what_was_kept_is_found_by_its_key_alone(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "new" / "folder")
    assert cache.get("a", "one") is None
    cache.put("a", "one", b"1" * 1000)
    cache.put("a", "two", b"")
    assert Cache(tmp_path / "new" / "folder").get("a", "one") == b"1" * 1000
    assert cache.get("a", "two") == b""
    assert cache.get("b", "one") is None
    assert cache.get("a", "three") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:-1],
        lambda data: data[:20],
        lambda data: b"",
        lambda data: data + b"more",
    ],
    ids=["content", "digest", "cut off", "in the digest", "empty", "longer"],
)
def test_a_damaged_entry_is_none(tmp_path: Path, damage: object) -> None:
    cache = Cache(tmp_path)
    cache.put("a", "one", b"content")
    (path,) = entries(tmp_path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert cache.get("a", "one") is None
    assert not entries(tmp_path), "it is removed, and can be kept anew"
    cache.put("a", "one", b"content")
    assert cache.get("a", "one") == b"content"


def test_an_entry_under_the_name_of_another_is_none(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("a", "one", b"1")
    (one,) = entries(tmp_path)
    cache.put("a", "two", b"2")
    (two,) = set(entries(tmp_path)) - {one}
    two.write_bytes(one.read_bytes())
    assert cache.get("a", "two") is None


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = Cache(tmp_path / "file" / "below")
    cache.describe("a", "title")
    cache.put("a", "one", b"1")
    assert cache.get("a", "one") is None
    assert cache.groups() == []
    assert cache.clear() == (0, 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        with open("/dev/full", "wb", buffering=0) as file:
            return file.write(data) or 0

    monkeypatch.setattr(Path, "write_bytes", full)
    cache = Cache(tmp_path)
    cache.put("a", "one", b"1")
    assert cache.get("a", "one") is None
    assert not list(tmp_path.rglob(".*.partial"))


def test_beyond_the_limit_the_oldest_go(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=10_000)
    for k in range(30):
        cache.put("a", str(k), bytes(600))
        for path in entries(tmp_path):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 10))
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= 11_000
    assert cache.get("a", "29") is not None
    assert cache.get("a", "0") is None
    cache.put("a", "large", bytes(9_000))
    assert cache.get("a", "large") is None, "one that would push out most others is not kept"


def test_use_is_noted(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("a", "one", b"1")
    (path,) = entries(tmp_path)
    os.utime(path, (0, time.time() - 86_400))
    cache.get("a", "one")
    assert time.time() - path.stat().st_mtime < 3600


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    left = tmp_path / "a" / ".x.entry.1-ab.partial"
    left.write_bytes(b"half")
    os.utime(left, (0, time.time() - 86_400))
    cache = Cache(tmp_path)
    cache.put("a", "one", b"1")
    assert not left.exists()


WRITE = """
import sys
from pathlib import Path
from headrace.support.cache import Cache
cache = Cache(Path(sys.argv[1]), limit=60_000)
for k in range(300):
    key = str(k % 40)
    found = cache.get("a", key)
    assert found is None or found == key.encode() * 1000, key
    if found is None or k % 7 == 0:
        cache.put("a", key, key.encode() * 1000)
"""


def test_several_processes_at_once(tmp_path: Path) -> None:
    """Each finds whole entries or none, while others write, replace and remove them."""
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for one in running:
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said
    assert not list(tmp_path.rglob(".*.partial"))


def test_the_environment_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    cache = open_cache()
    assert cache is not None
    assert cache.folder == tmp_path
    for off in ("off", "0", "", "OFF"):
        monkeypatch.setenv("HEADRACE_CACHE", off)
        assert open_cache() is None
    monkeypatch.delenv("HEADRACE_CACHE")
    cache = open_cache()
    assert cache is not None
    assert cache.folder == Path(platformdirs.user_cache_dir("headrace", appauthor=False))
    monkeypatch.setenv("HEADRACE_CACHE_LIMIT", "10MB")
    cache = open_cache()
    assert cache is not None
    assert cache.limit == 10_000_000
    monkeypatch.setenv("HEADRACE_CACHE_LIMIT", "much")
    with pytest.raises(hr.InputError, match="'much' is no amount"):
        open_cache()


def test_list_and_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from headrace.cli import main

    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    cache = Cache(tmp_path)
    cache.describe("a", "2025-11-08 s3://somewhere/soma")
    cache.put("a", "one", bytes(1_000_000))
    assert main(["cache", "list"]) == 0
    assert "2025-11-08 s3://somewhere/soma  1.0 MB in 1 entries" in capsys.readouterr().out
    assert main(["cache", "clear"]) == 0
    assert "removed 1 entry, 1.0 MB" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["cache", "list"]) == 0
    assert f"0.0 MB of 2,000 MB in {tmp_path}" in capsys.readouterr().out
    monkeypatch.setenv("HEADRACE_CACHE", "off")
    assert main(["cache", "list"]) == 0
    assert "turned off" in capsys.readouterr().out
