"""`dr rebuild` from its first question to its last: who lives, what the vault knows, the stacks, who is heard again.

Rules:
- Nothing is guessed. Without the key of the site's CA nothing begins (another CA would lock out every agent), and
  without the vault's list of revocations it wants a word (nobody would know whom to lock out).
- What is revoked is in the new register before the first listener opens.
- The folder says that a rebuild of it began (`rebuild.json`): a second call goes on, and when all is there it changes
  nothing. A site that lives is refused by name.
- Servers are asked over SSH and not changed: an agent that runs goes on with the certificate that it has, for the root
  is the same. The writer's leases are broken by the new process server, and the old login at the vault ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dr.certificates.authority import Authority
from dr.certificates.register import Register, Revoked
from dr.certificates.site import REGISTER
from dr.compile import names
from dr.config_server.health import SILENT_SECONDS
from dr.errors import LifeboatError, NotFound, Refused
from dr.failover.engine import Event
from dr.failover.repair import run_of
from dr.model import Declaration
from dr.rebuild import alive
from dr.rebuild.alive import Record
from dr.rebuild.planning import arm_id
from dr.rebuild.result import Named, Result, StackResult
from dr.rebuild.state import Recovered, Stack
from dr.retention.pruning import is_selection
from dr.vault import revocations
from dr.vault.manifest import Manifest, format_time
from dr.vault.points import read_points, servers
from dr.vault.store import BlobStore

HEARD_SECONDS = 60.0
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """What was said beside the command."""

    site_is_gone: bool
    revocations_unknown: bool


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the rebuild happens. `status` is what the new configuration server answers; `LifeboatError` while not."""

    declaration: Declaration
    target: str
    subscription: str
    site: Path  # the site's folder
    store: Callable[[], BlobStore]  # as an operator
    authority: Callable[[], Authority]  # from the key store
    prepare: Callable[[], None]  # home of the plugins and the stacks, where they are missing
    serve: Callable[[], bool]  # starts `dr serve`, where that is the target's; whether it was
    stack: Callable[[str], Stack]
    templates: Mapping[str, str]  # of ARM ids, by type
    status: Callable[[], Mapping[str, Any]]
    now: Callable[[], datetime]
    say: Callable[[str], None]
    report: Callable[[Event], None]
    answers: Callable[[str, int], bool] = alive.answers
    heard_seconds: float = HEARD_SECONDS


def rebuild(request: Request, around: Surroundings) -> Result:
    """Make the site anew, or what is missing of it. Raises the errors of `dr.errors`; a second call goes on."""
    declared, site = around.declaration, around.declaration.site.name
    _require_authority(around)
    with closing(around.store()) as store:
        known, newest = _survey(store, declared)
        record = alive.read_record(around.site)
        if record is None:
            _refuse_living(request, around, newest)
            record = Record(site, format_time(around.now()), None)
        elif record.site != site:
            raise Refused(
                f'{around.site} was made anew for site "{record.site}", the declaration is of "{site}"',
                code="other-site",
                remedy="check LIFEBOAT_PLANS and LIFEBOAT_LOCAL",
            )
        revoked, states = _revocations(request, store)
        runs = sorted({name.rpartition("/")[0] for name in store.list(names.RUNS) if is_selection(name)})
    if record.ended is None:
        alive.write_record(around.site, record)
    _restore(around.site, revoked)
    around.say(f"{len(known)} servers in the vault, {len(revoked)} revocations restored")
    around.prepare()
    serving = around.serve()
    stacks = []
    for purpose in ("vault", "site"):
        recovered = _recovered(around, purpose)
        stacks.append(recovered.run())
        states += recovered.states
    states += _lost_runs(around, runs)
    heard = _heard(around, sorted(declared.servers)) if serving else {}
    states += list(_unheard(around, heard, serving))
    states += _notes(stacks)
    alive.write_record(around.site, Record(site, record.begun, record.ended or format_time(around.now())))
    facts = {name: _facts(name, newest, known, heard) for name in sorted({*known, *declared.servers})}
    return Result(site, around.target, stacks, facts, len(revoked), states)


def _require_authority(around: Surroundings) -> None:
    try:
        around.authority()
    except NotFound as error:
        raise Refused(
            f"the key store has no key of this site's CA: {error.message}",
            code="authority-missing",
            remedy="check the declaration's site and subscription, and LIFEBOAT_LOCAL; a deleted secret can be "
            "recovered in the Key Vault for 90 days. Another CA would lock out every agent",
        ) from error


def _survey(store: BlobStore, declared: Declaration) -> tuple[dict[str, int], dict[str, Manifest]]:
    """Return points by server, and the newest of each."""
    known, newest = {}, {}
    for server in servers(store):
        found = read_points(store, server)
        known[server] = len(found.good)
        if found.good:
            newest[server] = found.good[0]
    if not known and not declared.servers:
        return known, newest
    if not known and revocations.kept(store) is None:
        raise NotFound(
            f"the vault of site {declared.site.name} is empty: there is nothing to make anew",
            code="vault-empty",
            remedy="`pulumi up` of the vault stack and of the site stack begin a new site",
        )
    return known, newest


def _refuse_living(request: Request, around: Surroundings, newest: Mapping[str, Manifest]) -> None:
    alive.refuse_held(around.site)
    alive.refuse_listening(around.declaration.site, around.subscription, around.answers)
    if not request.site_is_gone:
        alive.refuse_young(around.declaration, newest, around.now())


def _revocations(request: Request, store: BlobStore) -> tuple[Sequence[Revoked], list[Named]]:
    kept = revocations.kept(store)
    if kept is not None:
        return kept, []
    if not request.revocations_unknown:
        raise Refused(
            "the vault does not know what this site had revoked: whoever was locked out would come in again",
            code="revocations-unknown",
            remedy="if nothing was revoked within 90 days, or you know what to `dr revoke` again before anybody else "
            "comes in, say --revocations-unknown",
        )
    message = "what was revoked before is not known, and nothing of it is locked out"
    remedy = "`dr revoke` again whatever was revoked within 90 days: servers that were removed, stolen keys"
    return [], [Named("site", "revocations-unknown", message, remedy)]


def _restore(site: Path, revoked: Sequence[Revoked]) -> None:
    register = Register(site / REGISTER)
    there = {each.serial for each in register.revoked()}
    for each in revoked:
        if each.serial not in there:
            register.revoke(each)


def _recovered(around: Surroundings, purpose: str) -> Recovered:
    def id_of(kind: str, inputs: Mapping[str, Any]) -> str | None:
        template = around.templates.get(kind)
        return None if template is None else arm_id(template, inputs, around.subscription)

    return Recovered(
        around.stack(f"{purpose}-{around.target}"),
        protect=purpose == "vault",
        id_of=id_of,
        say=around.say,
        report=around.report,
    )


def _lost_runs(around: Surroundings, runs: Sequence[str]) -> list[Named]:
    """Return the runs that hold points in the vault and are in no stack's state."""
    lost = []
    for run in runs:
        plan, _, identity = run.partition("/")
        held = None
        if plan in around.declaration.plans:
            held = run_of(around.stack(f"failover-{plan}-{around.target}").state() or {})
        if held is None or held.run != identity:
            lost.append(
                Named(
                    f"failover-{plan}-{around.target}",
                    "run-not-in-state",
                    f"run {identity} of plan {plan} holds recovery points in the vault, and its stack's state is lost",
                    f"what it made runs on; `dr failover {plan} --run {identity}` names it, one by one, for `pulumi "
                    "import`",
                )
            )
    return lost


def _heard(around: Surroundings, servers: Sequence[str]) -> dict[str, bool]:
    """Wait until every server's agent was heard by the new configuration server, at most for a while."""
    deadline = time.monotonic() + around.heard_seconds
    heard = dict.fromkeys(servers, False)
    around.say(f"waiting for the agents: {', '.join(servers) or 'none'}")
    while not all(heard.values()) and time.monotonic() < deadline:
        try:
            document = around.status()
        except LifeboatError:
            time.sleep(LOOK_SECONDS)
            continue
        for name in servers:
            age = (document["servers"].get(name) or {}).get("heartbeat_age_seconds")
            if age is not None and age < SILENT_SECONDS and not heard[name]:
                heard[name] = True
                around.say(f"{name}: its agent is heard")
        if not all(heard.values()):
            time.sleep(LOOK_SECONDS)
    return heard


def _unheard(around: Surroundings, heard: Mapping[str, bool], serving: bool) -> Iterator[Named]:
    if not serving:
        message, remedy = "the configuration server does not run yet", "start `dr serve` on this machine"
        yield Named("site", "not-serving", message, remedy)
    for name in sorted(name for name, there in heard.items() if not there):
        yield Named(
            name,
            "agent-not-heard",
            f"its agent was not heard within {around.heard_seconds:.0f} s",
            f"see `dr status {name}`; if its certificate ended meanwhile (7 days), `pulumi up --refresh` of the site "
            "stack gives it a new one",
        )


def _notes(stacks: Sequence[StackResult]) -> list[Named]:
    """Return what a new folder cannot know, and what that means."""
    if not any(stack.made for stack in stacks):
        return []
    return [
        Named(
            "site",
            "tokens-void",
            "tokens that no agent had exchanged are void",
            "`dr agent token SERVER` makes another; `pulumi up` does by itself",
            "note",
        ),
        Named(
            "site",
            "requests-forgotten",
            "requested points, resyncs and verification passes that had not ended are forgotten, scheduled passes "
            "begin anew, and `dr events` knows nothing of before",
            "ask again",
            "note",
        ),
        Named(
            "site",
            "late-revocations",
            "a revocation that the old site made while it could not reach the vault is not known",
            "`dr revoke` it again, if there was one",
            "note",
        ),
    ]


def _facts(
    name: str, newest: Mapping[str, Manifest], known: Mapping[str, int], heard: Mapping[str, bool]
) -> dict[str, Any]:
    point = newest.get(name)
    return {
        "points": known.get(name, 0),
        "newest": None if point is None else point.id,
        "protection_epoch": None if point is None else point.protection_epoch,
        "position": None if point is None else point.sequence,
        "disks": [] if point is None else [{"name": d.name, "size_bytes": d.size_bytes} for d in point.disks],
        "heard": heard.get(name),
    }
