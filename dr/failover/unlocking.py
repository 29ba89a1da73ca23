"""The lock that a dead engine left on a stack."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from dr.errors import Refused
from dr.failover.repair import locks


class StackLocked(Refused):
    """Another engine works on the stack, or nobody can tell from here whether it does."""

    code = "stack-locked"


class Lockable(Protocol):
    """A stack; `dr.failover.engine.Engine` is the real one."""

    @property
    def stack(self) -> str: ...

    def unlock(self) -> None: ...


def freed(
    stack: Lockable, errors: Iterable[str], say: Callable[[str], None], process_exists: Callable[[int], bool]
) -> bool:
    """Take away the lock that `errors` speak of, if its holder is dead; False when they speak of none.

    Raises `StackLocked` when the holder lives, or is on another machine, where nobody can tell from here.
    """
    held = locks(errors)
    alive = [lock for lock in held if lock.host != socket.gethostname() or process_exists(lock.pid)]
    if alive:
        who = ", ".join(f"process {lock.pid} on {lock.host}" for lock in alive)
        raise StackLocked(
            f"stack {stack.stack} is being worked on by {who}",
            remedy="wait for it; if that machine is gone, `pulumi cancel` frees the stack, then run the command again",
        )
    if held:
        say("repair: the engine that held the stack is dead, its lock is taken away")
        stack.unlock()
    return bool(held)
