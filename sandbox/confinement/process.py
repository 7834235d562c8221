"""What a process can give up about itself: privileges gained, being inspected, outliving its parent.

A road not taken: closing the processor's time counter (PR_SET_TSC), so that
native code has no clock. The interpreter reads the clock whenever it takes a
lock, contended or not, and honest workers would die of it.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from sandbox.confinement.system import Unavailable, mprotect, prctl

_PR_SET_PDEATHSIG: Final = 1
_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_GET_NO_NEW_PRIVS: Final = 39
_PR_SET_MDWE: Final = 65
_PR_MDWE_REFUSE_EXEC_GAIN: Final = 1

_PROT_READ_WRITE: Final = 3


class Orphaned(Exception):
    """The parent died before this process could ask to die with it."""


def no_new_privileges() -> None:
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if prctl(_PR_GET_NO_NEW_PRIVS) != 1:
        raise Unavailable("no-new-privileges did not take")


def not_dumpable() -> None:
    """No core dumps, no attaching, and /proc entries that belong to root."""
    prctl(_PR_SET_DUMPABLE, 0)
    if prctl(_PR_GET_DUMPABLE) != 0:
        raise Unavailable("the process stays dumpable")


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends, and make sure it has not ended already.

    A change of ids clears this, so it comes after them.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise Orphaned(f"the parent is {os.getppid()} and should be {parent}")


def no_executable_gain() -> None:
    """Have the memory manager itself refuse new executable pages, beside the filter."""
    try:
        prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN)
    except OSError as error:
        raise Unavailable(f"needs Linux 6.3 ({error.strerror})") from None


def no_writable_code() -> None:
    """Take the right to execute from every page that can also be written.

    Foreign-function libraries may leave such pages behind; the filter stops new
    ones, this one the old.
    """
    with open("/proc/self/maps", "rb") as file:
        text = file.read()
    if b" rwx" not in text and b" -wx" not in text:
        return
    for line in text.splitlines():
        addresses, rights = line.split()[:2]
        if rights[1:3] == b"wx":
            start, end = (int(part, 16) for part in addresses.split(b"-"))
            mprotect(start, end - start, _PROT_READ_WRITE)
