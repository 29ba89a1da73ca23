"""Which keys are checked and kept and not acted upon yet, and the capability that each of them waits for.

The one table: `dr validate` names each such key that a declaration uses, `docs/declaration.md` marks them, and a run of
a plan that uses one is refused before anything is made. A capability that acts upon a key takes its line out. Keys are
written as in `docs/declaration.md`.
"""

from __future__ import annotations

from collections.abc import Mapping

_ACTIONS = "actions of recovery plans"

WAITING: Mapping[str, str] = {
    "Server.bootPreparation": "boot readiness",
    "RecoveryPlan.groups[].before": _ACTIONS,
    "RecoveryPlan.groups[].after": _ACTIONS,
    "RecoveryPlan.objectives": "drills and their evidence",
}
