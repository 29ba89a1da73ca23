"""The one entry point of all stacks: PURPOSE-TARGET decides which program runs on which blueprint."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pulumi

from dr.errors import LifeboatError
from stacks.dispatch import run

try:
    run(pulumi.get_stack())
except LifeboatError as error:
    # A RunError ends the program with its text alone; a traceback would bury the lines that count.
    remedy = f"\nremedy: {error.remedy}" if error.remedy else ""
    raise pulumi.RunError(f"{error.message}{remedy}") from None
