"""The shape of a ReplicationPolicy; bounds and defaults are Azure Site Recovery's."""

from __future__ import annotations

from dr.model import FAILBACK_SUFFIX
from dr.schema.definition.words import SERVER_NAME_LENGTH, document, duration, name, refused

POLICY = document(
    "ReplicationPolicy",
    "How often recovery points are made and how long they are kept. Each policy has a read-only one for the way home,"
    " `NAME-failback`, which is made by itself and never declared: RPO threshold 15 min, retention 24 h,"
    " application-consistent every 60 min; it is not used until failback.",
    name(
        "Name of the policy; servers refer to it.",
        SERVER_NAME_LENGTH,
        **{
            "x-refused": [
                refused(
                    f"{FAILBACK_SUFFIX}$",
                    f"can't be declared: names that end with {FAILBACK_SUFFIX} are those of the policies for failback,"
                    " which are made by themselves; choose another name",
                )
            ]
        },
    ),
    {
        "rpoThreshold": duration(
            "A server whose newest recovery point is older than this is reported; it changes nothing in replication.",
            "1m",
            "24h",
            "60m",
        ),
        "retention": duration(
            "How long recovery points are kept. `0d` keeps none: failover is to the latest state only.",
            "0d",
            "15d",
            "24h",
        ),
        "crashConsistentEvery": duration("Time between crash-consistent recovery points.", "1m", "60m", "5m"),
        "appConsistentEvery": duration(
            "Time between application-consistent recovery points, less than `retention`; left out, there are none.",
            "1h",
            "12h",
        ),
    },
    [],
)
