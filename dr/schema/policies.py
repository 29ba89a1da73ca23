"""Checks of replication policies: times that don't fit together. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dr.schema.durations import seconds
from dr.schema.findings import Finding
from dr.schema.thing import Estate, Thing

DAY = 86400


def check_policies(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with policies beyond their shape."""
    for policy in estate.of("ReplicationPolicy"):
        yield from _check_points(policy)
        yield from _check_application_points(policy)
        yield from _check_verification(policy)


def _check_points(policy: Thing) -> Iterator[Finding]:
    every, retention, threshold = (policy.data.get(k) for k in ("crashConsistentEvery", "retention", "rpoThreshold"))
    if every is None:
        return
    if retention is not None and 0 < seconds(retention) < seconds(every):
        message = f"retention {retention} is shorter than crashConsistentEvery {every}: there would often be no point"
        yield policy.finding(("retention",), message, remedy="lengthen it")
    if threshold is not None and seconds(threshold) < seconds(every):
        message = f"rpoThreshold {threshold} is shorter than crashConsistentEvery {every}: it would always be exceeded"
        yield policy.finding(("rpoThreshold",), message, remedy="lengthen it")


def _check_verification(policy: Thing) -> Iterator[Finding]:
    every = policy.data.get("verifyEvery")
    if every is not None and 0 < seconds(every) < DAY:
        message = f"verifyEvery must be 0d or at least 1d; found {every}: the disks would be read all the time"
        yield policy.finding(("verifyEvery",), message, remedy="lengthen it")


def _check_application_points(policy: Thing) -> Iterator[Finding]:
    every, retention = policy.data.get("appConsistentEvery"), policy.data.get("retention")
    if every is None or retention is None or seconds(every) < seconds(retention):
        return
    message = f"appConsistentEvery {every} must be less than retention {retention}: there would often be no such point"
    yield policy.finding(("appConsistentEvery",), message, remedy="shorten it")
