"""The catalog: which tables and indexes exist, and the schema, as of one commit.

A `Catalog` never changes; a `CatalogChange` in a commit makes the next one, and
every version stays readable as long as the documents of its time do. Transactions
read it like data: what they ask is recorded under the three pseudo-indexes of
table 0, and `CatalogChange.keys` says which of these keys a change writes.

The life of an index: *backfilling* from the commit that adds it (commits maintain
it from that moment, `backfill.py` adds what was there before), *ready* from the
commit that enables it, gone with the commit that removes it or drops its table.
An index may start as ready on a table without documents.

Invariants:

* Table and index numbers are never used twice, also not after a drop.
* Two indexes of one table in the same state have neither the same name nor the same fields
  (X8). One that is backfilling may stand beside the ready one whose place it will take.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

import attrs
import msgspec

from storage.errors import InvalidCommit, StoreDamaged
from storage.keys import Path
from storage.layout import (
    BY_CREATION_TIME,
    BY_ID,
    CATALOG_INDEXES,
    CATALOG_SCHEMA,
    CATALOG_TABLES,
    INDEX_NUMBER_FIRST,
    index_id_of,
    table_of,
    table_prefix,
)
from storage.read_set import IndexKey
from tidewell.ids import USER_TABLE_FIRST
from tidewell.schema import TABLES_MAX

INDEX_FIELDS_MAX: Final = 16
TABLE_NUMBER_MAX: Final = 2**32 - 1
_NAME: Final = re.compile(r"_?[A-Za-z][A-Za-z0-9_]{0,63}")

IndexState = Literal["backfilling", "ready"]


class InvalidCatalogChange(InvalidCommit):
    """A change of tables or indexes that the catalog does not allow."""


class TooManyTables(InvalidCatalogChange):
    """There are as many tables as there may be."""


@attrs.frozen
class IndexInfo:
    """One index. `fields` are what the app declared; `_creationTime` and the id follow implicitly."""

    index_id: int
    name: str
    fields: tuple[str, ...]
    unique: bool = False
    state: IndexState = "ready"
    paths: tuple[Path, ...] = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "paths", tuple(tuple(field.split(".")) for field in self.fields))

    @property
    def table(self) -> int:
        return table_of(self.index_id)

    @property
    def is_ready(self) -> bool:
        return self.state == "ready"


@attrs.frozen
class TableInfo:
    name: str
    number: int
    indexes: tuple[IndexInfo, ...] = ()  # the declared ones
    indexes_made: int = 0  # ever, removed ones included; the next one's number follows from it
    by_id: IndexInfo = attrs.field(init=False, eq=False, repr=False)
    kept: tuple[IndexInfo, ...] = attrs.field(
        init=False, eq=False, repr=False
    )  # those that have rows in the file

    def __attrs_post_init__(self) -> None:
        by_id = IndexInfo(index_id_of(self.number, BY_ID), "by_id", ("_id",))
        by_time = IndexInfo(index_id_of(self.number, BY_CREATION_TIME), "by_creation_time", ())
        object.__setattr__(self, "by_id", by_id)
        object.__setattr__(self, "kept", (by_time, *self.indexes))

    def index(self, name: str) -> IndexInfo | None:
        """Return the index of a name: the ready one, if there is one."""
        if name == "by_id":
            return self.by_id
        named = [index for index in self.kept if index.name == name]
        return next((index for index in named if index.is_ready), named[0] if named else None)


@attrs.frozen
class CatalogChange:
    """What one commit does to the catalog, applied in the order of these fields."""

    create_tables: tuple[tuple[str, int], ...] = ()  # name, number
    drop_tables: tuple[str, ...] = ()
    remove_indexes: tuple[int, ...] = ()
    add_indexes: tuple[IndexInfo, ...] = ()
    enable_indexes: tuple[int, ...] = ()
    schema: str | None = None  # None leaves it as it is

    def __bool__(self) -> bool:
        return self != CatalogChange()

    def keys(self, before: Catalog) -> list[IndexKey]:
        """Return the keys of the pseudo-indexes that this change writes."""
        names = [name for name, _ in self.create_tables] + list(self.drop_tables)
        numbers = {table_of(index_id) for index_id in self.remove_indexes + self.enable_indexes}
        numbers |= {index.table for index in self.add_indexes}
        numbers |= {before.tables[name].number for name in self.drop_tables if name in before.tables}
        keys = [(CATALOG_TABLES, name.encode()) for name in names]
        keys += [(CATALOG_INDEXES, table_prefix(number)) for number in sorted(numbers)]
        if self.schema is not None:
            keys.append((CATALOG_SCHEMA, b""))
        return keys

    def pack(self) -> bytes:
        return _packer.encode(
            _ChangeRow(
                self.create_tables,
                self.drop_tables,
                self.remove_indexes,
                tuple(map(_index_row, self.add_indexes)),
                self.enable_indexes,
                self.schema,
            )
        )

    @classmethod
    def unpack(cls, data: bytes) -> CatalogChange:
        row = _decode(_change_unpacker, data)
        return cls(
            row.create_tables,
            row.drop_tables,
            row.remove_indexes,
            tuple(map(_index_of, row.add_indexes)),
            row.enable_indexes,
            row.schema,
        )


@attrs.frozen
class Catalog:
    tables: Mapping[str, TableInfo] = attrs.field(factory=dict)
    schema: str = ""  # opaque to the store
    user_tables_made: int = 0
    system_tables_made: int = 0
    by_number: Mapping[int, TableInfo] = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "by_number", {table.number: table for table in self.tables.values()})

    def index(self, index_id: int) -> IndexInfo | None:
        """Return an index that has rows in the file, by its number."""
        table = self.by_number.get(table_of(index_id))
        if table is None:
            return None
        return next((index for index in table.kept if index.index_id == index_id), None)

    def next_table_number(self, name: str) -> int:
        return 1 + self.system_tables_made if name[0] == "_" else USER_TABLE_FIRST + self.user_tables_made

    def apply(self, change: CatalogChange) -> Catalog:
        """Return the catalog after `change`. Raises `InvalidCatalogChange` when it does not fit."""
        plan = CatalogPlan(self)
        for name, number in change.create_tables:
            plan.create_table(name, number)
        for name in change.drop_tables:
            plan.drop_table(name)
        for index_id in change.remove_indexes:
            plan.remove_index(index_id)
        for index in change.add_indexes:
            plan.add(index)
        for index_id in change.enable_indexes:
            plan.enable_index(index_id)
        if change.schema is not None:
            plan.set_schema(change.schema)
        return plan.catalog

    def plan(self) -> CatalogPlan:
        return CatalogPlan(self)

    def pack(self) -> bytes:
        rows = [
            _TableRow(table.name, table.number, table.indexes_made, tuple(map(_index_row, table.indexes)))
            for table in self.tables.values()
        ]
        return _packer.encode(
            _CatalogRow(tuple(rows), self.schema, self.user_tables_made, self.system_tables_made)
        )

    @classmethod
    def unpack(cls, data: bytes) -> Catalog:
        row = _decode(_catalog_unpacker, data)
        tables = {
            table.name: TableInfo(
                table.name, table.number, tuple(map(_index_of, table.indexes)), table.indexes_made
            )
            for table in row.tables
        }
        return cls(tables, row.schema, row.user_tables_made, row.system_tables_made)


@attrs.define
class CatalogPlan:
    """Puts a change together, step by step: `plan.create_table("posts")`, ..., `plan.change()`."""

    catalog: Catalog
    _change: CatalogChange = attrs.field(factory=CatalogChange, init=False)

    def change(self) -> CatalogChange:
        return self._change

    def create_table(self, name: str, number: int | None = None) -> int:
        """Add a table and return its number. Names with a leading underscore make system tables.

        Args:
          number: not below the next free one, which is the default. An import brings its own.
        """
        catalog = self.catalog
        expected = catalog.next_table_number(name) if _NAME.fullmatch(name) else 0
        if not expected:
            raise InvalidCatalogChange(f"{name!r} is not a table name")
        if name in catalog.tables:
            raise InvalidCatalogChange(f"the table {name!r} exists already")
        number = expected if number is None else number
        is_system = name[0] == "_"
        if not is_system and sum(other[0] != "_" for other in catalog.tables) >= TABLES_MAX:
            raise TooManyTables(f"{name!r} would be one table more than the {TABLES_MAX:,} there can be")
        if not expected <= number <= (USER_TABLE_FIRST - 1 if is_system else TABLE_NUMBER_MAX):
            raise InvalidCatalogChange(f"the next table has the number {expected}, not {number}")
        self.catalog = attrs.evolve(
            catalog,
            tables={**catalog.tables, name: TableInfo(name, number)},
            user_tables_made=catalog.user_tables_made if is_system else number - USER_TABLE_FIRST + 1,
            system_tables_made=number if is_system else catalog.system_tables_made,
        )
        self._record(create_tables=(name, number))
        return number

    def drop_table(self, name: str) -> None:
        self._table(name)
        tables = {key: table for key, table in self.catalog.tables.items() if key != name}
        self.catalog = attrs.evolve(self.catalog, tables=tables)
        self._record(drop_tables=name)

    def add_index(
        self,
        table: str,
        name: str,
        fields: tuple[str, ...],
        *,
        unique: bool = False,
        state: IndexState = "backfilling",
    ) -> IndexInfo:
        """Declare an index. `state="ready"` is for tables without documents; others need a backfill."""
        info = self._table(table)
        index_id = index_id_of(info.number, INDEX_NUMBER_FIRST + info.indexes_made)
        index = IndexInfo(index_id, name, fields, unique, state)
        self.add(index)
        return index

    def add(self, index: IndexInfo) -> None:
        table = self._table_numbered(index.table)
        if index.index_id != index_id_of(table.number, INDEX_NUMBER_FIRST + table.indexes_made):
            raise InvalidCatalogChange(f"index {index.index_id} of {table.name!r} is out of sequence")
        _check_index(table, index)
        self._put(attrs.evolve(table, indexes=(*table.indexes, index), indexes_made=table.indexes_made + 1))
        self._record(add_indexes=index)

    def remove_index(self, index_id: int) -> None:
        table, index = self._index(index_id)
        self._put(attrs.evolve(table, indexes=tuple(each for each in table.indexes if each is not index)))
        self._record(remove_indexes=index_id)

    def enable_index(self, index_id: int) -> None:
        table, index = self._index(index_id)
        ready = attrs.evolve(index, state="ready")
        _check_index(table, ready, but=index)
        self._put(
            attrs.evolve(table, indexes=tuple(ready if each is index else each for each in table.indexes))
        )
        self._record(enable_indexes=index_id)

    def set_schema(self, text: str) -> None:
        self.catalog = attrs.evolve(self.catalog, schema=text)
        self._change = attrs.evolve(self._change, schema=text)

    def _record(self, **added: object) -> None:
        ((name, item),) = added.items()
        longer: dict[str, Any] = {name: (*getattr(self._change, name), item)}
        self._change = attrs.evolve(self._change, **longer)

    def _put(self, table: TableInfo) -> None:
        self.catalog = attrs.evolve(self.catalog, tables={**self.catalog.tables, table.name: table})

    def _table(self, name: str) -> TableInfo:
        if name not in self.catalog.tables:
            raise InvalidCatalogChange(f"there is no table {name!r}")
        return self.catalog.tables[name]

    def _table_numbered(self, number: int) -> TableInfo:
        if number not in self.catalog.by_number:
            raise InvalidCatalogChange(f"there is no table number {number}")
        return self.catalog.by_number[number]

    def _index(self, index_id: int) -> tuple[TableInfo, IndexInfo]:
        table = self._table_numbered(table_of(index_id))
        for index in table.indexes:
            if index.index_id == index_id:
                return table, index
        raise InvalidCatalogChange(f"there is no index {index_id} on {table.name!r}")


def _check_index(table: TableInfo, index: IndexInfo, but: IndexInfo | None = None) -> None:
    label = f"index {index.name!r} on {table.name!r}"
    if not _NAME.fullmatch(index.name) or index.name[0] == "_" or index.name in ("by_id", "by_creation_time"):
        raise InvalidCatalogChange(f"{label}: the name is malformed or reserved")
    if not 1 <= len(index.fields) <= INDEX_FIELDS_MAX:
        raise InvalidCatalogChange(f"{label}: 1 to {INDEX_FIELDS_MAX} fields, found {len(index.fields)}")
    if len(set(index.fields)) != len(index.fields):
        raise InvalidCatalogChange(f"{label}: a field is named twice")
    for field in index.fields:
        if field[:1] == "_" or not all(field.split(".")):
            raise InvalidCatalogChange(f"{label}: {field!r} is not a field path")
    for other in table.indexes:
        if other is but or other.state != index.state:
            continue
        if other.name == index.name:
            raise InvalidCatalogChange(f"{label}: the name is taken")
        if other.fields == index.fields:
            raise InvalidCatalogChange(f"{label}: has the same fields as {other.name!r}")


# ---- the binary form ---------------------------------------------------------------


class _IndexRow(msgspec.Struct, array_like=True, frozen=True):
    index_id: int
    name: str
    fields: tuple[str, ...]
    unique: bool
    state: IndexState


class _TableRow(msgspec.Struct, array_like=True, frozen=True):
    name: str
    number: int
    indexes_made: int
    indexes: tuple[_IndexRow, ...]


class _CatalogRow(msgspec.Struct, array_like=True, frozen=True):
    tables: tuple[_TableRow, ...]
    schema: str
    user_tables_made: int
    system_tables_made: int


class _ChangeRow(msgspec.Struct, array_like=True, frozen=True):
    create_tables: tuple[tuple[str, int], ...]
    drop_tables: tuple[str, ...]
    remove_indexes: tuple[int, ...]
    add_indexes: tuple[_IndexRow, ...]
    enable_indexes: tuple[int, ...]
    schema: str | None


_packer = msgspec.msgpack.Encoder()
_catalog_unpacker = msgspec.msgpack.Decoder(_CatalogRow)
_change_unpacker = msgspec.msgpack.Decoder(_ChangeRow)


def _index_row(index: IndexInfo) -> _IndexRow:
    return _IndexRow(index.index_id, index.name, index.fields, index.unique, index.state)


def _index_of(row: _IndexRow) -> IndexInfo:
    return IndexInfo(row.index_id, row.name, row.fields, row.unique, row.state)


_Row = TypeVar("_Row")


def _decode(decoder: msgspec.msgpack.Decoder[_Row], data: bytes) -> _Row:
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"a catalog row is unreadable: {error}; run verify and restore a backup") from None
