"""A line to a server that is far away: a proxy that delays, paces, counts, and fails by request number.

It waits one round trip before each new connection and before each answer, and sends the bytes of all answers together
at the line's rate. Nothing but asyncio; it runs in a thread of its own, or alone:
`python tests/remote/proxy.py --port 8333 --delay 0.15 --mbit 200`, which prints its own port.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

PIECE = 1 << 16
FAULTS = ("reset", "cut", "503", "500", "403", "stall")


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
        What happens to a request instead, by its number from 0: "reset" before the answer, "cut" in the middle of it,
        "stall" for ever, or a status.
    """

    server: int
    delay: float = 0.0
    rate: float | None = None
    faults: Mapping[int, str] = field(default_factory=dict)
    port: int = 0
    requests: int = 0
    bytes: int = 0
    most: int = 0
    """Requests under way at once, at most."""
    lines: list[str] = field(default_factory=list)
    """The first line of each request."""

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
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20)
        self.port = listener.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.1)  # the transports close

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        upstream = None
        try:
            await asyncio.sleep(self.delay)
            source, upstream = await asyncio.open_connection("127.0.0.1", self.server, limit=1 << 20)
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
            fault = self.faults.get(number, "")
            if fault == "stall":
                await self._stop.wait()
            if fault == "reset":
                writer.transport.abort()
                return False
            if fault.isdigit():
                writer.write(f"HTTP/1.1 {fault} Fault\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                return False
            writer.write(answer)
            if empty:
                await writer.drain()
                return True
            return await self._body(answer, source, writer, fault == "cut")
        finally:
            self._now -= 1

    async def _body(self, answer: bytes, source: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: bool) -> bool:
        length = _length(answer)
        if length is None:  # chunked
            while True:
                line = await source.readline()
                data = line + await source.readexactly(int(line, 16) + 2)
                await self._pace(len(data))
                writer.write(data)
                await writer.drain()
                if int(line, 16) == 0:
                    return True
        left = length // 2 if cut else length
        while left:
            data = await source.read(min(PIECE, left))
            if not data:
                return False
            await self._pace(len(data))
            writer.write(data)
            await writer.drain()
            left -= len(data)
        if cut:
            writer.transport.abort()
        return not cut

    async def _pace(self, n: int) -> None:
        self.bytes += n
        if self.rate is not None:
            now = time.monotonic()
            self._free = max(self._free, now - 0.01) + n / self.rate
            if self._free > now:
                await asyncio.sleep(self._free - now)


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
