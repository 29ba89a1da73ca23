"""A mounted file system that a power cut takes everything from that was not synced (`tests.points.unsynced`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.agent.protected import CHECKOUT, wait_for


class ForgetfulDisk:
    """Mounted at `folder`, which is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        command = [sys.executable, "-m", "tests.points.unsynced", str(folder)]
        self._fuse = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        wait_for("the file system that forgets", lambda: os.path.ismount(folder))

    def order(self, **order: Any) -> None:
        """Give one of the orders of `tests.points.unsynced`."""
        assert self._fuse.stdin is not None and self._fuse.stdout is not None
        self._fuse.stdin.write(json.dumps(order) + "\n")
        self._fuse.stdin.flush()
        assert self._fuse.stdout.readline(), "the file system that forgets has ended"

    def close(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", str(self.folder)], check=True)
        self._fuse.wait(10)
