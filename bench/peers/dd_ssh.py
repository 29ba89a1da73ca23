"""dd | lz4 | ssh: what everybody can type."""

from __future__ import annotations

from bench.peers import ssh
from bench.peers.peer import Place, run


class DdSsh:
    name = "dd | lz4 | ssh"
    encryption = "ssh"
    fsync = True
    listens_at_source = False
    programs = ("dd", "lz4", "ssh", "sshd")
    commands = (
        f"dd if={{device}} bs=4M iflag=direct status=none | lz4 -1 -c -q | {ssh.SSH} "
        "'lz4 -d -c -q | dd of={target} bs=4M iflag=fullblock conv=sparse,fsync status=none'",
    )

    listening = staticmethod(ssh.listening)

    def copy(self, place: Place) -> None:
        run(self.commands[0], place.names())
        place.target.touch()
        with place.target.open("r+b") as file:  # zeros at the end are left out by conv=sparse
            file.truncate(place.image.stat().st_size)
