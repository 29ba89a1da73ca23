"""Who is told when something happens to the landing zone or to the vault, and where the logs go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_azure_native import monitor, operationalinsights

from dr.compile.zone_blueprint import AlertBlueprint, WatchBlueprint
from stacks.components.setting import Setting
from stacks.options import named

GLOBAL = "global"
SHORT_NAME = "lifeboat"  # what a message is signed with; Azure allows 12 characters
LOGS_KEPT_DAYS = 90


@dataclass(frozen=True, slots=True)
class Logged:
    """A resource whose logs are kept, and whether it has metrics too."""

    resource: pulumi.CustomResource
    metrics: bool = True


class Watch(pulumi.ComponentResource):
    """Action group, alerts on the activity log, workspace, and one diagnostic setting for each of `logged`."""

    def __init__(self, name: str, *, blueprint: WatchBlueprint, setting: Setting, logged: Mapping[str, Logged]):
        super().__init__("lifeboat:site:Watch", name)
        self.action_group = self._action_group(blueprint, setting)
        for alert in blueprint.alerts:
            self._alert(alert, setting)
        workspace = operationalinsights.Workspace(
            blueprint.workspace,
            workspace_name=blueprint.workspace,
            resource_group_name=setting.group.name,
            location=setting.location,
            sku=operationalinsights.WorkspaceSkuArgs(name="PerGB2018"),
            retention_in_days=LOGS_KEPT_DAYS,
            features=operationalinsights.WorkspaceFeaturesArgs(disable_local_auth=True),
            tags=dict(setting.tags),
            opts=named(parent=self),
        )
        for label, one in logged.items():
            self._diagnostics(label, one, workspace)
        self.register_outputs({})

    def _action_group(self, blueprint: WatchBlueprint, setting: Setting) -> monitor.ActionGroup:
        return monitor.ActionGroup(
            blueprint.action_group,
            action_group_name=blueprint.action_group,
            resource_group_name=setting.group.name,
            location=GLOBAL,
            group_short_name=SHORT_NAME,
            enabled=True,
            email_receivers=[
                monitor.MicrosoftCommonEmailReceiverArgs(
                    name=address, email_address=address, use_common_alert_schema=True
                )
                for address in blueprint.addresses
            ],
            tags=dict(setting.tags),
            opts=named(parent=self),
        )

    def _alert(self, alert: AlertBlueprint, setting: Setting) -> None:
        conditions = [monitor.AlertRuleAnyOfOrLeafConditionArgs(field="category", equals=alert.category)]
        if alert.operations:
            conditions.append(
                monitor.AlertRuleAnyOfOrLeafConditionArgs(
                    any_of=[
                        monitor.AlertRuleLeafConditionArgs(field="operationName", equals=operation)
                        for operation in alert.operations
                    ]
                )
            )
        monitor.ActivityLogAlert(
            alert.name,
            activity_log_alert_name=alert.name,
            resource_group_name=setting.group.name,
            location=GLOBAL,
            description=alert.description,
            enabled=True,
            scopes=[setting.id(alert.scope)],
            condition=monitor.AlertRuleAllOfConditionArgs(all_of=conditions),
            actions=monitor.ActionListArgs(
                action_groups=[monitor.ActionGroupArgs(action_group_id=self.action_group.id)]
            ),
            tags=dict(setting.tags),
            opts=named(parent=self),
        )

    def _diagnostics(self, label: str, one: Logged, workspace: operationalinsights.Workspace) -> None:
        metrics = [monitor.DiagnosticsMetricSettingsArgs(category="AllMetrics", enabled=True)] if one.metrics else None
        monitor.DiagnosticSetting(
            f"logs-of-{label}",
            name="lifeboat",
            resource_uri=one.resource.id,
            workspace_id=workspace.id,
            logs=[monitor.DiagnosticsLogSettingsArgs(category_group="allLogs", enabled=True)],
            metrics=metrics,
            opts=named(parent=self),
        )
