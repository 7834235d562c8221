"""`dataclasses`: the constructor, text, comparison and hash of a class from its annotated names.

The methods are the host's, charge the meter, and run no code of the guest. The
annotations themselves are never evaluated; their names come from the class body.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sandbox import costs
from sandbox.classes import FrozenGuestType, install, is_guest_class, is_guest_instance
from sandbox.facades.base import Facade
from sandbox.faces import Face
from sandbox.host import HostObject, shown

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

_ABSENT: Final = object()
_DEPTH_MAX: Final = 32


class FieldSpec(HostObject):
    """What `field(...)` gives, and what `fields(...)` lists."""

    __slots__ = ("_factory", "_init", "_kw_only", "_repr", "_value", "name")
    _exposed_ = frozenset({"name"})

    def __init__(self, default: Any, factory: Any, init: bool, shown: bool, kw_only: bool) -> None:
        self.name = ""
        self._value = default
        self._factory = factory
        self._init = init
        self._repr = shown
        self._kw_only = kw_only

    @property
    def _optional(self) -> bool:
        return self._value is not _ABSENT or self._factory is not None

    def _default(self) -> Any:
        return self._factory() if self._factory is not None else self._value


def field(
    *,
    default: Any = _ABSENT,
    default_factory: Any = None,
    init: Any = True,
    repr: Any = True,  # noqa: A002  # the name that users write
    compare: Any = True,
    hash: Any = None,  # noqa: A002  # the name that users write
    metadata: Any = None,
    kw_only: Any = False,
) -> FieldSpec:
    if default is not _ABSENT and default_factory is not None:
        raise ValueError("cannot specify both default and default_factory")
    return FieldSpec(default, default_factory, bool(init), bool(repr), bool(kw_only))


def specs_of(cls: Any) -> dict[str, FieldSpec]:
    table = cls.__dict__.get("_dataclass_")
    if table is None:
        raise TypeError("a dataclass is needed")
    return table  # type: ignore[no-any-return]  # written by `_decorate` alone


def _collect(cls: type, kw_only: bool) -> dict[str, FieldSpec]:
    table: dict[str, FieldSpec] = {}
    own = cls.__dict__
    for base in reversed(cls.__mro__[1:]):
        table.update(base.__dict__.get("_dataclass_", {}))
    for name in own.get("_fields_", ()):
        given = own.get(name, _ABSENT)
        spec = given if isinstance(given, FieldSpec) else FieldSpec(given, None, True, True, kw_only)
        if type(spec._value) in (list, dict) or type(spec._value).__name__ == "Set":
            raise ValueError(f"mutable default for field {name}; use field(default_factory=...)")
        spec.name = name
        table[name] = spec
    optional = None
    for name, spec in table.items():
        if spec._init and not spec._kw_only:
            if spec._optional:
                optional = name
            elif optional is not None:
                raise TypeError(f"non-default argument '{name}' follows default argument '{optional}'")
    return table


def _decorate(runtime: GuestRuntime, cls: Any, options: dict[str, Any]) -> Any:
    if not is_guest_class(cls):
        raise TypeError("dataclass decorates a class of yours")
    runtime.meter.charge(costs.CLASS)
    table = _collect(cls, bool(options.get("kw_only")))
    runtime.meter.charge(len(table))
    install(cls, "_dataclass_", table)
    names = tuple(table)
    for name, spec in table.items():
        if isinstance(cls.__dict__.get(name), FieldSpec):
            if spec._value is not _ABSENT:
                install(cls, name, spec._value)
            else:
                type.__delattr__(cls, name)
    if options.get("init", True) and "__init__" not in cls.__dict__:
        install(cls, "__init__", _constructor(runtime, cls.__name__, table))
    install(cls, "__match_args__", tuple(name for name in names if not table[name]._kw_only))
    if options.get("eq", True):
        install(cls, "__eq__", _equality(runtime, names))
        install(cls, "__hash__", _hash(runtime, names) if options.get("frozen") else None)
    if options.get("order"):
        for operate in (operator.lt, operator.le, operator.gt, operator.ge):
            install(cls, f"__{operate.__name__}__", _ordering(runtime, names, operate))
    if options.get("frozen"):
        type.__setattr__(cls, "__class__", FrozenGuestType)
    return cls


def _constructor(runtime: GuestRuntime, title: str, table: dict[str, FieldSpec]) -> Callable[..., None]:
    positional = [name for name, spec in table.items() if spec._init and not spec._kw_only]
    charge, steps = runtime.meter.charge, 1 + len(table) // costs.FIELDS

    def construct(self: Any, /, *args: Any, **kwargs: Any) -> None:
        charge(steps)
        if len(args) > len(positional):
            raise TypeError(f"{title}() takes {len(positional)} positional arguments, {len(args)} were given")
        given = dict(zip(positional, args, strict=False))
        for name, value in kwargs.items():
            spec = table.get(name)
            if spec is None or not spec._init:
                raise TypeError(f"{title}() got an unexpected keyword argument '{name}'")
            if name in given:
                raise TypeError(f"{title}() got multiple values for argument '{name}'")
            given[name] = value
        held = self.__dict__
        missing = []
        for name, spec in table.items():
            if name in given:
                held[name] = given[name]
            elif spec._optional:
                held[name] = spec._default()
            elif spec._init:
                missing.append(f"'{name}'")
        if missing:
            raise TypeError(f"{title}() missing required arguments: {', '.join(missing)}")

    return construct


def _values(instance: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    held = instance.__dict__
    return tuple(held.get(name) for name in names)


def _equality(runtime: GuestRuntime, names: tuple[str, ...]) -> Callable[[Any, Any], Any]:
    structure, charge, counted = runtime.structure, runtime.meter.charge, runtime.meter.counted
    steps = 1 + len(names) // costs.FIELDS

    def equal(self: Any, other: Any) -> Any:
        charge(steps)
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = _values(self, names), _values(other, names)
        structure.pair(mine, theirs)
        return counted(lambda: mine == theirs)

    return equal


def _hash(runtime: GuestRuntime, names: tuple[str, ...]) -> Callable[[Any], int]:
    structure, charge, counted = runtime.structure, runtime.meter.charge, runtime.meter.counted
    steps = 1 + len(names) // costs.FIELDS

    def hashed(self: Any) -> int:
        charge(steps)
        values = structure.lookup(_values(self, names))
        return counted(lambda: hash(values))  # type: ignore[no-any-return]  # a hash

    return hashed


def _ordering(
    runtime: GuestRuntime, names: tuple[str, ...], operate: Callable[[Any, Any], Any]
) -> Callable[[Any, Any], Any]:
    structure, charge, counted = runtime.structure, runtime.meter.charge, runtime.meter.counted
    steps = 1 + len(names) // costs.FIELDS

    def compare(self: Any, other: Any) -> Any:
        charge(steps)
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = _values(self, names), _values(other, names)
        structure.pair(mine, theirs)
        return counted(lambda: operate(mine, theirs))

    return compare


def build(runtime: GuestRuntime) -> Facade:
    charge = runtime.meter.charge

    def dataclass(cls: Any = None, /, **options: Any) -> Any:
        for name in options:
            if name not in (
                "init",
                "repr",
                "eq",
                "order",
                "frozen",
                "kw_only",
                "slots",
                "unsafe_hash",
                "match_args",
            ):
                raise TypeError(f"dataclass() got an unexpected keyword argument '{name}'")
        if cls is None:
            return shown(lambda decorated: _decorate(runtime, decorated, options))
        return _decorate(runtime, cls, options)

    def plain(value: Any, depth: int, keep: Callable[[dict[str, Any]], Any]) -> Any:
        charge(1)
        if depth > _DEPTH_MAX:
            raise ValueError(f"a value nested deeper than {_DEPTH_MAX}")
        kind = type(value)
        if is_guest_instance(value) and "_dataclass_" in kind.__dict__:
            return keep({name: plain(value.__dict__.get(name), depth + 1, keep) for name in specs_of(kind)})
        if kind is list:
            return [plain(item, depth + 1, keep) for item in value]
        if kind is tuple:
            return tuple(plain(item, depth + 1, keep) for item in value)
        if kind is dict:
            return {key: plain(item, depth + 1, keep) for key, item in value.items()}
        return value

    def instance(value: Any) -> Any:
        if not is_guest_instance(value):
            raise TypeError("an instance of a dataclass is needed")
        specs_of(type(value))
        return value

    def asdict(obj: Any) -> Any:
        return plain(instance(obj), 0, lambda fields: fields)

    def astuple(obj: Any) -> Any:
        return plain(instance(obj), 0, lambda fields: tuple(fields.values()))

    def replace(obj: Any, /, **changes: Any) -> Any:
        cls = type(instance(obj))
        charge(len(specs_of(cls)) // costs.FIELDS)
        kept = {
            name: obj.__dict__[name]
            for name, spec in specs_of(cls).items()
            if spec._init and name in obj.__dict__
        }
        return cls(**{**kept, **changes})

    def fields(obj: Any) -> tuple[FieldSpec, ...]:
        specs = specs_of(obj if is_guest_class(obj) else type(instance(obj)))
        charge(len(specs) // costs.COPY_ITEMS)
        return tuple(specs.values())

    def is_dataclass(obj: Any) -> bool:
        cls = obj if is_guest_class(obj) else type(obj)
        return is_guest_class(cls) and "_dataclass_" in cls.__dict__

    return Facade(
        "dataclasses",
        {
            "FrozenInstanceError": AttributeError,
            "InitVar": Face("InitVar", ()),
            "asdict": asdict,
            "astuple": astuple,
            "dataclass": dataclass,
            "field": field,
            "fields": fields,
            "is_dataclass": is_dataclass,
            "replace": replace,
        },
    )
