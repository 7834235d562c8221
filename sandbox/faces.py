"""Faces: what a guest holds instead of a class of the interpreter or the host.

`list`, `int`, `Decimal` and the rest are called, compared, used in `isinstance`
and in annotations, but never looked behind: a face shows the members listed for
it and nothing else. Constructors go through the meter.

Annotations evaluate over faces (`list[str]`, `int | None`); `real` turns the
result into ordinary typing objects, for whoever derives validators.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from sandbox.classes import is_guest_class
from sandbox.host import HostObject, shown

CLASSES_MAX: Final = 1_000  # in one `isinstance`


class Annotation(HostObject):
    """Base of everything that may stand in an annotation."""

    __slots__ = ()

    def __or__(self, other: Any) -> Any:
        return Union(self, other)

    def __ror__(self, other: Any) -> Any:
        return Union(other, self)


class Union(Annotation):
    __slots__ = ("_left", "_right")

    def __init__(self, left: Any, right: Any) -> None:
        self._left = left
        self._right = right

    def _real_(self) -> Any:
        return typing.Union[real(self._left), real(self._right)]  # noqa: UP007  # built from values


class Parameterized(Annotation):
    __slots__ = ("_arguments", "_face")

    def __init__(self, face: Any, arguments: Any) -> None:
        self._face = face
        self._arguments = arguments

    def _real_(self) -> Any:
        base = self._face._real_()
        if base is typing.Literal:
            return base[self._arguments]
        arguments = self._arguments
        if type(arguments) is tuple:
            return base[tuple(real(item) for item in arguments)]
        return base[real(arguments)]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._face(*args, **kwargs)


class Face(Annotation):
    """A class as guests see it.

    Args:
      name: what its text shows.
      kinds: what `isinstance` tests against.
      make: the constructor, metered; None for what cannot be constructed.
      members: what attribute access finds.
      annotation: what it means in an annotation.
      base: what it stands for in a class statement: a tenant-like class, or a `ShapeMaker`.
    """

    __slots__ = ("_annotation", "_base", "_kinds", "_make", "_members", "_title")

    def __init__(
        self,
        name: str,
        kinds: type | tuple[type, ...],
        make: Callable[..., Any] | None = None,
        members: Mapping[str, Any] | None = None,
        annotation: Any = None,
        base: Any = None,
    ) -> None:
        self._title = name
        self._kinds = kinds
        self._make = make
        self._members = {name: shown(member) for name, member in (members or {}).items()}
        self._annotation = annotation
        self._base = base

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._make is None:
            raise TypeError(f"{self._title} cannot be called")
        return self._make(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            try:
                return self._members[name]
            except KeyError:
                pass
        raise AttributeError(f"{self._title} has no attribute '{name}' in functions")

    def __getitem__(self, arguments: Any) -> Parameterized:
        return Parameterized(self, arguments)

    def __iter__(self) -> NoReturn:
        """Without this the interpreter would ask for item after item, for ever."""
        raise TypeError(f"the class {self._title} is not iterable")

    def _real_(self) -> Any:
        return self._annotation

    def _repr_(self) -> str:
        return f"<class '{self._title}'>"


def real(value: Any) -> Any:
    """Return the ordinary typing object that a guest's annotation stands for. Others are returned as
    they are.
    """
    if isinstance(value, HostObject) and hasattr(value, "_real_"):
        return value._real_()
    if type(value) is tuple:
        return tuple(real(item) for item in value)
    return value


def base_of(value: Any) -> Any:
    """Return what `value` stands for in the bases of a class statement."""
    if type(value) is Parameterized:
        value = value._face
    return value._base if type(value) is Face and value._base is not None else value


def _flattened(value: Any) -> list[type]:
    """Return the classes of tuples and unions, shared parts each time they are met, but only so many."""
    found: list[type] = []
    pending = [value]
    visited = 0
    while pending:
        visited += 1
        if visited + len(pending) > CLASSES_MAX:
            raise TypeError(f"more than {CLASSES_MAX} classes to test for")
        value = pending.pop()
        if type(value) is tuple:
            pending.extend(reversed(value))
        elif isinstance(value, Union):
            pending += (value._right, value._left)
        else:
            found += kinds_of(value)
    return found


def kinds_of(value: Any) -> tuple[type, ...]:
    """Return the classes that `isinstance` tests for `value`: a face, a tenant class, an exception or
    a tuple.
    """
    if type(value) is tuple or isinstance(value, Union):
        return tuple(_flattened(value))
    if isinstance(value, Face):
        kinds = value._kinds
        return kinds if type(kinds) is tuple else (kinds,)  # type: ignore[return-value]  # one class
    if value is None:
        return (type(None),)
    if is_guest_class(value) or (isinstance(value, type) and issubclass(value, Exception)):
        return (value,)
    raise TypeError("isinstance() arg 2 must be a class or a tuple of classes")
