"""The shape of a ReplicationPolicy; bounds and defaults are Azure Site Recovery's."""

from __future__ import annotations

from dr.model import FAILBACK_SUFFIX
from dr.schema.definition.words import (
    SERVER_NAME_LENGTH,
    Schema,
    array,
    choice,
    document,
    duration,
    mapping,
    name,
    refused,
    text,
    truth,
)
from dr.schema.traffic import BANDWIDTH_PATTERN, DAYS, TIME_PATTERN


def _bandwidth(description: str) -> Schema:
    says = "a whole number and its unit, kbit/s, Mbit/s or Gbit/s, for example 10Mbit/s, or left out"
    return text(description, BANDWIDTH_PATTERN, says)


def _time(description: str) -> Schema:
    return text(description, TIME_PATTERN, 'a time of day in quotes, such as "08:00"')


_WINDOW = mapping(
    "A part of the week with limits of its own; the first window that holds the time counts.",
    {
        "days": array(
            "Days on which the window starts.",
            choice("A day of the week.", *DAYS),
            most=len(DAYS),
            uniqueItems=True,
            default=list(DAYS),
        ),
        "from": _time("When it starts."),
        "to": _time("When it ends; at or before `from`: on the next day."),
        "bandwidth": _bandwidth("What replication may use in it, each server for itself; left out, all there is."),
        "resync": truth(
            "`false`: a resync waits for the window's end, with its name in the status; changes are tracked meanwhile,"
            " and there is no new recovery point. One that was asked for by `dr resync` does not wait.",
            default=True,
        ),
    },
    ["from", "to"],
)

_TRAFFIC = mapping(
    "What replication may take of the network, and when.",
    {
        "timezone": text(
            "Time zone of the windows, by its name in the time-zone database.", default="UTC", maxLength=64
        ),
        "bandwidth": _bandwidth(
            "What replication may use outside of all windows, each server for itself; left out, all there is."
        ),
        "windows": array("Parts of the week with limits of their own.", _WINDOW, least=0, most=20, default=[]),
    },
    [],
)

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
            "Time between application-consistent recovery points, of servers that declare `applications`; less than"
            " `retention`; left out, there are none.",
            "1h",
            "12h",
        ),
        "verifyEvery": duration(
            "Time between two verification passes, which compare a server's disks with its replica while replication"
            " goes on and report what differs; `0d`: only when `dr compare` asks.",
            "0d",
            "90d",
            "7d",
        ),
        "traffic": _TRAFFIC,
    },
    [],
)
