"""Which keys are checked and kept and not acted upon yet, and the capability that each of them waits for.

The one table: `dr validate` names each such key that a declaration uses, and `docs/declaration.md` marks them. A
capability that acts upon a key takes its line out. Keys are written as in `docs/declaration.md`.
"""

from __future__ import annotations

from collections.abc import Mapping

WAITING: Mapping[str, str] = {
    "Server.bootPreparation": "boot readiness",
    "RecoveryPlan.objectives": "drills and their evidence",
}
