"""The programs under Pulumi's mocks: what they register, from the example estate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dr import compile as compiler
from dr.errors import DeclarationInvalid, Refused
from dr.schema import load
from dr.target.folders import LOCAL_SUBSCRIPTION
from stacks import dispatch, failover, site, vault
from tests.stacks.mocked import DISK, MADE, Run, mocked

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def run() -> Iterator[Run]:
    with mocked() as program:
        yield program


@pytest.fixture(scope="module")
def declaration() -> Any:
    return load(CHECKOUT / "plans")


def test_the_vault_is_locked_down_protected_and_kept(run: Run, declaration: Any) -> None:
    blueprint = compiler.vault(declaration, LOCAL_SUBSCRIPTION)
    made = run(lambda: vault.program(blueprint, LOCAL_SUBSCRIPTION))
    (account,) = made.of("azure-native:storage:StorageAccount").values()
    assert account["kind"] == "StorageV2"
    assert account["minimumTlsVersion"] == "TLS1_2"
    assert account["enableHttpsTrafficOnly"] is True
    for forbidden in (
        "allowBlobPublicAccess",
        "allowSharedKeyAccess",
        "allowCrossTenantReplication",
        "isHnsEnabled",
        "isLocalUserEnabled",
    ):
        assert account[forbidden] is False
    containers = made.of("azure-native:storage:BlobContainer")
    assert set(containers) == {"replicas", "manifests", "runs", "state", "retention", "observed", "register"}
    assert {container["publicAccess"] for container in containers.values()} == {"None"}
    assert len(made.of("azure-native:recoveryservices:Vault")) == 1
    assert len(made.of("dr:index:CertificateAuthority")) == 1
    for request in [*made.options("azure-native:"), *made.options("dr:index:")]:
        assert request.protect, request.name
        assert request.retainOnDelete, request.name


def test_the_network_lets_in_the_declared_ports_and_nothing_else(run: Run, declaration: Any) -> None:
    blueprint = compiler.site(declaration, LOCAL_SUBSCRIPTION)
    made = run(lambda: site.program(blueprint, LOCAL_SUBSCRIPTION))
    group = made.of("azure-native:network:NetworkSecurityGroup")["nsg-harbour-shop"]
    *allowed, last = group["securityRules"]
    assert [(rule["destinationPortRange"], rule["access"]) for rule in allowed] == [("22", "Allow"), ("8080", "Allow")]
    assert (last["access"], last["protocol"], last["destinationPortRange"]) == ("Deny", "*", "*")
    assert last["priority"] > max(rule["priority"] for rule in allowed)
    subnet = made.of("azure-native:network:Subnet")["vnet-harbour-shop"]
    assert subnet["networkSecurityGroup"]["id"] == "/id/nsg-harbour-shop"
    (servers,) = made.of("dr:index:SiteServers").values()
    assert servers["servers"]["shop1"]["crash_consistent_seconds"] == 300
    assert list(made.of("dr:index:Protection")) == ["shop1"]


def test_a_recovered_server_is_built_from_its_point(run: Run, declaration: Any) -> None:
    blueprint = compiler.failover(declaration, "shop", "r1", "latest", LOCAL_SUBSCRIPTION)
    made = run(lambda: failover.program(blueprint, LOCAL_SUBSCRIPTION))
    (copy,) = made.of("dr:index:BlobCopy").values()
    assert (copy["sourceBlob"], copy["snapshot"]) == (DISK["blob"], DISK["snapshot"])
    ((disk_name, disk),) = made.of("azure-native:compute:Disk").items()
    assert disk["creationData"]["createOption"] == "Import"
    assert disk["creationData"]["sourceUri"] == MADE["dr:index:BlobCopy"]["url"]
    assert disk["creationData"]["storageAccountId"].endswith(f"/storageAccounts/{blueprint.storage_account}")
    assert (disk["hyperVGeneration"], disk["osType"]) == ("V1", "Linux")
    ((nic_name, nic),) = made.of("azure-native:network:NetworkInterface").items()
    (address,) = nic["ipConfigurations"]
    assert (address["privateIPAddress"], address["privateIPAllocationMethod"]) == ("10.20.1.10", "Static")
    (machine,) = made.of("azure-native:compute:VirtualMachine").values()
    assert "osProfile" not in machine
    assert machine["storageProfile"]["osDisk"]["createOption"] == "Attach"
    assert machine["storageProfile"]["osDisk"]["managedDisk"]["id"] == f"/id/{disk_name}"
    assert machine["networkProfile"]["networkInterfaces"][0]["id"] == f"/id/{nic_name}"
    assert machine["diagnosticsProfile"]["bootDiagnostics"]["enabled"] is True
    tags = {key: machine["tags"][key] for key in machine["tags"] if key.startswith("lifeboat-")}
    assert tags == {
        "lifeboat-site": "harbour",
        "lifeboat-plan": "shop",
        "lifeboat-run": "r1",
        "lifeboat-server": "shop1",
        "lifeboat-point": "shop1-1-7",
    }
    (check,) = made.of("dr:index:HealthCheck").values()
    assert (check["kind"], check["port"], check["path"], check["timeout"]) == ("http", 8080, "/", 600)
    # A machine that was made anew under its old name is asked anew.
    assert check["triggers"] == [MADE["azure-native:compute:VirtualMachine"]["vmId"], "shop1-1-7"]


def test_what_a_resource_is_built_from_replaces_it(run: Run, declaration: Any) -> None:
    blueprint = compiler.failover(declaration, "shop", "r1", "latest", LOCAL_SUBSCRIPTION)
    made = run(lambda: failover.program(blueprint, LOCAL_SUBSCRIPTION))

    def replaced_with(kind: str) -> set[str]:
        (request,) = made.options(kind)
        assert request.deleteBeforeReplace
        return {urn.split("::")[2].rpartition("$")[2] for urn in request.replace_with}

    assert replaced_with("azure-native:compute:Disk") == {"dr:index:BlobCopy"}
    assert replaced_with("azure-native:compute:VirtualMachine") == {
        "azure-native:compute:Disk",
        "azure-native:network:NetworkInterface",
    }
    assert replaced_with("dr:index:HealthCheck") == {"azure-native:compute:VirtualMachine"}


def test_a_site_cannot_be_renamed() -> None:
    dispatch.tie_to_site("harbour", "harbour", "vault-local")
    with pytest.raises(Refused, match=r'holds site "harbour".*of site "seaport"') as refused:
        dispatch.tie_to_site("harbour", "seaport", "vault-local")
    assert "pulumi config set dr:site seaport -s vault-local" in refused.value.remedy


def test_a_stack_that_is_tied_to_no_site_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        dispatch.tie_to_site(None, "harbour", "vault-azure")
    assert refused.value.code == "stack-untied"
    assert "pulumi config set dr:site harbour -s vault-azure" in refused.value.remedy


def test_a_site_is_not_removed_by_leaving_it_out() -> None:
    gone = DeclarationInvalid("plans:1:1: no Site is declared; a declaration has exactly one, add it")
    refusal = dispatch.site_left_out("harbour", gone, "vault-local")
    assert refusal is not None
    assert "a site is not removed by leaving it out" in refusal.message
    assert "dr vault destroy" in refusal.remedy
    assert dispatch.site_left_out(None, gone, "vault-local") is None
    assert dispatch.site_left_out("harbour", DeclarationInvalid("plans:1:1: something else"), "vault-local") is None
