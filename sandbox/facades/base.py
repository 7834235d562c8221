"""What facades have in common: a frozen object with listed members, and checks of arguments by exact type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sandbox import policy
from sandbox.host import HostObject, shown

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

Builder = Callable[["GuestRuntime"], "Facade"]


class Facade(HostObject):
    """A module as guests see it. `members` is everything it shows."""

    __slots__ = ("_members", "_title")

    def __init__(self, title: str, members: Mapping[str, Any]) -> None:
        self._title = title
        self._members = {name: shown(member) for name, member in members.items()}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            try:
                return self._members[name]
            except KeyError:
                pass
        raise AttributeError(
            f"{self._title}.{name} is not available in functions, because only listed members are; "
            f"use one of {', '.join(sorted(self._members))}"
        )

    def __dir__(self) -> list[str]:
        return sorted(self._members)

    def _repr_(self) -> str:
        return f"<module '{self._title}'>"


def number(value: Any, what: str = "argument") -> Any:
    """Return `value` if it is an int or a float, subclasses of the host's included."""
    if isinstance(value, (int, float)):
        return value
    raise TypeError(f"{what} must be a number, not {kind_name(value)}")


def integer(value: Any, what: str = "argument", *, low: int | None = None, high: int | None = None) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {kind_name(value)}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{what} is out of range")
    return int(value)


def text(value: Any, what: str = "argument") -> str:
    if type(value) is not str:
        raise TypeError(f"{what} must be a str, not {kind_name(value)}")
    return value


def data(value: Any, what: str = "argument") -> bytes:
    if type(value) is not bytes:
        raise TypeError(f"{what} must be bytes, not {kind_name(value)}")
    return value


def kind_name(value: Any) -> str:
    kind = type(value)
    return kind.__name__.lower() if isinstance(value, HostObject) else kind.__name__


def too_many(what: str = "items") -> ValueError:
    return ValueError(f"more than {policy.ITEMS_MAX} {what}")
