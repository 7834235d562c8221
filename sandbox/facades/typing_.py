"""`typing`: names for annotations. At run time they are inert."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any, Final

from sandbox.classes import ProtocolBase, ShapeMaker, TypedDictBase
from sandbox.facades.base import Facade
from sandbox.facades.named import from_class
from sandbox.faces import Face
from sandbox.policy import words

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

_NAMES: Final = words(
    "Annotated Any Callable ClassVar Dict Final FrozenSet Hashable Iterable Iterator List Literal Mapping "
    "MutableMapping MutableSequence Never NoReturn NotRequired Optional Required Self Sequence Set "
    "Sized Tuple Type "
    "TypeAlias Union Generator Collection Container"
)


def build(runtime: GuestRuntime) -> Facade:
    members: dict[str, Any] = {name: Face(name, (), annotation=getattr(typing, name)) for name in _NAMES}

    def cast(kind: Any, value: Any) -> Any:
        return value

    def type_var(name: Any, *bounds: Any, **options: Any) -> Face:
        return Face("TypeVar", (), annotation=typing.Any)

    def new_type(name: Any, base: Any) -> Any:
        return base

    def same(value: Any) -> Any:
        return value

    def assert_never(value: Any) -> Any:
        raise AssertionError(f"expected code to be unreachable, but got: {runtime.texts.repr(value)}")

    members |= {
        "TYPE_CHECKING": False,
        "Generic": Face("Generic", (), base=ProtocolBase, annotation=typing.Any),
        "NamedTuple": Face(
            "NamedTuple", (), base=ShapeMaker(lambda name, body: from_class(runtime, name, body))
        ),
        "NewType": new_type,
        "Protocol": Face("Protocol", (), base=ProtocolBase, annotation=typing.Any),
        "TypeVar": type_var,
        "TypedDict": Face("TypedDict", dict, base=TypedDictBase, annotation=dict),
        "assert_never": assert_never,
        "cast": cast,
        "final": same,
        "overload": same,
        "runtime_checkable": same,
    }
    return Facade("typing", members)
