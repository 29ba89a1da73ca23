"""A package's main module for tests: does, under the unit's hardening, everything that the agent needs to do.

`run` writes `/run/lifeboat/report.json` (what -> "ok" or the error) and stays; its child outlives a killed parent by
two seconds, ignoring SIGTERM as a watchdog does, and then notes that it was let. `cleanup` removes the ring.
"""

import ctypes
import fcntl
import json
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
INSTANCE = Path("/sys/kernel/tracing/instances/lifeboat")
RUN = Path("/run/lifeboat")
CONFIG = json.loads(Path(sys.argv[3]).read_text())


def tracefs() -> None:
    INSTANCE.mkdir(exist_ok=True)
    event = INSTANCE / "events/block/block_rq_complete"
    (event / "filter").write_text("nr_sector > 0\n")
    (INSTANCE / "buffer_size_kb").write_text("1024\n")
    (event / "enable").write_text("1\n")
    assert (event / "enable").read_text().strip() == "1"
    pipe = os.open(INSTANCE / "per_cpu/cpu0/trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
    os.close(pipe)


def direct_read() -> None:
    file = os.open(CONFIG["disks"][0]["device"], os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 65536)
    assert os.preadv(file, [buffer], 0) == 65536
    os.close(file)


def no_writing_to_the_system() -> None:
    try:
        Path("/etc/lifeboat-was-here").write_text("x")
    except OSError:
        return
    raise AssertionError("the file system can be written")


def freeze_root() -> None:
    root = os.open("/", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    deadline = time.monotonic() + 30
    while True:  # busy while another freezes
        if libc.ioctl(root, ctypes.c_ulong(FIFREEZE), 0) == 0:
            break
        assert time.monotonic() < deadline, os.strerror(ctypes.get_errno())
    fcntl.ioctl(root, FITHAW, 0)


def lock_memory() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mlockall(1) == 0, os.strerror(ctypes.get_errno())


def score() -> None:
    Path("/proc/self/oom_score_adj").write_text("-1000")
    Path("/proc/self/oom_score_adj").write_text("-500")


def cache() -> None:
    Path("/var/cache/lifeboat/library.so").write_bytes(b"x")
    library = Path("/var/cache/lifeboat/libz.so.1")
    library.write_bytes(Path("/usr/lib/x86_64-linux-gnu/libz.so.1").read_bytes())
    ctypes.CDLL(str(library))


def key() -> None:
    assert "PRIVATE" in Path(CONFIG["tls"]["key"]).read_text()


def network() -> None:
    host, port = CONFIG["configuration_server"].rsplit(":", 1)
    with suppress(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 5).close()


def attempt(what: Callable[[], None]) -> str:
    try:
        what()
    except (OSError, AssertionError, IndexError) as error:
        return repr(error)
    return "ok"


def watchdog(parent: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while os.getppid() == parent:
        time.sleep(0.05)
    time.sleep(2)
    (RUN / "outlived").write_text("yes")
    os._exit(0)


def run() -> None:
    wanted = (tracefs, direct_read, no_writing_to_the_system, freeze_root, lock_memory, score, cache, key, network)
    report = {what.__name__: attempt(what) for what in wanted}
    if os.fork() == 0:
        watchdog(os.getppid())
    (RUN / "report.new").write_text(json.dumps(report))
    (RUN / "report.new").rename(RUN / "report.json")
    with (RUN / "starts").open("a") as starts:
        starts.write("x")
    while True:
        time.sleep(60)


if sys.argv[1] == "run":
    run()
else:
    (INSTANCE / "events/block/block_rq_complete/enable").write_text("0\n")
    INSTANCE.rmdir()
