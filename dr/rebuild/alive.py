"""Whether the site that is to be made anew still lives: two configuration servers would fence each other."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from dr.certificates.site import FILES
from dr.durable import write_durably
from dr.errors import Corrupt, Refused
from dr.model import Declaration, Site
from dr.target.folders import LOCAL_SUBSCRIPTION
from dr.vault.manifest import Manifest, format_time

RECORD = "rebuild.json"  # in the site's folder: a rebuild of it began, and whether it ended
CONNECT_SECONDS = 2.0
YOUNG = 3  # intervals of crash-consistent points


@dataclass(frozen=True, slots=True)
class Record:
    """What the folder says of its own rebuild; `ended` None: it was interrupted, or is at work."""

    site: str
    begun: str
    ended: str | None


def read_record(folder: Path) -> Record | None:
    """Return the record of the site's folder, None when it was never rebuilt. `Corrupt` `rebuild-record`."""
    path = folder / RECORD
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        return Record(str(document["site"]), str(document["begun"]), document["ended"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(
            f"{path} cannot be read: {error!r}",
            code="rebuild-record",
            remedy="if nobody works in this folder, move it away and run the command again",
        ) from error


def write_record(folder: Path, record: Record) -> None:
    """Write the record durably, with the folder when it is missing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = {"site": record.site, "begun": record.begun, "ended": record.ended}
    write_durably(folder / RECORD, json.dumps(document).encode() + b"\n", mode=0o600)


def refuse_held(folder: Path) -> None:
    """Raise `Refused` `site-alive` when the folder on this machine holds a site that no rebuild made."""
    held = [name for name in ("config.json", *FILES) if (folder / name).exists()]
    if held:
        raise Refused(
            f"{folder} holds the site ({', '.join(held)}): nothing is lost here",
            code="site-alive",
            remedy="`pulumi up --refresh` of the site stack makes good what is missing in it; if it is damaged beyond "
            "that, stop `dr serve` and move the folder away",
        )


def refuse_listening(site: Site, subscription: str, ask: Callable[[str, int], bool] | None = None) -> None:
    """Raise `Refused` `site-alive` when a server of the declared site accepts connections."""
    answering = [place for place in _places(site, subscription) if (ask or answers)(*place)]
    if answering:
        where = ", ".join(f"{host}:{port}" for host, port in answering)
        raise Refused(
            f"something answers where site {site.name} listens: {where}",
            code="site-alive",
            remedy="ask it: `dr status` on that machine. Stop `dr serve` there before another one is made",
        )


def refuse_young(declaration: Declaration, newest: Mapping[str, Manifest], now: datetime) -> None:
    """Raise `Refused` `site-may-be-alive` when a point is so new that somebody may be making the next one."""
    young = sorted(
        f"{name} ({format_time(point.created_time)})"
        for name, point in newest.items()
        if name in declaration.servers and now - point.created_time < YOUNG * _interval(declaration, name)
    )
    if young:
        raise Refused(
            f"the vault got recovery points a short while ago: {', '.join(young)}",
            code="site-may-be-alive",
            remedy="make sure that no `dr serve` of this site runs anywhere, then say --site-is-gone",
        )


def answers(host: str, port: int) -> bool:
    """Tell whether somebody accepts a connection."""
    try:
        with closing(socket.create_connection((host, port), CONNECT_SECONDS)):
            return True
    except OSError:
        return False


def _places(site: Site, subscription: str) -> Iterable[tuple[str, int]]:
    one = site.configuration_server
    for address, port in ((one.address, one.port), *((each.address, each.port) for each in site.process_servers)):
        # On target local everything stays on the loopback interface, whatever address the guests use.
        yield ("127.0.0.1" if subscription == LOCAL_SUBSCRIPTION else address), port


def _interval(declaration: Declaration, server: str) -> timedelta:
    return timedelta(seconds=declaration.policies[declaration.servers[server].policy].crash_consistent_seconds)
