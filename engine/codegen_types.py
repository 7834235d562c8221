"""Validators as TypeScript types: the table of `sync-protocol.md` 17.3.

`engine/codegen.py` asks. The validators come from a worker that a guest may have
taken over, and the text ends up in somebody's compiler; so every name and literal
is quoted by JSON's rules unless it is a plain identifier, and nothing else of a
validator reaches the text.

Three things that TypeScript has no literal type for become the type around them:
NaN and infinite numbers, and negative zero, are `number`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from tidewell.validators import (
    AnyValidator,
    ArrayValidator,
    IdValidator,
    Int64Validator,
    KindValidator,
    LiteralValidator,
    NumberValidator,
    ObjectValidator,
    OptionalValidator,
    RecordValidator,
    UnionValidator,
    Validator,
)
from tidewell.values import Int64, Value

LINE_MAX: Final = 100  # a type that is longer is spread over lines
INDENT: Final = "  "

_KINDS: Final = {"null": "null", "boolean": "boolean", "string": "string", "bytes": "ArrayBuffer"}
_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)


@attrs.frozen
class Types:
    """Writes types; every line after the first is indented for `depth`.

    Args:
      id_type: what the generic type of ids is called where the text goes.
    """

    id_type: str = "Id"

    def text(self, validator: Validator, depth: int = 0) -> str:
        """Return the type of the values that `validator` accepts."""
        match validator:
            case KindValidator():
                return _KINDS[validator.name]
            case NumberValidator():
                return "number"
            case Int64Validator():
                return "bigint"
            case IdValidator():
                return f"{self.id_type}<{quoted(validator.table)}>"
            case LiteralValidator():
                return _literal(validator.value)
            case ArrayValidator():
                return f"Array<{self.text(validator.element, depth)}>"
            case RecordValidator():
                return f"Record<{self.text(validator.keys, depth)}, {self.text(validator.values, depth)}>"
            case UnionValidator():
                members = dict.fromkeys(self.text(member, depth) for member in validator.members)
                return " | ".join(members) or "never"
            case ObjectValidator():
                return self.fields(validator.fields, depth) if validator.fields else "Record<string, never>"
            case OptionalValidator():
                return self.text(validator.inner, depth)
            case AnyValidator():
                return "any"
        raise AssertionError(validator)

    def fields(self, fields: Mapping[str, Validator], depth: int = 0) -> str:
        """Return an object type. Of no fields it is `{}`: how a function says that it takes nothing."""
        entries = []
        for name, field in fields.items():
            mark = "?" if isinstance(field, OptionalValidator) else ""
            entries.append((f"{property_name(name)}{mark}", self.text(field, depth + 1)))
        return braces(entries, depth)


def braces(entries: Sequence[tuple[str, str]], depth: int) -> str:
    """Return `{ name: type; ... }`, on one line if it fits and was not broken further in."""
    if not entries:
        return "{}"
    short = "{ " + "; ".join(f"{name}: {text}" for name, text in entries) + " }"
    if "\n" not in short and len(short) + len(INDENT) * depth <= LINE_MAX:
        return short
    inner = INDENT * (depth + 1)
    lines = [f"{inner}{name}: {text};" for name, text in entries]
    return "\n".join(["{", *lines, INDENT * depth + "}"])


def field_paths(validator: Validator) -> list[str]:
    """Return the types of the dotted paths to a document's fields, each once: `"a"`, `"a.b"`."""
    return list(dict.fromkeys(_paths(validator, "")))


def property_name(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else quoted(name)


def quoted(text: str) -> str:
    """Return a TypeScript string. JSON's escapes are a part of TypeScript's."""
    return json.dumps(text)


def _literal(value: Value) -> str:
    if type(value) is Int64:
        return f"{int(value)}n"
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is str:
        return quoted(value)
    assert type(value) in (int, float), value
    if not math.isfinite(value) or (value == 0 and math.copysign(1.0, value) < 0):
        return "number"
    return repr(value)


def _paths(validator: Validator, prefix: str) -> Iterator[str]:
    match validator:
        case OptionalValidator():
            yield from _paths(validator.inner, prefix)
        case UnionValidator():
            for member in validator.members:
                yield from _paths(member, prefix)
        case ObjectValidator():
            for name, field in validator.fields.items():
                yield quoted(prefix + name)
                yield from _paths(field, f"{prefix}{name}.")
        case RecordValidator() | AnyValidator():
            # Which fields there are is known only when it runs.
            escaped = prefix.replace("\\", "\\\\").replace("`", "\\`").replace("${", "\\${")
            yield f"`{escaped}${{string}}`" if prefix else "string"
