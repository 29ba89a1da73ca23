"""AgentStatus: what the agent says about itself, to the configuration server and in `/run/lifeboat/status.json`."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any, Dict, Mapping, Optional

from agent.applications import Applications
from agent.config import Config
from agent.control import Control
from agent.cut import Cutter
from agent.document import idle
from agent.identity import boot_id
from agent.pace import Pace
from agent.pulse import Pulse
from agent.reasons import Reason, reason
from agent.replication import Replication
from agent.sender import Sender, SenderState

CAUSES = frozenset({"not-enrolled", "certificate-ended"})  # of everything else that may be wrong


class Status:
    """Keeps the newest document; other threads read `document` and never change it."""

    def __init__(
        self, config: Config, replication: Replication, cutter: Cutter, pulse: Pulse, applications: Applications
    ) -> None:
        self._applications = applications
        self._pulse = pulse
        self._config = config
        self._replication = replication
        self._cutter = cutter
        self._boot_id = boot_id()
        self._last_cut: Optional[Dict[str, Any]] = None
        self._shown_mode = ""
        self._shown_request: Optional[str] = None
        self._pace = Pace()
        self.resync_request: Optional[str] = None  # the last one that was taken up
        self.document: Dict[str, Any] = idle(config, replication.session.mode, None)

    def cut_sent(self, info: Mapping[str, Any], number: int) -> None:
        """Note a cut that a process server has received."""
        names = ("kind", "cut_time", "frozen", "not_frozen", "freeze_ms", "requested")
        self._last_cut = {"outcome": "sent", "number": number, "reason": None, **{name: info[name] for name in names}}

    def cut_skipped(self, why: Reason) -> None:
        """Note a recovery point that was not made."""
        number = self._last_cut["number"] if self._last_cut else None
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._last_cut = {"outcome": "skipped", "number": number, "reason": why.as_dict(), "skipped_time": now}

    def changed(self) -> bool:
        """Tell whether the mode or the request that was taken up differs from what was published."""
        shown = (self._shown_mode, self._shown_request)
        return (self._replication.session.mode, self.resync_request) != shown

    def refresh(
        self,
        sender: Sender,
        control: Control,
        certificate: Optional[Reason],
        unsaved: Optional[Reason],
        verification: Optional[Dict[str, Any]],
        group: Optional[Dict[str, Any]],
    ) -> Dict[str, Any]:
        """Make and return a new document; `certificate` and `unsaved` are what is wrong with either."""
        replication, positions = self._replication, self._replication.positions
        mode, why = self._mode(sender, control)
        if certificate is not None and mode != "fenced" and (why is None or certificate.code in CAUSES):
            why = certificate
        why = why or unsaved
        total = positions.get("initial_bytes_total")
        unread = min(total, replication.unread_bytes)
        self._shown_mode, self._shown_request = replication.session.mode, self.resync_request
        self.document = {
            **idle(self._config, mode, why),
            "pending_bytes": replication.dirty_bytes,
            "initial_bytes_total": total,
            "initial_bytes_done": total - unread,
            "sent_bytes": positions.get("sent_bytes"),
            "sequence": max(0, positions.get("next_sequence") - 1),
            "stored_sequence": positions.get("stored_sequence"),
            "tracker": self._tracker(),
            "freezing": self._cutter.quieting.document,
            "last_cut": self._last_cut,
            "applications": self._applications.document(),
            "resync_request": self.resync_request,
            "verification": verification,
            "group": group,
            "remaining_seconds": self._pace.remaining_seconds(unread, time.monotonic()),
        }
        return self.document

    def _tracker(self) -> Dict[str, Any]:
        tracker, positions = self._replication.tracker, self._replication.positions
        certificate, no_pulse = tracker.certificate, self._pulse.off
        return {
            "kind": tracker.kind,
            "overruns": positions.get("overruns"),
            "events": positions.get("events"),
            "reason": tracker.ring_only.as_dict() if tracker.ring_only else None,
            "pulse": {"off": no_pulse.as_dict()} if no_pulse else "on",
            "certificate": certificate.as_dict() if certificate else None,
        }

    def _mode(self, sender: Sender, control: Control) -> "tuple[str, Optional[Reason]]":
        session = self._replication.session
        if sender.state is SenderState.FENCED or control.protection_epoch > self._config.protection_epoch:
            return "fenced", reason("fenced", "this server's protection epoch is over")
        if sender.trouble is not None:
            return session.mode, sender.trouble
        waiting = self._replication.waiting
        if waiting is not None:
            return session.mode, waiting
        if session.reason is not None:
            return session.mode, Reason(**session.reason)
        if not control.reachable:
            return session.mode, reason("configuration-server-unreachable", self._config.configuration_server)
        return session.mode, None
