"""`python -m demo`: protect a real server, burn its site, run it again from the vault, and compare.

Environment: TAMPER=1 changes one block in the vault before the failover, LEAK=1 leaves one VM running; both must
make the demo fail. KEEP=1 leaves everything in place at the end, for looking around.

The last line on stdout is one JSON object; the exit code is 0 only when the server came back equal, a second `up`
changed nothing and nothing was left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demo import inventory
from demo.acts import Demo
from demo.stage import CHECKOUT, CommandFailed, Stage
from demo.story import Story
from dr.errors import LifeboatError


def main() -> int:
    """Run the demo and return the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="lifeboat-demo-"))
    before = inventory.take(folder, CHECKOUT)
    story = Story()
    demo = Demo(Stage(folder), story, tamper=_flag("TAMPER"), leak=_flag("LEAK"))
    figures: dict[str, Any] = {"verified": False}
    try:
        figures |= demo.play()
    except (CommandFailed, LifeboatError, OSError, TimeoutError) as error:
        story.say(f"FAILED: {error}")
        figures["error"] = str(error).splitlines()[0]
    finally:
        if _flag("KEEP"):
            story.say(f"kept as you asked: {folder}")
        else:
            demo.clean_up()
            shutil.rmtree(folder, ignore_errors=True)
    left = inventory.take(folder, CHECKOUT).missing_from(before)
    for line in left:
        story.say(f"left behind: {line}")
    figures["left_behind"] = len(left)
    figures["seconds"] = round(story.seconds, 1)
    print(json.dumps(figures, sort_keys=True), flush=True)
    return 0 if passed(figures) else 1


def passed(figures: Mapping[str, Any]) -> bool:
    """Tell whether the server came back equal, a second `up` changed nothing, and nothing was left behind."""
    return figures["verified"] is True and figures.get("second_up_changes") == 0 and figures["left_behind"] == 0


def _flag(name: str) -> bool:
    return os.environ.get(name, "") not in {"", "0"}


if __name__ == "__main__":
    sys.exit(main())
