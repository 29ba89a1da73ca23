"""The kernel's side of eBPF through ctypes: maps, programs, pins, and where a program is attached.

Nothing is compared by version: each thing is tried, and what the kernel refuses is `NoEbpf` with its words.

Sources: include/uapi/linux/bpf.h, perf_event.h and membarrier.h of the Linux kernel.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import re
import struct
from contextlib import suppress
from typing import Optional

from dr.errors import LifeboatError

_SYSCALLS = {  # bpf, perf_event_open, membarrier
    "x86_64": (321, 298, 324),
    "aarch64": (280, 241, 283),
}
_MAP_CREATE, _PROG_LOAD, _OBJ_PIN, _OBJ_GET, _LINK_CREATE = 0, 5, 6, 7, 28
_ARRAY, _MAPPABLE = 2, 1 << 10
_TRACEPOINT = 5
_PERF_EVENT_LINK = 41
_PERF_TRACEPOINT, _PERF_ATTRIBUTE_BYTES, _PERF_CLOEXEC = 2, 128, 8
_SET_PROGRAM, _ENABLE = 0x40042408, 0x2400
_MEMBARRIER_GLOBAL = 1
_BPFFS_MAGIC = 0xCAFE4A11
_LOG_BYTES = 1 << 20
_ATTRIBUTE_BYTES = 128


class NoEbpf(LifeboatError):
    """This kernel lets us keep no marks of our own; the ring alone tracks."""

    code = "ring-only"
    remedy = (
        "nothing to do: the ring alone loses no write; but it holds less than marks do while the agent is down. "
        "A kernel from 5.5 on with CONFIG_BPF_SYSCALL and bpffs, locked down no further than integrity, has both"
    )


def array_map(name: str, value_bytes: int, entries: int) -> int:
    """Make an array of zeros that user space can map; return its descriptor. Raises `NoEbpf`."""
    attribute = struct.pack("<8I16s", _ARRAY, 4, value_bytes, entries, _MAPPABLE, 0, 0, 0, name.encode()[:15])
    return _bpf(_MAP_CREATE, attribute, f"a map of {value_bytes * entries} bytes")


def load(name: str, code: bytes) -> int:
    """Load a tracepoint program; return its descriptor. `NoEbpf` ends with the verifier's last words."""
    log = ctypes.create_string_buffer(_LOG_BYTES)
    try:
        return _load(name, code, None)
    except NoEbpf as error:
        with suppress(NoEbpf):
            return _load(name, code, log)
        words = log.value.decode("latin-1").strip()[-400:]
        raise NoEbpf(f"{error.message}: {words}" if words else error.message) from error


def _load(name: str, code: bytes, log: "Optional[ctypes.Array[ctypes.c_char]]") -> int:
    instructions, license_name = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    attribute = struct.pack(
        "<IIQQIIQII16s",
        _TRACEPOINT,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(license_name),
        1 if log else 0,
        len(log) if log else 0,
        ctypes.addressof(log) if log else 0,
        0,
        0,
        name.encode()[:15],
    )
    return _bpf(_PROG_LOAD, attribute, "the tracking program")


def attach(program: int, event_id: int) -> "tuple[int, bool]":
    """Run `program` at each event; return the descriptor that holds it there, and whether that may be pinned."""
    event = _perf_event(event_id)
    try:
        link = _bpf(_LINK_CREATE, struct.pack("<4I", program, event, _PERF_EVENT_LINK, 0), "a link to the event")
    except NoEbpf:
        return _attach_by_ioctl(program, event), False
    os.close(event)
    return link, True


def _attach_by_ioctl(program: int, event: int) -> int:
    """Attach as kernels without links can; it ends with the process."""
    try:
        fcntl.ioctl(event, _SET_PROGRAM, program)
        fcntl.ioctl(event, _ENABLE, 0)
    except OSError as error:
        os.close(event)
        raise NoEbpf(f"the tracking program cannot be attached: {error.strerror}") from error
    return event


def _perf_event(event_id: int) -> int:
    attribute = bytearray(_PERF_ATTRIBUTE_BYTES)
    struct.pack_into("<IIQQ", attribute, 0, _PERF_TRACEPOINT, len(attribute), event_id, 1)
    buffer = ctypes.create_string_buffer(bytes(attribute), len(attribute))
    found: int = _libc.syscall(_numbers()[1], buffer, -1, _online_cpu(), -1, _PERF_CLOEXEC)
    if found < 0:
        raise NoEbpf(f"the kernel refused the event: {os.strerror(ctypes.get_errno())}")
    return found


def pin(descriptor: int, path: str) -> None:
    """Keep the object behind `descriptor` alive under `path`. Raises `NoEbpf`."""
    name = ctypes.create_string_buffer(path.encode())
    _bpf(_OBJ_PIN, struct.pack("<QII", ctypes.addressof(name), descriptor, 0), f"a pin at {path}")


def pinned(path: str) -> int:
    """Return a descriptor of what is pinned at `path`. Raises `NoEbpf`."""
    name = ctypes.create_string_buffer(path.encode())
    return _bpf(_OBJ_GET, struct.pack("<QII", ctypes.addressof(name), 0, 0), f"what is pinned at {path}")


def grace() -> None:
    """Wait until each program that is running now has ended (`synchronize_rcu`). Raises `NoEbpf`."""
    if _libc.syscall(_numbers()[2], _MEMBARRIER_GLOBAL, 0, 0) != 0:
        raise NoEbpf(f"the kernel refused membarrier: {os.strerror(ctypes.get_errno())}")


def recursion_misses(program: int) -> Optional[int]:
    """Return how often the kernel skipped `program` and counted it; None where it does not count."""
    with open(f"/proc/self/fdinfo/{program}", encoding="ascii") as file:
        found = re.search(r"^recursion_misses:\s*(\d+)", file.read(), re.MULTILINE)
    return int(found.group(1)) if found else None


def need_bpffs(folder: str) -> None:
    """Mount the file system of pins if it is not there. Raises `NoEbpf`."""
    if is_bpffs(folder):
        return
    if not os.path.isdir(folder):
        raise NoEbpf(f"{folder} is not there: the kernel has no bpffs")
    if _libc.mount(b"lifeboat", folder.encode(), b"bpf", 0, b"mode=0700") != 0:
        raise NoEbpf(f"bpffs cannot be mounted on {folder}: {os.strerror(ctypes.get_errno())}")


def release_bpffs(folder: str) -> bool:
    """Unmount it if we mounted it and nobody else has pins there; return whether."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        ours = any(line.split()[4] == folder and line.split(" - ")[1].startswith("bpf lifeboat ") for line in file)
    left = set(os.listdir(folder)) - {"maps.debug", "progs.debug"}  # the kernel's own, in every mount
    return ours and not left and _libc.umount2(folder.encode(), 0) == 0


def is_bpffs(folder: str) -> bool:
    """Tell whether `folder` is a file system of pins."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.statfs(folder.encode(), buffer) != 0:
        return False
    kind: int = ctypes.c_long.from_buffer(buffer).value
    return kind & 0xFFFFFFFF == _BPFFS_MAGIC


def possible_cpus() -> int:
    """Return how many CPUs this kernel may ever have."""
    return max(_cpu_list("/sys/devices/system/cpu/possible")) + 1


def _online_cpu() -> int:
    return _cpu_list("/sys/devices/system/cpu/online")[0]


def _cpu_list(path: str) -> "list[int]":
    with open(path, encoding="ascii") as file:
        return [int(number) for number in re.findall(r"\d+", file.read())]


def _bpf(command: int, attribute: bytes, what: str) -> int:
    buffer = ctypes.create_string_buffer(attribute, _ATTRIBUTE_BYTES)
    found: int = _libc.syscall(_numbers()[0], command, buffer, len(buffer))
    if found < 0:
        error = ctypes.get_errno()
        raise NoEbpf(f"the kernel refused {what}: {errno.errorcode.get(error, error)} {os.strerror(error)}")
    return found


def _numbers() -> "tuple[int, int, int]":
    machine = platform.machine()
    if machine not in _SYSCALLS:
        raise NoEbpf(f"the numbers of system calls on {machine} are not known")
    return _SYSCALLS[machine]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
