"""A drill's network is an island: proved from the rules and routes that the program registers."""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dr.model import Network, Subnet
from tests.stacks.mocked import Recorder
from tests.stacks.packets import INBOUND, OUTBOUND, Packet, Rule, maybe_passes, packets, surely_passes
from tests.stacks.zones import OPTIONS, full, registered

PRODUCTION, DRILL = "10.20.0.0/16", "10.30.0.0/16"
SAME_ADDRESSES = Network(PRODUCTION, (Subnet("shop", "10.20.1.0/24", (22, 8080)), Subnet("db", "10.20.2.0/24", ())))
INTERNET = ipaddress.IPv4Address("203.0.113.1")


@pytest.fixture(scope="module")
def made() -> Recorder:
    return registered(full())


def subnets_of(made: Recorder, network: str) -> Iterator[tuple[dict[str, Any], list[Rule]]]:
    """Yield each registered subnet of a network with the rules of its security group."""
    groups = made.of("azure-native:network:NetworkSecurityGroup")
    for subnet in made.of("azure-native:network:Subnet").values():
        if subnet["virtualNetworkName"] == network:
            group = subnet.get("networkSecurityGroup", {}).get("id", "").removeprefix("/id/")
            yield subnet, groups[group]["securityRules"] if group else []


def ways_across(rules: list[Rule], prefix: str, own: str) -> list[Packet]:
    """Return the packets between a subnet and anything outside its own network that might pass."""
    inside = ipaddress.IPv4Network(own)
    tried = [packet for packet in packets(rules, prefix, (own, PRODUCTION)) if packet.far not in inside]
    assert {packet.direction for packet in tried} == {INBOUND, OUTBOUND}
    return [packet for packet in tried if maybe_passes(rules, packet)]


@pytest.mark.thorough
@pytest.mark.parametrize("declared", [OPTIONS["drill_network"], SAME_ADDRESSES], ids=["own", "same"])
def test_no_rule_lets_a_drill_reach_production_or_the_internet(declared: Network) -> None:
    own = declared.address_space
    made = registered(full(drill_network=declared))
    found = list(subnets_of(made, "vnet-harbour-drill"))
    assert len(found) == 2
    for subnet, rules in found:
        assert ways_across(rules, subnet["addressPrefix"], own) == []


def test_the_servers_of_a_drill_reach_each_other_on_their_ports_as_in_production(made: Recorder) -> None:
    own = ipaddress.IPv4Network(DRILL)
    opened = {"10.30.1.0/24": {22}, "10.30.2.0/24": {5432}}
    for subnet, rules in subnets_of(made, "vnet-harbour-drill"):
        prefix = subnet["addressPrefix"]
        tried = [packet for packet in packets(rules, prefix, (DRILL, *opened)) if packet.far in own]
        within = ipaddress.IPv4Network(prefix)
        assert {packet.far in within for packet in tried} == {True, False}  # in the same subnet, and across
        for packet in tried:
            wanted = packet.direction == OUTBOUND or (packet.protocol == "Tcp" and packet.port in opened[prefix])
            assert surely_passes(rules, packet) == maybe_passes(rules, packet) == wanted, packet


def test_no_route_leads_out_of_a_drill(made: Recorder) -> None:
    network = made.of("azure-native:network:VirtualNetwork")["vnet-harbour-drill"]
    assert "virtualNetworkPeerings" not in network
    assert made.of("azure-native:network:VirtualNetworkPeering") == {}
    for subnet, _ in subnets_of(made, "vnet-harbour-drill"):
        assert "natGateway" not in subnet
        assert subnet["defaultOutboundAccess"] is False
    mentions = {
        name
        for (name, args) in ((key.partition("::")[2], args) for key, args in made.made.items())
        if "vnet-harbour-drill" in str(args.inputs)
    }
    # Only its own subnets know of it: no link to the private zone, no gateway, no Bastion.
    assert mentions == {"vnet-harbour-drill", "vnet-harbour-drill-shop", "vnet-harbour-drill-db"}


def test_azures_resolver_is_closed_to_a_drill_by_name(made: Recorder) -> None:
    # Nothing but a rule that names it closes it, and through it names of the Internet would be asked.
    for _, rules in subnets_of(made, "vnet-harbour-drill"):
        (rule,) = [rule for rule in rules if rule["destinationAddressPrefix"] == "AzurePlatformDNS"]
        assert (rule["direction"], rule["access"]) == (OUTBOUND, "Deny")


def _without(text: str) -> Callable[[list[Rule]], list[Rule]]:
    return lambda rules: [rule for rule in rules if text not in rule["name"]]


def _wider(rules: list[Rule]) -> list[Rule]:
    return [{**rule, "destinationAddressPrefix": "10.16.0.0/12"} if "allow" in rule["name"] else rule for rule in rules]


def _by_tag(rules: list[Rule]) -> list[Rule]:
    tag = {"sourceAddressPrefix": "VirtualNetwork", "destinationAddressPrefix": "VirtualNetwork"}
    return [{**rule, **tag} if "allow" in rule["name"] else rule for rule in rules]


def _one_port(rules: list[Rule]) -> list[Rule]:
    hole = {**rules[0], "name": "hole", "priority": 150, "destinationPortRange": "443"}
    return [*rules, {**hole, "sourceAddressPrefix": "*", "destinationAddressPrefix": "*"}]


@pytest.mark.parametrize("spoil", [_without("deny-the-rest"), _wider, _by_tag, _one_port])
def test_a_hole_in_the_rules_would_be_found(made: Recorder, spoil: Callable[[list[Rule]], list[Rule]]) -> None:
    for subnet, rules in subnets_of(made, "vnet-harbour-drill"):
        spoilt = spoil(copy.deepcopy(rules))
        assert ways_across(spoilt, subnet["addressPrefix"], DRILL)


def test_production_lets_in_its_ports_and_bastion_and_everything_out(made: Recorder) -> None:
    (rules,) = [rules for subnet, rules in subnets_of(made, "vnet-harbour") if subnet["subnetName"] == "shop"]
    server = ipaddress.IPv4Address("10.20.1.10")
    bastion, other = ipaddress.IPv4Address("10.20.254.4"), ipaddress.IPv4Address("10.20.2.4")
    for source in (INTERNET, bastion, other):
        opened = {
            port for port in (22, 80, 3389, 8080) if maybe_passes(rules, Packet(INBOUND, source, server, "Tcp", port))
        }
        assert opened == ({22, 3389, 8080} if source == bastion else {22, 8080})
    assert maybe_passes(rules, Packet(OUTBOUND, server, INTERNET, "Tcp", 443))
