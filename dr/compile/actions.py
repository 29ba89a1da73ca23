"""The actions of a plan that take part in a kind of run. Pure."""

from __future__ import annotations

from dataclasses import replace

from dr.compile import names
from dr.compile.blueprint import ActionBlueprint
from dr.model import Action, Declaration, PlanGroup, RunKind, Server, Ssh


def before(declaration: Declaration, group: PlanGroup, kind: RunKind) -> tuple[ActionBlueprint, ...]:
    """Return the actions before a group that a run of this kind does, in order."""
    return tuple(_action(declaration, action) for action in group.before if kind in action.runs)


def after(declaration: Declaration, group: PlanGroup, kind: RunKind) -> tuple[ActionBlueprint, ...]:
    """Return the actions after a group that a run of this kind does, in order."""
    return tuple(_action(declaration, action) for action in group.after if kind in action.runs)


def login_there(server: Server, port: int) -> Ssh:
    """Return how a recovered server is logged in to: its own user and keys, without what stood at the site."""
    return replace(server.ssh, address=server.target.address, port=port, jump=None)


def _action(declaration: Declaration, action: Action) -> ActionBlueprint:
    server = None if action.server is None else declaration.servers[action.server]
    return ActionBlueprint(
        name=names.action(action.name),
        step=action.name,
        kind=action.kind.value,
        timeout_seconds=action.timeout_seconds,
        retries=action.retries,
        command=action.command,
        server=None if server is None else server.name,
        virtual_machine=None if server is None else names.virtual_machine(server.target.name),
        address=None if server is None else server.target.address,
        port=action.port if server is not None else None,
        ssh=None if server is None else login_there(server, action.port),
        url=action.url,
        url_from=action.url_from,
        instructions=action.instructions,
    )
