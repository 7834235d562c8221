"""Schemas: what the documents of each table look like, and how they are indexed.

```python
schema = Schema(
    users=table(name=str, email=str | None).index("by_email", "email", unique=True),
    posts=table(author=Id["users"], text=str).index("by_author", "author"),
)
```

A table of an app that is not in its schema takes any document. `to_json` is what
a deployment keeps; `from_json` accepts nothing that this module could not build,
so its result obeys every rule of `function-semantics.md` 9 and 19.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from tidewell.annotations import object_fields, to_validator
from tidewell.validator_json import from_json as validator_from_json
from tidewell.validator_json import to_json as validator_to_json
from tidewell.validators import (
    AnyValidator,
    IdValidator,
    InvalidValidator,
    Json,
    NumberValidator,
    ObjectValidator,
    OptionalValidator,
    RecordValidator,
    UnionValidator,
    Validator,
)

TABLES_MAX: Final = 10_000
INDEXES_MAX: Final = 32  # per table
INDEX_FIELDS_MAX: Final = 15  # the implicit _creationTime makes 16
SEARCH_INDEXES_MAX: Final = 4  # per table
FILTER_FIELDS_MAX: Final = 8  # of a search index
BUILT_IN_INDEXES: Final = frozenset({"by_id", "by_creation_time"})

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)


@attrs.frozen
class Index:
    name: str
    fields: tuple[str, ...]  # dotted paths; `_creationTime` follows implicitly
    unique: bool = False
    staged: bool = False


@attrs.frozen
class SearchIndex:
    name: str
    search_field: str
    filter_fields: tuple[str, ...] = ()


@attrs.frozen
class Table:
    """One table of a schema; `index` and `search_index` return it with one more index."""

    document: Validator
    indexes: tuple[Index, ...] = ()
    search_indexes: tuple[SearchIndex, ...] = ()

    def index(self, name: str, *fields: str, unique: bool = False, staged: bool = False) -> Table:
        """Return the table with an index over these field paths.

        Args:
          unique: no two documents may have equal fields; a write that would raises.
          staged: a push does not wait for the index to be filled, and it cannot
            be queried before it is.
        """
        self._check_index_name(name)
        if not fields:
            raise InvalidValidator(f"index {name!r} names no field")
        if len(fields) > INDEX_FIELDS_MAX:
            raise InvalidValidator(f"index {name!r} has {len(fields)} fields, at most {INDEX_FIELDS_MAX}")
        for field in fields:
            self._check_path(field, name)
        if len(set(fields)) < len(fields):
            raise InvalidValidator(f"index {name!r} names a field twice")
        for other in self.indexes:
            if other.fields == fields:
                raise InvalidValidator(f"indexes {other.name!r} and {name!r} have the same fields")
        if len(self.indexes) >= INDEXES_MAX:
            raise InvalidValidator(f"more than {INDEXES_MAX} indexes on one table")
        if type(unique) is not bool or type(staged) is not bool:
            raise InvalidValidator(f"index {name!r}: unique and staged are True or False")
        return attrs.evolve(self, indexes=(*self.indexes, Index(name, fields, unique, staged)))

    def search_index(self, name: str, *, search_field: str, filter_fields: Iterable[str] = ()) -> Table:
        """Return the table with a text index over one field."""
        self._check_index_name(name)
        filters = tuple(filter_fields)
        for field in (search_field, *filters):
            self._check_path(field, name)
        if len(self.search_indexes) >= SEARCH_INDEXES_MAX:
            raise InvalidValidator(f"more than {SEARCH_INDEXES_MAX} search indexes on one table")
        if len(filters) > FILTER_FIELDS_MAX or len(set(filters)) < len(filters):
            raise InvalidValidator(
                f"search index {name!r}: at most {FILTER_FIELDS_MAX} filter fields, each once"
            )
        added = SearchIndex(name, search_field, filters)
        return attrs.evolve(self, search_indexes=(*self.search_indexes, added))

    def _check_index_name(self, name: object) -> None:
        check_name(name, "an index")
        if name in BUILT_IN_INDEXES:
            raise InvalidValidator(f"{name!r} exists on every table already")
        taken = {index.name for index in self.indexes} | {index.name for index in self.search_indexes}
        if name in taken:
            raise InvalidValidator(f"two indexes named {name!r}")

    def _check_path(self, path: object, index: str) -> None:
        if type(path) is not str:
            raise InvalidValidator(
                f"index {index!r}: the path of a field is text, not a {type(path).__name__}"
            )
        if not all(path.split(".")):
            raise InvalidValidator(f"index {index!r}: {path!r} is not the path of a field")
        if any(part.startswith("_") for part in path.split(".")):
            raise InvalidValidator(
                f"index {index!r}: {path!r} starts with '_'; _creationTime is part of every index already"
            )
        if not _can_hold(self.document, path.split(".")):
            raise InvalidValidator(f"index {index!r}: no document of the table has a field {path!r}")


def _can_hold(validator: Validator, path: list[str]) -> bool:
    if not path or isinstance(validator, AnyValidator):
        return True
    if isinstance(validator, OptionalValidator):
        return _can_hold(validator.inner, path)
    if isinstance(validator, UnionValidator):
        return any(_can_hold(member, path) for member in validator.members)
    if isinstance(validator, RecordValidator):
        return _can_hold(validator.values, path[1:])
    if isinstance(validator, ObjectValidator):
        return path[0] in validator.fields and _can_hold(validator.fields[path[0]], path[1:])
    return False


def table(document: object = None, /, **fields: Any) -> Table:
    """Return a table whose documents have these fields.

    Fields are validators or annotations. A dict serves for names that are not
    identifiers, and one validator (an object, or a union of objects) describes
    whole documents.
    """
    if document is not None and fields:
        raise InvalidValidator("table() takes either fields by name or one description, not both")
    if document is None or type(document) is dict:
        return Table(
            _checked_document(ObjectValidator(object_fields(fields if document is None else document)))
        )
    return Table(_checked_document(to_validator(document, "table()")))


def _checked_document(validator: Validator) -> Validator:
    members = validator.members if isinstance(validator, UnionValidator) else (validator,)
    for member in members:
        if isinstance(member, AnyValidator):
            continue
        if not isinstance(member, ObjectValidator):
            raise InvalidValidator("a document is an object: table() takes v.object(...) or a union of them")
        for name in member.fields:
            check_field_name(name)
    return validator


def check_field_name(name: str) -> None:
    """Check the name of a document's own field. Raises `InvalidValidator`."""
    if name.startswith("_"):
        raise InvalidValidator(f"the field {name!r} starts with '_', which is kept for system fields")
    if not (name.isascii() and name.isidentifier() and len(name) <= 64):
        raise InvalidValidator(
            f"the field {name!r} of a document is not an identifier of at most 64 characters"
        )


def check_name(name: object, what: str) -> None:
    """Check the name of a table or an index. Raises `InvalidValidator`."""
    if type(name) is not str:
        raise InvalidValidator(f"the name of {what} is text, not a {type(name).__name__}")
    if not _NAME.fullmatch(name):
        raise InvalidValidator(
            f"{name!r} is not a name for {what}: a letter, then letters, digits and '_', at most 64"
        )


class Schema:
    """The tables of an app, by name."""

    __slots__ = ("schema_validation", "tables")

    tables: Mapping[str, Table]
    schema_validation: bool  # False: indexes only, documents are not checked

    def __init__(
        self, tables: Mapping[str, Table] | None = None, /, *, schema_validation: bool = True, **named: Table
    ) -> None:
        if tables is not None and type(tables) is not dict:
            raise InvalidValidator("Schema() takes tables by name, or one dict of them")
        merged = {**(tables or {}), **named}
        if len(merged) > TABLES_MAX:
            raise InvalidValidator(f"more than {TABLES_MAX} tables")
        for name, entry in merged.items():
            check_name(name, "a table")
            if not isinstance(entry, Table):
                raise InvalidValidator(f"{name} must be table(...), found a {type(entry).__name__}")
        if type(schema_validation) is not bool:
            raise InvalidValidator("schema_validation is True or False")
        self.tables = merged
        self.schema_validation = schema_validation

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schema):
            return NotImplemented
        return self.tables == other.tables and self.schema_validation == other.schema_validation

    __hash__ = None  # type: ignore[assignment]  # tables are compared, not used as keys

    def __repr__(self) -> str:
        return f"Schema({', '.join(self.tables)})"

    def id(self, name: str) -> Validator:
        """Return the validator of ids of a table that is declared here."""
        self._declared(name)
        return IdValidator(name)

    def doc(self, name: str) -> Validator:
        """Return the validator of a table's documents as they are read, system fields included."""
        document = self._declared(name).document
        system = {"_id": IdValidator(name), "_creationTime": NumberValidator()}
        if isinstance(document, UnionValidator):
            return UnionValidator(tuple(_with_fields(member, system) for member in document.members))
        return _with_fields(document, system)

    def _declared(self, name: str) -> Table:
        if type(name) is not str or name not in self.tables:
            raise InvalidValidator(f"there is no table of that name; the tables are {', '.join(self.tables)}")
        return self.tables[name]


def _with_fields(document: Validator, fields: Mapping[str, Validator]) -> Validator:
    return document.extend(fields) if isinstance(document, ObjectValidator) else document


# ---- as plain data ---------------------------------------------------------------


def to_json(schema: Schema) -> Json:
    return {
        "tables": [
            {
                "name": name,
                "document": validator_to_json(entry.document),
                "indexes": [
                    {
                        "name": index.name,
                        "fields": list(index.fields),
                        "unique": index.unique,
                        "staged": index.staged,
                    }
                    for index in entry.indexes
                ],
                "searchIndexes": [
                    {
                        "name": index.name,
                        "searchField": index.search_field,
                        "filterFields": list(index.filter_fields),
                    }
                    for index in entry.search_indexes
                ],
            }
            for name, entry in sorted(schema.tables.items())
        ],
        "schemaValidation": schema.schema_validation,
    }


def from_json(data: Json) -> Schema:
    """Return the schema that `data` describes.

    Raises:
      InvalidValidator: `data` is not what `to_json` writes.
    """
    try:
        tables = {entry["name"]: _table_from_json(entry) for entry in data["tables"]}
        if len(tables) != len(data["tables"]):
            raise InvalidValidator("a table is named twice")
        return Schema(tables, schema_validation=data["schemaValidation"])
    except (KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InvalidValidator):
            raise
        raise InvalidValidator(f"malformed schema: {type(error).__name__}") from None


def _table_from_json(data: Json) -> Table:
    result = Table(_checked_document(validator_from_json(data["document"])))
    for index in data["indexes"]:
        result = result.index(index["name"], *index["fields"], unique=index["unique"], staged=index["staged"])
    for index in data["searchIndexes"]:
        result = result.search_index(
            index["name"], search_field=index["searchField"], filter_fields=index["filterFields"]
        )
    return result
