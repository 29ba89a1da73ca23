"""The stand-in as an installed plugin of the local target's PULUMI_HOME.

The CLI finds a plugin by its folder's name, `resource-NAME-vVERSION`, and takes one without the `.partial` mark
beside it as whole. What lies there is a script of three lines that runs this checkout's code, so there is nothing to
update but its path.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from dr.durable import write_durably
from dr.local.tools import checkout

# As `dr.local.standin.provider.VERSION`; that module costs a second of imports that `dr local up` need not pay.
STANDIN_VERSION = "3.29.0"


def plugin_folder(pulumi_home: Path) -> Path:
    """Return where the CLI looks for azure-native."""
    return pulumi_home / "plugins" / f"resource-azure-native-v{STANDIN_VERSION}"


def install_standin(pulumi_home: Path) -> bool:
    """Install or correct the plugin's script; return whether anything changed."""
    root = checkout()
    # -P: the CLI starts plugins in the program's folder, whose modules must not come before anybody's.
    script = (
        "#!/bin/sh\n"
        "# The local target's stand-in for azure-native: this checkout's code. Written by `dr local up`.\n"
        f'PYTHONPATH={shlex.quote(str(root))}"${{PYTHONPATH:+:$PYTHONPATH}}" '
        f'exec {shlex.quote(_python(root))} -P -m dr.local.standin "$@"\n'
    ).encode()
    path = plugin_folder(pulumi_home) / "pulumi-resource-azure-native"
    if path.exists() and path.read_bytes() == script:
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path, script, mode=0o700)
    return True


def _python(root: Path) -> str:
    own = root / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable
