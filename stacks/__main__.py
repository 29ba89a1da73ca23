"""The one entry point of all stacks: PURPOSE-TARGET decides which program runs on which blueprint."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pulumi

from dr.errors import LifeboatError
from stacks.dispatch import run

MESSAGE_SHOWN = 32  # to the language host: the person has been told, add nothing

try:
    run(pulumi.get_stack())
except LifeboatError as error:
    # No traceback: it would bury the lines that count.
    remedy = f"\nremedy: {error.remedy}" if error.remedy else ""
    pulumi.log.error(f"{error.message}{remedy}")
    sys.exit(MESSAGE_SHOWN)
