"""The judgement over one server: named states with cause and remedy, and the RPO of this moment. Pure.

Rules:
- RPO counts manifests only: it is the age of the newest recovery point's cut, at the time of asking.
- Nothing is healthy by default: a server that was never heard of, or has no point, says so.
- `severity` is "degraded" or "note"; anything degraded makes `dr status` exit with 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from dr.config_server.heartbeats import Heartbeat
from dr.config_server.settings import ServerSettings
from dr.config_server.verifications import Verified, as_dict
from dr.process_server.states import WriterReport, WriterState
from dr.vault.declared import Kept
from dr.vault.manifest import Manifest, format_time

SILENT_SECONDS = 30.0
APP_CONSISTENT_GRACE_SECONDS = 900.0  # a failed attempt is repeated after five minutes
QUIET_WRITER = frozenset({WriterState.WRITING, WriterState.CLOSED})


@dataclass(frozen=True, slots=True)
class NamedState:
    """Something that a person should know about a server."""

    code: str
    message: str
    remedy: str
    severity: str = "degraded"


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest recovery point as the vault tells it; `fault` when it could not be asked or read.

    `app_consistent` is the newest of those, None when there is none or nobody asked for it.
    """

    manifest: Manifest | None
    fault: NamedState | None = None
    app_consistent: Manifest | None = None


Left = tuple[Sequence[Kept], NamedState | None]
"""The servers that left the declaration and whose points are still kept, and what keeps the list from being read."""


def rpo_seconds(newest: Manifest | None, now: datetime) -> float | None:
    """Return the age of the newest point's cut in seconds, None without a point."""
    return None if newest is None else max(0.0, (now - newest.cut_time).total_seconds())


def server_document(
    settings: ServerSettings,
    beat: Heartbeat | None,
    newest: Newest,
    writer: WriterReport | None,
    now: datetime,
    certificate_states: Iterable[NamedState] = (),
    verified: Verified | None = None,
) -> dict[str, Any]:
    """Return what `GET /v1/status` says about one server; schema `docs/formats/status.schema.json`."""
    states = [
        *certificate_states,
        *named_states(settings, beat, newest, writer, now),
        *_verified_states(settings.name, verified),
    ]
    rpo = rpo_seconds(newest.manifest, now)
    return {
        "health": "degraded" if any(s.severity == "degraded" for s in states) else "healthy",
        "states": [asdict(state) for state in states],
        "rpo_seconds": None if rpo is None else round(rpo, 1),
        "rpo_threshold_seconds": settings.rpo_threshold_seconds,
        "newest_point": point_document(newest.manifest),
        "app_consistent_seconds": settings.app_consistent_seconds,
        "newest_app_consistent_point": point_document(newest.app_consistent),
        "last_heartbeat": None if beat is None else format_time(beat.received_at),
        "heartbeat_age_seconds": None if beat is None else round((now - beat.received_at).total_seconds(), 1),
        "agent": None if beat is None else dict(beat.status),
        "writer": writer_document(writer),
        "verification": None if verified is None else as_dict(verified),
    }


def vault_document(settings: ServerSettings, newest: Newest, now: datetime) -> dict[str, Any]:
    """Return what the vault alone tells about a server, in the same shape."""
    states = [newest.fault] if newest.fault else list(_point_states(settings, newest, now))
    document = server_document(settings, None, newest, None, now)
    return {**document, "health": "degraded", "states": [asdict(state) for state in states]}


def status_document(
    site: str,
    source: str,
    states: Sequence[NamedState],
    servers: Mapping[str, Mapping[str, Any]],
    now: datetime,
    left: Left = ((), None),
    groups: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the status of a site; `states` are those of the site itself, `source` who tells it."""
    gone, fault = left
    told = {state["code"] for server in servers.values() for state in server["states"]}
    if fault is not None and fault.code not in told:
        states = [*states, fault]
    parts = (*servers.values(), *(groups or {}).values())
    degraded = bool(states) or any(part["health"] != "healthy" for part in parts)
    return {
        "version": 1,
        "site": site,
        "asked_at": format_time(now),
        "source": source,
        "health": "degraded" if degraded else "healthy",
        "states": [asdict(state) for state in states],
        "servers": dict(servers),
        "groups": dict(groups or {}),
        "left": {each.server: each.as_dict() for each in gone},
    }


def point_document(manifest: Manifest | None) -> dict[str, Any] | None:
    """Return the facts of a point that a status shows."""
    if manifest is None:
        return None
    return {"id": manifest.id, "kind": manifest.kind, "cut_time": format_time(manifest.cut_time)}


def writer_document(writer: WriterReport | None) -> dict[str, Any] | None:
    """Return the facts of a writer that a status shows."""
    if writer is None:
        return None
    return {**asdict(writer), "state": writer.state.value, "remedy": writer.remedy}


def named_states(
    settings: ServerSettings,
    beat: Heartbeat | None,
    newest: Newest,
    writer: WriterReport | None,
    now: datetime,
) -> Iterator[NamedState]:
    """Yield every state that a person should know, the most fundamental first."""
    if beat is None:
        yield NamedState(
            "agent-never-heard",
            "the agent has not been heard yet",
            "run `pulumi up` of the site stack; on the server: systemctl status lifeboat-agent",
        )
    else:
        yield from _agent_states(beat, newest.manifest, now)
    if writer is not None:
        yield from _writer_states(writer)
    if newest.fault is not None:
        yield newest.fault
    else:
        yield from _point_states(settings, newest, now)


def _agent_states(beat: Heartbeat, newest: Manifest | None, now: datetime) -> Iterator[NamedState]:
    status = beat.status
    silent = (now - beat.received_at).total_seconds()
    if silent > SILENT_SECONDS:
        yield NamedState(
            "agent-silent",
            f"the agent has not been heard for {silent:.0f} s",
            "check the server, its network and systemctl status lifeboat-agent; its changes are sent when it is back",
        )
    mode, reason = str(status.get("mode")), status.get("reason") or {}
    if mode == "initial-replication":
        yield NamedState(
            mode, f"initial replication {_percent(status)}", "wait; there is no recovery point before it ends"
        )
    elif mode != "delta":
        why = str(reason.get("message") or mode)
        about = f"resync {_percent(status)}: {why}; {_stays(newest)}" if mode == "resync" else f"{mode}: {why}"
        yield NamedState(mode, about, str(reason.get("remedy", "")))
    elif reason:
        yield _from_agent(reason)
    freezing = status.get("freezing")
    if isinstance(freezing, dict) and freezing.get("off"):
        off = freezing["off"]
        message, remedy = _reason_of(off)
        yield NamedState("freezing-off", f"points are taken without freezing: {message}", remedy)
    skipped = _skip_reason(status.get("last_cut"))
    if skipped is not None:
        message, remedy = _reason_of(skipped)
        yield NamedState("point-skipped", f"the last recovery point was skipped: {message}", remedy)
    applications = status.get("applications")
    if isinstance(applications, Mapping) and isinstance(applications.get("warning"), Mapping):
        yield _from_agent(applications["warning"], otherwise="application-failed")


def _stays(newest: Manifest | None) -> str:
    """Return what a person has in hand until a resync is over."""
    if newest is None:
        return "there is no recovery point before it ends"
    return f"until it ends there is no new recovery point, and {newest.id} of {format_time(newest.cut_time)} is kept"


def _from_agent(reason: Mapping[str, Any], otherwise: str = "agent-degraded") -> NamedState:
    """Return an agent's reason as a state that keeps the answer's schema, whatever the agent sent."""
    code = str(reason.get("code"))
    if not re.fullmatch("[a-z][a-z0-9-]{0,63}", code):
        code = otherwise
    return NamedState(code, str(reason.get("message") or code), str(reason.get("remedy", "")))


def _skip_reason(last_cut: object) -> object:
    if not isinstance(last_cut, Mapping) or last_cut.get("outcome") != "skipped":
        return None
    return last_cut.get("reason") or "no reason was given"


def _reason_of(value: object) -> tuple[str, str]:
    if isinstance(value, Mapping):
        return str(value.get("message", value.get("code", ""))), str(value.get("remedy", ""))
    return str(value), ""


def _percent(status: Mapping[str, Any]) -> str:
    total, done = int(status.get("initial_bytes_total") or 0), int(status.get("initial_bytes_done") or 0)
    if not total:
        return "is starting"
    remaining = status.get("remaining_seconds")
    ends = f", about {max(1, round(remaining / 60))} min to go" if isinstance(remaining, int) and remaining > 0 else ""
    return f"{100 * done / total:.0f} %{ends}"


def _writer_states(writer: WriterReport) -> Iterator[NamedState]:
    if writer.state not in QUIET_WRITER:
        yield NamedState(writer.state.value, writer.cause or writer.state.value, writer.remedy)
    if writer.spool_share_full:
        yield NamedState(
            "spool-share-full",
            f"this server's share of the spool is full with {writer.spool_bytes} bytes; the agent waits, others do not",
            "it empties as the vault stores; if it stays full, this server writes more than the vault takes",
        )
    elif writer.spool_full:
        yield NamedState(
            "spool-full",
            f"the spool is full with {writer.spool_bytes} bytes of this server; the agent waits",
            "it empties as the vault stores; if it stays full, look for store-unavailable or give it more room",
        )
    skipped = writer.skipped_point
    if skipped is not None:
        yield NamedState(
            "point-skipped", f"recovery point {skipped.number} was skipped: {skipped.message}", skipped.remedy
        )


def _verified_states(server: str, verified: Verified | None) -> Iterator[NamedState]:
    if verified is None:
        return
    ended = format_time(verified.ended_at)
    if verified.drift_bytes:
        places = ", ".join(f"{disk} at byte {offset}" for disk, offset in verified.drift)
        yield NamedState(
            "drift-found",
            f"{verified.drift_bytes} bytes differed from the replica though no write to them was seen: {places}",
            f"they were sent again: points made after {ended} hold them, older ones do not. Find out who changes the "
            f"disk behind the kernel's back (another host, the storage itself); `dr compare {server}` looks again",
        )
    if verified.unreadable:
        yield NamedState(
            "disk-unreadable",
            f"the verification pass that ended {ended} could not read everything: {verified.unreadable}",
            f"check the disk's health, then `dr compare {server}`; what is stored of these places stays",
        )


def _point_states(settings: ServerSettings, newest: Newest, now: datetime) -> Iterator[NamedState]:
    rpo = rpo_seconds(newest.manifest, now)
    if rpo is None:
        yield NamedState(
            "no-point", "there is no recovery point yet", "see the states above; the first one follows them"
        )
    elif rpo > settings.rpo_threshold_seconds:
        yield NamedState(
            "rpo-over-threshold",
            f"the newest recovery point is {rpo:.0f} s old, the threshold is {settings.rpo_threshold_seconds} s",
            "see the states above; without any, the server writes faster than it is replicated",
        )
    if rpo is not None and settings.app_consistent_seconds is not None:
        yield from _overdue(settings.app_consistent_seconds, newest.app_consistent, now)


def _overdue(every_seconds: int, newest: Manifest | None, now: datetime) -> Iterator[NamedState]:
    age = rpo_seconds(newest, now)
    if newest is not None and age is not None and age <= every_seconds + APP_CONSISTENT_GRACE_SECONDS:
        return
    last = "there is none yet" if newest is None else f"the newest, {newest.id}, is {age:.0f} s old"
    yield NamedState(
        "app-consistent-overdue",
        f"an application-consistent recovery point is due every {every_seconds} s, and {last}",
        "see the states above; without any, wait for the next one, or try one: `dr points SERVER --app-consistent`",
    )
