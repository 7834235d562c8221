"""Entries whose walls have a hole, to see that the hole is noticed, and what stands behind it.

The changes are made at import, in the zygote of the test that asks for them.
"""

from __future__ import annotations

import os

import native_entry

from sandbox.confinement import landlock, seccomp, system
from sandbox.worker import Channel, serve


def _nothing() -> None:
    """In place of a layer: it says it is in force, and is not."""


def _unavailable() -> None:
    raise system.Unavailable("taken away by a test")


def serve_without_filter(channel: Channel, argument: str) -> None:
    """All layers but the filter, which claims to be there."""
    seccomp.install = _nothing
    native_entry.serve_native(channel, argument)


def serve_with_unavailable_filter(channel: Channel, argument: str) -> None:
    seccomp.install = _unavailable
    native_entry.serve_native(channel, argument)


def serve_without_landlock(channel: Channel, argument: str) -> None:
    landlock.restrict = _unavailable
    native_entry.serve_native(channel, argument)


def serve_with_sockets(channel: Channel, argument: str) -> None:
    """A filter with one call too many: 41 is `socket`."""
    target = system.machine()
    widened = system.Machine(target.audit_arch, {**target.numbers, "socket": 41})
    seccomp.RULES["socket"] = ()
    program = seccomp.assemble(widened)
    for name in seccomp._programs:
        seccomp._programs[name] = program
    native_entry.serve_native(channel, argument)


def serve_without_database(channel: Channel, argument: str) -> None:
    def open_database() -> int:
        raise FileNotFoundError("no such database")

    serve(channel, open_database, native_entry.NativeHandler())


def serve_with_open_files(channel: Channel, argument: str) -> None:
    """A database that leaves descriptors open, as LMDB does."""

    def open_database() -> int:
        return len([os.open("/", os.O_RDONLY) for _ in range(5)])

    serve(channel, open_database, native_entry.NativeHandler())
