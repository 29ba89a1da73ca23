"""Virtual networks, subnets, security groups and network interfaces: records that are checked as Azure checks them.

They become real in `machines`: the subnet is the machine's own isolated segment, the interface's address is what its
DHCP hands out, and the security groups decide which ports are forwarded.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator
from typing import Any

from dr.local.standin.attachment import attached_machine, attached_to
from dr.local.standin.filtering import open_ports
from dr.local.standin.kinds import Cloud, Kind, Values, Voice, azure_error, existing, same_location, user_of
from dr.local.standin.managed_subnets import BASTION, refuse_bastion_rules, refuse_subnet
from dr.local.standin.outbound import NatGateway
from dr.local.standin.records import Record

IPv4Network = ipaddress.IPv4Network

_NETWORK = "/resourceGroups/{resourceGroupName}/providers/Microsoft.Network"
RESERVED_FIRST = 4  # Azure keeps the first four addresses of a subnet and the last one


class VirtualNetwork(Kind):
    resource_type = "azure-native:network:VirtualNetwork"
    arm_type = "Microsoft.Network/virtualNetworks"
    path = f"{_NETWORK}/virtualNetworks/{{virtualNetworkName}}"
    name_input = "virtualNetworkName"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        self._refuse(inputs)

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        spaces = self._refuse(inputs)
        for subnet in _subnets(cloud, record.id):
            if not _inside(_prefix(subnet.inputs), spaces):
                raise azure_error("InUsePrefixCannotBeDeleted", f"the address prefix of {subnet.id} is in use")

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        for subnet in _subnets(cloud, record.id):
            user = user_of(cloud, subnet.id)
            if user is not None:
                raise azure_error("InUseSubnetCannotBeDeleted", f"{subnet.id} is in use by {user.id}")

    def delete(self, cloud: Cloud, record: Record, voice: Voice) -> None:
        for subnet in list(_subnets(cloud, record.id)):
            cloud.records.remove(subnet.id)

    def _refuse(self, inputs: Values) -> list[IPv4Network]:
        for inline, own in (("subnets", "network.Subnet"), ("virtualNetworkPeerings", "network.VirtualNetworkPeering")):
            if inputs.get(inline):
                raise azure_error(
                    "NotRealised", f"the local target takes {inline} as resources of their own ({own}), not inline"
                )
        spaces = [_network(prefix) for prefix in (inputs.get("addressSpace") or {}).get("addressPrefixes") or []]
        if not spaces:
            raise azure_error("AddressSpaceEmpty", "the virtual network has no address space")
        return spaces


class Subnet(Kind):
    resource_type = "azure-native:network:Subnet"
    arm_type = "Microsoft.Network/virtualNetworks/subnets"
    path = f"{_NETWORK}/virtualNetworks/{{virtualNetworkName}}/subnets/{{subnetName}}"
    parent = f"{_NETWORK}/virtualNetworks/{{virtualNetworkName}}"
    name_input = "subnetName"
    also_replacing = ()
    tagged = False

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        network_id = str(self.parent_id(inputs))
        network = existing(cloud, network_id, VirtualNetwork.resource_type, resource_id)
        spaces = [_network(prefix) for prefix in network.inputs["addressSpace"]["addressPrefixes"]]
        prefix = _prefix(inputs)
        if not _inside(prefix, spaces):
            raise azure_error(
                "NetcfgSubnetRangeOutsideVnet", f"subnet {prefix} is outside the address space of {network.id}"
            )
        for other in _subnets(cloud, network_id):
            if other.id.lower() != resource_id.lower() and prefix.overlaps(_prefix(other.inputs)):
                raise azure_error("NetcfgSubnetRangesOverlap", f"subnet {prefix} overlaps {other.id}")
            if other.state == "creating" and other.id.lower() != resource_id.lower():
                raise azure_error(
                    "AnotherOperationInProgress",
                    f"{other.id} is being made: one subnet of a network at a time",
                    remedy="let each subnet depend on the one before it",
                )
        self._refuse_attached(cloud, resource_id, inputs, network)

    def _refuse_attached(self, cloud: Cloud, resource_id: str, inputs: Values, network: Record) -> None:
        rules, nat = None, (inputs.get("natGateway") or {}).get("id")
        group_id = (inputs.get("networkSecurityGroup") or {}).get("id")
        if group_id:
            group = existing(cloud, group_id, SecurityGroup.resource_type, resource_id)
            same_location(group, network.location, network.id)
            rules = group.inputs.get("securityRules") or []
        if nat:
            same_location(existing(cloud, nat, NatGateway.resource_type, resource_id), network.location, network.id)
        refuse_subnet(str(inputs["subnetName"]), _prefix(inputs), rules, nat_gateway=bool(nat))

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        self.refuse_create(cloud, record.id, inputs)
        if _prefix(inputs) != _prefix(record.inputs) and user_of(cloud, record.id) is not None:
            raise azure_error("InUsePrefixCannotBeDeleted", f"the address prefix of {record.id} is in use")

    def apply(self, cloud: Cloud, record: Record, voice: Voice) -> None:
        _refilter(cloud, [record.id], voice)

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        user = user_of(cloud, record.id)
        if user is not None:
            raise azure_error(
                "InUseSubnetCannotBeDeleted", f"subnet {record.name} is in use by {user.id} and cannot be deleted"
            )


class SecurityGroup(Kind):
    resource_type = "azure-native:network:NetworkSecurityGroup"
    arm_type = "Microsoft.Network/networkSecurityGroups"
    path = f"{_NETWORK}/networkSecurityGroups/{{networkSecurityGroupName}}"
    name_input = "networkSecurityGroupName"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        taken: dict[tuple[str, int], str] = {}
        for rule in inputs.get("securityRules") or []:
            priority, name = int(rule["priority"]), str(rule.get("name", ""))
            if not 100 <= priority <= 4096:
                raise azure_error(
                    "SecurityRuleInvalidPriority", f"priority {priority} of rule {name} is not in 100..4096"
                )
            other = taken.setdefault((str(rule["direction"]), priority), name)
            if other != name:
                raise azure_error("SecurityRuleConflict", f"rules {other} and {name} have priority {priority} both")

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        self.refuse_create(cloud, record.id, inputs)
        if any(_uses_group(subnet, record.id) and subnet.name == BASTION for subnet in cloud.records.all()):
            refuse_bastion_rules(inputs.get("securityRules") or [])

    def apply(self, cloud: Cloud, record: Record, voice: Voice) -> None:
        users = [subnet.id for subnet in cloud.records.all(Subnet.resource_type) if _uses_group(subnet, record.id)]
        _refilter(cloud, users, voice)

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        user = user_of(cloud, record.id)
        if user is not None:
            raise azure_error(
                "InUseNetworkSecurityGroupCannotBeDeleted", f"{record.id} is in use by {user.id} and cannot be deleted"
            )


class NetworkInterface(Kind):
    resource_type = "azure-native:network:NetworkInterface"
    arm_type = "Microsoft.Network/networkInterfaces"
    path = f"{_NETWORK}/networkInterfaces/{{networkInterfaceName}}"
    name_input = "networkInterfaceName"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        configurations = inputs.get("ipConfigurations") or []
        if len(configurations) != 1:
            raise azure_error("NotRealised", "the local target gives a network interface exactly one IP configuration")
        configuration = configurations[0]
        subnet_id = (configuration.get("subnet") or {}).get("id")
        if not subnet_id:
            raise azure_error("SubnetNotSpecified", f"{resource_id} names no subnet")
        subnet = existing(cloud, subnet_id, Subnet.resource_type, resource_id)
        network = existing(cloud, subnet_id.rsplit("/subnets/", 1)[0], VirtualNetwork.resource_type, resource_id)
        same_location(network, str(inputs.get("location", "")), resource_id)
        if configuration.get("privateIPAllocationMethod") == "Static" and not configuration.get("privateIPAddress"):
            raise azure_error("PrivateIPAddressMissing", "a static allocation needs a privateIPAddress")
        if configuration.get("privateIPAddress"):
            self._refuse_address(cloud, resource_id, subnet, str(configuration["privateIPAddress"]))
        elif _free_address(cloud, subnet) is None:
            raise azure_error("SubnetIsFull", f"{subnet.id} has no free address")

    def _refuse_address(self, cloud: Cloud, resource_id: str, subnet: Record, text: str) -> None:
        prefix = _prefix(subnet.inputs)
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            raise azure_error("InvalidIPAddressFormat", f'"{text}" is no IPv4 address') from None
        if address not in prefix:
            raise azure_error("PrivateIPAddressNotInSubnet", f"{address} is not in subnet {prefix} ({subnet.id})")
        if _is_reserved(address, prefix):
            raise azure_error(
                "PrivateIPAddressInReservedRange",
                f"{address} is in the reserved range of subnet {prefix} (its first four addresses and the last)",
            )
        for nic in _nics(cloud, subnet.id):
            if nic.id.lower() != resource_id.lower() and address_of(nic) == str(address):
                raise azure_error(
                    "PrivateIPAddressIsAllocated", f"IP address {address} is already allocated to {nic.id}"
                )

    def create(self, cloud: Cloud, record: Record, voice: Voice) -> dict[str, Any]:
        return {**self.outputs(record), **self._addresses(cloud, record.id, record.inputs)}

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        self.refuse_create(cloud, record.id, inputs)
        moved = inputs.get("ipConfigurations") != record.inputs.get("ipConfigurations")
        machine = attached_machine(cloud, record.id)
        if moved and machine is not None:
            raise azure_error(
                "NicInUse",
                f"the address of {record.id} cannot be changed while {machine.id} runs on this target",
                remedy="replace the VM together with its network interface",
            )

    def update(self, cloud: Cloud, record: Record, inputs: Values, voice: Voice) -> dict[str, Any]:
        outputs = super().update(cloud, record, inputs, voice)
        return {**outputs, **self._addresses(cloud, record.id, inputs)}

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        machine = attached_machine(cloud, record.id)
        if machine is not None:
            raise azure_error(
                "NicInUse",
                f"network interface {record.id} is used by existing resource {machine.id} and cannot be deleted",
            )

    def _addresses(self, cloud: Cloud, resource_id: str, inputs: Values) -> dict[str, Any]:
        configuration = dict(inputs["ipConfigurations"][0])
        if not configuration.get("privateIPAddress"):
            subnet = existing(cloud, configuration["subnet"]["id"], Subnet.resource_type, resource_id)
            configuration["privateIPAddress"] = _free_address(cloud, subnet)
        digest = hashlib.sha256(resource_id.lower().encode()).hexdigest()
        mac = "-".join(("00", "0D", "3A", *(digest[i : i + 2].upper() for i in (0, 2, 4))))
        return {"ipConfigurations": [{"provisioningState": "Succeeded", **configuration}], "macAddress": mac}


def address_of(nic: Record) -> str:
    """Return the private address of a network interface."""
    source = nic.outputs.get("ipConfigurations") or nic.inputs["ipConfigurations"]
    return str(source[0].get("privateIPAddress", ""))


def subnet_of(nic: Record) -> str:
    """Return the ARM id of a network interface's subnet."""
    return str(nic.inputs["ipConfigurations"][0]["subnet"]["id"])


def prefix_of(subnet: Record) -> str:
    """Return a subnet's prefix."""
    return str(_prefix(subnet.inputs))


def ports_into(cloud: Cloud, nic: Record, voice: Voice) -> tuple[int, ...]:
    """Return the TCP ports that the security groups of a network interface and of its subnet let in."""
    subnet = existing(cloud, subnet_of(nic), Subnet.resource_type, nic.id)
    groups = [(holder.inputs.get("networkSecurityGroup") or {}).get("id") for holder in (subnet, nic)]
    rules = [
        existing(cloud, group, SecurityGroup.resource_type, nic.id).inputs.get("securityRules") or []
        for group in groups
        if group
    ]
    ports, unnamed = open_ports(rules)
    for rule in unnamed:
        voice.warning(
            f'rule "{rule}" lets in more ports than the local target forwards; it forwards ports named singly'
        )
    return ports


def _refilter(cloud: Cloud, subnet_ids: list[str], voice: Voice) -> None:
    """Make running machines forward what the security groups let in now."""
    for subnet_id in subnet_ids:
        for nic in _nics(cloud, subnet_id):
            machine = attached_to(cloud, nic.id)
            if machine is not None:
                machine.change_ports(ports_into(cloud, nic, voice))


def _uses_group(record: Record, group_id: str) -> bool:
    named = (record.inputs.get("networkSecurityGroup") or {}).get("id") or ""
    return str(named).lower() == group_id.lower()


def _subnets(cloud: Cloud, network_id: str) -> Iterator[Record]:
    prefix = f"{network_id.lower()}/subnets/"
    return (record for record in cloud.records.all(Subnet.resource_type) if record.id.lower().startswith(prefix))


def _nics(cloud: Cloud, subnet_id: str) -> Iterator[Record]:
    return (
        nic for nic in cloud.records.all(NetworkInterface.resource_type) if subnet_of(nic).lower() == subnet_id.lower()
    )


def _prefix(inputs: Values) -> IPv4Network:
    prefixes = inputs.get("addressPrefixes") or []
    text = inputs.get("addressPrefix") or (prefixes[0] if len(prefixes) == 1 else None)
    if text is None:
        raise azure_error("AddressPrefixMissing", "the local target gives a subnet exactly one address prefix")
    return _network(str(text))


def _network(text: str) -> IPv4Network:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError as error:
        raise azure_error("InvalidCIDRNotation", f'"{text}" is no IPv4 prefix: {error}') from None


def _inside(prefix: IPv4Network, spaces: list[IPv4Network]) -> bool:
    return any(prefix.subnet_of(space) for space in spaces)


def _is_reserved(address: ipaddress.IPv4Address, prefix: IPv4Network) -> bool:
    return int(address) - int(prefix[0]) < RESERVED_FIRST or address == prefix[-1]


def _free_address(cloud: Cloud, subnet: Record) -> str | None:
    used = {address_of(nic) for nic in _nics(cloud, subnet.id)}
    prefix = _prefix(subnet.inputs)
    free = (str(a) for a in prefix.hosts() if not _is_reserved(a, prefix) and str(a) not in used)
    return next(free, None)
