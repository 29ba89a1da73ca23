"""rsync of the disk's image, which finds by itself what changed: for the first copy and for deltas."""

from __future__ import annotations

from bench.peers import ssh
from bench.peers.peer import Place, run

_RSYNC = "rsync --ignore-times --inplace --fsync {options} -e 'ssh -F {{keys}}/ssh_config' {{image}} target:{{target}}"


class Rsync:
    name = "rsync"
    encryption = "ssh"
    fsync = True
    listens_at_source = False
    programs = ("rsync", "ssh", "sshd")

    listening = staticmethod(ssh.listening)

    def __init__(self, *, delta: bool) -> None:
        # A first copy has nothing to compare with; --compress with lz4 costs less than it saves.
        options = "--no-whole-file" if delta else "--whole-file --sparse --compress --compress-choice=lz4"
        self.commands: tuple[str, ...] = (_RSYNC.format(options=options),)

    def copy(self, place: Place) -> None:
        run(self.commands[0], place.names())
