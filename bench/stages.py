"""Each stage of the way to `received`, alone, on the disk's own content: what `limits` makes a limit of.

    read O_DIRECT -> LZ4 -> SHA-256 -> TLS -> SHA-256 and LZ4 back -> sealed spool, fsync

Each is the same library call that the product makes, in a loop that does nothing else. What every byte of the disk
costs is counted over all of the sample, zeros included, as they are read and then left out.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lz4.block

from bench.disk import LoopDisk
from bench.limits import Stage
from bench.ours import Site
from dr.certificates.tls import client_context, server_context
from dr.process_server.spool import Kind, Spool, Spooled

SAMPLE_BYTES = 320 << 20
SEGMENT_BYTES = 4 << 20
_RECORD_BYTES = 1 << 20


def measure(disk: LoopDisk, folder: Path, site: Site) -> list[Stage]:
    """Return all stages; `site` gives the certificates."""
    sample = min(SAMPLE_BYTES, disk.size_bytes)
    read = Timed("read, O_DIRECT", sample)
    with read:
        segments = list(_read(disk, sample))
    contents = [[record for record in segment if any(record)] for segment in segments]
    pack, unpack = Timed("LZ4", sample), Timed("LZ4 back", sample)
    with pack:
        packed = [[lz4.block.compress(record, store_size=False) for record in segment] for segment in contents]
    with unpack:
        for segment, originals in zip(packed, contents, strict=True):
            for record, original in zip(segment, originals, strict=True):
                lz4.block.decompress(record, uncompressed_size=len(original)) if len(record) < len(original) else None
    wire = [
        b"".join(min(p, c, key=len) for p, c in zip(*both, strict=True)) for both in zip(packed, contents, strict=True)
    ]
    wire = [segment for segment in wire if segment]
    stages = [read, pack, unpack]
    for name in ("SHA-256 at the source", "SHA-256 at the process server"):
        stages.append(timed := Timed(name, sample))
        with timed:
            for segment_bytes in wire:
                hashlib.sha256(segment_bytes).digest()
    stages.append(tls := Timed("TLS", sample))
    with _connection(site) as (near, far), tls:
        _through(near, far, wire)
    stages.append(spool := Timed("spool, sealed, fsync", sample))
    with spool:
        _keep(folder / "stage-spool", wire)
    return [each.stage for each in stages]


class Timed:
    """Times a block of work on `sample_bytes` of a disk."""

    def __init__(self, name: str, sample_bytes: int) -> None:
        self._name, self._bytes = name, sample_bytes

    def __enter__(self) -> None:
        self._cpu, self._clock = time.process_time(), time.monotonic()

    def __exit__(self, *_: object) -> None:
        seconds, cpu = time.monotonic() - self._clock, time.process_time() - self._cpu
        self.stage = Stage(self._name, self._bytes / seconds, cpu / self._bytes)


def _read(disk: LoopDisk, sample: int) -> Iterator[list[bytes]]:
    buffer = mmap.mmap(-1, SEGMENT_BYTES)
    descriptor = os.open(disk.device, os.O_RDONLY | os.O_DIRECT)
    try:
        for offset in range(0, sample, SEGMENT_BYTES):
            os.preadv(descriptor, [buffer], offset)
            yield [buffer[start : start + _RECORD_BYTES] for start in range(0, SEGMENT_BYTES, _RECORD_BYTES)]
    finally:
        os.close(descriptor)


@contextmanager
def _connection(site: Site) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    agent = site.folder / "agent.crt", site.folder / "agent.key"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    accepted: list[ssl.SSLSocket] = []
    serving = server_context(site.certificate, site.key, site.ca)
    shaking = threading.Thread(target=lambda: accepted.append(serving.wrap_socket(far, server_side=True)))
    shaking.start()
    client = client_context(*agent, site.ca).wrap_socket(near, server_hostname="127.0.0.1")
    shaking.join()
    with client, accepted[0]:
        yield client, accepted[0]


def _through(near: ssl.SSLSocket, far: ssl.SSLSocket, segments: list[bytes]) -> None:
    total = sum(len(segment) for segment in segments)

    def receive() -> None:
        buffer, done = bytearray(256 << 10), 0
        while done < total:
            done += far.recv_into(buffer)

    receiving = threading.Thread(target=receive)
    receiving.start()
    for segment in segments:
        near.sendall(segment)
    receiving.join()


def _keep(folder: Path, segments: list[bytes]) -> None:
    spool = Spool(folder, secrets.token_bytes(32), 1 << 40)
    for sequence, segment in enumerate(segments, 1):
        entry = spool.append(Spooled("stage", 1, 1, sequence, sequence - 1, Kind.DATA, 0), segment)
        spool.remove([entry])
