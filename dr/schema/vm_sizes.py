"""What is known of Azure's VM sizes without asking Azure: generations that they can't run, data disks that they take.

Pure. Sources: Microsoft Learn, "Support for Generation 2 VMs on Azure", and the page of each series ("Max Remote
Storage Disks", "Generation 1 VMs"). A series that is not in the tables is let through: Azure itself refuses it at
preview or creation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NO_GENERATION_2 = re.compile(
    r"Standard_(A[0-9]+[a-z]*(_v2)?"  # A and Av2
    r"|D[0-9]+(_v2|_v3)?"  # D, Dv2 and Dv3 without premium storage
    r"|E[0-9]+i?_v3)"  # Ev3 without premium storage
)
_NO_GENERATION_1 = re.compile(
    r"Standard_((DC|EC)[0-9].*"  # confidential computing
    r"|M[0-9].*_v2"  # Mv2, Msv2, Mdsv2
    r"|ND[0-9].*_v2"
    r"|[DE][0-9].*_v[67]"  # their disks are NVMe only
    r"|[BDE][0-9]+p.*)"  # Arm
)

# How many data disks the sizes of a series take, from this number of vCPUs on.
_TWO_EACH = {1: 2, 2: 4, 4: 8, 8: 16, 16: 32}
_DATA_DISKS: tuple[tuple[re.Pattern[str], Mapping[int, int]], ...] = tuple(
    (re.compile(f"Standard_{series}"), steps)
    for series, steps in (
        (r"A([0-9]+)m?_v2", _TWO_EACH),
        (r"B([0-9]+)l?m?s", _TWO_EACH),
        (r"B([0-9]+)a?[lt]?s_v2", _TWO_EACH),
        (r"DS?([1-5])_v2", {1: 4, 2: 8, 3: 16, 4: 32, 5: 64}),  # the number is no count of vCPUs here
        (r"F([0-9]+)s_v2", _TWO_EACH),
        (r"[DE]([0-9]+)(?:-[0-9]+)?a?l?d?s?_v[345]", _TWO_EACH),
        (r"[DE]([0-9]+)(?:-[0-9]+)?al?d?s_v6", _TWO_EACH),
        (r"[DE]([0-9]+)(?:-[0-9]+)?l?d?s_v6", {2: 8, 4: 12, 8: 24, 16: 48, 32: 64}),
        (r"D([0-9]+)s_v7", {2: 10, 4: 12, 8: 26, 16: 48, 32: 64}),
    )
)


def wrong_with_size(size: str, firmware: str | None) -> str | None:
    """Return why a source with this firmware can't run on a VM size, as a sentence, or None."""
    if firmware == "uefi" and _NO_GENERATION_2.fullmatch(size):
        return f"size {size} can't run a Gen2 VM, which firmware uefi needs; take one such as Standard_D2s_v5"
    if firmware == "bios" and _NO_GENERATION_1.fullmatch(size):
        return f"size {size} can't run a Gen1 VM, which firmware bios needs; take one such as Standard_D2s_v5"
    return None


def most_data_disks(size: str) -> int | None:
    """Return how many data disks a VM size takes beside the OS disk; None when it is not known."""
    for series, steps in _DATA_DISKS:
        match = series.fullmatch(size)
        if match:
            return max((disks for least, disks in steps.items() if int(match[1]) >= least), default=None)
    return None
