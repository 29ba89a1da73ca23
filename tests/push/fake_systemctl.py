"""A small stand-in for systemctl where no systemd runs: loads, starts and stops one unit for real.

It keeps what the tests rely on: the unit is what was loaded at the last daemon-reload, a started process gets the
unit's Environment and runtime folder, stop waits for its end. It does not restart what ends.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

State = dict[str, Any]
STATE = Path("/run/fake-systemd.json")
UNITS = Path("/etc/systemd/system")


def main() -> int:
    words = [w for w in sys.argv[1:] if not w.startswith("--")]
    if "--version" in sys.argv:
        print("systemd 252 (252.38-1~deb12u1)")
        return 0
    state = json.loads(STATE.read_text()) if STATE.exists() else {"loaded": None, "pid": 0, "calls": []}
    verb = words[0]
    if verb != "show":
        state["calls"].append(verb)
    code: int = globals()["do_" + verb.replace("-", "_")](state, words[1:])
    STATE.write_text(json.dumps(state))
    return code


def unit_path(words: list[str]) -> Path:
    return UNITS / words[0]


def wants(words: list[str]) -> Path:
    return UNITS / "multi-user.target.wants" / words[0]


def running(state: State) -> bool:
    try:
        stat = Path(f"/proc/{state['pid']}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return False
    return state["pid"] > 0 and stat[0] != "Z"


def do_daemon_reload(state: State, words: list[str]) -> int:
    path = UNITS / "lifeboat-agent.service"
    state["loaded"] = path.read_text() if path.exists() else None
    return 0


def do_enable(state: State, words: list[str]) -> int:
    if not unit_path(words).exists():
        return 1
    wants(words).parent.mkdir(exist_ok=True)
    if not wants(words).is_symlink():
        wants(words).symlink_to(unit_path(words))
    return 0


def do_disable(state: State, words: list[str]) -> int:
    wants(words).unlink(missing_ok=True)
    if wants(words).parent.is_dir() and not any(wants(words).parent.iterdir()):
        wants(words).parent.rmdir()
    return 0


def do_reset_failed(state: State, words: list[str]) -> int:
    return 0 if state["loaded"] else 1


def do_stop(state: State, words: list[str]) -> int:
    if running(state):
        os.kill(state["pid"], signal.SIGTERM)
        while running(state):
            time.sleep(0.02)
    state["pid"] = 0
    return 0


def do_restart(state: State, words: list[str]) -> int:
    do_stop(state, words)
    if state["loaded"] is None:
        do_daemon_reload(state, words)  # as systemd does for a unit it does not know
    if state["loaded"] is None:
        return 5
    command = re.findall(r"^ExecStart=(.*)$", state["loaded"], re.MULTILINE)[0].split()
    environment = dict(v.split("=", 1) for v in re.findall(r"^Environment=(.*)$", state["loaded"], re.MULTILINE))
    Path("/run/lifeboat").mkdir(mode=0o700, exist_ok=True)
    null = subprocess.DEVNULL
    state["pid"] = subprocess.Popen(
        command, env={**os.environ, **environment}, stdin=null, stdout=null, stderr=null, start_new_session=True
    ).pid
    return 0


def do_show(state: State, words: list[str]) -> int:
    path = unit_path(words)
    alive = running(state)
    values = {
        "ActiveState": "active" if alive else ("failed" if state["pid"] else "inactive"),
        "SubState": "running" if alive else "dead",
        "UnitFileState": "enabled" if wants(words).is_symlink() else ("disabled" if path.exists() else ""),
        "NeedDaemonReload": "yes"
        if state["loaded"] and path.exists() and path.read_text() != state["loaded"]
        else "no",
        "MainPID": state["pid"] if alive else 0,
        "NRestarts": 0,
    }
    for name in sys.argv[sys.argv.index("-p") + 1].split(","):
        print(f"{name}={values[name]}")
    return 0


sys.exit(main())
