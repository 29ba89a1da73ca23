"""A budget on the site's resource group: a forgotten gateway or reservation is told, not found on the bill."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import consumption, monitor

from dr.compile.zone_blueprint import BudgetBlueprint
from stacks.components.setting import Setting
from stacks.options import named

# (key, percent of the amount, what has come so far or what Azure expects of the month)
NOTICES = (("actual-80", 80, "Actual"), ("actual-100", 100, "Actual"), ("forecast-100", 100, "Forecasted"))


class Spending(pulumi.ComponentResource):
    """A monthly budget. Without an action group its notices go to the owners of the subscription."""

    def __init__(
        self, name: str, *, blueprint: BudgetBlueprint, setting: Setting, action_group: monitor.ActionGroup | None
    ):
        super().__init__("lifeboat:site:Spending", name)
        consumption.Budget(
            blueprint.name,
            budget_name=blueprint.name,
            scope=setting.group.id,
            category="Cost",
            time_grain="Monthly",
            amount=blueprint.monthly_amount,
            time_period=consumption.BudgetTimePeriodArgs(start_date=blueprint.starts),
            notifications={
                key: consumption.NotificationArgs(
                    enabled=True,
                    operator="GreaterThanOrEqualTo",
                    threshold=percent,
                    threshold_type=kind,
                    contact_emails=[],
                    contact_groups=None if action_group is None else [action_group.id],
                    contact_roles=["Owner"] if action_group is None else None,
                )
                for key, percent, kind in NOTICES
            },
            opts=named(parent=self, replaced_by=["timePeriod.startDate"]),
        )
        self.register_outputs({})
