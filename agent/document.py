"""The AgentStatus document of an agent that has nothing to tell but its mode; `status.py` fills in the rest."""

from __future__ import annotations

from typing import Any, Dict, Optional

from agent.config import Config
from agent.identity import boot_id
from agent.reasons import Reason
from dr import __version__


def idle(config: Config, mode: str, why: Optional[Reason]) -> Dict[str, Any]:
    """Return the document of an agent that has nothing to tell but its mode."""
    return {
        "server": config.server,
        "boot_id": boot_id(),
        "mode": mode,
        "reason": why.as_dict() if why else None,
        "pending_bytes": 0,
        "initial_bytes_total": 0,
        "initial_bytes_done": 0,
        "sent_bytes": 0,
        "sequence": 0,
        "stored_sequence": 0,
        "tracker": {"kind": "ring", "overruns": 0, "events": 0, "reason": None, "pulse": "on", "certificate": None},
        "freezing": "on",
        "last_cut": None,
        "applications": None,
        "resync_request": None,
        "verification": None,
        "group": None,
        "remaining_seconds": None,
        "version": __version__,
    }
