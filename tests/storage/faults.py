"""Real system calls that fail, for a child process: a seccomp filter answers them with an error, or kills.

LMDB opens its file twice, and writes its meta page through a descriptor of its own (`O_DSYNC`).
So a filter on a call and a descriptor hits exactly one step of a commit, with no fake in between.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

_CALLS = {
    "x86_64": {"pwrite64": 18, "writev": 20, "fsync": 74, "fdatasync": 75},
    "aarch64": {"pwrite64": 68, "writev": 66, "fsync": 82, "fdatasync": 83},
}
IS_POSSIBLE = platform.machine() in _CALLS

_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
KILL = -1

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2


def fail(calls: list[str], error: int, fd: int) -> None:
    """Make `calls` on descriptor `fd` fail with `error` in this process, from now on; or `KILL` it."""
    numbers = _CALLS[platform.machine()]
    program = [(_LOAD, 0, 0, 0)]
    for position, call in enumerate(calls):
        # To the check of the descriptor, or on to the next call.
        program.append((_JUMP_IF_EQUAL, len(calls) - position, 0, numbers[call]))
    program += [
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, 16),  # the low half of the first argument
        (_JUMP_IF_EQUAL, 0, 1, fd),
        (_RETURN, 0, 0, _KILL if error == KILL else _ERROR | error),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _FILTER, filter_, 0, 0):
        raise OSError(ctypes.get_errno(), "no seccomp filter to be had")


def descriptors_of(file: Path) -> tuple[int, int]:
    """Return the descriptors through which LMDB writes (data pages, meta pages) of its open file."""
    data = meta = -1
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            info = Path(f"/proc/self/fdinfo/{name}").read_text()
        except OSError:
            continue
        if target == str(file):
            flags = int(info.split("flags:")[1].split()[0], 8)
            if flags & os.O_DSYNC:
                meta = int(name)
            else:
                data = int(name)
    return data, meta
