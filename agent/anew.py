"""Why tracking begins anew: what this boot's and the last one's memory say against what is there. Pure."""

from __future__ import annotations

from typing import Mapping, Optional

from agent.reasons import Reason, reason
from agent.state import Lasting, Session


def disks_changed(before: Optional[Mapping[str, int]], now: Mapping[str, int]) -> str:
    """Say which disks joined, left or have another size; empty when none, or when it is not known what there was."""
    if before is None:
        return ""
    said = [f"disk {name} joined with {size} bytes" for name, size in now.items() if name not in before]
    said += [f"disk {name} left" for name in before if name not in now]
    said += [
        f"disk {name} has {now[name]} bytes, had {size}" for name, size in before.items() if now.get(name, size) != size
    ]
    return "; ".join(said)


def why_anew(lasting: Optional[Lasting], before: Optional[Session], now: str) -> Optional[Reason]:
    """Return why a resync is due, None for an agent that is new here; `now` is this boot's id."""
    if lasting is None:
        return None
    if lasting.boot_id != now:
        return reason("reboot", "the server was restarted; what was written meanwhile is not known")
    if before is not None:
        return reason("reinstalled", "the protection was set up anew")
    return reason("interrupted-start", "the agent's memory of this boot is gone")
