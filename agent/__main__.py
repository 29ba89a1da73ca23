"""Runs the agent from a checkout: `python3 -m agent COMMAND`. The package has a `__main__` of its own."""

from __future__ import annotations

import sys

from agent.main import main

if __name__ == "__main__":
    sys.exit(main())
