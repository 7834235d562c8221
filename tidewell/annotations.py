"""Annotations as validators: `author: Id["users"]`, `limit: int = 20`, `list[str] | None`.

Both spellings build one tree (`function-semantics.md` 6.2). This module reads
annotations that exist as objects. What stands for a validator inside the sandbox
(a guest's own class, say) carries it in `_annotation_`, or the reason why it stands for none.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, is_typeddict

import attrs

from tidewell.errors import InvalidValue
from tidewell.validators import (
    NULL,
    AnyValidator,
    ArrayValidator,
    IdValidator,
    Int64Validator,
    InvalidValidator,
    KindValidator,
    NumberValidator,
    ObjectValidator,
    RecordValidator,
    UnionValidator,
    Validator,
    literal,
    nullable,
    optional,
    required,
)
from tidewell.values import Int64, normalize, short_text

STRING: Final = KindValidator("string")


@attrs.frozen
class IdOf:
    """What `Id["users"]` means, as the metadata of an annotated `str`."""

    table: str


if TYPE_CHECKING:
    _Table = TypeVar("_Table")

    class Id(str, typing.Generic[_Table]):
        """The id of a document: `Id["users"]`. To handlers it is opaque text."""
else:

    class Id(str):
        """The id of a document: `Id["users"]`. To handlers it is opaque text."""

        __slots__ = ()

        def __class_getitem__(cls, table: object) -> Any:
            if type(table) is not str or not table:
                raise InvalidValidator('Id[...] takes the name of a table, as in Id["users"]')
            return typing.Annotated[str, IdOf(table)]


class PaginationOpts(TypedDict):
    """What a client sends as `paginationOpts`; hand it to `.paginate()` unchanged."""

    numItems: float
    cursor: str | None
    endCursor: typing.NotRequired[str | None]
    id: typing.NotRequired[float]
    maximumRowsRead: typing.NotRequired[float]
    maximumBytesRead: typing.NotRequired[float]


_PLAIN: Final[dict[Any, Validator]] = {
    str: STRING,
    bytes: KindValidator("bytes"),
    bool: KindValidator("boolean"),
    int: NumberValidator(integral=True),
    float: NumberValidator(),
    Int64: Int64Validator(),
    Id: STRING,
    None: NULL,
    type(None): NULL,
    Any: AnyValidator(),
    object: AnyValidator(),
    list: ArrayValidator(AnyValidator()),
    dict: RecordValidator(STRING, AnyValidator()),
    typing.List: ArrayValidator(AnyValidator()),  # noqa: UP006  # the old spelling is accepted too
    typing.Dict: RecordValidator(STRING, AnyValidator()),  # noqa: UP006  # as above
}


def to_validator(annotation: object, where: str = "") -> Validator:
    """Return the validator that an annotation, or a validator itself, stands for.

    Raises:
      InvalidValidator: naming `where` and what to write instead.
    """
    if isinstance(annotation, Validator):
        return annotation
    meaning = getattr(annotation, "_annotation_", None)
    if isinstance(meaning, Validator):
        return meaning
    if isinstance(meaning, InvalidValidator):
        raise InvalidValidator(f"{where}: {meaning}" if where else str(meaning))
    try:
        plain = _PLAIN.get(annotation)
    except TypeError:
        plain = None  # unhashable, so none of the plain ones
    if plain is not None:
        return plain
    built = _generic(annotation, where) or _structured(annotation)
    if built is None:
        place = f"{where}: " if where else ""
        shown = _shown(annotation)
        raise InvalidValidator(
            f"{place}{shown} is not an annotation that can be checked; use str, int, float, "
            'bool, bytes, None, list[...], dict[str, ...], Literal[...], Id["table"], a TypedDict or v.any()'
        )
    return built


def _shown(annotation: object) -> str:
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return short_text(annotation)
    name = getattr(typing.get_origin(annotation), "__name__", None)
    return f"{name}[...]" if name is not None else f"a {type(annotation).__name__}"


def _generic(annotation: Any, where: str) -> Validator | None:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        marks = [mark for mark in arguments[1:] if isinstance(mark, IdOf)]
        return IdValidator(marks[0].table) if marks else to_validator(arguments[0], where)
    if origin is typing.Union or origin is types.UnionType:
        return _union(arguments, where)
    if origin is list:
        return ArrayValidator(required(to_validator(arguments[0], where), "the element of list[...]"))
    if origin is dict:
        key, value = (to_validator(argument, where) for argument in arguments)
        if key != STRING and not isinstance(key, IdValidator):
            raise InvalidValidator(f"{where}: the keys of dict[...] are str or ids")
        return RecordValidator(key, required(value, "the values of dict[...]"))
    if origin is typing.Literal:
        members = tuple(NULL if argument is None else literal(argument) for argument in arguments)
        return members[0] if len(members) == 1 else UnionValidator(members)
    if origin in (typing.NotRequired, typing.Required):
        inner = to_validator(arguments[0], where)
        return optional(inner) if origin is typing.NotRequired else inner
    return None


def _union(arguments: tuple[Any, ...], where: str) -> Validator:
    members = [required(to_validator(argument, where), "a member of a union") for argument in arguments]
    flat: list[Validator] = []
    for member in members:
        parts = member.members if isinstance(member, UnionValidator) else (member,)
        flat.extend(part for part in parts if part not in flat and part != NULL)
    is_nullable = any(
        NULL in (member.members if isinstance(member, UnionValidator) else (member,)) for member in members
    )
    union = flat[0] if len(flat) == 1 else UnionValidator(tuple(flat))
    return nullable(union) if is_nullable else union


def _structured(annotation: object) -> Validator | None:
    """Classes whose fields have annotations of their own."""
    if not isinstance(annotation, type):
        return None
    if is_typeddict(annotation):
        keys: frozenset[str] = annotation.__optional_keys__  # type: ignore[attr-defined]  # a TypedDict has them
        hints = typing.get_type_hints(annotation, include_extras=True)
        fields = {name: to_validator(hint, f"{annotation.__name__}.{name}") for name, hint in hints.items()}
        return ObjectValidator(
            {name: optional(field) if name in keys else field for name, field in fields.items()}
        )
    if dataclasses.is_dataclass(annotation) or attrs.has(annotation):
        hints = typing.get_type_hints(annotation, include_extras=True)
        defaults = _fields_with_default(annotation)
        return ObjectValidator(
            {
                name: optional(validator) if name in defaults else validator
                for name, validator in (
                    (name, to_validator(hints.get(name, Any), f"{annotation.__name__}.{name}"))
                    for name in inspect.signature(annotation).parameters
                )
            }
        )
    return None


def _fields_with_default(annotation: type) -> set[str]:
    parameters = inspect.signature(annotation).parameters.values()
    return {parameter.name for parameter in parameters if parameter.default is not inspect.Parameter.empty}


def object_fields(fields: object) -> dict[str, Validator]:
    """Return the fields of an object validator from what user code wrote, annotations included."""
    if not isinstance(fields, Mapping):
        raise InvalidValidator(f"the fields of an object are a dict, not a {type(fields).__name__}")
    result = {}
    for name, field in fields.items():
        if type(name) is not str:
            raise InvalidValidator(f"a field name is a string, found a {type(name).__name__}")
        try:
            normalize({name: None}, "fields")
        except InvalidValue as error:
            raise InvalidValidator(str(error)) from None
        result[name] = to_validator(field, name)
    return result
