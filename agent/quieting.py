"""Which file systems of a server are frozen for its points, and which not any more: by name, with the reason.

Rules kept here:
- Each is synced first, by a thread of its own; one that is slow at it is not frozen in this cut.
- One that overran the deadline is not frozen again until a person has looked. The others are.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Callable, Dict, Iterable, List, Optional

from agent import log, state
from agent.filesystems import FileSystem
from agent.freezer import sync_file_system
from agent.reasons import Reason, reason

FREEZING_OFF = "freezing-off.json"
SYNC_SECONDS = 2.0
_AGAIN_SECONDS = 0.02


class Quieting:
    """Remembers, in the run folder, what is not frozen any more; syncs the rest."""

    def __init__(self, run_folder: str) -> None:
        self._file = os.path.join(run_folder, FREEZING_OFF)
        self._syncing: Dict[str, threading.Thread] = {}

    @property
    def off(self) -> Dict[str, Reason]:
        """Return the mount points that are not frozen any more, each with the reason."""
        document: Any = state.load_json(self._file) or {}
        return {
            mount_point: Reason(why["code"], why["message"], why["remedy"])
            for mount_point, why in document.items()
            if isinstance(why, dict)
        }

    @property
    def document(self) -> Any:
        """Return what the agent's status says: `on`, or whose freezing is off and why."""
        off = self.off
        if not off:
            return "on"
        first = next(iter(off.values()))
        names = ", ".join(f"{mount_point} ({why.message})" for mount_point, why in off.items())
        return {"off": {"code": first.code, "message": names, "remedy": first.remedy}, "file_systems": list(off)}

    def switch_off(self, mount_points: Iterable[str], freeze_ms: int) -> Reason:
        """Freeze these never again, and return why."""
        names = list(mount_points)
        why = reason("freeze-deadline", f"a cut kept it frozen, or waited for that, {freeze_ms} ms")
        off = {**self.off, **dict.fromkeys(names, why)}
        state.save_json(self._file, {name: dict(each.as_dict()) for name, each in off.items()})
        log.say(f"freezing is off for {', '.join(names)}: {why.message}")
        return reason("freeze-deadline", f"{', '.join(names)}: {why.message}")

    def slow(self, file_systems: List[FileSystem], meanwhile: Callable[[], object]) -> Dict[str, str]:
        """Sync all; return the mount points that are too slow, each with the code of its reason."""
        self._syncing = {name: thread for name, thread in self._syncing.items() if thread.is_alive()}
        for each in file_systems:
            if each.mount_point not in self._syncing:
                thread = threading.Thread(target=_sync, args=(each.mount_point,), daemon=True)
                self._syncing[each.mount_point] = thread
                thread.start()
        waiting = [self._syncing[each.mount_point] for each in file_systems]
        deadline = time.monotonic() + SYNC_SECONDS
        while any(thread.is_alive() for thread in waiting) and time.monotonic() < deadline:
            meanwhile()
            time.sleep(_AGAIN_SECONDS)
        return {each.mount_point: "slow-sync" for each in file_systems if self._syncing[each.mount_point].is_alive()}


def _sync(mount_point: str) -> None:
    descriptor: Optional[int] = None
    try:
        descriptor = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        sync_file_system(descriptor)
    except OSError:
        pass  # unmounted meanwhile; or the freeze that follows flushes as well, and names what fails
    finally:
        if descriptor is not None:
            os.close(descriptor)
