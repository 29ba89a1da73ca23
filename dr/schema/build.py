"""From checked data to the model; called only when nothing is wrong. Pure."""

from __future__ import annotations

from dr import model
from dr.schema.durations import seconds
from dr.schema.plans import CHECK_KINDS, port_of_check
from dr.schema.thing import Data, Estate
from dr.schema.traffic import build_traffic


def build(estate: Estate) -> model.Declaration:
    """Return the declaration; policies, servers and plans are ordered by name, whatever file they came from."""
    return model.Declaration(
        site=_site(next(estate.of("Site")).data),
        policies={data["name"]: _policy(data) for data in _sorted(estate, "ReplicationPolicy")},
        servers={data["name"]: _server(data) for data in _sorted(estate, "Server")},
        plans={data["name"]: _plan(data) for data in _sorted(estate, "RecoveryPlan")},
    )


def _sorted(estate: Estate, kind: str) -> list[Data]:
    return sorted((thing.data for thing in estate.of(kind)), key=lambda data: str(data["name"]))


def _secret(data: Data | None) -> model.SecretReference | None:
    return None if data is None else model.SecretReference(data.get("env"), data.get("file"), data.get("keyStore"))


def _seconds(text: str | None) -> int | None:
    return None if text is None else seconds(text)


# The site ------------------------------------------------------------------------------------------------------


def _site(data: Data) -> model.Site:
    configuration, groups = data["configurationServer"], data.get("resourceGroups", {})
    redundancy = data.get("storage", {}).get("redundancy")
    return model.Site(
        name=data["name"],
        location=data["location"],
        subscription=data.get("subscription"),
        network=_network(data["network"]),
        configuration_server=model.ConfigurationServer(configuration["address"], configuration["port"]),
        process_servers=tuple(model.ProcessServer(p["name"], p["address"], p["port"]) for p in data["processServers"]),
        target=data["target"],
        resource_groups=model.ResourceGroups(groups.get("vault"), groups.get("site")),
        drill_network=_network(data["drillNetwork"]) if "drillNetwork" in data else None,
        endpoints=model.Endpoints(data["endpoints"]),
        storage=model.Storage() if redundancy is None else model.Storage(model.Redundancy(redundancy)),
        gateway=_gateway(data["gateway"]) if "gateway" in data else None,
        private_dns_zone=data.get("privateDnsZone"),
        bastion=model.Bastion(data["bastion"]["prefix"]) if "bastion" in data else None,
        capacity_reservation=data["capacityReservation"],
        budget=_budget(data["budget"]) if "budget" in data else None,
        alerts=tuple(sorted(data["alerts"])),
    )


def _network(data: Data) -> model.Network:
    subnets = tuple(model.Subnet(s["name"], s["prefix"], tuple(sorted(s["inboundPorts"]))) for s in data["subnets"])
    return model.Network(data["addressSpace"], subnets)


def _gateway(data: Data) -> model.Gateway:
    if "vpn" in data:
        vpn = data["vpn"]
        return model.Gateway(
            kind=model.GatewayKind.VPN,
            sku=vpn["sku"],
            prefix=data["prefix"],
            peer_address=vpn["peerAddress"],
            site_prefixes=tuple(vpn["sitePrefixes"]),
            shared_key=_secret(vpn["sharedKey"]),
        )
    route = data["expressRoute"]
    return model.Gateway(
        kind=model.GatewayKind.EXPRESS_ROUTE,
        sku=route["sku"],
        prefix=data["prefix"],
        circuit=route["circuit"],
        authorization=_secret(route.get("authorization")),
    )


def _budget(data: Data) -> model.Budget:
    return model.Budget(data["monthlyAmount"], f"{data['starts']}-01")


# Policies and servers ------------------------------------------------------------------------------------------


def _policy(data: Data) -> model.ReplicationPolicy:
    return model.ReplicationPolicy(
        name=data["name"],
        rpo_threshold_seconds=seconds(data["rpoThreshold"]),
        retention_seconds=seconds(data["retention"]),
        crash_consistent_seconds=seconds(data["crashConsistentEvery"]),
        app_consistent_seconds=_seconds(data.get("appConsistentEvery")),
        traffic=build_traffic(data.get("traffic")),
        verify_seconds=seconds(data["verifyEvery"]),
    )


def _server(data: Data) -> model.Server:
    return model.Server(
        name=data["name"],
        ssh=_ssh(data["ssh"]),
        policy=data["policy"],
        disks=tuple(model.Disk(disk["name"], disk["device"]) for disk in data["disks"]),
        target=_target(data["target"], data["name"]),
        group=data.get("group"),
        boot_preparation=model.BootPreparation(data["bootPreparation"]),
        group_address=data.get("groupAddress"),
        group_port=data["groupPort"],
        applications=tuple(_application(each) for each in data.get("applications", ())),
    )


def _application(data: Data) -> model.Application:
    return model.Application(
        name=data["name"],
        timeout_seconds=seconds(data["timeout"]),
        use=data.get("use"),
        settings=data.get("settings"),
        pre=tuple(data.get("pre", ())),
        post=tuple(data.get("post", ())),
    )


def _ssh(data: Data) -> model.Ssh:
    return model.Ssh(
        address=data["address"],
        port=data["port"],
        user=data["user"],
        key_file=data.get("keyFile"),
        key_env=data.get("keyEnv"),
        host_key=_host_key(data["hostKey"]),
        password=_secret(data.get("password")),
        sudo_password=_secret(data.get("sudoPassword")),
        jump=_jump(data["jump"]) if "jump" in data else None,
    )


def _jump(data: Data) -> model.JumpHost:
    return model.JumpHost(
        address=data["address"],
        port=data["port"],
        user=data["user"],
        key_file=data.get("keyFile"),
        key_env=data.get("keyEnv"),
        host_key=_host_key(data["hostKey"]),
    )


def _host_key(written: str) -> str:
    """Return type and key only: the comment behind them is nobody's identity."""
    return " ".join(written.split()[:2])


def _target(data: Data, server: str) -> model.Target:
    return model.Target(
        name=data.get("name", server),
        size=data["size"],
        subnet=data["subnet"],
        address=data["address"],
        firmware=model.Firmware(data["firmware"]),
        tags=dict(sorted(data["tags"].items())),
        zone=str(data["zone"]) if "zone" in data else None,
    )


# Recovery plans ------------------------------------------------------------------------------------------------


def _plan(data: Data) -> model.RecoveryPlan:
    groups = tuple(
        model.PlanGroup(
            servers=tuple(group["servers"]),
            checks=tuple(_check(check) for check in group["checks"]),
            before=tuple(_action(action) for action in group["before"]),
            after=tuple(_action(action) for action in group["after"]),
        )
        for group in data["groups"]
    )
    objectives = data.get("objectives", {})
    return model.RecoveryPlan(
        data["name"],
        groups,
        model.Objectives(
            rpo_seconds=_seconds(objectives.get("rpo")),
            rto_seconds=_seconds(objectives.get("rto")),
            drill_every_seconds=_seconds(objectives.get("drillEvery")),
        ),
    )


def _check(data: Data) -> model.HealthCheck:
    kind = next(kind for kind in CHECK_KINDS if kind in data)
    details: Data = data[kind]
    port = port_of_check(details)
    assert port is not None
    return model.HealthCheck(
        server=data["server"],
        kind=kind,
        port=port,
        path=details.get("path", "/"),
        status=details.get("status", 200),
        contains=details.get("contains"),
        timeout_seconds=seconds(data["timeout"]),
        command=details.get("command"),
        engine=details.get("engine"),
    )


def _action(data: Data) -> model.Action:
    kind = next(kind for kind in model.ActionKind if kind.value in data)
    command, webhook = data.get("command", {}), data.get("webhook", {})
    return model.Action(
        name=data["name"],
        kind=kind,
        runs=tuple(run for run in model.RunKind if run.value in data["runs"]),
        timeout_seconds=seconds(data["timeout"]),
        retries=data["retries"],
        server=command.get("server"),
        port=command.get("port", 22),
        command=tuple(command.get("run") or data.get("script", ())),
        url=webhook.get("url"),
        url_from=_secret(webhook.get("urlFrom")),
        instructions=data.get("manual", {}).get("instructions"),
    )
