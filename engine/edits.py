"""Edits of documents by an operator: what `tidewell data` writes, checked like what functions write.

The whole resulting document obeys the rules of documents and the schema in force, system
fields stay what they are, and system tables are nobody's to edit. A plain number stands
for an int64 where the schema says so, as everywhere in the operator's tools.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from engine.chance import Chance
from engine.clock import Clock
from storage import Transaction
from tidewell.errors import InvalidId, InvalidValue, NotFound
from tidewell.ids import INTERNAL_ID_BYTES, USER_TABLE_FIRST, decode_id
from tidewell.schema import Schema, check_field_name, check_name
from tidewell.validators import InvalidValidator, Scope, check
from tidewell.values import DOCUMENT_DEPTH_MAX, OBJECT_ENTRIES_MAX, Value, from_wire, normalize, size_bytes

Operation = Literal["insert", "patch", "replace", "delete"]
OPERATIONS: Final = ("insert", "patch", "replace", "delete")
DOCUMENT_BYTES_MAX: Final = 2**20
_SYSTEM_FIELDS: Final = ("_creationTime", "_id")
_FIELDS: Final = {"operation", "table", "id", "document", "remove"}


@attrs.frozen
class Edit:
    operation: Operation
    table: str = ""  # of an insert
    id: str = ""  # of all others
    document: dict[str, Value] = attrs.field(factory=dict)  # whole, or the fields of a patch
    remove: tuple[str, ...] = ()  # fields that a patch removes

    @classmethod
    def read(cls, tree: Any) -> Edit:
        """Return the edit in a JSON object. Raises `InvalidValue`."""
        if type(tree) is not dict or tree.get("operation") not in OPERATIONS or set(tree) - _FIELDS:
            raise InvalidValue("edit", f"an 'operation' is one of {', '.join(OPERATIONS)}")
        table, document_id = tree.get("table", ""), tree.get("id", "")
        remove = tree.get("remove", [])
        document = from_wire(tree.get("document", {}), "document")
        if type(table) is not str or type(document_id) is not str or type(document) is not dict:
            raise InvalidValue("edit", "'table' and 'id' are text, 'document' is an object")
        if type(remove) is not list or not all(type(name) is str for name in remove):
            raise InvalidValue("edit.remove", "is a list of names of fields")
        return cls(tree["operation"], table, document_id, document, tuple(remove))

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object that `read` reads, but for the document, which is the caller's to add."""
        return {"operation": self.operation, "table": self.table, "id": self.id, "remove": list(self.remove)}


def apply_edit(
    edit: Edit, transaction: Transaction, schema: Schema | None, clock: Clock, chance: Chance
) -> str:
    """Do it; return the id of the document.

    Raises:
      TidewellError: it cannot be done, and the text says why. Nothing was written.
    """
    if edit.operation == "insert":
        _check_table(edit.table)
        body = _checked(edit.table, edit.document, {}, transaction, schema)
        return transaction.insert(edit.table, body, chance.token(INTERNAL_ID_BYTES), clock.now_ms())
    table = _table_of(edit.id, transaction)
    before = transaction.get(edit.id)
    if before is None:
        raise NotFound(f"there is no document {edit.id} in {table!r}")
    if edit.operation == "delete":
        transaction.delete(edit.id)
        return edit.id
    after = edit.document
    if edit.operation == "patch":
        if unknown := [name for name in edit.remove if name not in before or name in _SYSTEM_FIELDS]:
            raise InvalidValue(f"{table}.{unknown[0]}", "is not a field that can be removed")
        kept = {name: value for name, value in before.items() if name not in edit.remove}
        after = {**kept, **edit.document}
    transaction.replace(edit.id, _checked(table, after, before, transaction, schema))
    return edit.id


def _check_table(table: str) -> None:
    try:
        check_name(table, "a table")
    except InvalidValidator as error:
        raise InvalidValue("table", str(error)) from None


def _table_of(document_id: str, transaction: Transaction) -> str:
    number, _ = decode_id(document_id)
    name = transaction.table_name(number)
    if name is None:
        raise InvalidId(f"{document_id!r} belongs to no table")
    if number < USER_TABLE_FIRST:
        raise InvalidId(f"{document_id!r} belongs to the system table {name}, which cannot be edited")
    return name


def _checked(
    table: str,
    document: dict[str, Value],
    before: dict[str, Value],
    transaction: Transaction,
    schema: Schema | None,
) -> dict[str, Value]:
    """Return the body to store, without system fields."""
    body: dict[str, Value] = normalize(document, table, DOCUMENT_DEPTH_MAX)
    for name in _SYSTEM_FIELDS:
        if name in body and body.pop(name) != before.get(name):
            raise InvalidValue(f"{table}.{name}", "is a system field, which the database sets")
    for name in body:
        try:
            check_field_name(name)
        except InvalidValidator as error:
            raise InvalidValue(table, str(error)) from None
    if len(body) > OBJECT_ENTRIES_MAX:
        raise InvalidValue(table, f"a document of {len(body)} fields, at most {OBJECT_ENTRIES_MAX}")
    if size_bytes(body) > DOCUMENT_BYTES_MAX:
        raise InvalidValue(table, f"a document is larger than {DOCUMENT_BYTES_MAX} bytes")
    if schema is not None and schema.schema_validation and table in schema.tables:
        scope = Scope(transaction.table_number, coerces=True)
        body = check(schema.tables[table].document, body, table, scope)
    return body
