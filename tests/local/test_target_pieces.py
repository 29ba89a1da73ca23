"""The small parts of the local target: sizes, open ports, records, processes, environment, reach."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import Queue

import psutil
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dr.errors import Conflict, Corrupt, NotFound, Refused
from dr.local import services
from dr.local.azurite import Azurite
from dr.local.environment import environment, pulumi_home, stale
from dr.local.plugins import install_standin, plugin_folder
from dr.local.processes import ProcessIdentity, start_daemon, start_recorded_daemon, whole
from dr.local.sizes import Capacity, capacity
from dr.local.stacks import PASSPHRASE, Binding, prepare_stack, state_file
from dr.local.standin.filtering import open_ports
from dr.target.backend import Backend
from dr.target.choice import AZURE, LOCAL
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from dr.target.reach import reach
from tests.local.driving import rule


@pytest.mark.parametrize(
    ("size", "memory_mib"), [("Standard_B1s", 1024), ("Standard_D2s_v5", 8192), ("Standard_E2_v4", 16384)]
)
def test_a_size_means_what_its_name_says(size: str, memory_mib: int) -> None:
    assert capacity(size, {"LIFEBOAT_VM_MEMORY_MIB": "65536"}).memory_mib == memory_mib


def test_a_size_is_capped_for_this_machine() -> None:
    assert capacity("Standard_E64s_v5", {}) == Capacity(min(2, os.cpu_count() or 1), 1024)


@pytest.mark.parametrize("size", ["", "Large", "Standard_X2", "standard_b2s"])
def test_an_unknown_size_is_refused(size: str) -> None:
    with pytest.raises(Refused, match="InvalidParameter"):
        capacity(size, {})


def test_the_lowest_priority_decides_about_a_port() -> None:
    rules = [rule("1-40", priority=200), rule("22", priority=100, access="Deny"), rule("443", priority=300)]
    ports, wide = open_ports([rules])
    assert ports == (*range(1, 22), *range(23, 41), 443)
    assert wide == ()


def test_both_groups_have_to_allow() -> None:
    assert open_ports([[rule(22), rule(80, priority=101)], [rule(80)]])[0] == (80,)


def test_a_rule_for_all_ports_is_named_and_not_forwarded() -> None:
    assert open_ports([[rule("*", name="everything"), rule(22, priority=101)]]) == ((), ("everything",))


def test_without_a_security_group_nothing_is_open() -> None:
    assert open_ports([]) == ((), ())


@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["Allow", "Deny"])), max_size=8))
def test_open_ports_agree_with_reading_the_rules_in_order(drawn: list[tuple[int, str]]) -> None:
    rules = [rule(port, priority=100 + n, access=access) for n, (port, access) in enumerate(drawn)]
    wanted = {port for port, access in drawn if next(a for p, a in drawn if p == port) == "Allow"}
    assert set(open_ports([rules])[0]) == wanted


def test_only_the_same_process_is_ended(tmp_path: Path) -> None:
    identity = start_daemon(
        [sys.executable, "-c", "import time; time.sleep(60)"], folder=tmp_path, log=tmp_path / "log"
    )
    stranger = ProcessIdentity(identity.pid, identity.started - 60)
    assert not stranger.alive()
    assert stranger.end()
    assert identity.alive()
    assert identity.end(grace_seconds=5)
    assert not identity.alive()


def test_a_daemon_is_in_a_session_of_its_own(tmp_path: Path) -> None:
    identity = start_daemon(
        [sys.executable, "-c", "import time; time.sleep(60)"], folder=tmp_path, log=tmp_path / "log"
    )
    try:
        assert os.getsid(identity.pid) == identity.pid
        assert psutil.Process(identity.pid).cwd() == str(tmp_path)
    finally:
        identity.end()


def test_the_environment_of_the_local_target(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    chosen = environment(LOCAL, folders, {"PATH": "/usr/bin"})
    assert chosen["PULUMI_BACKEND_URL"] == f"file://{tmp_path}/cloud/state"
    assert chosen["PULUMI_CONFIG_PASSPHRASE_FILE"] == f"{tmp_path}/envelope/break-glass"
    assert chosen["PULUMI_IGNORE_AMBIENT_PLUGINS"] == "true"
    assert chosen["PATH"].split(":")[:2] == [str(Path(__file__).parents[2] / d) for d in ("bin", ".venv/bin")]
    assert environment(LOCAL, folders, {**chosen}) == chosen


def test_a_passphrase_that_the_person_set_stays(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    mine = environment(LOCAL, folders, {"PULUMI_CONFIG_PASSPHRASE_FILE": "/safe/secret"})
    assert mine["PULUMI_CONFIG_PASSPHRASE_FILE"] == "/safe/secret"
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in environment(LOCAL, folders, {"PULUMI_CONFIG_PASSPHRASE": "x"})


def test_the_environment_of_target_azure_and_what_it_does_not_inherit(tmp_path: Path) -> None:
    folders, backend = Folders(tmp_path), Backend("azblob://state?storage_account=a", "azurekeyvault://k", "https://v")
    local = environment(LOCAL, folders, {})
    azure = environment(AZURE, folders, local, backend=backend)
    assert azure["PULUMI_BACKEND_URL"] == backend.state_url
    assert azure["LIFEBOAT_SECRETS_PROVIDER"] == backend.secrets_provider
    assert azure["LIFEBOAT_KEY_VAULT"] == backend.key_store_url
    assert (azure["LIFEBOAT_TARGET"], local["LIFEBOAT_TARGET"]) == ("azure", "local")
    assert azure["PULUMI_HOME"] != local["PULUMI_HOME"]
    assert azure["PULUMI_IGNORE_AMBIENT_PLUGINS"] == "true"
    assert stale(AZURE, folders, local) == ("PULUMI_CONFIG_PASSPHRASE_FILE",)
    assert stale(LOCAL, folders, local) == ()
    assert set(stale(LOCAL, folders, azure)) == {"LIFEBOAT_SECRETS_PROVIDER", "LIFEBOAT_KEY_VAULT"}


def test_no_state_and_no_secret_lies_in_the_checkout(tmp_path: Path) -> None:
    folders, backend = Folders(tmp_path), Backend("azblob://state?storage_account=a", "azurekeyvault://k", "https://v")
    chosen = environment(LOCAL, folders, {}) | environment(AZURE, folders, {}, backend=backend)
    here = str(Path(__file__).parents[2])
    assert {name for name, value in chosen.items() if here in value} == {"LIFEBOAT_PLANS", "PATH"}
    ignored = subprocess.run(["git", "check-ignore", "Pulumi.vault-azure.yaml"], cwd=here, check=False)
    assert ignored.returncode == 0


def test_the_plugin_is_installed_once(tmp_path: Path) -> None:
    home = pulumi_home(LOCAL, Folders(tmp_path))
    assert install_standin(home)
    assert not install_standin(home)
    script = plugin_folder(home) / "pulumi-resource-azure-native"
    assert os.access(script, os.X_OK)
    said = subprocess.run([script], capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert "the Pulumi CLI starts it" in said.stderr


def test_a_fresh_checkout_takes_the_salt_from_the_state(tmp_path: Path) -> None:
    folders, project = Folders(tmp_path / "local"), tmp_path / "checkout"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: lifeboat\n")
    state = state_file("site-local", project, folders)
    state.parent.mkdir(parents=True)
    provider = {"type": "passphrase", "state": {"salt": "v1:abc"}}
    group = {"type": "azure-native:resources:ResourceGroup", "inputs": {"tags": {"lifeboat-site": "harbour"}}}
    latest = {"secrets_providers": provider, "resources": [{"type": "pulumi:pulumi:Stack"}, group]}
    state.write_text(json.dumps({"checkpoint": {"latest": latest}}))
    configuration = project / "Pulumi.site-local.yaml"
    configuration.write_text("encryptionsalt: v1:old\nconfig:\n  dr:point: latest\n")
    variables = environment(LOCAL, folders, {})
    binding = Binding(LOCAL_SUBSCRIPTION, "westeurope", "renamed", PASSPHRASE)
    made = prepare_stack("site-local", project=project, environment=variables, binding=binding, folders=folders)
    assert not made
    content = yaml.safe_load(configuration.read_text())
    assert content["encryptionsalt"] == "v1:abc"
    assert content["config"] == {
        "dr:point": "latest",
        "azure-native:subscriptionId": LOCAL_SUBSCRIPTION,
        "azure-native:location": "westeurope",
        "dr:site": "harbour",  # as the state holds it, not as a hand has renamed it
    }


def test_a_fresh_checkout_takes_the_run_of_a_failover_from_the_state(tmp_path: Path) -> None:
    folders, project = Folders(tmp_path / "local"), tmp_path / "checkout"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: lifeboat\n")
    state = state_file("failover-shop-local", project, folders)
    state.parent.mkdir(parents=True)
    point = {"type": "dr:index:RecoveryPoint", "inputs": {"run": "r7", "selector": "shop1-1-3"}}
    state.write_text(json.dumps({"checkpoint": {"latest": {"resources": [point]}}}))

    def configured() -> dict[str, str]:
        binding = Binding(LOCAL_SUBSCRIPTION, "x", "harbour", PASSPHRASE)
        variables = environment(LOCAL, folders, {})
        prepare_stack("failover-shop-local", project=project, environment=variables, binding=binding, folders=folders)
        content = yaml.safe_load((project / "Pulumi.failover-shop-local.yaml").read_text())
        return {name: content["config"][name] for name in ("dr:run", "dr:point")}

    assert configured() == {"dr:run": "r7", "dr:point": "shop1-1-3"}
    path = project / "Pulumi.failover-shop-local.yaml"
    path.write_text(path.read_text().replace("shop1-1-3", "latest"))
    assert configured() == {"dr:run": "r7", "dr:point": "latest"}  # what a person has set stays


@pytest.fixture
def recovered(tmp_path: Path) -> Folders:
    folders = Folders(tmp_path)
    folder = folders.machines / "vm1"
    folder.mkdir(parents=True)
    resource_id = (
        f"/subscriptions/{LOCAL_SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1"
    )
    (folder / "vm.json").write_text(json.dumps({"id": resource_id, "ports": {"22": 40022}}))
    return folders


def test_a_port_of_a_local_vm_is_one_of_the_loopback(recovered: Folders) -> None:
    assert reach(LOCAL_SUBSCRIPTION, "RG", "vm1", "10.0.1.9", 22, recovered) == ("127.0.0.1", 40022)


def test_a_port_in_azure_is_itself(recovered: Folders) -> None:
    assert reach("11111111-0000-4000-8000-000000000000", "rg", "vm1", "10.0.1.9", 22, recovered) == ("10.0.1.9", 22)


def test_a_closed_port_and_a_missing_vm_are_named(recovered: Folders) -> None:
    with pytest.raises(Conflict, match="port 80"):
        reach(LOCAL_SUBSCRIPTION, "rg", "vm1", "10.0.1.9", 80, recovered)
    with pytest.raises(NotFound, match="vm2"):
        reach(LOCAL_SUBSCRIPTION, "rg", "vm2", "10.0.1.9", 22, recovered)
    with pytest.raises(NotFound, match="another resource group"):
        reach(LOCAL_SUBSCRIPTION, "other", "vm1", "10.0.1.9", 22, recovered)


def test_ctrl_c_waits_until_a_started_process_is_written_down(tmp_path: Path) -> None:
    written = tmp_path / "identity.json"
    found = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
    try:
        with pytest.raises(KeyboardInterrupt), whole():
            os.kill(os.getpid(), signal.SIGINT)
            written.write_text("{}")
        assert written.exists()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, found)


def test_a_process_that_cannot_be_written_down_is_ended_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        start_recorded_daemon(
            ["sleep", "600.25"],
            record=tmp_path / "file" / "identity.json",
            folder=tmp_path,
            log=tmp_path / "log",
            environment=dict(os.environ),
        )
    children = psutil.Process().children()
    assert not any(child.status() != psutil.STATUS_ZOMBIE and "600.25" in child.cmdline() for child in children)


def test_a_server_that_somebody_else_started_is_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))  # `up` makes the target's environment its own
    folders = Folders(tmp_path)
    folders.site.mkdir(parents=True)
    me = psutil.Process()
    said = {"pid": me.pid, "started_at": me.create_time(), "state": "serving", "cause": None, "remedy": None}
    (folders.site / "serve.json").write_text(json.dumps(said))
    (folders.site / "daemon.json").write_text(json.dumps({"pid": me.pid, "started": 0.0}))
    serve = next(part for part in services.status(folders) if part.name == "serve")
    assert (serve.state, serve.pid) == ("running", me.pid)
    lines: list[str] = []
    services.up_site(folders, lines.append)
    assert lines == [f"dr serve runs (pid {me.pid})"]


def test_unreadable_files_of_the_target_are_named(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders.cloud.mkdir(parents=True)
    folders.accounts.write_text("{")
    with pytest.raises(Corrupt, match=r"accounts\.json"):
        list(services.status(folders))
    folders.accounts.unlink()
    (folders.cloud / "azurite.json").write_text("")
    with pytest.raises(Corrupt, match=r"azurite\.json"):
        Azurite(folders).identity()


def test_one_up_at_a_time(tmp_path: Path) -> None:
    folders, order = Folders(tmp_path / "local"), Queue[str]()

    def second() -> None:
        with services.one_at_a_time(folders, order.put):
            order.put("second")

    with services.one_at_a_time(folders, order.put):
        other = threading.Thread(target=second)
        other.start()
        assert "waiting" in order.get(timeout=10)
        order.put("first")
    other.join(10)
    assert [order.get(timeout=1), order.get(timeout=1)] == ["first", "second"]
