"""Azure VM sizes as this machine can give them: what the name says, capped.

Sources: Azure's naming convention for VM sizes (family, vCPUs, features, version) and the families' memory per vCPU.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dr.errors import Refused

MEMORY_CAP_MIB = 1024
CPU_CAP = 2

# GiB per vCPU; the B family's small sizes do not follow a ratio.
_GIB_PER_CPU = {"A": 2.0, "D": 4.0, "DC": 4.0, "E": 8.0, "EC": 8.0, "F": 2.0, "B": 4.0, "L": 8.0, "M": 16.0}
_BURSTABLE_GIB = {"B1ls": 0.5, "B1s": 1.0, "B1ms": 2.0, "B2ts": 1.0, "B2ls": 4.0, "B2s": 4.0, "B2ms": 8.0}
_NAME = re.compile(r"Standard_(?P<family>[A-Z]+)(?P<cpus>\d+)(-\d+)?(?P<features>[a-z]*)(?P<version>_v\d+)?")


@dataclass(frozen=True, slots=True)
class Capacity:
    cpus: int
    memory_mib: int


def capacity(size: str, environment: Mapping[str, str] | None = None) -> Capacity:
    """Return what a VM of `size` gets here. `Refused` when Azure has no such size.

    `LIFEBOAT_VM_MEMORY_MIB` replaces the cap on memory.
    """
    match = _NAME.fullmatch(size)
    if match is None or match["family"] not in _GIB_PER_CPU:
        raise Refused(
            f"InvalidParameter: the value {size} provided for the VM size is not valid", code="InvalidParameter"
        )
    cpus = int(match["cpus"])
    short = f"{match['family']}{cpus}{match['features']}"
    gib = _BURSTABLE_GIB.get(short, cpus * _GIB_PER_CPU[match["family"]])
    values = os.environ if environment is None else environment
    cap = int(values.get("LIFEBOAT_VM_MEMORY_MIB") or MEMORY_CAP_MIB)
    return Capacity(
        cpus=max(1, min(cpus, CPU_CAP, os.cpu_count() or 1)),
        memory_mib=max(256, min(int(gib * 1024), cap)),
    )
