"""`ctx.db`: what queries and mutations read and write.

Faces over the transaction of the execution. Every argument is checked by exact
type and copied before it is used; every document handed out is the guest's own
copy. A write validates the whole resulting document against the schema.
"""

from __future__ import annotations

from typing import Any, Final

from sandbox.convert import DOCUMENT_BYTES_MAX, refuse_wide, take_in_wide, too_large
from sandbox.execution import Level
from sandbox.host import HostObject
from sandbox.query import Plan, Query
from sandbox.transaction import Document
from tidewell.errors import (
    InvalidId,
    InvalidValue,
    NotFound,
    SchemaValidationError,
    TidewellError,
    ValidationFailed,
)
from tidewell.ids import INTERNAL_ID_BYTES, USER_TABLE_FIRST, decode_id
from tidewell.schema import check_field_name, check_name
from tidewell.validators import InvalidValidator, Scope, check
from tidewell.values import (
    COMMIT_TS,
    DOCUMENT_DEPTH_MAX,
    MISSING,
    OBJECT_ENTRIES_MAX,
    CommitTs,
    object_of,
    size_bytes,
)

SYSTEM_FIELDS: Final = ("_creationTime", "_id")
SYSTEM_TABLES: Final = frozenset({"_conflicts", "_executions", "_scheduled_functions", "_storage"})


class NotAllowed(TidewellError):
    """The operation exists, and not here."""

    code = "NotAllowedInQuery"


class DatabaseReader(HostObject):
    """What queries have as `ctx.db`."""

    __slots__ = ("_level", "_system")
    _exposed_ = frozenset(
        {"delete", "get", "insert", "normalize_id", "patch", "query", "replace", "system", "vars"}
    )

    def __init__(self, level: Level) -> None:
        self._level = level
        self._system = SystemReader(level)

    def _narrowed_(self, fields: tuple[str, ...]) -> DatabaseReader | NarrowReader:
        return self if self._level.execution.narrow is None else NarrowReader(self, frozenset(fields))

    def insert(self, *arguments: Any) -> str:
        raise _no_writes("insert")

    def patch(self, *arguments: Any) -> None:
        raise _no_writes("patch")

    def replace(self, *arguments: Any) -> None:
        raise _no_writes("replace")

    def delete(self, *arguments: Any) -> None:
        raise _no_writes("delete")

    @property
    def vars(self) -> Variables:
        raise NotAllowed("a query cannot use ctx.db.vars: it only reads; make it a mutation")

    @property
    def system(self) -> SystemReader:
        """The system tables, to read."""
        return self._system

    def get(self, *arguments: Any) -> Document | None:
        """`get(id)` or `get(table, id)`: the document, None when there is none."""
        return self._get(arguments, None)

    def _get(self, arguments: tuple[Any, ...], fields: frozenset[str] | None) -> Document | None:
        table, document_id = _table_and_id("get", arguments)
        number = self._number_of(document_id, table)
        if number < USER_TABLE_FIRST:
            raise InvalidId(f"{document_id!r} belongs to a system table; read it with ctx.db.system.get(...)")
        return _get(self._level, document_id, fields)

    def query(self, table: str) -> Query:
        """A lazy query over a table, in order of creation."""
        if type(table) is not str:
            raise TypeError(f"query() takes the name of a table, found a {type(table).__name__}")
        if table.startswith("_"):
            raise InvalidId(f"{table!r} is a system table; read it with ctx.db.system.query(...)")
        return Query(self._level, Plan(table))

    def normalize_id(self, table: str, text: Any) -> str | None:
        """The id if it is well-formed and of this table, else None."""
        if type(table) is not str:
            raise TypeError("normalize_id() takes the name of a table and a text")
        return _normalize_id(self._level, table, text)

    def _number_of(self, document_id: str, table: str | None) -> int:
        """Return the table number of an id, which must be one of `table` if that is given."""
        number, _ = decode_id(document_id)
        if table is not None and number != self._level.database.table_number(table):
            raise InvalidId(f"{document_id!r} is not an id of table {table!r}")
        return number


class NarrowReader(HostObject):
    """`ctx.db` for one `get` of which no more than some fields are looked at."""

    __slots__ = ("_fields", "_reader")
    _exposed_ = frozenset({"get"})

    def __init__(self, reader: DatabaseReader, fields: frozenset[str]) -> None:
        self._reader = reader
        self._fields = fields

    def get(self, *arguments: Any) -> Document | None:
        return self._reader._get(arguments, self._fields)


class Variables(HostObject):
    """`ctx.db.vars`: what only the commit of a mutation will know."""

    __slots__ = ()
    _exposed_ = frozenset({"commit_ts"})

    @property
    def commit_ts(self) -> CommitTs:
        """Stands in a document for the timestamp of the commit that writes it; then it is an int64."""
        return COMMIT_TS


class SystemReader(HostObject):
    """`ctx.db.system`: system tables, and only those (R5)."""

    __slots__ = ("_level",)
    _exposed_ = frozenset({"get", "normalize_id", "query"})

    def __init__(self, level: Level) -> None:
        self._level = level

    def get(self, *arguments: Any) -> Document | None:
        table, document_id = _table_and_id("system.get", arguments)
        number, _ = decode_id(document_id)
        database = self._level.database
        name = database.table_name(number)
        if name not in SYSTEM_TABLES or (table is not None and name != table):
            raise InvalidId(f"{document_id!r} is not an id of {table or 'a system table'}")
        return _get(self._level, document_id)

    def query(self, table: str) -> Query:
        return Query(self._level, Plan(self._checked(table)))

    def normalize_id(self, table: str, text: Any) -> str | None:
        return _normalize_id(self._level, self._checked(table), text)

    def _checked(self, table: Any) -> str:
        if type(table) is not str or table not in SYSTEM_TABLES:
            raise InvalidId(f"there is no such system table; they are {', '.join(sorted(SYSTEM_TABLES))}")
        return table


class DatabaseWriter(DatabaseReader):
    """What mutations have as `ctx.db`. A table name before the id is checked against it (W4)."""

    __slots__ = ()
    _exposed_ = DatabaseReader._exposed_

    @property
    def vars(self) -> Variables:
        return Variables()

    def insert(self, *arguments: Any) -> str:
        """Add a document and return its id."""
        if len(arguments) != 2:
            raise TypeError("insert() takes the name of a table and a dict")
        table, document = arguments
        if type(table) is not str:
            raise TypeError(f"insert() takes the name of a table, found a {type(table).__name__}")
        if table.startswith("_"):
            raise InvalidId(f"{table!r} is a system table and cannot be written")
        try:
            check_name(table, "a table")
        except InvalidValidator as error:
            raise InvalidValue("insert", str(error)) from None
        level = self._level
        body, has_wide = self._taken(document, table)
        for name in SYSTEM_FIELDS:
            if name in body:
                raise _system_field(table, name)
        internal_id = level.chance.ids.bytes(INTERNAL_ID_BYTES)
        created_ms = level.execution.next_creation_time()
        checked = self._checked(body, table, has_wide)
        inserted = level.database.insert(table, checked, internal_id, created_ms)
        self._wrote()
        return inserted

    def patch(self, *arguments: Any) -> None:
        """Merge fields into a document; `MISSING` removes one."""
        table, document_id, fields = self._target("patch", arguments)
        if type(fields) is not dict:
            raise InvalidValue("patch", f"takes a dict of fields, found a {type(fields).__name__}")
        removed = [name for name, value in fields.items() if value is MISSING]
        taken, has_wide = self._taken(fields, table)
        before = self._before(document_id)
        if before is None:
            raise NotFound(f"there is no document {document_id} in {table!r}; it may have been deleted")
        merged = {**before, **taken}
        for name in removed:
            merged.pop(name, None)
        for name in SYSTEM_FIELDS:
            if merged.pop(name, MISSING) != before[name]:
                raise _system_field(table, name)
        self._replace(document_id, table, object_of(merged), has_wide)

    def replace(self, *arguments: Any) -> None:
        """Give a document a new body; its id and creation time stay."""
        table, document_id, document = self._target("replace", arguments)
        body, has_wide = self._taken(document, table)
        if any(name in body for name in SYSTEM_FIELDS):
            before = self._before(document_id) or {}
            for name in SYSTEM_FIELDS:
                if name in body and body.pop(name) != before.get(name):
                    raise _system_field(table, name)
        self._replace(document_id, table, body, has_wide)

    def delete(self, *arguments: Any) -> None:
        """Remove a document."""
        table, document_id = _table_and_id("delete", arguments)
        self._writable_table(document_id, table)
        self._level.database.delete(document_id)
        self._wrote()

    # ---- what all writes share -----------------------------------------------------

    def _target(self, operation: str, arguments: tuple[Any, ...]) -> tuple[str, str, Any]:
        if len(arguments) not in (2, 3):
            raise TypeError(f"{operation}() takes an id and a dict")
        table, document_id = _table_and_id(operation, arguments[:-1])
        return self._writable_table(document_id, table), document_id, arguments[-1]

    def _writable_table(self, document_id: str, table: str | None) -> str:
        """Return the name of the table that the id belongs to."""
        number = self._number_of(document_id, table)
        if number < USER_TABLE_FIRST:
            raise InvalidId(f"{document_id!r} belongs to a system table, which cannot be written")
        name = self._level.database.table_name(number)
        if name is None:
            raise InvalidId(f"{document_id!r} belongs to no table")
        return name

    def _taken(self, value: Any, table: str) -> tuple[Document, bool]:
        """Return the copy of a document or of a part of one, and whether integers in it need 64 bits."""
        body, has_wide = take_in_wide(
            value,
            table,
            self._level.execution.charge,
            bytes_max=DOCUMENT_BYTES_MAX,
            depth_max=DOCUMENT_DEPTH_MAX,
            is_document=True,
        )
        if type(body) is not dict:
            raise InvalidValue(table, f"a document is a dict, found a {type(value).__name__}")
        return body, has_wide

    def _before(self, document_id: str) -> Document | None:
        """Return the document that a write is about. The write counts, this read does not."""
        document = self._level.database.get(document_id, for_write=True)
        self._level.execution.charge_documents(1)
        return document

    def _replace(self, document_id: str, table: str, body: Document, has_wide: bool) -> None:
        self._level.database.replace(document_id, self._checked(body, table, has_wide))
        self._wrote()

    def _checked(self, body: Document, table: str, has_wide: bool) -> Document:
        """Return the body to store, without system fields, checked by the rules and the schema."""
        for name in body:
            if name not in _names_known:
                _check_name(name, table)
        if len(body) > OBJECT_ENTRIES_MAX:
            raise InvalidValue(table, f"a document of {len(body)} fields, at most {OBJECT_ENTRIES_MAX}")
        if size_bytes(body) + _SYSTEM_FIELDS_BYTES > DOCUMENT_BYTES_MAX:
            raise too_large(f"a document of {table!r}", DOCUMENT_BYTES_MAX)
        validated = self._validated(body, table)
        if has_wide:
            refuse_wide(validated, table)
        return validated

    def _validated(self, body: Document, table: str) -> Document:
        schema = self._level.execution.schema
        if schema is None or not schema.schema_validation or table not in schema.tables:
            return body
        level = self._level
        scope = Scope(level.database.table_number, spend=level.execution.charge)
        try:
            checked: Document = check(schema.tables[table].document, body, table, scope)
        except ValidationFailed as error:
            raise SchemaValidationError(
                error.path, error.problem, found=error.found, expected=error.expected
            ) from None
        return checked

    def _wrote(self) -> None:
        self._level.execution.charge_documents(1)
        self._level.limits.check_writes(self._level.database.usage)


_NAMES_KNOWN_MAX: Final = 4096
_names_known: set[str] = set()  # names of fields that passed; a cache, never more than a hint


def _check_name(name: str, table: str) -> None:
    try:
        check_field_name(name)
    except InvalidValidator as error:
        raise InvalidValue(table, str(error)) from None
    if len(_names_known) >= _NAMES_KNOWN_MAX:
        _names_known.clear()
    _names_known.add(name)


def _system_field(table: str, name: str) -> InvalidValue:
    return InvalidValue(f"{table}.{name}", "is a system field, which the database sets")


def _no_writes(operation: str) -> NotAllowed:
    return NotAllowed(f"a query cannot use ctx.db.{operation}(): it only reads; make it a mutation")


# The two system fields by the formula of function-semantics 2.1, with the longest id.
_SYSTEM_FIELDS_BYTES: Final = size_bytes({"_creationTime": 0, "_id": "x" * 37}) - 2


def _table_and_id(operation: str, arguments: tuple[Any, ...]) -> tuple[str | None, str]:
    if len(arguments) not in (1, 2):
        raise TypeError(f"{operation}() takes an id, and before it a table name if you like")
    for argument in arguments:
        if type(argument) is not str:
            raise InvalidId(f"{operation}() takes an id, found a {type(argument).__name__}")
    table = arguments[0] if len(arguments) == 2 else None
    return table, arguments[-1]


def _get(level: Level, document_id: str, fields: frozenset[str] | None = None) -> Document | None:
    document = level.database_for(fields).get(document_id)
    level.execution.charge_documents(1)
    level.limits.check_reads(level.database.usage)
    return document


def _normalize_id(level: Level, table: str, text: Any) -> str | None:
    if type(text) is not str:
        return None
    try:
        number, _ = decode_id(text)
    except InvalidId:
        return None
    return text if number == level.database.table_number(table) else None
