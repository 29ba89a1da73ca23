"""Who listens at the port of a server's replication group before the agent does. Pure: a probe and its parser.

It looks into /proc, so that nothing has to be installed for it. Of another program it tells the name alone: its command
line may hold a secret.
"""

from __future__ import annotations

import shlex

from dr.push.layout import PROGRAM
from dr.push.probes import Output, Probe

OURS = "lifeboat-agent"

_CODE = """import os, sys
port, sockets, name = int(sys.argv[1]), set(), ""
for table in ("/proc/net/tcp", "/proc/net/tcp6"):
    try: rows = open(table).read().splitlines()[1:]
    except OSError: continue
    for row in rows:
        w = row.split()
        if w[3] == "0A" and int(w[1].rsplit(":", 1)[1], 16) == port: sockets.add("socket:[%s]" % w[9])
for pid in os.listdir("/proc") if sockets else ():
    try:
        for fd in os.listdir("/proc/%s/fd" % pid):
            if os.readlink("/proc/%s/fd/%s" % (pid, fd)) in sockets:
                line = open("/proc/%s/cmdline" % pid, "rb").read().split(b"\\0")
                name = sys.argv[3] if sys.argv[2].encode() in line else open("/proc/%s/comm" % pid).read().strip()
    except OSError: pass
print(name or "another program" if sockets else "nobody")"""


def port_probe(port: int) -> Probe[str]:
    """Return the probe of a port: the name of the program that listens there, empty for none or for our agent."""
    words = f"{shlex.quote(_CODE)} {port} {shlex.quote(PROGRAM)} {OURS}"
    return Probe("group-port", f"p=$(command -v python3) || exit 1; $p -I -c {words}", parse_port)


def parse_port(output: Output) -> str:
    """Read a probe's answer; one that tells nothing is a free port, and the agent names one that is taken."""
    name = output.lines[0][:64] if output.code == 0 and output.lines else ""
    return "" if name in ("nobody", OURS) else name
