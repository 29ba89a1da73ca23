"""The one definition of a declaration's shape: JSON Schema (Draft 2020-12), one definition per kind.

Everything that has to agree is made from it: validation and its messages (`dr.schema.shape`), defaults
(`dr.schema.build`), `plans/schema.json` for editors and `docs/declaration.md` (`dr.schema.publish`).

Keywords of ours:
- `x-atLeast`, `x-atMost`: bounds of a duration, as durations are written;
- `patternErrorMessage` (editors know it too): what a value that misses `pattern` should be, as it ends the
  sentence "KEY must be …".

Lengths of names follow from Azure's limits and `dr.compile.names`: the longest name that is made of them must fit.
"""

from __future__ import annotations

from typing import Any

from dr.schema import durations

Schema = dict[str, Any]

# A server's own names: `disk-SERVER-DISK-RUN` has at most 80 characters, RUN at most 24.
SITE_NAME_LENGTH = 24
SERVER_NAME_LENGTH = 32
DISK_NAME_LENGTH = 12
SUBNET_NAME_LENGTH = 40
PLAN_NAME_LENGTH = 32
MACHINE_NAME_LENGTH = 63  # Azure: 64 for Linux; a DNS label has 63
MAX_DISKS = 65  # one OS disk and 64 data disks
MAX_GROUPS = 7
MAX_TAGS = 40  # Azure: 50, and some are ours


def _mapping(description: str, properties: Schema, required: list[str], **more: Any) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        **more,
    }


def _list(description: str, items: Schema, *, least: int = 1, most: int | None = None) -> Schema:
    bounds: Schema = {"minItems": least} if most is None else {"minItems": least, "maxItems": most}
    return {"type": "array", "description": description, "items": items, **bounds}


def _text(description: str, pattern: str | None = None, says: str = "", **more: Any) -> Schema:
    shape: Schema = {"type": "string", "description": description, "minLength": 1, "maxLength": 1000}
    if pattern is not None:
        shape |= {"pattern": pattern, "patternErrorMessage": says}
    return shape | more


def _name(description: str, longest: int) -> Schema:
    says = "lower-case letters, digits and single hyphens, beginning with a letter and not ending with a hyphen"
    return _text(description, "^[a-z][a-z0-9]*(-[a-z0-9]+)*$", says, maxLength=longest)


def _port(description: str, default: int | None = None) -> Schema:
    shape: Schema = {"type": "integer", "description": description, "minimum": 1, "maximum": 65535}
    return shape if default is None else shape | {"default": default}


def _duration(description: str, least: str, most: str, default: str) -> Schema:
    says = "a whole number and its unit, s, m, h or d, for example 5m"
    return _text(description, durations.PATTERN, says, default=default) | {"x-atLeast": least, "x-atMost": most}


_ADDRESS = "^[0-9]{1,3}(\\.[0-9]{1,3}){3}$"
_PREFIX = "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$"
_HOST = "^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$"


def _host(description: str) -> Schema:
    return _text(description, _HOST, "an IPv4 address or a host name", maxLength=253)


def _prefix(description: str) -> Schema:
    return _text(description, _PREFIX, "an IPv4 network such as 10.20.1.0/24")


def _document(kind: str, description: str, name: Schema, properties: Schema, required: list[str]) -> Schema:
    head = {"kind": {"type": "string", "const": kind, "description": f"`{kind}`."}, "name": name}
    return _mapping(description, head | properties, ["kind", "name", *required])


_SUBNET = _mapping(
    "One subnet of the landing zone, with its own security group.",
    {
        "name": _name("Name of the subnet; servers refer to it.", SUBNET_NAME_LENGTH),
        "prefix": _prefix("Addresses of the subnet, inside `addressSpace`, /8 to /29."),
        "inboundPorts": _list(
            "TCP ports that the security group lets in; everything else is closed. A health check's port must be one"
            " of them.",
            _port("A TCP port."),
            least=0,
            most=100,
        )
        | {"default": [], "uniqueItems": True},
    },
    ["name", "prefix"],
)

_SITE = _document(
    "Site",
    "The source location and its landing zone in Azure. A declaration has exactly one.",
    _name("Name of the site. Every name in Azure is made from it, so it can't be changed later.", SITE_NAME_LENGTH),
    {
        "location": _text(
            "The Azure region that everything is made in.",
            "^[a-z]+[a-z0-9]*$",
            "the short name of an Azure region, such as westeurope",
            maxLength=40,
        ),
        "subscription": _text(
            "The Azure subscription, for target azure. Target local has its own.",
            "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
            "a subscription id: 36 characters, lower-case hexadecimal digits and hyphens",
        ),
        "network": _mapping(
            "The virtual network that recovered servers live in.",
            {
                "addressSpace": _prefix("Addresses of the whole network, /8 to /29."),
                "subnets": _list("The network's subnets; they may not overlap.", _SUBNET),
            },
            ["addressSpace", "subnets"],
        ),
        "configurationServer": _mapping(
            "Where agents and operators reach the configuration server, as seen from the protected servers.",
            {"address": _host("Address or host name."), "port": _port("HTTPS port.", 443)},
            ["address"],
        ),
        "processServers": _list(
            "Where agents send replication data, in order of preference.",
            _mapping(
                "One process server.",
                {
                    "name": _name("Name of the process server.", SERVER_NAME_LENGTH),
                    "address": _host("Address or host name, as seen from the protected servers."),
                    "port": _port("HTTPS port.", 9443),
                },
                ["name", "address"],
            ),
        ),
    },
    ["location", "network", "configurationServer", "processServers"],
)

_POLICY = _document(
    "ReplicationPolicy",
    "How often recovery points are made and how long they are kept.",
    _name("Name of the policy; servers refer to it.", SERVER_NAME_LENGTH),
    {
        "rpoThreshold": _duration(
            "A server whose newest recovery point is older than this is reported; it changes nothing in replication.",
            "1m",
            "24h",
            "60m",
        ),
        "retention": _duration(
            "How long recovery points are kept. `0d` keeps none: failover is to the latest state only.",
            "0d",
            "15d",
            "24h",
        ),
        "crashConsistentEvery": _duration("Time between crash-consistent recovery points.", "1m", "60m", "5m"),
    },
    [],
)

_SSH = _mapping(
    "How the Mobility agent is installed. The key itself is never written here: exactly one of `keyFile` and `keyEnv`"
    " says where it is.",
    {
        "address": _host("Address or host name of the server, as seen from where `pulumi up` runs."),
        "port": _port("SSH port.", 22),
        "user": _text(
            "User that logs in; root, or one that may use sudo.",
            "^[A-Za-z_][A-Za-z0-9_.-]*$",
            "a user name: letters, digits, `_`, `.` and `-`",
            maxLength=32,
        ),
        "keyFile": _text(
            "Path of the private key: absolute, with `~`, or relative to the declaration's folder.",
            "^(?!.*PRIVATE KEY)[^\\n]+$",
            "the path of the key's file, not the key",
        ),
        "keyEnv": _text(
            "Name of an environment variable that holds the path of the private key.",
            "^[A-Za-z_][A-Za-z0-9_]*$",
            "the name of an environment variable",
        ),
        "hostKey": _text(
            "The server's public host key, pinned: type and base64, as in `/etc/ssh/ssh_host_ed25519_key.pub`.",
            examples=["ssh-ed25519 AAAAC3Nza…"],
            maxLength=4000,
        ),
    },
    ["address", "user", "hostKey"],
    oneOf=[{"required": ["keyFile"]}, {"required": ["keyEnv"]}],
)

_TARGET = _mapping(
    "What the recovered VM is like.",
    {
        "name": _name("Name of the VM; the server's name when left out.", MACHINE_NAME_LENGTH),
        "size": _text(
            "Azure VM size.",
            "^Standard_[A-Z]+[0-9]+(-[0-9]+)?[a-z]*(_[A-Za-z0-9]+)*$",
            "an Azure VM size such as Standard_D2s_v5",
            maxLength=60,
        ),
        "subnet": _text("Name of the subnet that the VM is put in."),
        "address": _text("The VM's private address, inside the subnet.", _ADDRESS, "an IPv4 address"),
        "firmware": {
            "enum": ["bios", "uefi"],
            "description": "How the source boots: `bios` gives a Gen1 VM, `uefi` a Gen2 VM.",
        },
        "tags": {
            "type": "object",
            "description": "Tags of the VM. Keys that begin with `lifeboat` are ours.",
            "default": {},
            "maxProperties": MAX_TAGS,
            "propertyNames": {
                "pattern": "^(?![Ll][Ii][Ff][Ee][Bb][Oo][Aa][Tt]|[Mm]icrosoft|[Aa]zure|[Ww]indows)"
                "[^<>%&\\\\?/]{1,128}$",
                "patternErrorMessage": "1 to 128 characters without < > % & \\ ? / and not beginning with lifeboat,"
                " microsoft, azure or windows",
            },
            "additionalProperties": {"type": "string", "maxLength": 256, "description": "Value of the tag."},
        },
    },
    ["size", "subnet", "address", "firmware"],
)

_SERVER = _document(
    "Server",
    "One protected server: listing it and `pulumi up` of the site stack installs the agent and starts replication.",
    _name("Name of the server; recovery plans refer to it.", SERVER_NAME_LENGTH),
    {
        "ssh": _SSH,
        "policy": _text("Name of the replication policy."),
        "disks": _list(
            "The disks to protect; the first one is the disk that the server boots from.",
            _mapping(
                "One whole disk.",
                {
                    "name": _text(
                        "Short word for the disk, used in blob names and status.",
                        "^[a-z][a-z0-9]*$",
                        "lower-case letters and digits, beginning with a letter",
                        maxLength=DISK_NAME_LENGTH,
                        examples=["os"],
                    ),
                    "device": _text(
                        "Stable name of the disk, `/dev/disk/by-id/…`; `/dev/NAME` only where the server has none.",
                        "^/dev/(disk/by-id/[A-Za-z0-9][A-Za-z0-9._:+@-]*|[a-z][a-z0-9]*)$",
                        "/dev/disk/by-id/NAME, or /dev/NAME where the server has no stable name",
                    ),
                },
                ["name", "device"],
            ),
            most=MAX_DISKS,
        ),
        "target": _TARGET,
    },
    ["ssh", "policy", "disks", "target"],
)

_CHECK = _mapping(
    "One health check, made from outside the VM: exactly one of `http` and `tcp`.",
    {
        "server": _text("Name of a server of the same group."),
        "http": _mapping(
            "Passes when a GET answers with the status, and with the text when `contains` is given.",
            {
                "port": _port("TCP port; the subnet's `inboundPorts` must have it."),
                "path": _text(
                    "Path of the request.", "^/[!-~]*$", "a path beginning with / and without spaces", default="/"
                ),
                "status": {
                    "type": "integer",
                    "description": "Status that passes.",
                    "minimum": 100,
                    "maximum": 599,
                    "default": 200,
                },
                "contains": _text("Text that the answer's body must contain."),
            },
            ["port"],
        ),
        "tcp": _mapping(
            "Passes when a connection is accepted.",
            {"port": _port("TCP port; the subnet's `inboundPorts` must have it.")},
            ["port"],
        ),
        "timeout": _duration("How long the check may take to pass, from the start of its VM.", "5s", "2h", "5m"),
    },
    ["server"],
    oneOf=[{"required": ["http"]}, {"required": ["tcp"]}],
)

_PLAN = _document(
    "RecoveryPlan",
    "Which servers are recovered together, in which order, and what proves that they serve.",
    _name("Name of the plan, as in `dr failover NAME`.", PLAN_NAME_LENGTH),
    {
        "groups": _list(
            "Groups in order: servers of a group start in parallel, the next group starts when all checks of this one"
            " pass.",
            _mapping(
                "One group.",
                {
                    "servers": _list("Names of servers.", _text("Name of a server.")),
                    "checks": _list("Health checks of the group.", _CHECK, least=0) | {"default": []},
                },
                ["servers"],
            ),
            most=MAX_GROUPS,
        )
    },
    ["groups"],
)

KINDS: dict[str, Schema] = {"Site": _SITE, "ReplicationPolicy": _POLICY, "Server": _SERVER, "RecoveryPlan": _PLAN}
