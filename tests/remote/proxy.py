"""A line to a server that is far away: a proxy that delays, paces, counts, and fails by request number.

It waits one round trip before each new connection and before each answer, and sends the bytes of all answers together
at the line's rate. Nothing but asyncio; it runs in a thread of its own, or alone:
`python tests/remote/proxy.py --port 8333 --delay 0.15 --mbit 200`, which prints its own port.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

PIECE = 1 << 16

SNDBUF = 1 << 17
"""Bytes that wait in a connection: what is counted has nearly arrived."""

S3_ERRORS = {
    "500": (500, "Internal Server Error", "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "Slow Down", "SlowDown", "Please reduce your request rate."),
    "403": (403, "Forbidden", "AccessDenied", "Access Denied"),
    "404": (404, "Not Found", "NoSuchKey", "The specified key does not exist."),
    "301": (301, "Moved Permanently", "PermanentRedirect", "The bucket you are attempting to access must be addressed "
            "using the specified endpoint. Please send all future requests to this endpoint."),
    "expired": (400, "Bad Request", "ExpiredToken", "The provided token has expired."),
    "bad-key": (403, "Forbidden", "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our "
                "records."),
    "signature": (403, "Forbidden", "SignatureDoesNotMatch", "The request signature we calculated does not match the "
                  "signature you provided. Check your key and signing method."),
}  # fmt: skip
"""What S3 answers instead: status, reason, code, message."""

FAULTS = ("refuse", "reset", "cut", "short", "stall", "stop", "long", "less", "flip", *S3_ERRORS)
"""All that can happen to a request.

"refuse": its connection is dropped, and no other one accepted for `down` seconds; "reset": before the answer; "cut",
"short": in the middle of it, by a reset or an orderly close; "stall", "stop": no byte, or none after the middle, for
ever; "long", "less": Content-Length says more, or less, than comes; "flip": one byte in the middle is another.
"""


@dataclass
class Rule:
    """Faults by what is asked for: the requests whose first line has `match`, without the first `skip` of them.

    Parameters
    ----------
    fault
        One of `FAULTS`.
    match
        A regular expression for a part of the request's first line.
    skip, times
        How many such requests pass before, and to how many it then happens.
    """

    fault: str
    match: str = ""
    skip: int = 0
    times: int = 1
    seen: int = 0

    def hits(self, line: str) -> bool:
        """Count a request; return whether the fault is its own."""
        if not re.search(self.match, line):
            return False
        self.seen += 1
        return self.skip < self.seen <= self.skip + self.times


@dataclass
class Proxy:
    """A context manager; inside it listens at `port`.

    Parameters
    ----------
    server
        Port of the server on this machine.
    delay
        Seconds of one round trip.
    rate
        Bytes in a second of all answers together; None is no limit.
    faults
        What happens to a request instead, by its number from 0: one of `FAULTS`.
    rules
        The same, by what is asked for.
    down
        Seconds of "refuse".
    """

    server: int
    delay: float = 0.0
    rate: float | None = None
    faults: Mapping[int, str] = field(default_factory=dict)
    rules: Sequence[Rule] = ()
    down: float = 0.5
    port: int = 0
    requests: int = 0
    bytes: int = 0
    most: int = 0
    """Requests under way at once, at most."""
    lines: list[str] = field(default_factory=list)
    """The first line of each request."""
    happened: list[tuple[int, str]] = field(default_factory=list)
    """The faults, by the numbers of their requests."""

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(started)), daemon=True)
        self._thread.start()
        started.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _main(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._free, self._now = 0.0, 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=1 << 20)
        self.port = self._listener.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in self._open:
            one.transport.abort()
        await asyncio.sleep(0.1)  # the transports close

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        upstream = None
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF)
        writer.transport.set_write_buffer_limits(0)  # what is counted has left this process
        self._open.add(writer)
        try:
            await asyncio.sleep(self.delay)
            source, upstream = await asyncio.open_connection("127.0.0.1", self.server, limit=1 << 20)
            self._open.add(upstream)
            while await self._one(reader, writer, source, upstream):
                pass
        except (ConnectionError, EOFError, ValueError, asyncio.CancelledError):
            pass
        finally:
            for one in (upstream, writer):
                if one is not None and self._stop.is_set():
                    one.transport.abort()
                elif one is not None:
                    one.close()

    async def _one(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        source: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> bool:
        """Pass one request on, and its answer back; return whether the connection stays."""
        head = await reader.readuntil(b"\r\n\r\n")
        number, self.requests = self.requests, self.requests + 1
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            line = head.split(b"\r\n", 1)[0].decode()
            self.lines.append(line)
            upstream.write(head + await reader.readexactly(_length(head) or 0))
            await asyncio.sleep(self.delay)
            answer = await source.readuntil(b"\r\n\r\n")
            empty = line.startswith("HEAD ") or answer.split(b" ", 2)[1] in (b"204", b"304")
            fault = self._fault(number, line)
            if fault == "stall":
                await self._stop.wait()
            if fault in ("refuse", "reset"):
                if fault == "refuse":
                    await self._refuse()
                writer.transport.abort()
                return False
            if fault in S3_ERRORS:
                writer.write(_s3_error(fault, empty))
                await writer.drain()
                return False
            length = _length(answer)
            if fault in ("long", "less") and length:
                said = length + 10 if fault == "long" else length // 2
                answer = answer.replace(b"%d" % length, b"%d" % said)  # Content-Range says the truth
            writer.write(answer)
            if empty:
                await writer.drain()
                return True
            return await self._body(answer, source, writer, length, fault)
        finally:
            self._now -= 1

    def _fault(self, number: int, line: str) -> str:
        hit = [rule.fault for rule in self.rules if rule.hits(line)]
        fault = self.faults.get(number, hit[0] if hit else "")
        if fault:
            self.happened.append((number, fault))
        return fault

    async def _refuse(self) -> None:
        """Accept no connection for a while."""
        if not self._listener.is_serving():
            return
        self._listener.close()

        async def again() -> None:
            await asyncio.sleep(self.down)
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=1 << 20)

        task = asyncio.ensure_future(again())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _body(
        self, answer: bytes, source: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int | None, fault: str
    ) -> bool:
        if length is None:  # chunked: it has no middle that is known
            while True:
                line = await source.readline()
                data = line + await source.readexactly(int(line, 16) + 2)
                if fault in ("cut", "short", "stop", "flip") and len(data) > len(line) + 2:
                    if fault == "flip":
                        data = _flipped(data, len(data) // 2)
                    else:
                        writer.write(data[: len(data) // 2])
                        await self._end(writer, fault)
                        return False
                    fault = ""
                await self._send(writer, data)
                if int(line, 16) == 0:
                    return True
        sent = 0
        middle = length // 2
        while sent < length:
            data = await source.read(min(PIECE, length - sent))
            if not data:
                return False
            if fault in ("cut", "short", "stop") and sent + len(data) > middle:
                writer.write(data[: middle - sent])
                await self._end(writer, fault)
                return False
            if fault == "flip" and sent <= middle < sent + len(data):
                data = _flipped(data, middle - sent)
            await self._send(writer, data)
            sent += len(data)
        return fault not in ("long", "less")

    async def _end(self, writer: asyncio.StreamWriter, fault: str) -> None:
        """End in the middle of an answer."""
        await writer.drain()
        if fault == "stop":
            await self._stop.wait()
        if fault == "cut":
            writer.transport.abort()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Send a part of an answer when the line has carried it, and count it then: before anybody has it."""
        if self.rate is not None:
            now = time.monotonic()
            self._free = max(self._free, now - 0.01) + len(data) / self.rate
            if self._free > now:
                await asyncio.sleep(self._free - now)
        self.bytes += len(data)
        writer.write(data)
        await writer.drain()


def _s3_error(fault: str, empty: bool) -> bytes:
    """Return an answer as S3 gives it."""
    status, reason, code, message = S3_ERRORS[fault]
    more = "<Endpoint>census.s3.us-west-2.amazonaws.com</Endpoint><Bucket>census</Bucket>" if status == 301 else ""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>'
    )
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    if status == 301:
        head += "x-amz-bucket-region: us-west-2\r\n"
    return (head + "Connection: close\r\n\r\n" + ("" if empty else body)).encode()


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def _length(head: bytes) -> int | None:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
        if name.strip().lower() == b"transfer-encoding" and b"chunked" in value:
            return None
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--mbit", type=float)
    asked = parser.parse_args()
    with Proxy(asked.port, asked.delay, asked.mbit and asked.mbit * 125_000) as running:
        print(running.port, flush=True)
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            pass
