"""When the applications of this server are asked, and how that went; one holder at a time.

    due or requested -> holder begins -> (the loop goes on) -> all pre done -> cut -> post -> noted

Rules kept here:
- What an earlier agent, or the server before its restart, left between pre and post is mended before anything else.
- A failure is tried again after five minutes, not at once: the scripts stop somebody's work.
- Until it succeeds again, the reason is in the status. It outlives the agent, and the time of the next attempt does.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, Optional

from agent import log, state
from agent.config import Config
from agent.hold import Hold
from agent.holder import RECORD
from agent.reasons import Reason, from_dict

AGAIN_SECONDS = 300.0
SLOW_SECONDS = 20.0
MEMORY = "application-points.json"


class Applications:
    """Belongs to the loop's thread."""

    def __init__(self, config: Config, wake: threading.Event) -> None:
        self._config = config
        self._wake = wake
        self._memory = os.path.join(config.run_folder, MEMORY)
        kept = state.load_json(self._memory) or {}
        self._attempt: Optional[float] = kept.get("attempt")  # CLOCK_MONOTONIC, which is the boot's, as the folder is
        self._failed = bool(kept.get("failed"))
        self._warning: Optional[Reason] = from_dict(kept.get("warning"))
        self._last: Optional[Dict[str, Any]] = kept.get("last")
        self._hold: Optional[Hold] = None
        self._mending: Optional[Hold] = None
        if os.path.exists(os.path.join(config.cache_folder, RECORD)):
            log.say("applications: the post scripts of an earlier start are due")
            self._mending = Hold(config, "", wake.set)

    @property
    def declared(self) -> bool:
        """Tell whether there is anything to ask."""
        return bool(self._config.applications)

    def wanted(self, every_seconds: Optional[float], now: float, *, asked: bool) -> bool:
        """Tell whether the next cut is to be application-consistent: somebody asked, or the policy does."""
        self._mend()
        if not self.declared or self._mending is not None:
            return False
        return asked or self._hold is not None or self._due(every_seconds, now)

    def held(self, now: float) -> Optional[Hold]:
        """Return the holder when the pre scripts are over, one way or the other; begin them when none runs."""
        if self._hold is None:
            self._attempt = now
            self._hold = Hold(self._config, secrets.token_hex(8), self._wake.set)
        return None if self._hold.preparing else self._hold

    @property
    def slow(self) -> bool:
        """Tell whether the pre scripts take so long that other cuts should not wait for them."""
        return self._hold is not None and self._hold.running_seconds > SLOW_SECONDS

    def over(self, hold: Hold, made: bool, meanwhile: Callable[[], object]) -> None:
        """Note that a cut under `hold` was tried, and whether there is one: none ends without its post scripts."""
        tag = hold.end(meanwhile, {})
        self._hold = None
        self._warning = from_dict(tag["warning"])
        self._failed = self._warning is not None or not made
        if self._warning is not None:
            log.say(f"applications: {self._warning.code}: {self._warning.message}")
        self._note()
        if os.path.exists(os.path.join(self._config.cache_folder, RECORD)):
            self._mending = Hold(self._config, "", self._wake.set)

    def arrived(self, info: Mapping[str, Any], number: Optional[int]) -> None:
        """Note the number that a cut was received under; None: it is lost, and soon tried again."""
        if info["kind"] != "application-consistent":
            return
        if number is None:
            self._failed = True
        else:
            self._last = {"number": number, "cut_time": info["cut_time"]}
        self._note()

    def leave(self) -> None:
        """Let what runs end by itself, because the agent does."""
        for each in (self._hold, self._mending):
            if each is not None:
                each.leave()

    def document(self) -> Optional[Dict[str, Any]]:
        """Return the part of the status, None when nothing is declared."""
        if not self.declared:
            return None
        doing = "mending" if self._mending else "holding" if self._hold else "idle"
        names: List[str] = [each.name for each in self._config.applications]
        warning = self._warning.as_dict() if self._warning else None
        return {"names": names, "doing": doing, "last_point": self._last, "warning": warning}

    def _due(self, every_seconds: Optional[float], now: float) -> bool:
        if not every_seconds:
            return False
        pause = min(every_seconds, AGAIN_SECONDS) if self._failed else every_seconds
        return self._attempt is None or now >= self._attempt + pause

    def _mend(self) -> None:
        if self._mending is not None and self._mending.mended:
            self._warning, self._mending = self._mending.failure or self._warning, None
            self._note()

    def _note(self) -> None:
        warning = dict(self._warning.as_dict()) if self._warning else None
        document = {"attempt": self._attempt, "failed": self._failed, "warning": warning, "last": self._last}
        try:
            state.save_json(self._memory, document)
        except OSError as error:
            log.say(f"applications: {self._memory} cannot be written: {error.strerror}")


def mend(config: Config) -> None:
    """Run the post scripts that an earlier start left due, and wait for them: for an agent that does nothing else."""
    if os.path.exists(os.path.join(config.cache_folder, RECORD)):
        hold = Hold(config, "", lambda: None)
        while not hold.mended:
            time.sleep(0.05)
        if hold.failure is not None:
            log.say(f"applications: {hold.failure.code}: {hold.failure.message}")
