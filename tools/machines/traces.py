"""What an installer could leave on a machine, as lines; two of them compared tell what was left."""

from __future__ import annotations

from tools.machines.source import SourceMachine

_LOOK = (
    'sudo sh -c "find /etc /usr /opt /root /home /boot /var/cache /var/lib /run/lifeboat -xdev '
    "-printf '%p %M %U %G %l\\n' 2>/dev/null | sort; find /etc -xdev -type f -exec sha256sum {} + | sort; "
    'ls /sys/kernel/tracing/instances; systemctl list-unit-files --no-legend lifeboat*; true"'
)


def traces(machine: SourceMachine) -> set[str]:
    """Return paths with mode, owner and target, hashes of all settings, tracing instances and units of ours."""
    return set(machine.run(_LOOK).splitlines())
