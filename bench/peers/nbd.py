"""The source as a network block device: nbdcopy over TLS from nbdkit, and qemu-img convert from qemu-nbd."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.peer import Place, daemon, run
from dr.certificates import authority


class Nbdcopy:
    name = "nbdcopy from nbdkit"
    encryption = "TLS"
    fsync = True
    listens_at_source = True
    programs = ("nbdkit", "nbdcopy", "openssl")
    commands = (
        "nbdkit --foreground --readonly --ipaddr 127.0.0.1 --port {port} --tls=require --tls-verify-peer "
        "--tls-certificates={keys} file {device}",
        "truncate --size $(blockdev --getsize64 {device}) {target} && "
        "nbdcopy --flush nbds://127.0.0.1:{port}/?tls-certificates={keys} {target}",
    )

    @contextmanager
    def listening(self, place: Place) -> Iterator[subprocess.Popen[bytes]]:
        _write_certificates(place.keys)
        with daemon(self.commands[0], place.names(), place.port) as process:
            yield process

    def copy(self, place: Place) -> None:
        run(self.commands[1], place.names())


class QemuImg:
    name = "qemu-img convert from qemu-nbd"
    encryption = "none"
    fsync = True
    listens_at_source = True
    programs = ("qemu-nbd", "qemu-img")
    commands = (
        "qemu-nbd --read-only --persistent --shared 4 --format raw --cache none --aio threads "
        "--bind 127.0.0.1 --port {port} {device}",
        "qemu-img convert -f raw -O raw -t writeback -W -m 8 nbd://127.0.0.1:{port} {target} && sync {target}",
    )

    @contextmanager
    def listening(self, place: Place) -> Iterator[subprocess.Popen[bytes]]:
        with daemon(self.commands[0], place.names(), place.port) as process:
            yield process

    def copy(self, place: Place) -> None:
        run(self.commands[1], place.names())


def _write_certificates(folder: Path) -> None:
    """Write what GnuTLS programs look for: the root, and a certificate with its key for each side."""
    root = authority.create("ca-bench-peers")
    (folder / "ca-cert.pem").write_bytes(root.cert_pem)
    for side in ("server", "client"):
        uri = authority.identity_uri("bench", side, side)
        chain, key = authority.issue(root, uri=uri, addresses=["127.0.0.1"], days=1)
        (folder / f"{side}-cert.pem").write_bytes(chain)
        (folder / f"{side}-key.pem").write_bytes(key)
