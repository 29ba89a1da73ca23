"""Drives the stand-in as the engine does, without an engine: check, diff, create, read, update, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulumi.provider.experimental import provider as sdk

from dr.local.standin.provider import StandIn
from dr.plugin import serving
from dr.plugin.serving import EngineLog
from dr.plugin.values import unwrap_all, wrap_all
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders

LOCATION = "westeurope"
GROUP = {"resourceGroupName": "rg"}
PASSPHRASE = "test passphrase"


class SilentLog(EngineLog):
    """An engine's log that nobody reads, kept for the test."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1:9")
        self.said: list[str] = []

    def status(self, urn: str, text: str) -> None:
        self.said.append(text)

    warning = info = debug = status


@dataclass(frozen=True)
class Made:
    token: str
    id: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


class Driver:
    def __init__(self, root: Path) -> None:
        self.folders = Folders(root)
        self.log = SilentLog()
        self.standin = StandIn(self.folders, self.log)
        self._run(self.standin.configure(configure_request(LOCAL_SUBSCRIPTION)))

    def create(self, token: str, **inputs: Any) -> Made:
        return self._create(f"azure-native:{token}", inputs, preview=False)

    def preview(self, token: str, **inputs: Any) -> Made:
        return self._create(f"azure-native:{token}", inputs, preview=True)

    def _create(self, token: str, inputs: dict[str, Any], *, preview: bool) -> Made:
        made = self._run(self.standin.create(sdk.CreateRequest(urn(token), wrap_all(inputs), 0, preview)))
        return Made(token, made.resource_id, inputs, unwrap_all(made.properties))

    def update(self, made: Made, **inputs: Any) -> Made:
        request = sdk.UpdateRequest(urn(made.token), made.id, wrap_all(made.outputs), wrap_all(inputs), 0, [], False)
        outputs = self._run(self.standin.update(request)).properties
        return Made(made.token, made.id, inputs, unwrap_all(outputs))

    def read(self, made: Made) -> sdk.ReadResponse:
        request = sdk.ReadRequest(urn(made.token), made.id, wrap_all(made.outputs), wrap_all(made.inputs))
        answer: sdk.ReadResponse = self._run(self.standin.read(request))
        return answer

    def exists(self, made: Made) -> bool:
        return bool(self.read(made).resource_id)

    def delete(self, made: Made) -> None:
        request = sdk.DeleteRequest(urn(made.token), made.id, wrap_all(made.outputs), 0)
        self._run(self.standin.delete(request))

    def check(self, token: str, **inputs: Any) -> dict[str, str]:
        """Return the failures of a check, reason by property."""
        request = sdk.CheckRequest(urn(f"azure-native:{token}"), {}, wrap_all(inputs), b"seed")
        return {failure.property: failure.reason for failure in self._run(self.standin.check(request)).failures}

    def checked(self, token: str, **inputs: Any) -> dict[str, Any]:
        """Return the inputs that a check answers with."""
        request = sdk.CheckRequest(urn(f"azure-native:{token}"), {}, wrap_all(inputs), b"seed")
        return unwrap_all(self._run(self.standin.check(request)).inputs or {})

    def diff(self, token: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> sdk.DiffResponse:
        async def run() -> sdk.DiffResponse:
            serving._old_inputs.set(wrap_all(old))
            request = sdk.DiffRequest(urn(f"azure-native:{token}"), "id", {}, wrap_all(new), [])
            return await self.standin.diff(request)

        answer: sdk.DiffResponse = self._run(run())
        return answer

    def group(self) -> Made:
        return self.create("resources:ResourceGroup", **GROUP, location=LOCATION)

    def network(self) -> tuple[Made, Made, Made]:
        """Return a virtual network, a security group that lets in port 22, and a subnet."""
        network = self.create("network:VirtualNetwork", **vnet())
        security = self.create("network:NetworkSecurityGroup", **nsg(22))
        return network, security, self.create("network:Subnet", **subnet(security))

    def nic(self, subnet: Made, address: str = "10.0.1.9", name: str = "nic", **more: Any) -> Made:
        return self.create("network:NetworkInterface", **nic(subnet, address, name, **more))

    def _run(self, call: Any) -> Any:
        return asyncio.run(call)


def configure_request(subscription: str) -> sdk.ConfigureRequest:
    return sdk.ConfigureRequest({}, wrap_all({"subscriptionId": subscription, "location": LOCATION}), True, True)


def urn(token: str) -> str:
    return f"urn:pulumi:site-local::lifeboat::{token}::thing"


def vnet(**more: Any) -> dict[str, Any]:
    space = {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}}
    return {"virtualNetworkName": "vnet", "location": LOCATION, **GROUP, **space, **more}


def rule(port: int | str, *, priority: int = 100, access: str = "Allow", name: str = "") -> dict[str, Any]:
    return {
        "name": name or f"rule-{priority}",
        "priority": priority,
        "direction": "Inbound",
        "access": access,
        "protocol": "Tcp",
        "sourceAddressPrefix": "*",
        "sourcePortRange": "*",
        "destinationAddressPrefix": "*",
        "destinationPortRange": str(port),
    }


def nsg(*ports: int) -> dict[str, Any]:
    rules = [rule(port, priority=100 + number) for number, port in enumerate(ports)]
    return {"networkSecurityGroupName": "nsg", "location": LOCATION, **GROUP, "securityRules": rules}


def subnet(security: Made | None = None, *, prefix: str = "10.0.1.0/24", name: str = "subnet") -> dict[str, Any]:
    filtered = {"networkSecurityGroup": {"id": security.id}} if security else {}
    return {"subnetName": name, "virtualNetworkName": "vnet", "addressPrefix": prefix, **GROUP, **filtered}


def nic(subnet: Made, address: str = "10.0.1.9", name: str = "nic", **more: Any) -> dict[str, Any]:
    configuration: dict[str, Any] = {"name": "primary", "subnet": {"id": subnet.id}}
    configuration |= {"privateIPAddress": address, "privateIPAllocationMethod": "Static"} if address else {}
    return {"networkInterfaceName": name, "location": LOCATION, **GROUP, "ipConfigurations": [configuration], **more}
