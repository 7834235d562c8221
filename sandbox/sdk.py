"""The module `tidewell` as guests import it: the names of `app-api.md`, made of host objects.

Declarations are cheap here, because a module's body runs for every call: a
decorator keeps what it was given, and only the loader's analysis, at push time,
turns it into validators and complains. What stands for a validator or an
annotation is translated by `meaning`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import tidewell
from sandbox.classes import is_guest_class
from sandbox.faces import Face, real
from sandbox.host import HostObject, Named
from tidewell.builders import v
from tidewell.errors import AppError, FunctionError, InvalidFunctionCall
from tidewell.functions import Kind, Visibility, check_retries, direct_call_message
from tidewell.refs import canonical_path, reference_path
from tidewell.schema import Schema, Table, table
from tidewell.validators import InvalidValidator, ObjectValidator, Validator
from tidewell.values import MISSING, OBJECT_ENTRIES_MAX, Int64

EXCEPTIONS: Final = (AppError, FunctionError)  # the host's exceptions that a guest may name and derive from

VALIDATOR_PARTS_MAX: Final = 10_000
VALIDATOR_DEPTH_MAX: Final = 64  # as deep as values may be


def meaning(value: Any) -> Any:
    """Return what a guest's validator, annotation, or dict of these stands for outside the sandbox."""
    if isinstance(value, GuestValidator):
        return value._validator
    if type(value) is dict:
        if len(value) > OBJECT_ENTRIES_MAX:
            raise InvalidValidator(f"more than {OBJECT_ENTRIES_MAX} fields")
        return {name: meaning(item) for name, item in value.items()}
    if is_guest_class(value) and not isinstance(getattr(value, "_annotation_", None), Validator):
        raise InvalidValidator(
            f"the class {value.__name__} can stand in annotations of functions; here, write v.object({{...}})"
        )
    return real(value)


# ---- validators ------------------------------------------------------------------


class GuestValidator(HostObject):
    """A validator in a guest's hands. It cannot be run from there.

    Args:
      parts: what it was made of. Parts may be shared, so that few lines make a validator of
        endless size; what is counted is the size it has when it is written out.
    """

    __slots__ = ("_depth", "_size", "_validator")

    def __init__(self, validator: Validator, parts: Sequence[GuestValidator] = ()) -> None:
        self._validator = validator
        self._size: int = 1 + sum(part._size for part in parts)
        self._depth: int = 1 + max((part._depth for part in parts), default=0)
        if self._size > VALIDATOR_PARTS_MAX or self._depth > VALIDATOR_DEPTH_MAX:
            raise InvalidValidator(
                f"a validator of more than {VALIDATOR_PARTS_MAX} parts, or deeper than {VALIDATOR_DEPTH_MAX}"
            )

    def _real_(self) -> Validator:
        """In an annotation it stands for itself."""
        return self._validator


class GuestObjectValidator(GuestValidator):
    __slots__ = ()
    _exposed_ = frozenset({"extend", "omit", "partial", "pick"})

    def _object(self) -> ObjectValidator:
        assert isinstance(self._validator, ObjectValidator)
        return self._validator

    def pick(self, *names: Any) -> GuestValidator:
        return _shown(self._object().pick(*names), [self])

    def omit(self, *names: Any) -> GuestValidator:
        return _shown(self._object().omit(*names), [self])

    def extend(self, fields: Any) -> GuestValidator:
        return _shown(self._object().extend(meaning(fields)), [self, *_parts_of(fields)])

    def partial(self) -> GuestValidator:
        return _shown(self._object().partial(), [self])


def _shown(validator: Validator, parts: Sequence[GuestValidator] = ()) -> GuestValidator:
    kind = GuestObjectValidator if isinstance(validator, ObjectValidator) else GuestValidator
    return kind(validator, parts)


def _parts_of(value: Any) -> list[GuestValidator]:
    """Return the validators in an argument, after `meaning` has found it to be one."""
    if isinstance(value, GuestValidator):
        return [value]
    if type(value) is dict:
        return [part for item in value.values() for part in _parts_of(item)]
    return []


class Builder(HostObject):
    """One method of `v`: takes guest spellings, gives a guest's validator."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., Validator]) -> None:
        self._build = build

    def __call__(self, *arguments: Any) -> GuestValidator:
        built = self._build(*map(meaning, arguments))
        return _shown(built, [part for argument in arguments for part in _parts_of(argument)])


class LiteralBuilder(HostObject):
    """`v.literal`, whose argument is a value and not a validator."""

    __slots__ = ()

    def __call__(self, value: Any) -> GuestValidator:
        return _shown(v.literal(value))


class Members(HostObject):
    """A frozen object with listed members: the module itself, and `v`."""

    __slots__ = ("_members", "_title")

    def __init__(self, title: str, members: Mapping[str, Any]) -> None:
        self._title = title
        self._members = dict(members)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            try:
                return self._members[name]
            except KeyError:
                if self._title == "tidewell" and name in tidewell.NOT_YET:
                    missing = tidewell.NOT_YET[name]
                    raise ImportError(
                        f"{name} is not available: this version of Tidewell does not have {missing}"
                    ) from None
        raise AttributeError(f"{self._title} has no attribute '{name}'")

    def __dir__(self) -> list[str]:
        return sorted(self._members)


_BUILDERS: Final = frozenset(
    {
        "any",
        "array",
        "boolean",
        "bytes",
        "commit_ts",
        "float64",
        "id",
        "int64",
        "null",
        "nullable",
        "number",
        "object",
        "optional",
        "pagination_opts",
        "record",
        "string",
        "union",
    }
)


# ---- functions -------------------------------------------------------------------


class Declared(HostObject):
    """What a decorated function is: a name to be called by its path, not a callable."""

    __slots__ = ("_args", "_handler", "_kind", "_retries", "_returns", "_visibility")

    def __init__(
        self, kind: Kind, visibility: Visibility, handler: Any, args: Any, returns: Any, retries: Any
    ) -> None:
        self._kind: Kind = kind
        self._visibility: Visibility = visibility
        self._handler = handler
        self._args = args
        self._returns = returns
        self._retries = retries

    def __call__(self, *arguments: Any, **keywords: Any) -> NoReturn:
        raise InvalidFunctionCall(direct_call_message(self._kind, self._handler.__name__))


class Decorating(HostObject):
    """A decorator with its options given, waiting for the function."""

    __slots__ = ("_options",)

    def __init__(self, *options: Any) -> None:
        self._options = options

    def __call__(self, handler: Any) -> Declared:
        kind, visibility, args, returns, retries = self._options
        if not hasattr(handler, "__code__"):
            raise InvalidValidator(f"@{kind} stands above a function")
        return Declared(kind, visibility, handler, args, returns, retries)


class GuestDecorator(HostObject):
    """`query` and its siblings: bare, or with options."""

    __slots__ = ("_kind", "_visibility")

    def __init__(self, kind: Kind, visibility: Visibility) -> None:
        self._kind: Kind = kind
        self._visibility: Visibility = visibility

    def __call__(
        self, handler: Any = None, /, *, args: Any = None, returns: Any = None, retries: Any = None
    ) -> Any:
        check_retries(retries, self._kind)
        decorating = Decorating(self._kind, self._visibility, args, returns, retries)
        return decorating if handler is None else decorating(handler)


_PARTS_MAX: Final = 64  # each is copied for the next one


class GuestReference(Named):
    """`api.posts.list`; see `tidewell.refs`."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> GuestReference:
        if name.startswith("_"):
            raise AttributeError(f"a reference has no attribute '{name}'")
        return self._name_(name)

    def _name_(self, name: str) -> GuestReference:
        if len(self._parts) > _PARTS_MAX:
            raise AttributeError(f"a reference has at most {_PARTS_MAX} parts")
        return GuestReference(*self._parts, name)

    def _repr_(self) -> str:
        return ".".join(self._parts)


def path_named(function: Any) -> str:
    """Return the canonical path that a guest means by a text or a reference. Raises `InvalidFunctionCall`."""
    path = None
    if type(function) is str:
        path = canonical_path(function)
    elif isinstance(function, GuestReference):
        path = reference_path(function._parts)
    elif isinstance(function, Declared):
        raise InvalidFunctionCall(
            "name the function by its path or a reference: 'module:function' or api.module.function"
        )
    if path is None:
        raise InvalidFunctionCall(
            "a function is named by its path, 'module:function', or by api.module.function"
        )
    return path


# ---- schema ----------------------------------------------------------------------


class GuestTable(HostObject):
    __slots__ = ("_parts", "_table")
    _exposed_ = frozenset({"index", "search_index"})

    def __init__(self, table: Table, parts: Sequence[GuestValidator]) -> None:
        self._table = table
        self._parts = parts

    def index(self, name: Any, *fields: Any, unique: Any = False, staged: Any = False) -> GuestTable:
        return GuestTable(self._table.index(name, *fields, unique=unique, staged=staged), self._parts)

    def search_index(self, name: Any, *, search_field: Any, filter_fields: Any = ()) -> GuestTable:
        if type(filter_fields) not in (list, tuple):
            raise InvalidValidator("filter_fields is a list of field paths")
        return GuestTable(
            self._table.search_index(name, search_field=search_field, filter_fields=filter_fields),
            self._parts,
        )


class TableMaker(HostObject):
    __slots__ = ()

    def __call__(self, document: Any = None, /, **fields: Any) -> GuestTable:
        return GuestTable(
            table(meaning(document), **{name: meaning(field) for name, field in fields.items()}),
            [*_parts_of(document), *_parts_of(fields)],
        )


class GuestSchema(HostObject):
    __slots__ = ("_parts", "_schema")
    _exposed_ = frozenset({"doc", "id"})

    def __init__(self, schema: Schema, parts: Mapping[str, Sequence[GuestValidator]]) -> None:
        self._schema = schema
        self._parts = parts

    def doc(self, name: Any) -> GuestValidator:
        return _shown(self._schema.doc(name), self._parts[name])

    def id(self, name: Any) -> GuestValidator:
        return _shown(self._schema.id(name))


class SchemaMaker(HostObject):
    __slots__ = ()

    def __call__(self, tables: Any = None, /, *, schema_validation: Any = True, **named: Any) -> GuestSchema:
        if tables is not None and type(tables) is not dict:
            raise InvalidValidator("Schema() takes tables by name, or one dict of them")
        merged = {**(tables or {}), **named}
        opened = {name: _table_of(name, entry) for name, entry in merged.items()}
        parts = {name: entry._parts for name, entry in merged.items()}
        return GuestSchema(Schema(opened, schema_validation=schema_validation), parts)


def _table_of(name: Any, entry: Any) -> Table:
    if not isinstance(entry, GuestTable):
        raise InvalidValidator(f"{name} must be table(...), found a {type(entry).__name__}")
    return entry._table


def _make_int64(value: Any = 0) -> Int64:
    if not isinstance(value, int):
        raise TypeError(f"Int64() takes an int, found a {type(value).__name__}")
    return Int64(value)


def build_module(more: Mapping[str, Any] | None = None) -> Members:
    """Return the module `tidewell` of guests, with `more` names in it. It holds no state, so one serves
    a whole worker."""
    builders: dict[str, Any] = {name: Builder(getattr(v, name)) for name in sorted(_BUILDERS)}
    builders["literal"] = LiteralBuilder()
    decorators: dict[str, Any] = {}
    kinds: tuple[Kind, ...] = ("query", "mutation", "action")
    for kind in kinds:
        decorators[kind] = GuestDecorator(kind, "public")
        decorators[f"internal_{kind}"] = GuestDecorator(kind, "internal")
    return Members(
        "tidewell",
        {
            **decorators,
            **(more or {}),
            "AppError": AppError,
            "FunctionError": FunctionError,
            "Id": Face("Id", str, annotation=tidewell.Id),
            "Int64": Face("Int64", Int64, _make_int64, annotation=Int64),
            "MISSING": MISSING,
            "PaginationOpts": Face("PaginationOpts", dict, annotation=tidewell.PaginationOpts),
            "Schema": SchemaMaker(),
            "api": GuestReference("api"),
            "internal": GuestReference("internal"),
            "table": TableMaker(),
            "v": Members("v", builders),
        },
    )
