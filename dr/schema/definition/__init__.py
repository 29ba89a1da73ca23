"""The one definition of a declaration's shape: JSON Schema (Draft 2020-12), one module per kind.

Everything that has to agree is made from it: validation and its messages (`dr.schema.shape`), defaults
(`dr.schema.build`), `plans/schema.json` for editors and `docs/declaration.md` (`dr.schema.publish`).

Keywords of ours:
- `x-atLeast`, `x-atMost`: bounds of a duration, as durations are written;
- `x-refused`: values that have the right form and still can't be, each a `pattern` and how it ends the sentence
  "KEY VALUE …"; nothing else is said of such a value;
- `patternErrorMessage` (editors know it too): what a value that misses `pattern` should be, as it ends the
  sentence "KEY must be …".
"""

from dr.schema.definition.plan import PLAN
from dr.schema.definition.policy import POLICY
from dr.schema.definition.server import SERVER
from dr.schema.definition.site import SITE
from dr.schema.definition.words import Schema

KINDS: dict[str, Schema] = {"Site": SITE, "ReplicationPolicy": POLICY, "Server": SERVER, "RecoveryPlan": PLAN}
