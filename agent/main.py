"""Commands of the agent: run, status, probe, cleanup. The only place of the agent that prints results and exits."""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from contextlib import suppress
from typing import IO, List, Optional

from agent import holder, log, state, tracker
from agent.applications import mend
from agent.config import BPFFS, CACHE_FOLDER, INSTANCE, RUN_FOLDER, TRACEFS, Config, load
from agent.document import idle
from agent.facts import probe
from agent.freezer import thaw_leftovers
from agent.identity import other_disks, other_machine
from agent.link import Link, Tls
from agent.native import provide_lz4
from agent.reasons import REMEDIES, Reason, of_error, reason
from dr.errors import Conflict, LifeboatError, NotFound, PrerequisiteMissing
from dr.undumpable import forbid_dumps

CONFIG = "/etc/lifeboat/agent.json"
STACK_BYTES = 512 << 10  # memory is locked, and eight default stacks would be 64 MiB of it
COPY_SECONDS = 10.0
LAST_WORD_SECONDS = 5.0


def main(arguments: Optional[List[str]] = None) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(prog="lifeboat-agent", description="The Mobility agent of Lifeboat.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("run", "replicate this server until stopped"),
        ("status", "print what the agent says about itself, as JSON"),
        ("probe", "print facts of this server, as JSON"),
        ("cleanup", "remove what the agent left in tracefs, bpffs and memory"),
        ("hold-applications", "hold the applications of a recovery point; the agent starts it"),
    ):
        commands.add_parser(name, help=about).add_argument("--config", default=CONFIG)
    chosen = parser.parse_args(arguments)
    try:
        return _COMMANDS[chosen.command](chosen.config)
    except LifeboatError as error:
        log.say(f"lifeboat-agent: {error.code}: {error.message}")
        if error.remedy:
            log.say(f"    remedy: {error.remedy}")
        return error.exit_code


def _run(path: str) -> int:
    forbid_dumps()
    config = load(path)
    lock = _lock(config)
    try:
        _replicate(config)
    except LifeboatError as error:
        _tell_why_stopped(config, of_error(error))
        raise
    except Exception as error:
        _tell_why_stopped(config, reason("agent-failed", f"{type(error).__name__}: {error}"))
        raise
    lock.close()
    sys.stderr.flush()
    # Threads that wait in the kernel for a disk or a peer must not hold up the end.
    os._exit(0)


def _replicate(config: Config) -> None:
    _need_tracefs(config.tracefs)
    provide_lz4(config.cache_folder)
    from agent.engine import Engine  # noqa: PLC0415 - lz4 can be imported only now

    threading.stack_size(STACK_BYTES)
    threading.excepthook = _end_at_once
    # First come, first served: whoever asks the agent to end must be heard even before the loop runs.
    ended = threading.Event()
    stoppers = [ended.set]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: [stop() for stop in stoppers] and None)
    elsewhere = other_machine(config.hardware, config.disks)
    if elsewhere:
        mend(config)  # its disks are of an instant between pre and post
        _idle_as_copy(config, elsewhere, ended)
        return
    exchanged = other_disks(config.hardware, config.disks)
    if exchanged:
        raise Conflict(exchanged, code="disk-exchanged", remedy=REMEDIES["disk-exchanged"])
    engine = Engine(config)
    stoppers.append(engine.stop)
    if not ended.is_set():
        engine.run()


def _tell_why_stopped(config: Config, why: Reason) -> None:
    """Leave a status and try one heartbeat, so that `dr status` names what the log says."""
    document = idle(config, "stopped", why)
    with suppress(OSError):
        state.save_json(os.path.join(config.run_folder, "status.json"), document)
    with suppress(LifeboatError, OSError):
        link = Link(config.configuration_server, Tls(config.ca, config.certificate, config.key))
        link.request("POST", f"/v1/agents/{config.server}/heartbeat", document, seconds=LAST_WORD_SECONDS)


def _end_at_once(failure: threading.ExceptHookArgs) -> None:
    """End the agent when one of its threads fails: half an agent would be silent, a new one goes on where it was."""
    if failure.exc_value is not None:
        traceback.print_exception(failure.exc_type, failure.exc_value, failure.exc_traceback)
    os._exit(1)


def _idle_as_copy(config: Config, what: str, ended: threading.Event) -> None:
    why = reason("copy", what)
    log.say(f"mode copy: {what}; nothing is sent")
    os.makedirs(config.run_folder, mode=0o700, exist_ok=True)
    while not ended.is_set():
        state.save_json(os.path.join(config.run_folder, "status.json"), idle(config, "copy", why))
        ended.wait(COPY_SECONDS)


def _status(path: str) -> int:
    folder = load(path).run_folder if os.path.exists(path) else RUN_FOLDER
    document = state.load_json(os.path.join(folder, "status.json"))
    if document is None:
        raise NotFound("the agent has not run since the server started", remedy="start the service lifeboat-agent")
    print(json.dumps(document, indent=2))
    return 0


def _probe(path: str) -> int:
    tracefs = load(path).tracefs if os.path.exists(path) else TRACEFS
    print(json.dumps(probe(tracefs), indent=2))
    return 0


def _cleanup(path: str) -> int:
    known = load(path) if os.path.exists(path) else None
    if known is not None:
        _lock(known).close()
    run_folder, cache_folder, tracefs, instance, pins = (
        (known.run_folder, known.cache_folder, known.tracefs, known.instance, known.pins)
        if known is not None
        else (RUN_FOLDER, CACHE_FOLDER, TRACEFS, INSTANCE, f"{BPFFS}/{INSTANCE}")
    )
    thaw_leftovers(run_folder)
    if known is not None:
        mend(known)
    tracker.remove(tracefs, instance, pins)
    for folder in (run_folder, cache_folder):
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _lock(config: Config) -> "IO[str]":
    os.makedirs(config.run_folder, mode=0o700, exist_ok=True)
    lock = open(os.path.join(config.run_folder, "lock"), "w", encoding="ascii")  # noqa: SIM115 - held for life
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise Conflict("another agent runs on this server", remedy="stop it first", code="agent-running") from error
    return lock


def _need_tracefs(tracefs: str) -> None:
    if os.geteuid() != 0:
        raise PrerequisiteMissing("the agent must run as root", remedy="start it by systemd", code="no-root")
    if os.path.isdir(f"{tracefs}/instances"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"nodev", tracefs.encode(), b"tracefs", 0, None) != 0:
        why = os.strerror(ctypes.get_errno())
        raise PrerequisiteMissing(
            f"tracefs cannot be mounted on {tracefs}: {why}",
            remedy="boot a kernel with tracing (CONFIG_TRACING), and lockdown no stricter than integrity",
            code="tracefs-missing",
        )


def _hold_applications(_: str) -> int:
    return holder.main()


_COMMANDS = {
    "run": _run,
    "status": _status,
    "probe": _probe,
    "cleanup": _cleanup,
    "hold-applications": _hold_applications,
}
