"""Who is told and where logs go: records. Nobody is told of what happens on this machine."""

from __future__ import annotations

from datetime import UTC, datetime

from dr.local.standin.kinds import Cloud, Extension, Judged, Values, azure_error, existing
from dr.local.standin.private_zones import refuse_region
from dr.local.standin.records import Record

_INSIGHTS = "/resourceGroups/{resourceGroupName}/providers/Microsoft.Insights"
SHORT_NAME_LENGTH = 12
NOTICES_MOST = 5


class ActionGroup(Judged):
    resource_type = "azure-native:monitor:ActionGroup"
    arm_type = "Microsoft.Insights/actionGroups"
    path = f"{_INSIGHTS}/actionGroups/{{actionGroupName}}"
    name_input = "actionGroupName"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        short = str(inputs["groupShortName"])
        if not 1 <= len(short) <= SHORT_NAME_LENGTH:
            raise azure_error(
                "InvalidParameter", f'groupShortName "{short}" has more than {SHORT_NAME_LENGTH} characters'
            )
        names = [str(receiver["name"]) for receiver in inputs.get("emailReceivers") or []]
        if len(set(names)) != len(names):
            raise azure_error("InvalidParameter", f"two receivers of {resource_id} have one name")


class ActivityLogAlert(Judged):
    resource_type = "azure-native:monitor:ActivityLogAlert"
    arm_type = "Microsoft.Insights/activityLogAlerts"
    path = f"{_INSIGHTS}/activityLogAlerts/{{activityLogAlertName}}"
    name_input = "activityLogAlertName"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        refuse_region(resource_id, inputs)
        fields = {condition.get("field") for condition in inputs["condition"]["allOf"]}
        if "category" not in fields:
            raise azure_error("InvalidParameter", f"the condition of {resource_id} names no category")
        for action in inputs["actions"].get("actionGroups") or []:
            existing(cloud, str(action["actionGroupId"]), ActionGroup.resource_type, resource_id)


class Workspace(Judged):
    resource_type = "azure-native:operationalinsights:Workspace"
    arm_type = "Microsoft.OperationalInsights/workspaces"
    path = "/resourceGroups/{resourceGroupName}/providers/Microsoft.OperationalInsights/workspaces/{workspaceName}"
    name_input = "workspaceName"
    name_pattern = r"[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        days = int(inputs.get("retentionInDays") or 30)
        if not 30 <= days <= 730:
            raise azure_error("InvalidParameter", f"retentionInDays {days} of {resource_id} is not in 30..730")


class DiagnosticSetting(Extension, Judged):
    resource_type = "azure-native:monitor:DiagnosticSetting"
    arm_type = "Microsoft.Insights/diagnosticSettings"
    path = "/{resourceUri}/providers/Microsoft.Insights/diagnosticSettings/{name}"
    name_input = "name"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        if not inputs.get("logs") and not inputs.get("metrics"):
            raise azure_error("InvalidParameter", f"{resource_id} sends neither logs nor metrics")
        if not inputs.get("workspaceId"):
            raise azure_error("InvalidParameter", f"{resource_id} sends to nowhere")
        existing(cloud, str(inputs["workspaceId"]), Workspace.resource_type, resource_id)


class Budget(Extension):
    resource_type = "azure-native:consumption:Budget"
    arm_type = "Microsoft.Consumption/budgets"
    path = "/{scope}/providers/Microsoft.Consumption/budgets/{budgetName}"
    name_input = "budgetName"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        start = str(inputs["timePeriod"]["startDate"])
        first = datetime.now(UTC).strftime("%Y-%m-01")
        if start[8:10] != "01":
            raise azure_error("400", f"the start date of {resource_id} has to be the first of a month")
        if inputs["timeGrain"] == "Monthly" and start[:10] < first:
            raise azure_error(
                "400",
                f"the start date {start[:10]} of {resource_id} lies before the current month",
                remedy=f"declare a month from {first[:7]} on",
            )
        self._refuse_notices(cloud, resource_id, inputs)

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        if inputs["timePeriod"]["startDate"] != record.inputs["timePeriod"]["startDate"]:
            raise azure_error("400", "start date of budgets cannot be updated. Please delete and create a new budget.")
        self._refuse_notices(cloud, record.id, inputs)

    def _refuse_notices(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        notices = inputs.get("notifications") or {}
        if len(notices) > NOTICES_MOST:
            raise azure_error("400", f"{resource_id} has more than {NOTICES_MOST} notifications")
        for name, notice in notices.items():
            told = [*notice["contactEmails"], *(notice.get("contactGroups") or []), *(notice.get("contactRoles") or [])]
            if not told:
                raise azure_error("400", f"notification {name} of {resource_id} tells nobody")
            for group in notice.get("contactGroups") or []:
                existing(cloud, str(group), ActionGroup.resource_type, resource_id)
