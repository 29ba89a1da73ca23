"""Which recovery points a policy keeps. Pure; no clock: a point's age is how much newer the newest point is.

| retention | up to 2 h | after that |
| --- | --- | --- |
| 0 | only the newest point | - |
| up to 1 day | every point | one per hour |
| up to 7 days | every point | one per 2 h |
| up to 15 days | every point | one per 2 h for 7 days, then one per 4 h |

(Azure Site Recovery's own pruning.) Rules, each against a way to lose history:
- While no new point arrives nothing ages, however long that takes: a stopped replication or a resync keeps what is
  there, and with it the last good point before it.
- Ages come from the store's clock (`created`), never from the writer's: a hostile process server can't make points old.
- Of a slot (an hour, two, four) the first point that came stays: one that comes later can't take its place, so the
  result is the same whether a pass ran every minute or once a week.
- Application-consistent points have slots of their own: they are few, and a crash-consistent point that came first
  must not leave a plan that asks for the latest of them with nothing.
- Slots are those of the cut's own time, so that points which were copied into another account, all within minutes,
  stay apart. A cut's time that lies after the store's (a wrong or a lying clock) does not count; the store's does.
- The newest point, by number and by the store's time, is never surplus, nor is one that is held (pinned, or in use).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

EVERYTHING = timedelta(hours=2)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CLOCK_TOLERANCE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Dated:
    """One point as retention sees it: its place in order, its cut's label, and when the store received its manifest."""

    id: str
    order: tuple[int, int]
    cut_time: datetime
    created: datetime
    app_consistent: bool = False

    @property
    def moment(self) -> datetime:
        """The time that decides its slot."""
        return self.created if self.cut_time > self.created + CLOCK_TOLERANCE else self.cut_time


def surplus(points: Sequence[Dated], retention: timedelta, held: Collection[str]) -> list[str]:
    """Return the ids of the points that a policy does not keep, the oldest first."""
    if not points:
        return []
    newest = max(point.created for point in points)
    never = {max(points, key=lambda p: p.order).id, max(points, key=lambda p: (p.created, p.order)).id, *held}
    return [p.id for p in _not_kept(points, retention, newest) if p.id not in never]


def _not_kept(points: Sequence[Dated], retention: timedelta, newest: datetime) -> Iterator[Dated]:
    taken: set[tuple[timedelta, int, bool]] = set()
    for point in sorted(points, key=lambda p: (p.created, p.order)):
        age = newest - point.created
        if age > retention:
            yield point
            continue
        width = slot_width(age, retention)
        if width is None:
            continue
        slot = (width, int(point.moment.timestamp() // width.total_seconds()), point.app_consistent)
        if slot in taken:
            yield point
        taken.add(slot)


def slot_width(age: timedelta, retention: timedelta) -> timedelta | None:
    """Return how long the slots are that points of this age are thinned to; None: all of them are kept."""
    if age <= EVERYTHING:
        return None
    if retention <= DAY:
        return HOUR
    return 2 * HOUR if retention <= 7 * DAY or age <= 7 * DAY else 4 * HOUR
