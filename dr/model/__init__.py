"""The declaration as frozen data: what a person wrote, checked and completed with defaults.

Built only by `dr.schema`; pure; no choice of names or addresses in Azure is made here (that is `dr.compile`).
Durations are whole seconds, sizes bytes, addresses strings that `dr.schema` has checked.
"""

from dr.model.declaration import (
    ConfigurationServer,
    Declaration,
    Disk,
    Firmware,
    HealthCheck,
    Network,
    PlanGroup,
    ProcessServer,
    RecoveryPlan,
    ReplicationPolicy,
    Server,
    Site,
    Ssh,
    Subnet,
    Target,
)

__all__ = [
    "ConfigurationServer",
    "Declaration",
    "Disk",
    "Firmware",
    "HealthCheck",
    "Network",
    "PlanGroup",
    "ProcessServer",
    "RecoveryPlan",
    "ReplicationPolicy",
    "Server",
    "Site",
    "Ssh",
    "Subnet",
    "Target",
]
