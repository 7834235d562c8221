"""The filter's program, run by a small interpreter: every machine we know, on whichever we are."""

from __future__ import annotations

import struct

import pytest

from sandbox.confinement import seccomp
from sandbox.confinement.system import MACHINES

ALLOW, KILL = 0x7FFF_0000, 0x8000_0000
I386, HIGH = 0x4000_0003, 2**32
RW, FREE = 3, 0x22


def run(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """Interpret classic BPF over one `struct seccomp_data`."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(*arguments, *[0] * (6 - len(arguments))))
    counter = accumulator = 0
    while True:
        code, if_true, if_false, k = struct.unpack_from("=HBBI", program, 8 * counter)
        counter += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, k)
            case 0x54:
                accumulator &= k
            case 0x15:
                counter += if_true if accumulator == k else if_false
            case 0x06:
                return int(k)
            case _:
                pytest.fail(f"instruction {code:#x}")


@pytest.fixture(params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def verdict(machine: str, name: str, *arguments: int) -> int:
    target = MACHINES[machine]
    return run(seccomp.assemble(target), target.audit_arch, target.numbers[name], *arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("read", (0, 1, 100)),
        ("write", (0, 1, 100)),
        ("mmap", (0, 4096, RW, FREE, 2**64 - 1, 0)),
        ("mmap", (0, 4096, 0, FREE | 0x4000, 2**64 - 1, 0)),
        ("munmap", (1, 2)),
        ("brk", (2**40,)),
        ("mremap", (2**40, 1, 2, 1)),
        ("mprotect", (2**40, 1, 0)),
        ("mprotect", (2**40, 1, 1)),
        ("mprotect", (2**40, 1, RW)),
        ("madvise", (2**40, 1, 4)),
        ("madvise", (2**40, 1, 8)),
        ("exit", (0,)),
        ("exit_group", (0,)),
        ("rt_sigreturn", ()),
    ],
)
def test_filter_allows(machine: str, name: str, arguments: tuple[int, ...]) -> None:
    assert verdict(machine, name, *arguments) == ALLOW


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("read", (1, 1, 100)),
        ("read", (HIGH, 1, 100)),
        ("write", (2, 1, 100)),
        ("write", (2**32 - 1, 1, 100)),
        ("mmap", (0, 4096, RW | 4, FREE, 0, 0)),
        ("mmap", (0, 4096, RW | HIGH, FREE, 0, 0)),
        ("mmap", (0, 4096, RW, 0x02, 0, 0)),
        ("mmap", (0, 4096, RW, 0x21, 0, 0)),
        ("mmap", (0, 4096, RW, FREE | HIGH, 0, 0)),
        ("mmap", (0, 4096, RW, FREE | 0x100, 0, 0)),
        ("mremap", (0, 1, 2, 3, 0)),
        ("mremap", (0, 1, 2, 5, 0)),
        ("mprotect", (0, 1, 4)),
        ("mprotect", (0, 1, HIGH)),
        ("madvise", (0, 1, 12)),
        ("madvise", (0, 1, 4 + HIGH)),
        ("close_range", (0, 1)),
        ("landlock_create_ruleset", ()),
    ],
)
def test_filter_kills(machine: str, name: str, arguments: tuple[int, ...]) -> None:
    assert verdict(machine, name, *arguments) == KILL


def test_filter_kills_every_number_of_other_architectures(machine: str) -> None:
    program = seccomp.assemble(MACHINES[machine])
    others = {I386, 0x4000_0028, *(each.audit_arch for name, each in MACHINES.items() if name != machine)}
    for arch in others:
        assert {run(program, arch, number) for number in range(500)} == {KILL}


def test_filter_kills_x32_numbers() -> None:
    target = MACHINES["x86_64"]
    program = seccomp.assemble(target)
    assert {run(program, target.audit_arch, 0x4000_0000 + number) for number in range(600)} == {KILL}


def test_filter_has_eleven_system_calls() -> None:
    """The list grows after a review only: this number is part of the threat model."""
    assert len(seccomp.RULES) == 11
