"""Actions of a recovery plan in the graph: in order, each after what it waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from dr.compile.blueprint import ActionBlueprint, FailoverBlueprint, RecoveredServerBlueprint
from stacks.options import named
from stacks.resources import RecoveryPoint, output, reference_properties, ssh_properties


class Action(pulumi.CustomResource):
    """One action of the plan, done once for a run and the points that it stands on."""

    def __init__(
        self,
        name: str,
        *,
        run: FailoverBlueprint,
        subscription: str,
        action: ActionBlueprint,
        group: int,
        when: str,
        servers: Sequence[Mapping[str, pulumi.Input[Any]]],
        opts: pulumi.ResourceOptions,
    ) -> None:
        properties = {
            "subscription": subscription,
            "account": run.storage_account,
            "resourceGroup": run.resource_group,
            "plan": run.plan,
            "run": run.run,
            "runKind": run.kind,
            "step": action.step,
            "kind": action.kind,
            "group": group,
            "when": when,
            "timeout": action.timeout_seconds,
            "retries": action.retries,
            "servers": list(servers),
            "command": list(action.command) or None,
            "server": action.server,
            "vmName": action.virtual_machine,
            "address": action.address,
            "port": action.port,
            "ssh": None if action.ssh is None else ssh_properties(action.ssh),
            "url": action.url,
            "urlFrom": reference_properties(action.url_from),
            "instructions": action.instructions,
            "state": None,
            "said": None,
            "attempt": None,
            "endedAt": None,
        }
        super().__init__("dr:index:Action", name, properties, opts)

    @property
    def state(self) -> pulumi.Output[str]:
        return output(self, "state")

    @property
    def said(self) -> pulumi.Output[str]:
        return output(self, "said")


@dataclass(slots=True)
class Actions:
    """Declares the actions of one run, and keeps what each of them is told: the servers up to its own group."""

    run: FailoverBlueprint
    subscription: str
    told: list[dict[str, pulumi.Input[Any]]] = field(default_factory=list)
    declared: list[tuple[int, str, ActionBlueprint, Action]] = field(default_factory=list)

    def enter(self, group: int, servers: Sequence[tuple[RecoveredServerBlueprint, RecoveryPoint]]) -> None:
        """A group comes: its servers do not run yet, those of the groups before it do."""
        self.told = [{**one, "running": True} for one in self.told]
        for server, point in servers:
            self.told.append(
                {
                    "server": server.server,
                    "group": group,
                    "vm": server.virtual_machine,
                    "address": server.address,
                    "running": False,
                    "point": point.point_id,
                    "cutTime": point.cut_time,
                    "selectedTime": point.selected_time,
                }
            )

    def chain(
        self, group: int, when: str, actions: Sequence[ActionBlueprint], after: Sequence[pulumi.Resource]
    ) -> Sequence[pulumi.Resource]:
        """Declare actions one after the other, the first after `after`; return what the next resource waits for."""
        servers = [{**one, "running": True} for one in self.told] if when == "after" else list(self.told)
        for action in actions:
            resource = Action(
                action.name,
                run=self.run,
                subscription=self.subscription,
                action=action,
                group=group,
                when=when,
                servers=servers,
                opts=named(after=after),
            )
            self.declared.append((group, when, action, resource))
            after = [resource]
        return after

    def summaries(self) -> list[pulumi.Output[Mapping[str, Any]]]:
        """Return what the stack's output tells of each action."""
        return [
            pulumi.Output.all(
                step=action.step, kind=action.kind, group=group, when=when, state=resource.state, said=resource.said
            )
            for group, when, action, resource in self.declared
        ]
