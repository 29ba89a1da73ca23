"""Holds a server's applications for one cut: a process of its own, outside of the agent's unit where systemd runs.

    agent  -> {"server", "cut", "run_folder", "cache_folder", "applications": [...]}     one line; no `cut`: only mend
    holder -> {"prepared": true}  or  {"prepared": false, "reason": {...}}               all pre are done, or undone
    agent  -> "end"                                                                      thawed
    holder -> {"ended": true, "reason": null or {...}}                                   all post are done

    pre of all, in order -> "prepared" -> wait for "end" -> post of all that were begun, in the reverse order

Rules kept here:
- Post runs for each pre that was begun, whatever happens: a pre that fails or is late, an agent that ends (its end of
  the pipe closes), one that hangs (`hold_seconds`), SIGTERM. What was begun is on disk, durably, before it begins: a
  holder that was killed, and a server that lost its power, are mended by the next one.
- So is a recovered server: its disk is one between pre and post.
- One holder at a time; the next waits until the one before is done.
- "ended" without a reason means that everything was held from "prepared" to "end".
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import IO, Any, Dict, List, Mapping, Optional, Tuple

from agent import state
from agent.application import FAILED, HELD, INTERRUPTED, LATE, MARIADB, POST, POSTGRESQL, PRE, Application, environment
from agent.application import parse as parse_application
from agent.drop_ins import MariaDbSession, check_point
from agent.reasons import Reason, of_error, reason
from agent.scripts import run
from dr.errors import LifeboatError

HOLD_SECONDS = 20.0
RECORD = "applications.json"
LOCK = "applications.lock"


@dataclass(frozen=True)
class Order:
    """What the agent wants held; `cut` is empty when only what was left behind is to be mended."""

    server: str
    cut: str
    run_folder: str
    cache_folder: str
    applications: Tuple[Application, ...]
    hold_seconds: float = HOLD_SECONDS


def main() -> int:
    """Hold what the first line of standard input says, until it says "end" or ends."""
    order = _order(json.loads(_first_line()))
    agent = _Agent()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, agent.end)
    lock = _lock(order.run_folder)
    failure = Holder(order, agent).mend()
    if not order.cut:
        agent.tell({"ended": True, "reason": failure.as_dict() if failure else None})
    elif failure is not None:
        agent.tell({"prepared": False, "reason": failure.as_dict()})
    else:
        Holder(order, agent).hold()
    lock.close()
    return 0


class _Agent:
    """The other end: what it was told, and whether it is still there."""

    def __init__(self) -> None:
        self.gone = False
        self.said_end = False

    def end(self, *_: object) -> None:
        """Behave as if the agent had gone; a signal handler."""
        self.gone = True

    def tell(self, document: Mapping[str, Any]) -> None:
        try:
            os.write(sys.stdout.fileno(), json.dumps(document).encode() + b"\n")
        except OSError:
            self.gone = True

    def left(self) -> bool:
        """Tell whether nobody waits any more; never blocks."""
        self.listen(0)
        return self.gone or self.said_end

    def listen(self, seconds: float) -> None:
        """Hear what it says within `seconds`."""
        if not self.gone and not self.said_end and select.select([0], [], [], seconds)[0]:
            data = os.read(0, 64)
            self.said_end, self.gone = bool(data), not data


class Holder:
    """The applications of one order."""

    def __init__(self, order: Order, agent: _Agent) -> None:
        self._order, self._agent = order, agent
        self._record = os.path.join(order.cache_folder, RECORD)
        self._began = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._begun: List[Application] = []
        self._sessions: Dict[str, MariaDbSession] = {}

    def hold(self) -> None:
        """Run the whole sequence."""
        failure = self._prepare()
        if failure is not None:
            self._post(INTERRUPTED if self._agent.gone else FAILED)
            self._agent.tell({"prepared": False, "reason": failure.as_dict()})
            return
        self._agent.tell({"prepared": True})
        deadline = time.monotonic() + self._order.hold_seconds
        while not self._agent.left() and time.monotonic() < deadline:
            self._agent.listen(0.2)
        if self._agent.said_end:
            why = self._post(HELD)
        elif self._agent.gone:
            why = self._post(INTERRUPTED)
        else:
            self._post(LATE)
            held = f"{self._order.hold_seconds:g} s"
            why = reason("application-late", f"the cut was not done {held} after the applications were")
        self._agent.tell({"ended": True, "reason": why.as_dict() if why else None})

    def mend(self) -> Optional[Reason]:
        """Run the post of what an earlier holder began and did not end."""
        record = state.load_json(self._record)
        if record is None:
            return None
        try:
            self._begun = [parse_application(each) for each in record["begun"]]
            self._order = Order(
                record["server"],
                record["cut"],
                self._order.run_folder,
                self._order.cache_folder,
                self._order.applications,
            )
            self._began = record["began"]
        except (KeyError, TypeError, ValueError) as error:
            os.unlink(self._record)
            return reason("application-failed", f"{self._record} is not readable: {error!r}")
        return self._post(INTERRUPTED)

    def _prepare(self) -> Optional[Reason]:
        for application in self._order.applications:
            self._begun.append(application)
            try:
                self._remember()
                self._pre(application)
            except LifeboatError as error:
                return _named(error)
            except OSError as error:
                return reason("cannot-remember", f"{self._record} cannot be written: {error.strerror}")
        return None

    def _pre(self, application: Application) -> None:
        told = self._told(application, PRE)
        if application.use == POSTGRESQL:
            check_point(application, told, self._agent.left)
        elif application.use == MARIADB:
            session = self._sessions[application.name] = MariaDbSession(application, told)
            session.hold(self._agent.left)
        else:
            what = f"application {application.name}: pre"
            seconds = application.timeout_seconds
            run(application.pre, what, seconds=seconds, environment=told, abandoned=self._agent.left)

    def _post(self, outcome: str) -> Optional[Reason]:
        """Run the post of all that were begun; return why the first of them failed."""
        failure: Optional[Reason] = None
        while self._begun:
            application = self._begun[-1]
            try:
                self._post_one(application, outcome)
            except LifeboatError as error:
                failure = failure or _named(error)
            self._begun.pop()
            try:
                self._remember()
            except OSError as error:  # it would only run once more
                failure = failure or reason("cannot-remember", f"{self._record} cannot be written: {error.strerror}")
        return failure

    def _post_one(self, application: Application, outcome: str) -> None:
        if application.use:
            session = self._sessions.pop(application.name, None)
            if session is None:
                return  # nothing is kept back: PostgreSQL never was, and a session of a dead holder has ended
            try:
                if outcome == HELD:
                    session.release()
            finally:
                session.close()
            return
        told = self._told(application, POST, outcome)
        what = f"application {application.name}: post"
        run(application.post, what, seconds=application.timeout_seconds, environment=told)

    def _told(self, application: Application, phase: str, outcome: str = "") -> Dict[str, str]:
        order = self._order
        return environment(application, phase, server=order.server, cut=order.cut, began=self._began, outcome=outcome)

    def _remember(self) -> None:
        if not self._begun:
            os.unlink(self._record)
            return
        document = {
            "server": self._order.server,
            "cut": self._order.cut,
            "began": self._began,
            "begun": [application.as_dict() for application in self._begun],
        }
        state.save_durably(self._record, document)


def _named(error: LifeboatError) -> Reason:
    why = of_error(error)
    return Reason(why.code, why.message[:2500], why.remedy)


def _order(document: Mapping[str, Any]) -> Order:
    return Order(
        str(document["server"]),
        str(document.get("cut") or ""),
        str(document["run_folder"]),
        str(document["cache_folder"]),
        tuple(parse_application(each) for each in document["applications"]),
        float(document.get("hold_seconds", HOLD_SECONDS)),
    )


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):  # not a byte more: what comes later is waited for with `select`
        data = os.read(0, 1)
        if not data:
            raise EOFError("the agent ended before it said what to hold")
        line += data
    return line


def _lock(folder: str) -> "IO[str]":
    lock = open(os.path.join(folder, LOCK), "w", encoding="ascii")  # noqa: SIM115 - held for life
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock
