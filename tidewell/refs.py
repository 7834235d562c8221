"""Names of functions: paths as text, and `api` / `internal` references.

One function has one canonical path, `dir/module:function`, however it was
written (`sync-protocol.md` 17.1).
"""

from __future__ import annotations

import keyword
import re
from typing import Any, Final

_COMPONENT: Final = re.compile(r"[A-Za-z0-9_.]{1,64}", re.ASCII)
_SPECIAL: Final = "__"  # what Python itself asks an object for starts like this


def canonical_path(text: str) -> str | None:
    """Return the canonical path of a function, or None when no function can have this name.

    `messages`, `messages:default` and `messages.js:default` are one function.
    """
    module, colon, function = text.rpartition(":")
    if not colon:
        module, function = text, "default"
    module = module.removesuffix(".js")
    if not (function.isascii() and function.isidentifier() and len(function) <= 64):
        return None
    for component in module.split("/"):
        if not _COMPONENT.fullmatch(component) or not any(map(str.isalnum, component)):
            return None
    return f"{module}:{function}"


def wire_name(name: str) -> str:
    """Return what clients call a Python name: `from_` is `from`, anything else is itself (`app-api.md` 1)."""
    stripped = name.removesuffix("_")
    return stripped if stripped != name and keyword.iskeyword(stripped) else name


class Reference:
    """A function named by attributes: `api.admin.reports.daily` is `"admin/reports:daily"`."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> Reference:
        if name.startswith(_SPECIAL):
            raise AttributeError(name)
        return Reference(*self._parts, name)

    def __repr__(self) -> str:
        return ".".join(self._parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and path_of(self) == path_of(other)

    def __hash__(self) -> int:
        return hash(path_of(self))


def reference_path(parts: tuple[str, ...]) -> str | None:
    """Return the path that a reference's attributes name; its first part is `api` or `internal`."""
    if len(parts) < 3:
        return None
    return canonical_path(f"{'/'.join(parts[1:-1])}:{wire_name(parts[-1])}")


def path_of(function: object) -> str | None:
    """Return the canonical path of a path or a reference; None for anything else."""
    if isinstance(function, Reference):
        return reference_path(function._parts)
    return canonical_path(function) if isinstance(function, str) else None


# References are typed by the tools that know the app; to a type checker they are Any.
api: Any = Reference("api")
internal: Any = Reference("internal")
