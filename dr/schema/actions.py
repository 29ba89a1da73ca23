"""Checks of a plan's actions: names, and servers that don't run by then. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dr.schema.document import Path
from dr.schema.findings import Finding, quoted, unknown
from dr.schema.plans import closed_port
from dr.schema.thing import Data, Estate, Thing, items, names


def check_actions(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with the actions of recovery plans beyond their shape."""
    for plan in estate.of("RecoveryPlan"):
        seen: dict[str, Path] = {}
        for path, action in _actions(plan):
            name = action.get("name")
            if name in seen:
                place = plan.where((*seen[name], "name"))
                yield plan.finding(
                    (*path, "name"),
                    f"action {quoted(name)} is declared twice (first at {place}); give one another name",
                )
            elif isinstance(name, str):
                seen[name] = path
            yield from _check_server(estate, plan, path, action)
            if isinstance(action.get("manual"), dict) and action.get("retries"):
                message = "a manual action isn't tried again, a person does it; leave retries out"
                yield plan.finding((*path, "retries"), message)


def _actions(plan: Thing) -> Iterator[tuple[Path, Data]]:
    for group_index, group in items(plan.data.get("groups")):
        for when in ("before", "after"):
            for index, action in items(group.get(when)):
                yield ("groups", group_index, when, index), action


def _check_server(estate: Estate, plan: Thing, path: Path, action: Data) -> Iterator[Finding]:
    """Yield a command on a server that is not recovered yet at this place of the plan, or not at all."""
    command = action.get("command")
    server = command.get("server") if isinstance(command, dict) else None
    if not isinstance(server, str):
        return
    where, listed = (*path, "command", "server"), plan.listed_servers()
    if server not in listed:
        if not estate.known("Server", server):
            yield plan.finding(where, *unknown("server", server, estate.names["Server"], listed))
        elif all(estate.known("Server", name) for name in listed) and _whole(plan):
            yield plan.finding(where, f"command on {quoted(server)}, which is not in the plan; add it to a group")
        return
    group, own = int(listed[server][1]), int(path[1])
    if group > own or (group == own and path[2] == "before"):
        moment = f"{path[2]} group {own + 1}"
        late = f"the server is in group {group + 1}, which has not started by then"
        yield plan.finding(where, f"command on {quoted(server)} {moment}, but {late}; move the action behind it")
    port = command.get("port") if isinstance(command, dict) else None
    if isinstance(port, int):
        yield from closed_port(estate, plan, (*path, "command", "port"), server, port)


def _whole(plan: Thing) -> bool:
    """Return whether no server's name was refused, so that one that is not found is not there."""
    groups = plan.data.get("groups")
    listed = [group.get("servers") for _, group in items(groups)]
    return all(isinstance(one, list) and len(list(names(one))) == len(one) for one in listed)
