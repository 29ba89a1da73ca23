"""Where everything of the agent lies on a protected server. `docs/agent-install.md` shows it as a table.

Only names; the agent, its unit and the removal agree because they all read this page.
"""

from __future__ import annotations

from dataclasses import dataclass

UNIT = "lifeboat-agent.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
PROGRAM_FOLDER = "/usr/local/lib/lifeboat"
PROGRAM = f"{PROGRAM_FOLDER}/lifeboat-agent.pyz"
CONFIG_FOLDER = "/etc/lifeboat"
CONFIG = f"{CONFIG_FOLDER}/agent.json"
TLS_FOLDER = f"{CONFIG_FOLDER}/tls"
CA_CERTIFICATE = f"{TLS_FOLDER}/ca.crt"
CERTIFICATE = f"{TLS_FOLDER}/agent.crt"
KEY = f"{TLS_FOLDER}/agent.key"
TOKEN = f"{TLS_FOLDER}/token.pem"
RUNTIME_FOLDER = "/run/lifeboat"  # marks of the tracker; kept over restarts of the agent, made by systemd
CACHE_FOLDER = "/var/cache/lifeboat"  # lz4, unpacked by the agent for root only, made by systemd
TRACEFS_FOLDERS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
TRACEFS_INSTANCES = ("lifeboat", "lifeboat-discards")
PINS_FOLDER = "/sys/fs/bpf/lifeboat"  # the tracker's eBPF maps; they outlive the agent, not a reboot
JOURNAL_TAG = "lifeboat-install"  # of the lines that an installation leaves in the server's own journal
DIGEST_VARIABLE = "LIFEBOAT_INSTALLATION"  # in the unit: tells a running agent of an older installation apart


@dataclass(frozen=True, slots=True)
class Place:
    """A path we own, the mode it must have (owner and group are root), and what it is for."""

    path: str
    mode: int
    purpose: str


FOLDERS = (
    Place(PROGRAM_FOLDER, 0o755, "the program"),
    Place(CONFIG_FOLDER, 0o700, "configuration"),
    Place(TLS_FOLDER, 0o700, "identity"),
)
FILES = (
    Place(CA_CERTIFICATE, 0o644, "certificate of the site's CA: whom the agent believes"),
    Place(KEY, 0o600, "the agent's private key, made here by openssl; it never leaves the server"),
    Place(CERTIFICATE, 0o644, "the agent's certificate, `lifeboat://SITE/agent/SERVER`, for 7 days; it renews itself"),
    Place(CONFIG, 0o600, "addresses, disks, hardware identity, policy, limits; no secret"),
    Place(PROGRAM, 0o755, "the Mobility agent, one file"),
    Place(UNIT_FILE, 0o644, "the systemd unit with its limits"),
)
# Gone within seconds: the agent exchanges it for its certificate.
TOKEN_FILE = Place(TOKEN, 0o600, "the one-time token, until the agent has exchanged it; good for an hour")
# Made at run time, by systemd for the unit and by the agent.
RUN_TIME = (
    Place(RUNTIME_FOLDER, 0o700, "marks of the tracker (memory); survives restarts of the agent, not a reboot"),
    Place(CACHE_FOLDER, 0o700, "the compression library, unpacked"),
    Place(PINS_FOLDER, 0o700, "the tracker's eBPF maps, where the kernel has bpffs; survive restarts of the agent"),
)
# Folders to remove whole; the unit file goes by itself.
TREES = (PROGRAM_FOLDER, CONFIG_FOLDER, RUNTIME_FOLDER, CACHE_FOLDER, PINS_FOLDER)


def temporary(path: str) -> str:
    """Return where the new content of `path` is written before it is renamed."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.new"


def instance_folders() -> list[str]:
    """Return where the agent's tracing instances may be."""
    return [f"{folder}/instances/{name}" for folder in TRACEFS_FOLDERS for name in TRACEFS_INSTANCES]
