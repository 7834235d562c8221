"""`v`: the spelled-out way to build validators.

```python
v.object({"author": v.id("users"), "tags": v.optional(list[str])})
```

Wherever a validator is asked for, an annotation may stand as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from tidewell.annotations import object_fields, to_validator
from tidewell.validators import (
    NULL,
    AnyValidator,
    ArrayValidator,
    IdValidator,
    Int64Validator,
    InvalidValidator,
    KindValidator,
    LiteralValidator,
    NumberValidator,
    ObjectValidator,
    OptionalValidator,
    RecordValidator,
    UnionValidator,
    Validator,
    literal,
    nullable,
    optional,
    required,
    walk,
)

Spec: TypeAlias = Any  # a validator or an annotation


class Validators:
    """The methods of `v`; see `function-semantics.md` 6.1 for what each accepts."""

    __slots__ = ()

    def id(self, table: str) -> Validator:
        """A well-formed id of `table`; whether the document exists is not checked."""
        if type(table) is not str or not table:
            raise InvalidValidator('v.id() takes the name of a table, as in v.id("users")')
        return IdValidator(table)

    def null(self) -> Validator:
        return NULL

    def boolean(self) -> Validator:
        return KindValidator("boolean")

    def string(self) -> Validator:
        return KindValidator("string")

    def bytes(self) -> Validator:
        return KindValidator("bytes")

    def number(self) -> Validator:
        return NumberValidator()

    def float64(self) -> Validator:
        """The same as `number`, under the name that other tools use."""
        return NumberValidator()

    def int64(self) -> Validator:
        return Int64Validator()

    def commit_ts(self) -> Validator:
        return Int64Validator(is_commit_ts=True)

    def literal(self, value: Spec) -> Validator:
        return literal(value)

    def array(self, element: Spec) -> Validator:
        return ArrayValidator(required(to_validator(element), "the element of v.array()"))

    def object(self, fields: Mapping[str, Spec]) -> ObjectValidator:
        return ObjectValidator(object_fields(fields))

    def record(self, keys: Spec, values: Spec) -> Validator:
        """A dict whose keys are strings or ids, any number of them."""
        key = required(to_validator(keys), "the keys of v.record()")
        for node in walk(key):
            if not isinstance(node, UnionValidator | IdValidator) and node != KindValidator("string"):
                raise InvalidValidator(
                    "the keys of v.record() are v.string(), v.id(...) or a union of these; "
                    "for known keys use v.object()"
                )
        return RecordValidator(key, required(to_validator(values), "the values of v.record()"))

    def union(self, *members: Spec) -> Validator:
        return UnionValidator(
            tuple(required(to_validator(member), "a member of v.union()") for member in members)
        )

    def any(self) -> Validator:
        return AnyValidator()

    def optional(self, inner: Spec) -> OptionalValidator:
        """A field that may be absent; None is a value and needs `v.nullable`."""
        return optional(to_validator(inner))

    def nullable(self, inner: Spec) -> Validator:
        return nullable(required(to_validator(inner), "the member of v.nullable()"))

    def pagination_opts(self) -> Validator:
        """What a client sends as `paginationOpts`."""
        return PAGINATION_OPTS


PAGINATION_OPTS: Final = ObjectValidator(
    {
        "numItems": NumberValidator(),
        "cursor": nullable(KindValidator("string")),
        "endCursor": optional(nullable(KindValidator("string"))),
        "id": optional(NumberValidator()),
        "maximumRowsRead": optional(NumberValidator()),
        "maximumBytesRead": optional(NumberValidator()),
    }
)

v: Final = Validators()

__all__ = ["PAGINATION_OPTS", "LiteralValidator", "Validators", "v"]
