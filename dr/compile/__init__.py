"""From model to blueprint: pure functions, one per stack purpose.

The same declaration gives the same blueprint, on every machine and at any time; names come from
`dr.compile.names` alone.
"""

from dr.compile.landing import site, vault
from dr.compile.recovery import default_selector, failover

__all__ = ["default_selector", "failover", "site", "vault"]
