"""An estate that uses every key: all of it reaches the model, and no key is forgotten in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from dr import model
from dr.schema import examine
from dr.schema.definition import KINDS
from dr.schema.definition.words import every_key
from tests.declaration.estate import whole_files

HOST_KEYS = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqQGZfObRoABjBxiZVU26D65DtuZ0jWDpGyFBzlIRUE",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g",
)
CIRCUIT = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/net/providers/Microsoft.Network"
EXPRESS_ROUTE = f"""\
  expressRoute:
    sku: ErGw2AZ
    circuit: {CIRCUIT}/expressRouteCircuits/c1
    authorization: {{env: CIRCUIT_KEY}}
"""


def whole(*edits: tuple[str, str]) -> dict[str, bytes]:
    """Return the files with some texts replaced."""
    files = whole_files()
    for old, new in edits:
        assert sum(old in text for text in files.values()) == 1, old
        files = {name: text.replace(old, new) for name, text in files.items()}
    return {name: text.encode() for name, text in files.items()}


def by_express_route() -> dict[str, bytes]:
    text = whole_files()["site.yaml"]
    vpn = text[text.index("  vpn:\n") : text.index("privateDnsZone")]
    return whole((vpn, EXPRESS_ROUTE))


def declared(files: dict[str, bytes]) -> model.Declaration:
    examined = examine(files)
    assert examined.declaration is not None, examined.findings
    return examined.declaration


def test_the_site_reaches_the_model() -> None:
    assert declared(whole()).site == model.Site(
        name="harbour",
        location="westeurope",
        subscription="11111111-2222-3333-4444-555555555555",
        network=model.Network(
            "10.20.0.0/16",
            (
                model.Subnet("front", "10.20.1.0/24", (22, 8080)),
                model.Subnet("back", "10.20.2.0/24", (22, 3306, 5432)),
            ),
        ),
        configuration_server=model.ConfigurationServer("config.example.org", 8443),
        process_servers=(model.ProcessServer("ps1", "10.0.2.2", 9444),),
        target="azure",
        resource_groups=model.ResourceGroups("rg-dr-vault", "rg-dr-site"),
        drill_network=model.Network("10.20.0.0/16", (model.Subnet("front", "10.20.1.0/24", (8080,)),)),
        endpoints=model.Endpoints.PRIVATE,
        storage=model.Storage(model.Redundancy.GEO_ZONE),
        gateway=model.Gateway(
            model.GatewayKind.VPN,
            "VpnGw2AZ",
            "10.20.254.0/27",
            peer_address="198.51.100.7",
            site_prefixes=("192.0.2.0/24", "10.0.2.2/32"),
            shared_key=model.SecretReference(key_store="vpn-key"),
        ),
        private_dns_zone="shop.example.internal",
        bastion=model.Bastion("10.20.255.0/26"),
        capacity_reservation=True,
        budget=model.Budget(400, "2027-01-01"),
        alerts=("dr@example.org", "ops@example.org"),
    )


def test_a_circuit_reaches_the_model() -> None:
    assert declared(by_express_route()).site.gateway == model.Gateway(
        model.GatewayKind.EXPRESS_ROUTE,
        "ErGw2AZ",
        "10.20.254.0/27",
        circuit=f"{CIRCUIT}/expressRouteCircuits/c1",
        authorization=model.SecretReference(env="CIRCUIT_KEY"),
    )


def test_a_site_without_the_new_keys_has_the_defaults_of_the_model() -> None:
    keep = ("kind", "name", "location", "network", "configurationServer", "processServers")
    data = {key: value for key, value in yaml.safe_load(whole()["site.yaml"]).items() if key in keep}
    site = declared(whole() | {"site.yaml": yaml.safe_dump(data).encode()}).site
    assert site == model.Site(
        site.name, site.location, None, site.network, site.configuration_server, site.process_servers
    )


def test_a_policy_reaches_the_model_and_has_its_way_home() -> None:
    policy = declared(whole()).policies["gold"]
    office = model.TrafficWindow((0, 4), 480, 1110, 100_000, resync=False)
    night = model.TrafficWindow(tuple(range(7)), 1320, 360, 2_000_000, resync=True)
    traffic = model.Traffic("Europe/Berlin", 125_000_000, (office, night))
    assert policy == model.ReplicationPolicy("gold", 900, 15 * 86400, 60, 12 * 3600, traffic, 30 * 86400)
    assert policy.failback == model.ReplicationPolicy("gold-failback", 900, 86400, 300, 3600)
    assert list(declared(whole()).policies) == ["gold"]


def test_servers_reach_the_model() -> None:
    servers = declared(whole()).servers
    assert servers["web1"] == model.Server(
        name="web1",
        ssh=model.Ssh(
            "192.0.2.11",
            2222,
            "dradmin",
            None,
            "LIFEBOAT_SSH_KEY",
            HOST_KEYS[0],
            sudo_password=model.SecretReference(file="secrets/sudo"),
            jump=model.JumpHost("jump.example.org", 2200, "hop", "~/.ssh/jump", None, HOST_KEYS[1]),
        ),
        policy="gold",
        disks=(model.Disk("os", "/dev/disk/by-id/virtio-web1-os"),),
        target=model.Target(
            "web-vm", "Standard_D2s_v5", "front", "10.20.1.10", model.Firmware.UEFI, {"service": "shop"}, "2"
        ),
        group="shop",
        boot_preparation=model.BootPreparation.SOURCE,
        applications=(
            model.Application(
                "shop", 45, pre=("/usr/local/sbin/shop", "quiesce"), post=("/usr/local/sbin/shop", "resume")
            ),
        ),
    )
    assert servers["db1"].applications == (
        model.Application("shop-db", 30, "postgresql", "/etc/lifeboat-db.conf"),
        model.Application("wiki-db", 30, "mariadb"),
    )
    assert servers["db2"].applications == ()
    assert servers["db1"].ssh.password == model.SecretReference(env="DB1_PASSWORD")
    assert servers["db1"].ssh.jump == model.JumpHost("jump.example.org", 22, "hop", None, "JUMP_KEY", HOST_KEYS[1])
    assert (servers["db1"].group_address, servers["db1"].group_port) == ("db1.harbour.example", 20005)
    assert (servers["web1"].group_address, servers["web1"].group_port) == (None, 20004)
    assert (servers["db2"].group, servers["db2"].target.zone) == (None, None)
    assert servers["db2"].boot_preparation is model.BootPreparation.OFFLINE


def test_a_plan_reaches_the_model() -> None:
    failover, drill = (model.RunKind.FAILOVER,), (model.RunKind.DRILL,)
    kinds = model.ActionKind
    databases = model.PlanGroup(
        ("db1", "db2"),
        (
            model.HealthCheck("db1", "sql", 5432, "/", 200, None, 300, engine="postgresql"),
            model.HealthCheck("db2", "sql", 3306, "/", 200, None, 600, engine="mariadb"),
        ),
        before=(
            model.Action(
                "ask-the-owner",
                kinds.MANUAL,
                (model.RunKind.FAILOVER, model.RunKind.PLANNED_FAILOVER, model.RunKind.FAILBACK),
                7200,
                0,
                instructions="Call the owner of the shop.",
            ),
        ),
        after=(
            model.Action(
                "warm-up",
                kinds.COMMAND,
                drill + failover,
                300,
                3,
                server="db1",
                command=("systemctl", "start", "warm-up"),
            ),
        ),
    )
    web = model.PlanGroup(
        ("web1",),
        (
            model.HealthCheck("web1", "http", 8080, "/health", 204, "ok", 300),
            model.HealthCheck("web1", "tcp", 8080, "/", 200, None, 300),
            model.HealthCheck("web1", "ssh", 22, "/", 200, None, 300, command="systemctl is-active shop"),
        ),
        after=(
            model.Action("switch-dns", kinds.SCRIPT, failover, 300, 0, command=("./switch-dns.sh", "--to", "azure")),
            model.Action("tell-the-desk", kinds.WEBHOOK, failover, 300, 0, url="https://desk.example.org/dr"),
            model.Action(
                "tell-the-chat", kinds.WEBHOOK, drill, 300, 0, url_from=model.SecretReference(env="CHAT_HOOK")
            ),
            model.Action("close-the-till", kinds.COMMAND, drill, 300, 0, server="web1", command=("till", "close")),
        ),
    )
    objectives = model.Objectives(rpo_seconds=900, rto_seconds=3600, drill_every_seconds=90 * 86400)
    assert declared(whole()).plans == {"shop": model.RecoveryPlan("shop", (databases, web), objectives)}


def test_no_key_is_forgotten() -> None:
    written: set[str] = set()
    for files in (whole(), by_express_route()):
        for text in files.values():
            for document in yaml.safe_load_all(text):
                written |= {f"{document['kind']}.{key}" for key in keys_of_data(document)}
    defined = {f"{kind}.{key}" for kind in KINDS for key, _, _ in every_key(KINDS[kind])}
    assert {alike(key) for key in defined} == {alike(key) for key in written if ".tags." not in key}


def alike(key: str) -> str:
    """Return one name for keys of one definition: actions before and after, and the places of any secret."""
    last = key.rpartition(".")[2]
    return last if last in {"env", "file", "keyStore"} else key.replace("[].before", "[].after")


def keys_of_data(data: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield f"{prefix}{key}"
            yield from keys_of_data(value, f"{prefix}{key}.")
    elif isinstance(data, list):
        for value in data:
            yield from keys_of_data(value, f"{prefix.removesuffix('.')}[].")
