"""Where a port of a recovered server is reached from the machine that runs `dr`."""

from __future__ import annotations

import json
from typing import Any

from dr.errors import Conflict, NotFound
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders


def reach(
    subscription: str, resource_group: str, vm_name: str, address: str, port: int, folders: Folders | None = None
) -> tuple[str, int]:
    """Return (host, port) to connect to for `port` of a VM whose declared address is `address`.

    On target azure that is the address itself: who runs `dr` has to be connected to the network. On target local the
    VM's network leads nowhere, and the port is one of the loopback. `NotFound` when no such VM was started there,
    `Conflict` when its security group does not let the port in.
    """
    if subscription != LOCAL_SUBSCRIPTION:
        return address, port
    path = (folders or Folders.from_environment()).machines / vm_name / "vm.json"
    try:
        machine: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise NotFound(
            f'no VM "{vm_name}" runs on this machine', remedy="run `dr failover` or `pulumi up` again"
        ) from None
    if f"/resourcegroups/{resource_group.lower()}/" not in str(machine["id"]).lower():
        raise NotFound(f'the VM "{vm_name}" on this machine belongs to another resource group: {machine["id"]}')
    forwarded = machine["ports"].get(str(port))
    if forwarded is None:
        raise Conflict(
            f'port {port} of "{vm_name}" is closed: no security group lets it in',
            code="port-closed",
            remedy="add it to the subnet's inbound_ports in plans/ and run `pulumi up` of the site stack",
        )
    return "127.0.0.1", int(forwarded)
