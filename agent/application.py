"""The applications of a server, as they were declared, and what is told of them. Pure.

`agent.json`: `"applications": [{"name", "use", "settings", "pre", "post", "timeout_seconds"}]`, in the order in which
they are asked. `use` names a drop-in of ours; without one, `pre` and `post` are a program with its arguments each.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Tuple

POSTGRESQL, MARIADB = "postgresql", "mariadb"
DROP_INS = (POSTGRESQL, MARIADB)
PRE, POST = "pre", "post"

# Why a post script runs; scripts are told.
HELD, FAILED, LATE, INTERRUPTED = "held", "failed", "late", "interrupted"


@dataclass(frozen=True)
class Application:
    """One application; `settings` is the database's own file with how to reach it, empty for its defaults."""

    name: str
    use: str
    settings: str
    pre: Tuple[str, ...]
    post: Tuple[str, ...]
    timeout_seconds: float

    def as_dict(self) -> Dict[str, Any]:
        """Return it as `agent.json` has it."""
        return asdict(self)


def parse(document: Mapping[str, Any]) -> Application:
    """Return what `as_dict` gave; raises what a missing or wrong value raises."""
    use = str(document.get("use") or "")
    found = Application(
        name=str(document["name"]),
        use=use,
        settings=str(document.get("settings") or ""),
        pre=tuple(str(word) for word in document.get("pre") or ()),
        post=tuple(str(word) for word in document.get("post") or ()),
        timeout_seconds=float(document["timeout_seconds"]),
    )
    if use and use not in DROP_INS:
        raise ValueError(f"there is no drop-in {use!r}")
    if not use and not (found.pre and found.post):
        raise ValueError(f"application {found.name} has no pre and post")
    return found


def environment(
    application: Application, phase: str, *, server: str, cut: str, began: str, outcome: str = ""
) -> Dict[str, str]:
    """Return what a script is told: what happens, and since when (RFC 3339); `cut` is the same in pre and post."""
    told = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C",
        "LIFEBOAT_PHASE": phase,
        "LIFEBOAT_APPLICATION": application.name,
        "LIFEBOAT_SERVER": server,
        "LIFEBOAT_CUT": cut,
        "LIFEBOAT_BEGAN": began,
        "LIFEBOAT_TIMEOUT_SECONDS": f"{application.timeout_seconds:g}",
    }
    return {**told, "LIFEBOAT_OUTCOME": outcome} if phase == POST else told
