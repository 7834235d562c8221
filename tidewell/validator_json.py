"""Validators as plain data: what a worker says of an app and a store keeps of a schema.

The form is the one that the ecosystem's tools read (`{"type": "object", "value":
{"name": {"fieldType": ..., "optional": false}}}`), with three additions: `integral`
on a number, `int64` on a literal, and the type `commitTs`. `from_json` trusts
nothing: the data may come from a worker that a guest has taken over.
"""

from __future__ import annotations

from typing import Final

from tidewell.errors import InvalidValue
from tidewell.validators import (
    AnyValidator,
    ArrayValidator,
    IdValidator,
    Int64Validator,
    InvalidValidator,
    Json,
    KindValidator,
    NumberValidator,
    ObjectValidator,
    RecordValidator,
    UnionValidator,
    Validator,
    literal,
    optional,
)
from tidewell.values import Int64, normalize

NESTING_MAX: Final = 64  # values do not nest deeper either
NODES_MAX: Final = 8192  # members or fields of one node


def to_json(validator: Validator) -> Json:
    return validator._json()


def from_json(data: Json, depth_left: int = NESTING_MAX) -> Validator:
    """Return the validator that `data` describes.

    Raises:
      InvalidValidator: `data` is not what `to_json` writes.
    """
    if depth_left <= 0:
        raise InvalidValidator("validators are nested too deeply")
    kind = _text(data, "type") if type(data) is dict else None
    match kind:
        case "any":
            _only(data, "type")
            return AnyValidator()
        case "null" | "boolean" | "string" | "bytes":
            _only(data, "type")
            return KindValidator(kind)
        case "number":
            _only(data, "type", "integral")
            return NumberValidator(integral=_flag(data, "integral") if "integral" in data else False)
        case "bigint" | "commitTs":
            _only(data, "type")
            return Int64Validator(is_commit_ts=kind == "commitTs")
        case "id":
            _only(data, "type", "tableName")
            return IdValidator(_text(data, "tableName"))
        case "literal":
            return _literal(data)
        case "array":
            _only(data, "type", "value")
            return ArrayValidator(from_json(data.get("value"), depth_left - 1))
        case "union":
            _only(data, "type", "value")
            members = data.get("value")
            if type(members) is not list or len(members) > NODES_MAX:
                raise InvalidValidator("the members of a union are a list")
            return UnionValidator(tuple(from_json(member, depth_left - 1) for member in members))
        case "record":
            _only(data, "type", "keys", "values")
            values = _field(data.get("values"), depth_left - 1)
            return RecordValidator(from_json(data.get("keys"), depth_left - 1), values)
        case "object":
            _only(data, "type", "value")
            return _object(data.get("value"), depth_left - 1)
    raise InvalidValidator(f"unknown kind of validator {kind!r}")


def _object(fields: Json, depth_left: int) -> ObjectValidator:
    if type(fields) is not dict or len(fields) > NODES_MAX:
        raise InvalidValidator("the fields of an object are a dict")
    for name in fields:
        if type(name) is not str:
            raise InvalidValidator("a field name is a string")
    try:
        normalize(dict.fromkeys(fields), "fields")
    except InvalidValue as error:
        raise InvalidValidator(str(error)) from None
    return ObjectValidator({name: _field(field, depth_left) for name, field in fields.items()})


def _field(data: Json, depth_left: int) -> Validator:
    if type(data) is not dict:
        raise InvalidValidator("a field is a dict of fieldType and optional")
    _only(data, "fieldType", "optional")
    inner = from_json(data.get("fieldType"), depth_left)
    return optional(inner) if _flag(data, "optional") else inner


def _literal(data: dict[str, Json]) -> Validator:
    if "int64" not in data:
        _only(data, "type", "value")
        return literal(data.get("value"))
    _only(data, "type", "int64")
    text = _text(data, "int64")
    if len(text) > 20:
        raise InvalidValidator("an int64 literal of more than 20 characters")
    try:
        return literal(Int64(int(text)))
    except (ValueError, OverflowError):
        raise InvalidValidator(f"{text!r} is not an int64") from None


def _only(data: dict[str, Json], *names: str) -> None:
    extra = data.keys() - set(names)
    if extra:
        raise InvalidValidator(f"unexpected {sorted(map(str, extra))[0]!r} in a validator")


def _text(data: dict[str, Json], name: str) -> str:
    value = data.get(name)
    if type(value) is not str:
        raise InvalidValidator(f"{name!r} of a validator is text")
    return value


def _flag(data: dict[str, Json], name: str) -> bool:
    value = data.get(name)
    if type(value) is not bool:
        raise InvalidValidator(f"{name!r} of a validator is true or false")
    return value
