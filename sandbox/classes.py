"""Classes of the tenant: how a class statement becomes a class, and what `super()` finds.

A tenant class is an ordinary class whose metaclass is `GuestType`, which adds
nothing and marks it: `type(type(x)) is GuestType` is the test for "an instance
whose attributes a guest may write". Its only special method is `__init__`; what
a dataclass compares and shows is done by methods of the host.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import attrs

from sandbox import costs, policy

_CLASS_KEYS = frozenset(
    {"__module__", "__qualname__", "__doc__", "__init__", "__firstlineno__", "_token_", "_fields_"}
)


class GuestType(type):
    """The metaclass of tenant classes, as a mark."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError("attributes of classes cannot be written; keep state in an instance or a dict")

    def __delattr__(cls, name: str) -> None:
        raise TypeError("attributes of classes cannot be deleted")


class FrozenGuestType(GuestType):
    """The metaclass of frozen dataclasses: guests may write no attributes of their instances."""


_GUEST_TYPES = (GuestType, FrozenGuestType)


class TypedDictBase(metaclass=GuestType):
    """Base of the shapes of dicts. The loader reads their fields; calling one makes a dict."""

    def __new__(cls, /, **values: Any) -> Any:
        return values


class ProtocolBase(metaclass=GuestType):
    """Base of classes that only type checkers look at, and what `Generic[T]` comes down to."""


_ARGUMENTS: Any = vars(BaseException)["args"]


def arguments_of(error: BaseException) -> tuple[Any, ...]:
    """Return the arguments of an exception, whatever a class of the tenant calls `args`."""
    args: tuple[Any, ...] = _ARGUMENTS.__get__(error)
    return args


def set_arguments(error: BaseException, args: tuple[Any, ...]) -> None:
    _ARGUMENTS.__set__(error, args)


class _Arguments:
    """`args` of the tenant's exceptions. The interpreter's own would pull an iterator dry, unmetered."""

    __slots__ = ()

    def __get__(self, error: BaseException | None, kind: type) -> tuple[Any, ...]:
        if error is None:
            raise AttributeError("args belongs to an exception, not to its class")
        return arguments_of(error)

    def __set__(self, error: BaseException, args: Any) -> None:
        if type(args) is not tuple:
            raise TypeError("the args of an exception are a tuple")
        set_arguments(error, args)


def is_guest_class(value: object) -> bool:
    return type(value) in _GUEST_TYPES


def is_guest_instance(value: object) -> bool:
    return type(type(value)) in _GUEST_TYPES


def fields_of(cls: type) -> tuple[str, ...]:
    """Return the annotated names of the class statement, in order. Own fields only."""
    found: tuple[str, ...] = cls.__dict__.get("_fields_", ())
    return found


def inherited_fields(cls: type) -> tuple[str, ...]:
    """Return the annotated names of the class and its bases, bases first."""
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        if is_guest_class(base):
            names.update(dict.fromkeys(fields_of(base)))
    return tuple(names)


def install(cls: type, name: str, value: object) -> None:
    """Write an attribute of a tenant class, which only the host does."""
    type.__setattr__(cls, name, value)


@attrs.frozen
class ShapeMaker:
    """A base whose subclasses are made by the host from the class body: `NamedTuple`."""

    make: Callable[[str, dict[str, Any]], Any]


def make_class(
    allowed_bases: frozenset[type], resolve: Callable[[Any], Any], charge: Callable[[int], None]
) -> Callable[..., Any]:
    """Return the hook that class statements call as their metaclass.

    Args:
      resolve: gives what a face stands for as a base, and everything else as it is.
    """

    def build(name: str, bases: tuple[Any, ...], body: dict[str, Any], **keywords: Any) -> Any:
        charge(costs.CLASS)
        real: list[type] = []
        for base in bases:
            base = resolve(base)
            if type(base) is ShapeMaker:
                return base.make(name, body)
            if is_guest_class(base) or (isinstance(base, type) and base in allowed_bases):
                real.append(base)
            else:
                raise TypeError(f"class {name}: a base must be a class of yours or an exception")
        if keywords and not any(issubclass(base, TypedDictBase) for base in real):
            raise TypeError(f"class {name}: keywords are for TypedDict")
        if len(real) > 8:
            raise TypeError(f"class {name}: too many bases")
        kept: dict[str, Any] = {}
        if any(issubclass(base, BaseException) for base in real):
            kept["args"] = _Arguments()
        for key, value in body.items():
            if not key.startswith("_") or key in _CLASS_KEYS:
                kept[key] = value
        if keywords:
            kept["_total_"] = bool(keywords.get("total", True))
        frozen = any(type(base) is FrozenGuestType for base in real)
        built = (FrozenGuestType if frozen else GuestType)(name, tuple(real), kept)
        if len(built.__mro__) > policy.DEPTH_MAX + 8:
            raise TypeError(f"class {name}: inheritance is nested too deeply")
        return built

    return build


def super_method(token: str, receiver: Any, name: str) -> Any:
    """Return what `super().name` means in a method of the class that `token` stands for."""
    if not is_guest_instance(receiver):
        raise TypeError("super() works in a method, on its first parameter")
    mro = type(receiver).__mro__
    for i, cls in enumerate(mro):
        if cls.__dict__.get("_token_") == token:
            rest = mro[i + 1 :]
            break
    else:
        raise TypeError("super() works in a method of the object's own class")
    for cls in rest:
        if is_guest_class(cls) and name in cls.__dict__:
            found = cls.__dict__[name]
            return types.MethodType(found, receiver) if type(found) is types.FunctionType else found
    if name == "__init__":
        if isinstance(receiver, Exception):
            base = next(cls for cls in rest if not is_guest_class(cls))
            return lambda *args: base.__init__(receiver, *args)  # type: ignore[misc]  # args of the exception
        return lambda: None
    raise AttributeError(f"'super' object has no attribute '{name}'")
