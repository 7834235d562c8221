"""Facades: what guests get when they import a standard module. One file each, members listed one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime


def build(name: str, runtime: GuestRuntime) -> Any:
    """Return the facade of the module `name` over one runtime."""
    from sandbox.facades import registry

    return registry.BUILDERS[name](runtime)
