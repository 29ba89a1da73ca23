"""The shape of a Server: how it is reached, what is protected, and what the recovered VM is like."""

from __future__ import annotations

from dr.schema.definition.words import (
    SERVER_NAME_LENGTH,
    Schema,
    address,
    array,
    choice,
    document,
    duration,
    exactly_one,
    host,
    host_key,
    key_file,
    mapping,
    name,
    number,
    port,
    secret,
    text,
    user,
    variable,
)

DISK_NAME_LENGTH = 12
MACHINE_NAME_LENGTH = 63  # Azure: 64 for Linux; a DNS label has 63
MAX_APPLICATIONS = 16
MAX_DISKS = 65  # one OS disk and 64 data disks
MAX_TAGS = 40  # Azure: 50, and some are ours

_JUMP = mapping(
    "A host that the connection to the server goes through. Exactly one of `keyFile` and `keyEnv` says where its key"
    " is.",
    {
        "address": host("Address or host name of the jump host, as seen from where `pulumi up` runs."),
        "port": port("SSH port.", 22),
        "user": user("User that logs in."),
        "keyFile": key_file(),
        "keyEnv": variable("Name of an environment variable that holds the path of the private key."),
        "hostKey": host_key("The jump host's public host key, pinned as the server's is."),
    },
    ["address", "user", "hostKey"],
    oneOf=exactly_one("keyFile", "keyEnv"),
)

_SSH = mapping(
    "How the Mobility agent is installed. No key and no password is ever written here: exactly one of `keyFile`,"
    " `keyEnv` and `password` says where it is.",
    {
        "address": host("Address or host name of the server, as seen from where `pulumi up` runs."),
        "port": port("SSH port.", 22),
        "user": user("User that logs in; root, or one that may use sudo."),
        "keyFile": key_file(),
        "keyEnv": variable("Name of an environment variable that holds the path of the private key."),
        "password": secret("The user's password, where there is no key."),
        "sudoPassword": secret("The password that sudo asks for; left out when it asks for none."),
        "hostKey": host_key(
            "The server's public host key, pinned: type and base64, as in `/etc/ssh/ssh_host_ed25519_key.pub`."
        ),
        "jump": _JUMP,
    },
    ["address", "user", "hostKey"],
    oneOf=exactly_one("keyFile", "keyEnv", "password"),
)

_TARGET = mapping(
    "What the recovered VM is like.",
    {
        "name": name("Name of the VM; the server's name when left out.", MACHINE_NAME_LENGTH),
        "size": text(
            "Azure VM size.",
            "^Standard_[A-Z]+[0-9]+(-[0-9]+)?[a-z]*(_[A-Za-z0-9]+)*$",
            "an Azure VM size such as Standard_D2s_v5",
            maxLength=60,
        ),
        "subnet": text("Name of the subnet that the VM is put in."),
        "address": address("The VM's private address, inside the subnet."),
        "zone": number("Availability zone of the VM and its disks; left out, Azure chooses.", 1, 3),
        "firmware": choice("How the source boots: `bios` gives a Gen1 VM, `uefi` a Gen2 VM.", "bios", "uefi"),
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

_DISK = mapping(
    "One whole disk.",
    {
        "name": text(
            "Short word for the disk, used in blob names and status.",
            "^[a-z][a-z0-9]*$",
            "lower-case letters and digits, beginning with a letter",
            maxLength=DISK_NAME_LENGTH,
            examples=["os"],
        ),
        "device": text(
            "Stable name of the disk, `/dev/disk/by-id/…`; `/dev/NAME` only where the server has none.",
            "^/dev/(disk/by-id/[A-Za-z0-9][A-Za-z0-9._:+@-]*|[a-z][a-z0-9]*)$",
            "/dev/disk/by-id/NAME, or /dev/NAME where the server has no stable name",
        ),
    },
    ["name", "device"],
)


def _script(description: str) -> Schema:
    return array(f"{description} Program, by its absolute path, and arguments; no shell.", text("A word."), most=100)


_APPLICATION = mapping(
    "One application. Either `use` names a drop-in of ours, or `pre` and `post` are scripts of the server's own.",
    {
        "name": name("Name of the application; scripts, points and status name it.", SERVER_NAME_LENGTH),
        "use": choice(
            "`postgresql` makes a checkpoint, as the system's user postgres; `mariadb` keeps commits back for the"
            " moment of the cut, as root. Neither needs a password where the database lets these users in by default.",
            "postgresql",
            "mariadb",
        ),
        "settings": text(
            "With `use`, where the defaults do not reach the database: absolute path, on the server, of the database's"
            " own file that says how: a service file with a section `lifeboat` (postgresql), an option file (mariadb).",
            "^/[^\\n]*$",
            "an absolute path on the server",
        ),
        "pre": _script("Run as root before the cut: has the application write everything down, and keep still."),
        "post": _script("Run as root after the cut, whatever became of it: undoes what `pre` did."),
        "timeout": duration("How long `pre` may take, and `post`; what takes longer is ended.", "1s", "10m", "30s"),
    },
    ["name"],
    oneOf=exactly_one("use", "pre"),
)

SERVER = document(
    "Server",
    "One protected server: listing it and `pulumi up` of the site stack installs the agent and starts replication.",
    name("Name of the server; recovery plans refer to it.", SERVER_NAME_LENGTH),
    {
        "ssh": _SSH,
        "policy": text("Name of the replication policy."),
        "group": name(
            "Name of the replication group. The servers that name the same one, 2 to 16, share recovery points, have"
            " the same policy and are recovered together.",
            SERVER_NAME_LENGTH,
        ),
        "groupAddress": host(
            "Address or host name under which the other members of the group reach the server; `ssh.address` when left"
            " out."
        ),
        "groupPort": port("TCP port on which the server's agent listens for the coordinator of its group.", 20004),
        "disks": array(
            "The disks to protect; the first one is the disk that the server boots from.", _DISK, most=MAX_DISKS
        ),
        "applications": array(
            "The applications that are asked before an application-consistent point, in this order, and let go in the"
            " reverse one. Where one fails or is late, the point is crash-consistent, and says why. No secret may stand"
            " in a script's words. `[]`: there are none, and `dr validate` need not remind of it.",
            _APPLICATION,
            least=0,
            most=MAX_APPLICATIONS,
        ),
        "target": _TARGET,
        "bootPreparation": choice(
            "Who makes the disk fit for booting in Azure: `source` lets the agent prepare the server itself, which"
            " needs its owner's consent, `offline` leaves it alone and changes the recovered copy.",
            "source",
            "offline",
            default="offline",
        ),
    },
    ["ssh", "policy", "disks", "target"],
)
