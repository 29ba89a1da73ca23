"""`RecoveryPoint` of a server in a replication group: chosen with the others, whoever joins the group later."""

from __future__ import annotations

from pathlib import Path

from dr.provider.recovery_point import RecoveryPoint
from tests.provider.worlds import SUBSCRIPTION, Surroundings
from tests.vault.test_points import put
from tests.vault.test_shared import MEMBERS, whole

GROUP = {"name": "shop", "members": list(MEMBERS)}


def inputs(server: str, selector: str = "latest-group") -> dict[str, object]:
    return {
        "subscription": SUBSCRIPTION,
        "account": "vault",
        "server": server,
        "plan": "shop",
        "run": "r1",
        "selector": selector,
        "replicationGroup": GROUP,
    }


def test_all_members_get_their_parts_of_one_point_and_keep_them(tmp_path: Path) -> None:
    around = Surroundings(tmp_path)
    kind = RecoveryPoint(around.world)
    put(around.store, *whole(1, 1))
    assert kind.preview(inputs("db1"))["pointId"] == "db1-1-1"
    assert list(around.store.list("runs")) == []
    first_id, first = kind.create(inputs("db1"), around.session)
    put(around.store, *whole(2, 2))
    assert kind.preview(inputs("web1"))["pointId"] == "web1-1-1"
    made = {server: kind.create(inputs(server), around.session) for server in MEMBERS}
    assert [made[server][0] for server in MEMBERS] == [f"{server}-1-1" for server in MEMBERS]

    # Another group in the declaration is no reason to choose again.
    assert kind.check({**inputs("db1"), "replicationGroup": None}) == []
    alone = {name: value for name, value in inputs("db1").items() if name != "replicationGroup"}
    assert kind.in_place == {"replicationGroup"}
    after = kind.update(first_id, first, alone, around.session)
    assert after == {name: value for name, value in first.items() if name != "replicationGroup"}

    for server in MEMBERS:
        kind.delete(*made[server], around.session)
    assert list(around.store.list("runs")) == []
