"""blocksync from PyPI, for deltas: compares block by block over ssh and fetches those that differ.

It is a library, so its command line is ours. It fetches, because its other direction (`local_to_remote`, 3.0.1) leaves
a copy that differs: nothing tells its writer to pass over a block that is equal. It syncs nothing to the disk.
"""

from __future__ import annotations

from bench.peers import ssh
from bench.peers.peer import Place, run
from bench.tools import blocksync_python

_CALL = (
    "import sys; from blocksync import remote_to_local; from blocksync._consts import BASE_DIR; "
    "device, target, keys, port = sys.argv[1:]; "
    'remote_to_local(device, target, block_size="65536", workers=2, wait=True, compress=False, '
    'read_server_command=f"{{sys.executable}} {{BASE_DIR}}/_read_server.py", hostname="127.0.0.1", '
    'port=int(port), key_filename=keys + "/user", look_for_keys=False, allow_agent=False)'
)


class Blocksync:
    name = "blocksync"
    encryption = "ssh"
    fsync = False
    listens_at_source = True
    programs = ("ssh", "sshd")
    commands = (f"{{python}} -c '{_CALL}' {{device}} {{target}} {{keys}} {{port}}",)

    listening = staticmethod(ssh.listening)

    def copy(self, place: Place) -> None:
        run(self.commands[0], {**place.names(), "python": str(blocksync_python())})
