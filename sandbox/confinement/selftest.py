"""Attempts at what a confined process must not be able to do.

A sacrificial worker makes one attempt each, in the place where it would serve.
The filter kills it for that; a process that survives its attempt is proof that
the wall has a hole, and the pool refuses to start.

This checks the filter as it is installed, on the kernel it is installed on. It
does not check the layers behind the filter one by one; the tests do.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from typing import Final

_libc = ctypes.CDLL(None)
_SOCK_DGRAM = 2
_AF_INET = 2
_PROT_READ_EXEC = 5
_MAP_PRIVATE_ANONYMOUS = 0x22


def _open() -> None:
    _libc.open(b"/", os.O_RDONLY)


def _socket() -> None:
    _libc.socket(_AF_INET, _SOCK_DGRAM, 0)


def _fork() -> None:
    if _libc.fork() == 0:
        os._exit(0)


def _execute() -> None:
    empty = (ctypes.c_char_p * 1)(None)
    _libc.execve(b"/bin/true", empty, empty)


def _signal() -> None:
    _libc.kill(1, 0)


def _executable_mapping() -> None:
    _libc.mmap(None, 4096, _PROT_READ_EXEC, _MAP_PRIVATE_ANONYMOUS, -1, 0)


def _second_descriptor() -> None:
    _libc.dup(0)


def _write_elsewhere() -> None:
    _libc.write(2, b"", 0)


ATTEMPTS: Final[dict[str, Callable[[], None]]] = {
    "open": _open,
    "socket": _socket,
    "fork": _fork,
    "execute": _execute,
    "signal": _signal,
    "executable_mapping": _executable_mapping,
    "second_descriptor": _second_descriptor,
    "write_elsewhere": _write_elsewhere,
}


def attempt(name: str) -> None:
    """Make one attempt. Returning at all means that it was not stopped."""
    ATTEMPTS[name]()


def is_refused(wait_status: int) -> bool:
    """Whether the process that made an attempt ended the way it must."""
    return os.WIFSIGNALED(wait_status) and os.WTERMSIG(wait_status) == signal.SIGSYS
