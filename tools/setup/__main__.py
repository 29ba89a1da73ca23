"""`python3 -m tools.setup`: make this machine ready, step by step; what is done already is not done again.

Runs on a bare Python 3.11 without any library. Exit codes: 0 ready, 1 a step failed, 4 something must be installed
first (the output says what, and how).
"""

from __future__ import annotations

import sys
from functools import partial

from dr.errors import LifeboatError, PrerequisiteMissing
from tools.setup.agent_wheels import install_agent_wheels
from tools.setup.azurite import install_azurite
from tools.setup.packages import install_packages
from tools.setup.paths import AZURITE_VERSION, PULUMI_VERSION, Cache
from tools.setup.pulumi_cli import install_pulumi
from tools.setup.python_environment import install_environment, install_uv
from tools.setup.source_machine import build_template
from tools.setup.step import Step, complain, run_all


def steps(cache: Cache) -> tuple[Step, ...]:
    """Return all steps in the order in which they depend on each other."""
    return (
        Step("Debian packages", install_packages),
        Step("uv", partial(install_uv, cache)),
        Step("Python environment", partial(install_environment, cache)),
        Step("the agent's lz4 wheels", partial(install_agent_wheels, cache)),
        Step(f"Azurite {AZURITE_VERSION}", partial(install_azurite, cache)),
        Step(f"Pulumi {PULUMI_VERSION}", partial(install_pulumi, cache)),
        Step("the source machine's disk", partial(build_template, cache)),
    )


def main() -> int:
    """Run the set-up and return the exit code."""
    try:
        if sys.version_info < (3, 11):  # noqa: UP036 - this line is what enforces it
            raise PrerequisiteMissing(f"this is Python {sys.version.split()[0]}", remedy="install Python 3.11 or newer")
        run_all(steps(Cache.from_environment()))
    except LifeboatError as error:
        return complain(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        remedy = "LIFEBOAT_CACHE names the folder for what is downloaded and built (default: ~/.cache/lifeboat); see "
        remedy += "that it can be written and has 6 GiB free"
        return complain(PrerequisiteMissing(f"{where}{error.strerror or error}", remedy=remedy))
    except KeyboardInterrupt:
        print("setup: interrupted; run it again, it goes on where it stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
