"""Landlock: give up every right to files, TCP and scopes that the running kernel knows.

The rule set handles all of them and makes no exception, so nothing is left.
What Landlock does not handle (datagram sockets, for one) is the filter's part.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from sandbox.confinement.system import Unavailable, syscall

_CREATE_RULESET_VERSION: Final = 1

# Rights by the ABI version that brought them; a later kernel knows all earlier ones.
_FILES: Final = ((1, 0x1FFF), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
_NETWORK: Final = ((4, 0b11),)
_SCOPES: Final = ((6, 0b11),)
_ABI_NETWORK: Final = 4
_ABI_SCOPES: Final = 6


def abi() -> int:
    """Return the version the kernel offers. Raises `Unavailable` when it offers none."""
    try:
        return syscall("landlock_create_ruleset", None, 0, _CREATE_RULESET_VERSION)
    except OSError as error:
        raise Unavailable(f"the kernel offers no Landlock ({error.strerror})") from None


def _rights(table: tuple[tuple[int, int], ...], version: int) -> int:
    return sum(bits for since, bits in table if since <= version)


def attributes(version: int) -> bytes:
    """Return `struct landlock_ruleset_attr` as far as this version knows it."""
    packed = struct.pack("=Q", _rights(_FILES, version))
    if version >= _ABI_NETWORK:
        packed += struct.pack("=Q", _rights(_NETWORK, version))
    if version >= _ABI_SCOPES:
        packed += struct.pack("=Q", _rights(_SCOPES, version))
    return packed


def restrict() -> None:
    """Put the empty rule set in force. Needs no-new-privileges."""
    packed = attributes(abi())
    try:
        ruleset = syscall("landlock_create_ruleset", packed, len(packed), 0)
        try:
            syscall("landlock_restrict_self", ruleset, 0)
        finally:
            os.close(ruleset)
    except OSError as error:
        raise Unavailable(f"Landlock refused ({error.strerror})") from None
