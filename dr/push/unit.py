"""The agent's systemd unit: limits that protect the server, hardening that leaves the agent what it needs.

What systemd-analyze still finds exposed has its reason in `exposures.py`. Besides that,
- `KillMode=mixed` would kill the watchdogs at once when the agent dies; with `control-group` they get SIGTERM, which
  they outlive, and the time to thaw;
- system calls are filtered by what is forbidden, with EPERM: a list of what is allowed would have to know what every
  C library of five distributions may call.
"""

from __future__ import annotations

from dr.push.layout import CACHE_FOLDER, CONFIG, DIGEST_VARIABLE, PROGRAM, RUNTIME_FOLDER, TLS_FOLDER

BASE_MEMORY_BYTES = 256 << 20
CHUNK_BYTES = 64 << 10  # tracking granularity: one byte of map for each
STOP_SECONDS = 20  # longer than a freeze may last and an agent's buffers take to drop

# What it does with each: SYS_ADMIN: FIFREEZE and tracefs; IPC_LOCK: mlockall; SYS_RESOURCE, SYS_NICE: its
# watchdogs; DAC_*: to open a mount point that root has no rights on; KILL: to end its watchdogs.
CAPABILITIES = (
    "CAP_SYS_ADMIN",
    "CAP_IPC_LOCK",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_NICE",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_KILL",
)

_UNIT = """\
[Unit]
Description=Lifeboat Mobility agent
Documentation=file://{config}
Wants=network-online.target sys-kernel-tracing.mount
After=network-online.target local-fs.target sys-kernel-tracing.mount
StartLimitIntervalSec=0

[Service]
Type=simple
Environment={variable}={digest}
ExecStart={python} -I {program} run --config {config}
Restart=always
RestartSec=1
KillMode=control-group
TimeoutStopSec={stop_seconds}
UMask=0077
WorkingDirectory=/

RuntimeDirectory={runtime}
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
CacheDirectory={cache}
CacheDirectoryMode=0700

MemoryMax={memory_bytes}
MemorySwapMax=0
TasksMax=128
CPUWeight=50
CPUQuota=100%
IOWeight=50
Nice=5
OOMScoreAdjust=-500
LimitMEMLOCK=infinity
LimitNOFILE=4096
LimitCORE=0

CapabilityBoundingSet={capabilities}
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/run/{runtime} /var/cache/{cache} {tls}
ProtectHome=read-only
ProtectControlGroups=yes
ProtectHostname=yes
ProtectProc=invisible
ProtectKernelLogs=yes
ProtectKernelModules=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
DevicePolicy=closed
DeviceAllow=block-* r

[Install]
WantedBy=multi-user.target
"""


def render(*, python: str, digest: str, disk_bytes: int) -> bytes:
    """Return the unit file for the interpreter `python` and disks of `disk_bytes` together."""
    text = _UNIT.format(
        config=CONFIG,
        program=PROGRAM,
        python=python,
        variable=DIGEST_VARIABLE,
        digest=digest,
        stop_seconds=STOP_SECONDS,
        runtime=RUNTIME_FOLDER.removeprefix("/run/"),
        cache=CACHE_FOLDER.removeprefix("/var/cache/"),
        memory_bytes=BASE_MEMORY_BYTES + tracker_bytes(disk_bytes),
        capabilities=" ".join(CAPABILITIES),
        tls=TLS_FOLDER,
    )
    return text.encode()


def map_bytes(disk_bytes: int) -> int:
    """Return what the chunk maps take in /run for disks of `disk_bytes` together."""
    return -(-disk_bytes // CHUNK_BYTES)


def tracker_bytes(disk_bytes: int) -> int:
    """Return what all maps take in memory: the chunk maps, and two buffers of eBPF marks."""
    return 3 * map_bytes(disk_bytes)
