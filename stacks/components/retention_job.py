"""The one identity that may delete history, and the job in Azure that runs under it; nothing of the site can."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi_azure_native import app, managedidentity, resources

from dr.compile.blueprint import VaultBlueprint
from stacks.options import kept

EVERY_TEN_MINUTES = "*/10 * * * *"
LONGEST_SECONDS = 1800


def retention_identity(
    blueprint: VaultBlueprint, group: resources.ResourceGroup, *, ending: bool
) -> managedidentity.UserAssignedIdentity:
    """Declare the identity."""
    return managedidentity.UserAssignedIdentity(
        blueprint.retention_identity,
        resource_name_=blueprint.retention_identity,
        resource_group_name=group.name,
        location=blueprint.location,
        tags=dict(blueprint.tags),
        opts=kept(ending=ending),
    )


def retention_job(
    blueprint: VaultBlueprint,
    group: resources.ResourceGroup,
    identity: managedidentity.UserAssignedIdentity,
    subnet_id: pulumi.Input[str] | None,
    *,
    after: Sequence[pulumi.Resource],
    ending: bool,
) -> app.Job:
    """Declare the environment and the job: `dr retention`, one pass every ten minutes, one at a time."""
    environment = app.ManagedEnvironment(
        blueprint.retention_environment,
        environment_name=blueprint.retention_environment,
        resource_group_name=group.name,
        location=blueprint.location,
        vnet_configuration=None
        if subnet_id is None
        else app.VnetConfigurationArgs(internal=True, infrastructure_subnet_id=subnet_id),
        workload_profiles=[app.WorkloadProfileArgs(name="Consumption", workload_profile_type="Consumption")],
        zone_redundant=False,
        tags=dict(blueprint.tags),
        opts=kept(ending=ending),
    )
    image = blueprint.identities.retention_image
    registry = image.split("/")[0]
    return app.Job(
        blueprint.retention_job,
        job_name=blueprint.retention_job,
        resource_group_name=group.name,
        location=blueprint.location,
        environment_id=environment.id,
        identity=app.ManagedServiceIdentityArgs(type="UserAssigned", user_assigned_identities=[identity.id]),
        workload_profile_name="Consumption",
        configuration=app.JobConfigurationArgs(
            trigger_type="Schedule",
            replica_timeout=LONGEST_SECONDS,
            replica_retry_limit=0,  # the next pass decides from what is there
            schedule_trigger_config=app.JobConfigurationScheduleTriggerConfigArgs(
                cron_expression=EVERY_TEN_MINUTES, parallelism=1, replica_completion_count=1
            ),
            registries=[app.RegistryCredentialsArgs(server=registry, identity=identity.id)]
            if registry.endswith(".azurecr.io")
            else None,
        ),
        template=app.JobTemplateArgs(
            containers=[
                app.ContainerArgs(
                    name="retention",
                    image=image,
                    args=["retention", "--account", blueprint.storage_account, "--json"],
                    env=[app.EnvironmentVarArgs(name="AZURE_CLIENT_ID", value=identity.client_id)],
                    resources=app.ContainerResourcesArgs(cpu=0.25, memory="0.5Gi"),
                )
            ]
        ),
        tags=dict(blueprint.tags),
        opts=kept(after=after, ending=ending),
    )
