"""Facts of a sound server, to be varied by tests of the judgement."""

from __future__ import annotations

from dr.compile.blueprint import DiskBlueprint, ProtectionBlueprint
from dr.model import Ssh
from dr.push.facts import Facts, PythonFact, TraceFact
from dr.push.probes import Output
from dr.push.storage import DiskFact, WholeDisk, parse_layout

GIB = 1 << 30
PROTECTION = ProtectionBlueprint(
    server="shop1",
    ssh=Ssh("192.0.2.10", 22, "dradmin", "keys/shop1", None, "ssh-ed25519 AAAA"),
    disks=(DiskBlueprint("os", "/dev/disk/by-id/virtio-os", "shop1/os.vhd", "shop1/os.digests"),),
    process_servers=("192.0.2.2:9443",),
    configuration_server="192.0.2.2:443",
    crash_consistent_seconds=300,
    rpo_threshold_seconds=3600,
    retention_seconds=86400,
    firmware="bios",
)
DISK = DiskFact("/dev/disk/by-id/virtio-os", "disk", "/dev/vda", "", 2 * GIB, "os")
FACTS = Facts(
    privilege="sudo",
    privilege_complaint=None,
    system="Debian GNU/Linux 12 (bookworm)",
    kernel="6.1.0-32-amd64",
    machine="x86_64",
    boot_id="1c2f1a1e-7e0b-4c83-9c0e-3a3a2a1c0001",
    pythons=(PythonFact("/usr/bin/python3", (3, 11), ()),),
    systemd=252,
    openssl="OpenSSL 3.0.15",
    trace=TraceFact("/sys/kernel/tracing", True, True, "none"),
    free_bytes={"/usr/local/lib": 10 * GIB, "/var/cache": 10 * GIB, "/etc": 10 * GIB, "/run": GIB},
    memory_available_bytes=2 * GIB,
    processors=2,
    product_uuid="5f0c1b1e-0000-4000-8000-000000000001",
    firmware="bios",
    disks={"os": DISK},
    unusable=(),
    other_agents=(),
    whole_disks=(WholeDisk("/dev/vda", 2 * GIB, "/dev/disk/by-id/virtio-os"),),
    layout=parse_layout(Output(0, "below /dev/vda\nbelow /dev/vda1 /dev/vda\nmount / /dev/vda1 ext4\n")),
    clock_skew_seconds=0.2,
    reach={"192.0.2.2:443": "open", "192.0.2.2:9443": "open"},
)
