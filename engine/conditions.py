"""The conditions under which a call ran that hundreds of thousands of others share.

Versions and limits change with an upgrade, not with a call. A record names them by a
digest of eight bytes, and the store keeps each set once, for as long as the store lives: a row
is some 200 bytes and there is one for each upgrade.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from typing import Final, Protocol

import msgspec

from sandbox import determinism, limits, policy
from sandbox.execution import NESTED_DEPTH_MAX
from sandbox.meter import COST_VERSION, DEPTH_DEFAULT, FUEL_DEFAULT
from storage import Store, StoreError

PREFIX: Final = b"record/conditions/"
NAME_BYTES: Final = 8


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay must find again to promise the same outcome (`function-semantics.md` 13.2)."""

    runtime: str  # interpreter, language policy, cost table
    generator: int  # of random numbers
    platform: str  # decides what transcendental functions of the C library give
    # Of function-semantics 19.2, and "steps" (fuel), "recursion" and "nested_calls" (depths).
    limits: dict[str, int]

    @property
    def name(self) -> bytes:
        return hashlib.sha256(_encoder.encode(self)).digest()[:NAME_BYTES]


_encoder = msgspec.msgpack.Encoder(order="sorted")
_decoder = msgspec.msgpack.Decoder(Conditions)


def _current() -> Conditions:
    version = sys.version_info
    return Conditions(
        runtime=(
            f"{sys.implementation.name}-{version.major}.{version.minor}"
            f"/policy-{policy.VERSION}-{policy.DIGEST[:12]}/costs-{COST_VERSION}"
        ),
        generator=determinism.VERSION,
        platform="-".join((platform.system(), platform.machine(), *platform.libc_ver())).lower(),
        limits={
            **limits.DEFAULTS,
            "steps": FUEL_DEFAULT,
            "recursion": DEPTH_DEFAULT,
            "nested_calls": NESTED_DEPTH_MAX,
        },
    )


CURRENT: Final = _current()
CURRENT_NAME: Final = CURRENT.name


class PrivateRows(Protocol):
    def private_get(self, key: bytes) -> bytes | None: ...


def keep_current(store: Store) -> None:
    """Write the conditions of this process down, unless they are. Before the first record names them."""
    if store.private_get(PREFIX + CURRENT_NAME) is None:
        store.write_private([(PREFIX + CURRENT_NAME, pack_conditions(CURRENT))])


def read_conditions(store: PrivateRows, name: bytes) -> Conditions:
    """Return the conditions that a record names. Raises `StoreError` when the store has lost them."""
    data = store.private_get(PREFIX + name)
    if data is None:
        raise StoreError(f"the conditions {name.hex()} that a record names are missing; run verify")
    return unpack_conditions(data)


def pack_conditions(conditions: Conditions) -> bytes:
    return _encoder.encode(conditions)


def unpack_conditions(data: bytes) -> Conditions:
    """Raises `msgspec.DecodeError` for what is none."""
    return _decoder.decode(data)
