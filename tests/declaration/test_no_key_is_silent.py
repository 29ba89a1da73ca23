"""Every key does something: another value of it compiles to something else, or the key is known to wait.

So no key can be declared, checked, kept and forgotten, and none that is acted upon can go on being reported as waiting.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from dr.compile import actions, failover, site, vault
from dr.model import RunKind
from dr.schema.build import build
from dr.schema.definition import KINDS
from dr.schema.definition.words import Schema, every_key
from dr.schema.document import Document
from dr.schema.shape import prepare
from dr.schema.thing import Estate, Thing
from dr.schema.waiting import WAITING
from tests.declaration.test_whole import by_express_route, whole

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
# A key that is acted upon without being compiled, and by what.
ELSEWHERE = {
    "ReplicationPolicy.name": "it only refers: what the policy says is compiled",
    "Server.policy": "as above",
    "Site.subscription": "stacks of target azure are tied to it",
    "Site.target": "commands that are told no target ask for it",
}
# Another value that is as good, where the key's shape doesn't tell one.
OTHER: dict[str, Any] = {
    "Site.location": "northeurope",
    "Site.subscription": "22222222-2222-3333-4444-555555555555",
    "Site.privateDnsZone": "shop.example.net",
    "Site.gateway.vpn.sku": "VpnGw3AZ",
    "Site.gateway.expressRoute.sku": "ErGw3AZ",
    "Site.budget.starts": "2027-02",
    "Site.alerts[]": "on-call@example.org",
    "ReplicationPolicy.traffic.bandwidth": "2Gbit/s",
    "ReplicationPolicy.traffic.windows[].bandwidth": "5Mbit/s",
    "ReplicationPolicy.traffic.windows[].days": ["sun"],
    "ReplicationPolicy.traffic.windows[].from": "05:45",
    "ReplicationPolicy.traffic.windows[].to": "05:15",
    "Server.ssh.hostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICE",
    "Server.target.tags": {"service": "web"},
    "Server.target.size": "Standard_D4s_v5",
    "RecoveryPlan.groups[].servers": ["db1"],
    "RecoveryPlan.groups[].checks[].server": "db1",
    "RecoveryPlan.groups[].after[].command.server": "db2",
    "RecoveryPlan.groups[].after[].runs": ["planned-failover"],
}
LEAVES = {
    f"{kind}.{key}": shape
    for kind in KINDS
    for key, shape, _ in every_key(KINDS[kind])
    if key != "kind"
    and "properties" not in shape
    and "properties" not in shape.get("items", {})
    # Actions before and after a group are one definition: `places` finds the uses of both.
    and "[].before[]." not in key
}


def documents(files: dict[str, bytes]) -> list[dict[str, Any]]:
    return [document for text in files.values() for document in yaml.safe_load_all(text)]


ESTATES = (documents(whole()), documents(by_express_route()))


def compiled(data: list[dict[str, Any]]) -> tuple[object, ...]:
    """Return all that is made of the documents, the actions of every kind of run among it."""
    things = []
    for each in copy.deepcopy(data):
        document = Document("test.yaml", each)
        findings = prepare(document, each["kind"], KINDS[each["kind"]])
        assert findings == [], "the other value is refused: name one in OTHER"
        things.append(Thing(each["kind"], each["name"], document))
    declaration = build(Estate(tuple(things), {}, frozenset()))
    (plan,) = declaration.plans
    run = failover(declaration, plan, "r1", "latest", SUBSCRIPTION)
    acting = [
        (actions.before(declaration, group, kind), actions.after(declaration, group, kind))
        for group in declaration.plans[plan].groups
        for kind in RunKind
    ]
    return vault(declaration, SUBSCRIPTION), site(declaration, SUBSCRIPTION), run, acting


BEFORE = tuple(compiled(data) for data in ESTATES)


def waits(key: str) -> bool:
    return any(key == waiting or key.startswith((f"{waiting}.", f"{waiting}[")) for waiting in WAITING)


@pytest.mark.parametrize("key", sorted(key for key in LEAVES if not waits(key)))
def test_another_value_compiles_to_something_else(key: str) -> None:
    changed = []
    for before, data in zip(BEFORE, ESTATES, strict=True):
        for number, steps, value in places(data, key):
            other = another(key, LEAVES[key], value)
            changed.append(compiled(with_value(data, number, steps, value, other)) != before)
    assert changed, "the estates of test_whole don't use this key"
    if key in ELSEWHERE:
        assert not any(changed), f"{key} is compiled now: take it out of ELSEWHERE"
    else:
        assert any(changed), f"nothing comes of {key}: act upon it, or name it in dr/schema/waiting.py"


@pytest.mark.parametrize("key", sorted(WAITING))
def test_without_a_key_that_waits_the_same_is_compiled(key: str) -> None:
    for before, data in zip(BEFORE, ESTATES, strict=True):
        without = copy.deepcopy(data)
        for number, steps, _ in places(data, key):
            parent: Any = without[number]
            for step in steps[:-1]:
                parent = parent[step]
            del parent[steps[-1]]
        assert without != data, "the estates of test_whole don't use this key"
        assert compiled(without) == before, f"{key} is acted upon now: take its line out of dr/schema/waiting.py"


Steps = tuple[str | int, ...]


def places(data: list[dict[str, Any]], key: str) -> Iterator[tuple[int, Steps, Any]]:
    """Yield the document, the way in it and the value of each place that has a key."""
    kind, _, path = key.partition(".")
    paths = dict.fromkeys((path, path.replace("[].after[].", "[].before[].")))
    for number, document in enumerate(data):
        if document["kind"] == kind:
            for one in paths:
                yield from ((number, steps, value) for steps, value in found(document, one.split(".")))


def found(data: Any, names: list[str], steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Yield each place of a key and its value; one of the three places of a secret stands for the others."""
    name, *rest = names
    key, lists = name.rstrip("[]"), name.count("[]")
    if key in ("env", "file", "keyStore") and not rest:
        yield steps, data
        return
    if key not in data:
        return
    values = [((*steps, key), data[key])]
    for _ in range(lists):
        values = [((*at, index), item) for at, value in values for index, item in enumerate(value)]
    for at, value in values:
        if rest:
            yield from found(value, rest, at)
        else:
            yield at, value


def another(key: str, shape: Schema, value: Any) -> Any:
    last = key.rpartition(".")[2]
    if key in OTHER:
        return OTHER[key]
    if last in ("env", "file", "keyStore"):
        return {last: "another"}
    if "enum" in shape:
        return next(choice for choice in shape["enum"] if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1 if value < shape["maximum"] else value - 1
    if isinstance(value, list):
        return [another(key, shape["items"], value[0]), *value[1:]]
    if "x-atLeast" in shape:
        return next(bound for bound in (shape["x-atMost"], shape["x-atLeast"]) if bound != value)
    octets = re.fullmatch(r"([0-9.]+\.)([0-9]+)(/[0-9]+)?", value)
    return f"{octets[1]}{int(octets[2]) ^ 64}{octets[3] or ''}" if octets else f"{value}x"


def with_value(data: list[dict[str, Any]], number: int, steps: Steps, old: Any, new: Any) -> list[dict[str, Any]]:
    """Return a copy with one value changed; a name is changed wherever it is referred to."""
    data = copy.deepcopy(data)
    parent: Any = data[number]
    for step in steps[:-1]:
        parent = parent[step]
    parent[steps[-1]] = new
    return renamed(data, old, new) if steps[-1] in ("name", "policy") else data


def renamed(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key: renamed(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, old, new) for inner in value]
    return new if value == old else value


def test_what_acts_elsewhere_and_what_waits_are_keys() -> None:
    assert set(ELSEWHERE) <= set(LEAVES)
    assert not set(ELSEWHERE) & set(WAITING)
