"""What an attacker with native code would try inside a worker.

A payload is a function that gets the call's argument and returns a value. That
it returns means that the kernel let it. Numbers are those of x86-64.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

PAGE = 4096
MIB = 2**20
MAP_FAILED = 2**64 - 1
FREE = 0x22  # MAP_PRIVATE | MAP_ANONYMOUS

_buffer = ctypes.create_string_buffer(4096)
_texts = {
    "PATH": ctypes.create_string_buffer(b"/etc/passwd"),
    "PROC": ctypes.create_string_buffer(b"/proc/self/mem"),
    "SHELL": ctypes.create_string_buffer(b"/bin/sh"),
}
_ones = ctypes.create_string_buffer(b"\xff" * 8 + b"\xff" * 8)
_anywhere = libc.mmap(None, PAGE, 3, FREE, -1, 0)

ADDRESSES = {name: ctypes.addressof(text) for name, text in _texts.items()} | {
    "POINTER": ctypes.addressof(_buffer),
    "PAGE": _anywhere,
    "ONES": ctypes.addressof(_ones),
}

PAYLOADS: dict[str, Callable[[Any], Any]] = {}


def payload(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    PAYLOADS[function.__name__] = function
    return function


@payload
def syscall(arguments: list[str]) -> int:
    """Any system call, with raw arguments: numbers as text, or names of addresses."""
    numbers = [ADDRESSES[text] if text in ADDRESSES else int(text) for text in arguments]
    return int(libc.syscall(*[ctypes.c_ulong(number) for number in numbers]))


@payload
def syscall_errno(arguments: list[str]) -> int:
    """The same, with the error number as the answer; 0 when it did what it was asked."""
    ctypes.set_errno(0)
    return ctypes.get_errno() if syscall(arguments) == -1 else 0


@payload
def map_executable_and_run(_: Any) -> int:
    address = libc.mmap(None, PAGE, 7, FREE, -1, 0)
    ctypes.memmove(address, b"\xb8\x2a\x00\x00\x00\xc3", 6)  # mov eax, 42; ret
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())


@payload
def run_written_page(_: Any) -> int:
    """Jump into a page that may be written: the processor refuses, whoever wrote it."""
    address = libc.mmap(None, PAGE, 3, FREE, -1, 0)
    ctypes.memmove(address, b"\xb8\x2a\x00\x00\x00\xc3", 6)
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())


@payload
def make_page_executable(_: Any) -> int:
    return int(libc.mprotect(_anywhere, PAGE, 5))


@payload
def make_code_writable_and_back(_: Any) -> int:
    code = ctypes.cast(libc.getenv, ctypes.c_void_p).value
    assert code is not None
    page = code & ~(PAGE - 1)
    libc.mprotect(page, PAGE, 3)
    return int(libc.mprotect(page, PAGE, 5))


@payload
def old_interface_by_interrupt(_: Any) -> str:
    """The 32-bit interface: find `int 0x80` in code that is there, since none can be added."""
    for function in (libc.getenv, ctypes.pythonapi.PyObject_Repr, ctypes.pythonapi.PyDict_New):
        start = ctypes.cast(function, ctypes.c_void_p).value
        assert start is not None
        position = ctypes.string_at(start, 2**19).find(b"\xcd\x80")
        if position >= 0:
            ctypes.CFUNCTYPE(ctypes.c_int)(start + position)()
            return "it went on"
    return "no such instruction"


@payload
def vsyscall_page(_: Any) -> int:
    return int(ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p)(0xFFFFFFFFFF600400)(None))


@payload
def libc_function(arguments: list[Any]) -> int:
    name, *rest = arguments
    return int(getattr(libc, name)(*rest))


@payload
def python_call(arguments: list[Any]) -> str:
    """A call into the `os` module, the way plain Python would do it."""
    name, *rest = arguments
    return repr(getattr(os, name)(*rest))


@payload
def read_memory_of_nobody(_: Any) -> int:
    return len(ctypes.string_at(0xDEAD0000, 8))


@payload
def overflow_the_stack(_: Any) -> int:
    sys.setrecursionlimit(10**8)

    def descend(depth: int) -> int:
        return sorted([depth], key=descend)[0]

    return descend(0)


@payload
def hoard_by_malloc(_: Any) -> int:
    """Take memory until there is none, without telling Python."""
    libc.malloc.restype = ctypes.c_void_p
    taken = 0
    while address := libc.malloc(ctypes.c_size_t(MIB)):
        libc.memset(address, 1, MIB)
        taken += MIB
    return taken


@payload
def hoard_by_brk(_: Any) -> int:
    libc.sbrk.restype = ctypes.c_void_p
    taken = 0
    while libc.sbrk(ctypes.c_long(MIB)) != MAP_FAILED:
        taken += MIB
    return taken


@payload
def hoard_read_only_pages(_: Any) -> int:
    """Fill a page range, then make it read-only: it leaves the data segment, and stays in memory."""
    taken = 0
    while (address := libc.mmap(None, MIB, 3, FREE, -1, 0)) != MAP_FAILED:
        libc.memset(address, 1, MIB)
        if libc.mprotect(address, MIB, 1) != 0:
            break
        taken += MIB
    return taken


@payload
def hoard_by_mremap(_: Any) -> int:
    libc.mremap.restype = ctypes.c_void_p
    address = libc.mmap(None, MIB, 3, FREE, -1, 0)
    size = MIB
    while True:
        moved = libc.mremap(
            ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_size_t(size + MIB), ctypes.c_int(1)
        )
        if moved == MAP_FAILED:
            return size
        address, size = moved, size + MIB


@payload
def hoard_reserved_pages(_: Any) -> int:
    """Reserve without rights, then make it writable."""
    taken = 0
    while (address := libc.mmap(None, MIB, 0, FREE | 0x4000, -1, 0)) != MAP_FAILED:
        if libc.mprotect(address, MIB, 3) != 0:
            break
        taken += MIB
    return taken


@payload
def hoard_in_python(_: Any) -> int:
    hoard = []
    while True:
        hoard.append(bytearray(os.path.sep.encode() * MIB))


@payload
def swallow_memory_errors(_: Any) -> int:
    hoard: list[bytes] = []
    try:
        while True:
            hoard.append(b"x" * (MIB + len(hoard)))
    except MemoryError:
        return len(hoard) * MIB


@payload
def spin(_: Any) -> None:
    while True:
        pass


@payload
def wait_for_more(_: Any) -> int:
    """Sleep, in the only way that is left: for bytes that do not come."""
    return len(os.read(0, 1))


@payload
def write_raw(data: bytes) -> int:
    return os.write(0, data)


@payload
def write_raw_and_take_time(data: bytes) -> int:
    os.write(0, data)
    return sum(1 for _ in range(3_000_000))


@payload
def write_raw_and_wait(data: bytes) -> int:
    os.write(0, data)
    return len(os.read(0, 1))


@payload
def write_raw_and_end(data: bytes) -> None:
    os.write(0, data)
    os._exit(0)


@payload
def flood(_: Any) -> None:
    data = struct.pack(">I", 60 * MIB) + bytes(60 * MIB)
    view = memoryview(data)
    while True:
        os.write(0, view)


@payload
def end(status: int) -> None:
    os._exit(status)


@payload
def clock_without_a_call(_: Any) -> bool:
    """The vDSO gives the time without a system call: a known gap, see the threat model on side channels."""
    import time

    return time.monotonic() > 0


@payload
def facts(_: Any) -> dict[str, Any]:
    """What plain Python in a worker can tell about itself."""
    return {
        "arguments": len(sys.argv),
        "environment": len(os.environ),
        "has_engine": any(name.split(".")[0] in ("engine", "trio") for name in sys.modules),
    }
