"""Named reasons: why the agent is in a degraded state or skipped a recovery point, with cause and remedy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Dict, Optional

from dr.errors import LifeboatError

_WAIT = "nothing to do: the agent compares the disks and sends what differs; no new recovery point is claimed before"

REMEDIES = {
    # why a resync runs
    "reboot": _WAIT,
    "reinstalled": _WAIT,
    "interrupted-start": _WAIT,
    "tracker-lost": "find who touched the tracing instance `lifeboat`; " + _WAIT,
    "no-pulse": "nothing to do: other checks of the tracker go on; put /var on a protected disk to have this one too",
    "tracker-overrun": "raise limits.tracker_kib or give the agent more CPU; " + _WAIT,
    "store-went-back": "check the storage account; " + _WAIT,
    "another-sender": "find who else sends as this server: a copy of it, a machine that was set back with its memory, "
    "a stolen certificate (then `dr revoke` it); " + _WAIT,
    "requested": _WAIT,
    "disks-changed": _WAIT,
    "resync-waits": "nothing to do; `dr resync SERVER` begins it at once. Changes are tracked meanwhile, and no new "
    "recovery point is claimed before it has ended",
    # why nothing is sent
    "disk-grown": "nothing to do: the agent starts anew, replicates what is new, and claims no point before",
    "disk-exchanged": "bring the disk back, or declare what is there now and run `pulumi up` of the site; "
    "the recovery points of the old disk stay",
    "copy": "if this is the recovered server, reprotect it; if its hardware was replaced, run `pulumi up` of the site",
    "fenced": "this server was failed over; shut it down, or reprotect it from where it runs now",
    "agent-failed": "read `journalctl -u lifeboat-agent` on the server; systemd keeps starting the agent",
    # what is wrong with the certificate
    "not-enrolled": "wait while the configuration server is started or reached; a token is good for an hour, "
    "`pulumi up --refresh` of the site stack brings another",
    "certificate-ending": "see the cause; it is tried again, once a minute",
    "certificate-ended": "run `pulumi up --refresh` of the site stack: it brings a token for a new one",
    "token-failed": "see the cause; the certificate that is there goes on. `dr agent token SERVER` makes another; if "
    "nobody of yours used this one, `dr revoke` the server first",
    # why a recovery point was skipped
    "busy-unfrozen-writer": "see `not_frozen`: put swap and raw users on a disk that is not protected",
    "too-much-pending": "the server writes faster than it can be read; raise limits.buffer_bytes or spread the load",
    "freeze-deadline": "find what made the freeze of the named file system slow, then remove the file "
    "freezing-off.json in /run/lifeboat; until then points are taken without freezing it",
    "slow-sync": "the disks are behind; the next point is tried on schedule",
    "thaw-lost": "another program thawed the file system; stop other users of fsfreeze during a point",
    "barrier-timeout": "whoever asked for the point did not release it in time; ask again",
    "barrier-failed": "check the way to the configuration server, then ask again",
    # why a replication group has no shared point
    "group-member-unreachable": "start its agent, and open the group's port (20004) between the members; points of "
    "the single servers go on",
    "group-member-failed": "see the cause and `dr status` of that server; points of the single servers go on",
    "group-timeout": "see `dr status` of the members; a server that writes faster than it can be read keeps the "
    "others from sharing a point; points of the single servers go on",
    "group-lost": "see `dr status` of the coordinator; points of the single servers go on",
    "group-void": "see `dr status` of the coordinator; points of the single servers go on",
    "group-port-taken": "end what listens there, or declare another port in groupAddress; points of the single "
    "servers go on",
    # why a point is not application-consistent
    "application-failed": "run the program by hand on the server, as root, and see what it says; the points are "
    "crash-consistent until it succeeds",
    "application-late": "find what it waits for, or declare a longer timeout; the points are crash-consistent until it "
    "is in time",
    "application-abandoned": "nothing to do: it is tried again",
    "application-unheld": "see `journalctl -u lifeboat-agent` on the server; the point is tried again",
    "application-not-frozen": "see the cause; an application-consistent point needs frozen file systems",
    "no-applications": "declare the server's `applications` and run `pulumi up` of the site, or ask without "
    "--app-consistent",
    "not-yet-protected": "wait until the initial replication or resync has finished, then ask again",
    "writer-changed": "nothing to do: the next point contains everything",
    "process-server-unreachable": "check the process server and the way to it; changes are kept and sent later",
    "cannot-remember": "make room in the named folder; replication goes on",
    "configuration-server-unreachable": "check the configuration server and the way to it; replication goes on",
}


@dataclass(frozen=True)
class Reason:
    """A stable code, what was seen, and what a person can do."""

    code: str
    message: str
    remedy: str

    def as_dict(self) -> Dict[str, str]:
        """Return it as the APIs carry it."""
        return asdict(self)


def reason(code: str, message: str) -> Reason:
    """Return the reason `code` with its remedy."""
    return Reason(code, message, REMEDIES[code])


def of_error(error: LifeboatError) -> Reason:
    """Return an error as a reason."""
    return Reason(error.code, error.message, error.remedy or REMEDIES.get(error.code, ""))


def from_dict(document: Optional[Dict[str, str]]) -> Optional[Reason]:
    """Return the reason that `as_dict` made."""
    return Reason(document["code"], document["message"], document["remedy"]) if document else None
