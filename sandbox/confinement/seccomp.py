"""The system-call filter: eleven calls, some with conditions, everything else kills.

The list is what a single-threaded process needs to compute and to answer. It
grows only after a review, with the reason written beside the entry.

Conditions:

* `read` and `write` on descriptor 0, the channel, and on nothing else;
* `mmap` of private anonymous memory only. No file, no descriptor, never
  executable, nothing shared (shared pages escape the data limit), not growing
  downwards (such a mapping counts as stack), no huge or locked pages;
* `mprotect` to nothing but combinations of read and write;
* `mremap` may move and resize, never leave the old pages behind;
* `madvise` gives memory back and does nothing else (merging equal pages, for
  one, would let a guest see what other processes hold).

A call through another ABI (32-bit, x32) kills as well. The program is classic
BPF; all arguments are compared over their full 64 bits.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Final

import attrs

from sandbox.confinement.system import MACHINES, Machine, Unavailable, machine, prctl

CHANNEL: Final = 0  # the descriptor of the channel

# Opcodes of classic BPF that the program uses.
_LOAD: Final = 0x20  # A = word at k
_JUMP_EQUAL: Final = 0x15  # if A == k
_AND: Final = 0x54  # A &= k
_RETURN: Final = 0x06

_ALLOW: Final = 0x7FFF_0000
_KILL_PROCESS: Final = 0x8000_0000

_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2

_PROT_READ_WRITE: Final = 0x3
_MAP_PRIVATE_ANONYMOUS: Final = 0x22
_MAP_HARMLESS: Final = 0x4000 | 0x20000  # NORESERVE, STACK: malloc's habits, without effect on limits
_MREMAP_MAYMOVE: Final = 0x1
_MADV_DONTNEED: Final = 4
_MADV_FREE: Final = 8


@attrs.frozen
class Condition:
    """Argument `index`, with the bits of `ignored` cleared, is one of `values`."""

    index: int
    values: tuple[int, ...]
    ignored: int = 0


RULES: Final[dict[str, tuple[Condition, ...]]] = {
    # The channel.
    "read": (Condition(0, (CHANNEL,)),),
    "write": (Condition(0, (CHANNEL,)),),
    # Memory, for malloc.
    "mmap": (
        Condition(2, (0,), ignored=_PROT_READ_WRITE),
        Condition(3, (_MAP_PRIVATE_ANONYMOUS,), ignored=_MAP_HARMLESS),
    ),
    "munmap": (),
    "brk": (),
    "mremap": (Condition(3, (0,), ignored=_MREMAP_MAYMOVE),),
    "mprotect": (Condition(2, (0,), ignored=_PROT_READ_WRITE),),
    "madvise": (Condition(2, (_MADV_DONTNEED, _MADV_FREE)),),
    # The end of the process, and of a signal handler that a fault signal found installed.
    "exit": (),
    "exit_group": (),
    "rt_sigreturn": (),
}


def _instruction(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, k)


def _word(index: int, *, high: bool) -> int:
    """Offset of half an argument in `struct seccomp_data`; both machines are little-endian."""
    return 16 + 8 * index + (4 if high else 0)


def _check(condition: Condition, to_kill: Callable[[int], int], start: int) -> list[bytes]:
    """Assemble one condition from instruction `start` on; it falls through when it holds."""
    assert condition.ignored < 2**32
    assert all(value < 2**32 for value in condition.values)
    program = [
        _instruction(_LOAD, _word(condition.index, high=True)),
        _instruction(_JUMP_EQUAL, 0, 0, to_kill(start + 1)),
        _instruction(_LOAD, _word(condition.index, high=False)),
    ]
    if condition.ignored:
        program.append(_instruction(_AND, ~condition.ignored & 0xFFFF_FFFF))
    for position, value in enumerate(condition.values):
        remaining = len(condition.values) - position - 1
        here = start + len(program)
        miss = 0 if remaining else to_kill(here)
        program.append(_instruction(_JUMP_EQUAL, value, remaining, miss))
    return program


def assemble(target: Machine) -> bytes:
    """Return the filter for `target`.

    Laid out as: architecture, then for each rule a test of the number that skips
    the rule's block, the block's checks, and its allow; last of all, kill.
    """
    lengths = {
        name: sum(3 + bool(each.ignored) + len(each.values) for each in conditions) + 1
        for name, conditions in RULES.items()
    }
    kill_at = 3 + sum(1 + length for length in lengths.values())

    def to_kill(position: int) -> int:
        distance = kill_at - position - 1
        assert 0 <= distance < 256, distance
        return distance

    program = [
        _instruction(_LOAD, 4),  # seccomp_data.arch
        _instruction(_JUMP_EQUAL, target.audit_arch, 0, to_kill(1)),
        _instruction(_LOAD, 0),  # seccomp_data.nr
    ]
    for name, conditions in RULES.items():
        program.append(_instruction(_JUMP_EQUAL, target.numbers[name], 0, lengths[name]))
        for condition in conditions:
            program += _check(condition, to_kill, len(program))
        program.append(_instruction(_RETURN, _ALLOW))
    assert len(program) == kill_at, (len(program), kill_at)
    program.append(_instruction(_RETURN, _KILL_PROCESS))
    return b"".join(program)


_programs: Final = {name: assemble(each) for name, each in MACHINES.items()}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install() -> None:
    """Put the filter in force, for good. Raises `Unavailable`; needs no-new-privileges."""
    here = machine()
    code = next(_programs[name] for name, each in MACHINES.items() if each is here)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    try:
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))
    except OSError as error:
        raise Unavailable(f"the kernel takes no system-call filter ({error.strerror})") from None
