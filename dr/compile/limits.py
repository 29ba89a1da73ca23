"""What Azure can't take of a disk, whatever is declared: its size. Pure; the size is known on the server only.

Sources: Microsoft Learn, "Support matrix for disaster recovery of VMware VMs and physical servers to Azure" (OS disk of
2,048 GB on Gen1 and 4,095 GB on Gen2) and "Scalability and performance targets for Blob storage" (page blob: 8 TiB).
"""

from __future__ import annotations

LARGEST_OS_DISK_GIB = {"bios": 2048, "uefi": 4095}
# A replica is a page blob of 8 TiB at most: the disk in whole MiB, and a footer behind it.
LARGEST_DISK_BYTES = (8 << 40) - (1 << 20)


def wrong_with_disk(size_bytes: int, *, boots: bool, firmware: str | None) -> str | None:
    """Return why a disk of this size can't be recovered in Azure, as the end of "the disk …", or None.

    `boots` says that the server boots from it, `firmware` ("bios", "uefi", None: not known) by what.
    """
    if size_bytes > LARGEST_DISK_BYTES:
        return f"has {_gib(size_bytes)}; a page blob takes 8 TiB with its footer"
    most = LARGEST_OS_DISK_GIB.get(firmware or "")
    if boots and most is not None and size_bytes > most << 30:
        generation = "Gen1 VM (firmware bios)" if firmware == "bios" else "Gen2 VM (firmware uefi)"
        return f"has {_gib(size_bytes)}; a {generation} boots from at most {most:,} GiB"
    return None


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):,.1f} GiB"
