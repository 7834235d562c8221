"""Looking at documents by hand: tables, and the documents of one that match.

Reads a store that may be served at the same time, as of any commit that is kept. What
a filter compares, it compares in the order of indexes (`tidewell.ordering`), so a
number is never equal to a text and everything has its place.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from storage import Snapshot, Transaction
from tidewell.errors import InvalidValue
from tidewell.ordering import order_key
from tidewell.ranges import WHOLE
from tidewell.values import Value, from_wire, parse_json

_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)\s*(!=|<=|>=|==|=|<|>)\s*(.*)", re.DOTALL)


@attrs.frozen
class Condition:
    """One comparison of a field, at a dotted path, with a value. A field that is missing differs from all."""

    path: tuple[str, ...]
    compare: Callable[[Any, Any], bool]
    value: Value

    @classmethod
    def read(cls, text: str) -> Condition:
        """Return the condition in a text such as `likes>=3` or `author=ann`.

        What is no JSON is taken for a string. Raises `InvalidValue`.
        """
        found = _CONDITION.fullmatch(text.strip())
        if found is None:
            raise InvalidValue(
                "--where", f"{text!r} is not FIELD=VALUE (or !=, <, <=, >, >=), such as likes>=3"
            )
        try:
            value = from_wire(parse_json(found[3]), found[1])
        except InvalidValue:
            value = found[3]
        sign = "=" if found[2] == "==" else found[2]
        return cls(tuple(found[1].split(".")), _COMPARISONS[sign], value)

    def holds(self, document: dict[str, Value]) -> bool:
        value: Value = document
        for name in self.path:
            if type(value) is not dict or name not in value:
                return self.compare is operator.ne
            value = value[name]
        return self.compare(order_key(value), order_key(self.value))


@attrs.frozen
class TableSummary:
    name: str
    documents: int
    indexes: tuple[str, ...]  # name and fields of each, and what is special about it


def tables(snapshot: Snapshot) -> list[TableSummary]:
    """Return the tables by name, those of the system last."""
    found = sorted(snapshot.catalog.tables.values(), key=lambda table: (table.name[0] == "_", table.name))
    transaction = Transaction(snapshot)
    return [
        TableSummary(
            table.name,
            transaction.count(table.name),
            tuple(
                f"{index.name}({', '.join(index.fields)})"
                + (" unique" if index.unique else "")
                + ("" if index.is_ready else " (being filled)")
                for index in table.indexes
            ),
        )
        for table in found
    ]


def documents(
    snapshot: Snapshot,
    table: str,
    *,
    index: str = "by_creation_time",
    descending: bool = False,
    conditions: tuple[Condition, ...] = (),
) -> Iterator[dict[str, Value]]:
    """Yield the documents of a table that match, in the order of an index. Raises `UnknownIndex`."""
    rows = Transaction(snapshot).scan(table, index, WHOLE, reverse=descending)
    return (document for document in rows if all(condition.holds(document) for condition in conditions))
