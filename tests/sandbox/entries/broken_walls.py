"""Entries whose walls have a hole, to see that the hole is noticed, and what stands behind it.

The changes are made in the zygote of the test that asks for them.
"""

from __future__ import annotations

import os
from functools import partial

import native_entry

from sandbox.confinement import landlock, seccomp, system
from sandbox.worker import serve
from sandbox.zygote import Serve


def _nothing() -> None:
    """In place of a layer: it says it is in force, and is not."""


def _unavailable() -> None:
    raise system.Unavailable("taken away by a test")


def serve_without_filter(argument: str) -> Serve:
    """All layers but the filter, which claims to be there."""
    seccomp.install = _nothing
    return native_entry.serve_native(argument)


def serve_with_unavailable_filter(argument: str) -> Serve:
    seccomp.install = _unavailable
    return native_entry.serve_native(argument)


def serve_without_landlock(argument: str) -> Serve:
    landlock.restrict = _unavailable
    return native_entry.serve_native(argument)


def serve_with_sockets(argument: str) -> Serve:
    """A filter with one call too many: 41 is `socket`."""
    target = system.machine()
    widened = system.Machine(target.audit_arch, {**target.numbers, "socket": 41})
    seccomp.RULES["socket"] = ()
    program = seccomp.assemble(widened)
    for name in seccomp._programs:
        seccomp._programs[name] = program
    return native_entry.serve_native(argument)


def serve_without_database(argument: str) -> Serve:
    def open_database() -> int:
        raise FileNotFoundError("no such database")

    return partial(serve, open_database=open_database, handler=native_entry.NativeHandler())


def serve_with_open_files(argument: str) -> Serve:
    """A database that leaves descriptors open, as LMDB does."""

    def open_database() -> int:
        return len([os.open("/", os.O_RDONLY) for _ in range(5)])

    return partial(serve, open_database=open_database, handler=native_entry.NativeHandler())
