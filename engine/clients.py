"""Who is at the other end, as far as it matters: a name and a version (protocol, 1.2)."""

from __future__ import annotations

import re
from typing import Final

import attrs

_CLIENT: Final = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_.]*)-(?P<version>.*)")
_VERSION: Final = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:[-+][0-9A-Za-z.+-]*)?", re.ASCII)


@attrs.frozen
class Client:
    """Who is at the other end: `npm`, `python`, `rust` or any other name, and its version."""

    name: str = "unknown"
    version: tuple[int, ...] = ()

    @property
    def takes_chunks(self) -> bool:
        return self.name == "npm" and self.version >= (1, 28, 0)


def read_client(header: str | None) -> Client:
    """Return whom a `Convex-Client` header (`npm-1.48.0`) names; anyone may call, under any name."""
    match = _CLIENT.match(header or "")
    if match is None:
        return Client()
    return Client(match["name"].lower(), read_version(match["version"]))


def read_version(text: str) -> tuple[int, ...]:
    """Return the numbers of a semantic version, its pre-release part left out; () for anything else."""
    match = _VERSION.fullmatch(text)
    return () if match is None else tuple(map(int, match.group(1, 2, 3)))
