"""Calls into libc and the kernel, with failures as `OSError`.

Asked by every other file of this package. Numbers that differ between machines
stand in `MACHINE`; a machine that is not listed cannot run workers, because a
filter with the wrong numbers would be worse than none.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping
from typing import Final

import attrs


class Unavailable(Exception):
    """This layer cannot be put in force here; the text says why."""


@attrs.frozen
class Machine:
    """One architecture, as the kernel's system call interface knows it."""

    audit_arch: int  # AUDIT_ARCH_*
    numbers: Mapping[str, int]  # system calls by name


# Numbers shared by every architecture since the kernel unified them.
_COMMON: Final = {
    "close_range": 436,
    "landlock_create_ruleset": 444,
    "landlock_restrict_self": 446,
}

MACHINES: Final[Mapping[str, Machine]] = {
    "x86_64": Machine(
        audit_arch=0xC000003E,
        numbers=_COMMON
        | {
            "read": 0,
            "write": 1,
            "mmap": 9,
            "mprotect": 10,
            "munmap": 11,
            "brk": 12,
            "rt_sigreturn": 15,
            "mremap": 25,
            "madvise": 28,
            "exit": 60,
            "exit_group": 231,
        },
    ),
    "aarch64": Machine(
        audit_arch=0xC00000B7,
        numbers=_COMMON
        | {
            "read": 63,
            "write": 64,
            "exit": 93,
            "exit_group": 94,
            "rt_sigreturn": 139,
            "brk": 214,
            "munmap": 215,
            "mremap": 216,
            "mmap": 222,
            "mprotect": 226,
            "madvise": 233,
        },
    ),
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.unshare.argtypes = [ctypes.c_int]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.setenv.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]


def machine() -> Machine:
    """Return the architecture we run on. Raises `Unavailable` when it is not one we know."""
    name = platform.machine()
    found = MACHINES.get(name)
    if found is None:
        raise Unavailable(f"no system call numbers for {name}")
    return found


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def syscall(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call by its name. Raises `OSError`."""
    number = machine().numbers[name]
    passed = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _checked(int(_libc.syscall(ctypes.c_long(number), *passed)))


def prctl(option: int, second: int = 0, third: int = 0, fourth: int = 0, fifth: int = 0) -> int:
    return _checked(int(_libc.prctl(option, second, third, fourth, fifth)))


def mount(source: bytes | None, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> None:
    _checked(int(_libc.mount(source, target, kind, flags, data)))


def unshare(flags: int) -> None:
    _checked(int(_libc.unshare(flags)))


def capset(header: bytes, data: bytes) -> None:
    _checked(int(_libc.capset(header, data)))


def mprotect(address: int, length: int, protection: int) -> None:
    _checked(int(_libc.mprotect(address, length, protection)))


def set_time_zone_in_libc(name: bytes) -> None:
    """Give libc a time zone that `os.environ` does not show, so that no zone file is ever looked for."""
    _checked(int(_libc.setenv(b"TZ", name, 1)))


def close_all_from(first: int) -> None:
    """Close every descriptor from `first` upwards, in one range call where the kernel has it."""
    try:
        syscall("close_range", first, 0xFFFF_FFFF, 0)
    except OSError:
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))
