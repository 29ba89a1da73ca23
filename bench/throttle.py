"""Stands before Azurite and gives each blob what Azure gives a page blob: 500 requests and 60 MiB in a second.

`python -m bench.throttle PORT REQUESTS BYTES` forwards to 127.0.0.1:PORT and prints its own port. It delays what is too
early, where Azure answers some of it "busy" (503). Heads are read to count; answers pass as they come.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass

PIECE_BYTES = 256 << 10
BURST_SECONDS = 0.1


@dataclass
class Bucket:
    """What one blob may still do. Pure; the clock is the caller's."""

    requests_per_second: float
    bytes_per_second: float
    free_at: float = 0.0

    def wait_seconds(self, size_bytes: int, now: float) -> float:
        """Take one request of `size_bytes`; return how long it has to wait."""
        begins = max(self.free_at, now - BURST_SECONDS)
        self.free_at = begins + max(1 / self.requests_per_second, size_bytes / self.bytes_per_second)
        return max(0.0, self.free_at - now)


class Throttle:
    """Serves connections until cancelled."""

    def __init__(self, port: int, requests_per_second: float, bytes_per_second: float) -> None:
        self._port = port
        self._buckets: defaultdict[bytes, Bucket] = defaultdict(lambda: Bucket(requests_per_second, bytes_per_second))

    async def serve(self) -> None:
        """Print the port and serve."""
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0, limit=PIECE_BYTES)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _forward(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, there = await asyncio.open_connection("127.0.0.1", self._port, limit=PIECE_BYTES)
        answers = asyncio.create_task(_pump(far, back))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await near.readuntil(b"\r\n\r\n")
                blob, length = parse_head(head)
                await asyncio.sleep(self._buckets[blob].wait_seconds(length, asyncio.get_running_loop().time()))
                there.write(head)
                while length > 0:
                    piece = await near.read(min(length, PIECE_BYTES))
                    if not piece:
                        raise asyncio.IncompleteReadError(b"", length)
                    length -= len(piece)
                    there.write(piece)
                    await there.drain()
        there.close()
        await answers


def parse_head(head: bytes) -> tuple[bytes, int]:
    """Return the blob of a request's head and the length of its body."""
    lines = head.split(b"\r\n")
    blob = lines[0].split(b" ")[1].partition(b"?")[0]
    headers = (line.partition(b":") for line in lines[1:])
    length = next((value for name, _, value in headers if name.strip().lower() == b"content-length"), b"0")
    return blob, int(length)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await source.read(PIECE_BYTES):
            sink.write(piece)
            await sink.drain()
    sink.close()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(Throttle(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])).serve())
