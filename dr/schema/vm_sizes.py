"""What is known of Azure's VM sizes without asking Azure: which generation of VM a series can't run. Pure.

Source: Microsoft Learn, "Support for Generation 2 VMs on Azure". A series that is not in the table is let through:
Azure itself refuses it at preview or creation.
"""

from __future__ import annotations

import re

_NO_GENERATION_2 = re.compile(
    r"Standard_(A[0-9]+[a-z]*(_v2)?"  # A and Av2
    r"|D[0-9]+(_v2|_v3)?"  # D, Dv2 and Dv3 without premium storage
    r"|E[0-9]+i?_v3)"  # Ev3 without premium storage
)
_NO_GENERATION_1 = re.compile(
    r"Standard_((DC|EC)[0-9].*"  # confidential computing
    r"|M[0-9].*_v2"  # Mv2, Msv2, Mdsv2
    r"|ND[0-9].*_v2"
    r"|[BDE][0-9]+p.*)"  # Arm
)


def wrong_with_size(size: str, firmware: str | None) -> str | None:
    """Return why a source with this firmware can't run on a VM size, as a sentence, or None."""
    if firmware == "uefi" and _NO_GENERATION_2.fullmatch(size):
        return f"size {size} can't run a Gen2 VM, which firmware uefi needs; take one such as Standard_D2s_v5"
    if firmware == "bios" and _NO_GENERATION_1.fullmatch(size):
        return f"size {size} can't run a Gen1 VM, which firmware bios needs; take one such as Standard_D2s_v5"
    return None
