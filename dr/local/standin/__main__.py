"""`python -m dr.local.standin ENGINE`: the executable of the stand-in."""

from __future__ import annotations

from dr.local.standin.provider import VERSION, StandIn
from dr.plugin.serving import serve
from dr.target.folders import Folders

if __name__ == "__main__":
    serve(lambda log: StandIn(Folders.from_environment(), log), VERSION)
