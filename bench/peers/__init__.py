"""The peers of each kind of work."""

from __future__ import annotations

from bench.peers.blocksync import Blocksync
from bench.peers.dd_ssh import DdSsh
from bench.peers.nbd import Nbdcopy, QemuImg
from bench.peers.peer import Peer
from bench.peers.rsync import Rsync

FIRST_COPY: tuple[Peer, ...] = (DdSsh(), Nbdcopy(), QemuImg(), Rsync(delta=False))
DELTA: tuple[Peer, ...] = (Rsync(delta=True), Blocksync())
DELTA_BY_SIZE: tuple[Peer, ...] = (Rsync(delta=True),)
