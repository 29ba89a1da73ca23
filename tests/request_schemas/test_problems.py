"""The assertion itself, by breaking what it asserts: in Azure's own models, and in small ones of both styles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.request_schemas.models import Models, Sources
from tests.request_schemas.operations import Request
from tests.request_schemas.problems import problems
from tests.request_schemas.programs import PROGRAMS, registered
from tests.request_schemas.releases import request_of

ACCOUNT = {
    "accountName": "stlbharbour",
    "resourceGroupName": "rg",
    "location": "westeurope",
    "kind": "StorageV2",
    "sku": {"name": "Standard_LRS"},
    "enableHttpsTrafficOnly": True,
    "networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"iPAddressOrRange": "203.0.113.0/24", "action": "Allow"}]},
}
MACHINE = {
    "vmName": "web1",
    "resourceGroupName": "rg",
    "location": "westeurope",
    "hardwareProfile": {"vmSize": "Standard_Made_Up_v9"},
    "storageProfile": {"dataDisks": [{"lun": 0, "createOption": "Attach", "managedDisk": {"id": "/disk"}}]},
    "extensionsTimeBudget": "PT90M",
}
BUDGET = {
    "scope": "/subscriptions/x",
    "budgetName": "b",
    "amount": 500,
    "category": "Cost",
    "timeGrain": "Monthly",
    "timePeriod": {"startDate": "2026-12-01T00:00:00Z"},
    "notifications": {"n": {"enabled": True, "operator": "GreaterThan", "threshold": 80, "contactEmails": ["a@b.c"]}},
}
WELL: dict[str, dict[str, Any]] = {
    "storage:StorageAccount": ACCOUNT,
    "compute:VirtualMachine": MACHINE,
    "consumption:Budget": BUDGET,
}

# type, what is planted where (None: taken away), the path and the reason that must be told
PLANTED: list[tuple[str, dict[str, Any], str, str]] = [
    ("storage:StorageAccount", {"enableHttpTrafficOnly": True}, "enableHttpTrafficOnly", "has no property"),
    ("storage:StorageAccount", {"networkRuleSet.ipRules.0.cidr": "x"}, "networkRuleSet.ipRules[0].cidr", "no property"),
    ("storage:StorageAccount", {"sku": None}, "sku", "is required"),
    ("storage:StorageAccount", {"sku.name": None}, "sku.name", "is required"),
    ("storage:StorageAccount", {"accountName": None}, "accountName", "is required"),
    ("storage:StorageAccount", {"sku.tier": "Standard"}, "sku.tier", "is read-only"),
    ("storage:StorageAccount", {"enableHttpsTrafficOnly": "true"}, "enableHttpsTrafficOnly", "is not a boolean"),
    ("storage:StorageAccount", {"kind": "StorageV3"}, "kind", "is not one of Storage, StorageV2"),
    ("storage:StorageAccount", {"accountName": "st-lb"}, "accountName", "does not match"),
    ("storage:StorageAccount", {"accountName": "st" * 20}, "accountName", "is outside 3 to 24"),
    ("storage:StorageAccount", {"tags": {"site": 1}}, "tags.site", "is not a string"),
    ("storage:StorageAccount", {"networkRuleSet.ipRules": {}}, "networkRuleSet.ipRules", "is not a list"),
    ("compute:VirtualMachine", {"vmId": "x"}, "vmId", "is read-only"),
    ("compute:VirtualMachine", {"instanceView": {}}, "instanceView", "is read-only"),
    (
        "compute:VirtualMachine",
        {"storageProfile.dataDisks.0.lun": "0"},
        "storageProfile.dataDisks[0].lun",
        "an integer",
    ),
    ("compute:VirtualMachine", {"storageProfile.dataDisks.0.lun": None}, "storageProfile.dataDisks[0].lun", "required"),
    ("compute:VirtualMachine", {"storageProfile.dataDisks.0.createOption": "Import"}, "", "is not one of"),
    ("compute:VirtualMachine", {"storageProfile": ["x"]}, "storageProfile", "is not an object"),
    ("compute:VirtualMachine", {"extensionsTimeBudget": 90}, "extensionsTimeBudget", "is not a string"),
    ("consumption:Budget", {"currentSpend": {}}, "currentSpend", "is read-only"),
    ("consumption:Budget", {"amount": "500"}, "amount", "is not a number"),
    ("consumption:Budget", {"amount": None}, "amount", "is required"),
    ("consumption:Budget", {"timePeriod.startDate": "soon"}, "timePeriod.startDate", "is not a time"),
    ("consumption:Budget", {"timePeriod.startDate": None}, "timePeriod.startDate", "is required"),
    ("consumption:Budget", {"timePeriod.until": "x"}, "timePeriod.until", "has no property"),
    ("consumption:Budget", {"notifications.n.enabled": "yes"}, "notifications.n.enabled", "is not a boolean"),
    ("consumption:Budget", {"timeGrain": "Weekly"}, "timeGrain", "is not one of"),
]


@pytest.mark.parametrize("token", WELL)
def test_what_is_well_passes(token: str) -> None:
    assert problems(request_of(f"azure-native:{token}"), WELL[token]) == []


@pytest.mark.parametrize(("token", "planted", "path", "reason"), PLANTED, ids=lambda value: str(value)[:60])
def test_what_is_planted_is_found(token: str, planted: dict[str, Any], path: str, reason: str) -> None:
    inputs = deepcopy(WELL[token])
    for place, value in planted.items():
        put(inputs, place.split("."), value)
    found = problems(request_of(f"azure-native:{token}"), inputs)
    assert [one for one in found if (not path or one.path == path) and reason in one.reason], found
    assert len(found) == 1


def test_an_unknown_type_is_told_apart_from_a_well_one() -> None:
    with pytest.raises(LookupError, match="add its line"):
        request_of("azure-native:network:Firewall")


def put(inputs: Any, place: list[str], value: Any) -> None:
    first, *rest = place
    key: Any = int(first) if isinstance(inputs, list) else first
    if rest:
        put(inputs[key], rest, value)
    elif value is None:
        del inputs[key]
    else:
        inputs[key] = value


@pytest.mark.thorough
@pytest.mark.parametrize("purpose", PROGRAMS)
def test_nothing_that_a_program_says_escapes(purpose: str) -> None:
    """Spoil every value that the full estate's program registers, one after the other: each must be noticed."""
    spoilt = 0
    for token, name, inputs in registered(purpose, "full"):
        request = request_of(token)
        for place, wrong in spoil(inputs):
            assert problems(request, wrong), f"{token} {name}: {place} was spoilt, and nobody noticed"
            spoilt += 1
    assert spoilt > 50


def spoil(inputs: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield copies of inputs with one thing wrong: a value of another type, or a property that nobody knows."""
    for place in places(inputs, []):
        copy = deepcopy(dict(inputs))
        value: Any = copy
        for key in place:
            value = value[key]
        if isinstance(value, Mapping):
            wrong: Any = {**value, "nobodyKnowsThis": [{}]}
        else:
            wrong = {} if isinstance(value, list) else [[value]]
        put(copy, [str(key) for key in place], wrong)
        yield ".".join(map(str, place)), copy


def places(value: Any, before: list[Any]) -> Iterator[list[Any]]:
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield [*before, key]
        yield from places(part, [*before, key])


MSREST = """
class Action(Model):
    _validation = {"kind": {"required": True}}
    _attribute_map = {"kind": {"key": "kind", "type": "str"}}
    _subtype_map = {"kind": {"mail": "Mail", "call": "Call"}}
    def __init__(self, **kwargs: Any) -> None: ...
class Mail(Action):
    _validation = {"kind": {"required": True}, "to": {"required": True}}
    _attribute_map = {"kind": {"key": "kind", "type": "str"}, "to": {"key": "odata\\\\.to", "type": "[str]"}}
    def __init__(self, *, to: List[str], **kwargs: Any) -> None: ...
class Call(Action):
    _validation = {"kind": {"required": True}, "number": {"required": True, "maximum": 9, "minimum": 1}}
    _attribute_map = {"kind": {"key": "kind", "type": "str"}, "number": {"key": "number", "type": "int"}}
    def __init__(self, *, number: int, **kwargs: Any) -> None: ...
class Alarm(Model):
    _attribute_map = {"first_action": {"key": "properties.firstAction", "type": "Action"}}
    def __init__(self, *, first_action: Optional["_models.Action"] = None, **kwargs: Any) -> None: ...
"""
TYPESPEC = """
class Action(_Model):
    kind: str = rest_discriminator(name="kind", visibility=["read", "create"])
class Mail(Action, discriminator="mail"):
    kind: Literal[ActionKind.MAIL] = rest_discriminator(name="kind", visibility=["read", "create"])
    to: list[str] = rest_field(name="odata.to", visibility=["read", "create"])
class Call(
    Action, discriminator="call"
):
    kind: Literal[ActionKind.CALL] = rest_discriminator(name="kind", visibility=["read", "create"])
    number: int = rest_field(visibility=["read", "create", "update"])
class ActionKind(str, Enum, metaclass=CaseInsensitiveEnumMeta):
    MAIL = "mail"
    CALL = "call"
class AlarmProperties(_Model):
    first_action: Optional["_models.Action"] = rest_field(name="firstAction", visibility=["read", "create"])
class Alarm(_Model):
    properties: Optional["_models.AlarmProperties"] = rest_field(visibility=["read", "create"])
    __flattened_items = ["first_action"]
"""


@pytest.mark.parametrize("style", [MSREST, TYPESPEC], ids=["msrest", "typespec"])
def test_the_kind_of_a_union_decides_what_belongs_in_it(tmp_path: Path, style: str) -> None:
    (tmp_path / "_models.py").write_text(style)
    models = Models(Sources(tmp_path))
    request = Request("2026-01-01", (), models.model("Alarm"), models)

    def reasons(action: dict[str, Any]) -> list[str]:
        return [f"{one.path}: {one.reason}" for one in problems(request, {"firstAction": action})]

    assert reasons({"kind": "mail", "odata.to": ["a"]}) == []
    assert reasons({"kind": "call", "number": 7}) == []
    assert reasons({"kind": "call", "number": 7, "odata.to": ["a"]}) == [
        'firstAction.odata.to: Call has no property "odata.to"'
    ]
    assert reasons({"kind": "mail"}) == ['firstAction.odata.to: "odata.to" of Mail is required']
    assert reasons({"kind": "fax"}) == ["firstAction.kind: 'fax' is not one of mail, call"]
    assert reasons({}) == ['firstAction.kind: "kind" of Action is required']
