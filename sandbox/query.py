"""Queries: lazy, single-use, and reading no row that is not handed out (R2, R3).

A query object says what to read. Chaining moves it: the result replaces it, and
the original cannot be used again. Iterating, `take` and the others consume it.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final, NoReturn

import attrs

from sandbox import filters
from sandbox.convert import take_in
from sandbox.cursors import END, Position
from sandbox.execution import Level
from sandbox.filters import Expression
from sandbox.host import HostObject
from sandbox.pagination import PageRequest, read_page
from sandbox.ranges import range_from
from sandbox.transaction import Document
from tidewell.builders import PAGINATION_OPTS
from tidewell.errors import TidewellError, UnknownIndex
from tidewell.ranges import WHOLE, IndexRange
from tidewell.validators import Scope, check
from tidewell.values import MISSING, Int64, Value, pack

_NO_FIELDS: Final[frozenset[str]] = frozenset()
OPERATORS_MAX: Final = 256  # chained on one query (R4)
BUILT_IN_FIELDS: Final = {"by_creation_time": ("_creationTime",), "by_id": ("_id",)}


class InvalidQuery(TidewellError):
    """A query used twice, ordered twice, or asked for something that it cannot give."""

    code = "InvalidQuery"


class NotUnique(TidewellError):
    """`.unique()` found a second document."""

    code = "NotUnique"


@attrs.frozen
class Plan:
    """What to read. Immutable; every chained operator makes the next one."""

    table: str
    index: str = "by_creation_time"
    range: IndexRange = WHOLE
    descending: bool | None = None  # None until .order() says
    predicates: tuple[Expression, ...] = ()
    operators: int = 0

    def then(self, **changes: Any) -> Plan:
        if self.operators >= OPERATORS_MAX:
            raise InvalidQuery(f"more than {OPERATORS_MAX} operators on one query")
        return attrs.evolve(self, operators=self.operators + 1, **changes)

    def matches(self, document: Document) -> bool:
        return all(filters.matches(predicate, document) for predicate in self.predicates)

    def fingerprint(self) -> bytes:
        """What a cursor is bound to: everything that decides which rows come, and in which order."""
        bounds = [self.range.lower, self.range.upper]
        parts: list[Value] = [
            self.table,
            self.index,
            [_written(value) for value in self.range.equal],
            [None if bound is None else [_written(bound.value), bound.inclusive] for bound in bounds],
            bool(self.descending),
            [predicate._text for predicate in self.predicates],
        ]
        return blake2b(pack(parts), digest_size=8).digest()


def _written(value: Value) -> list[Value]:
    return [] if value is MISSING else [value]


class Query(HostObject):
    """`ctx.db.query("posts")`: chain, then consume."""

    __slots__ = ("_level", "_plan", "_touched")
    _exposed_ = frozenset(
        {
            "collect",
            "count",
            "filter",
            "first",
            "order",
            "paginate",
            "take",
            "unique",
            "with_index",
            "with_search_index",
        }
    )

    def __init__(self, level: Level, plan: Plan, touched: frozenset[str] | None = None) -> None:
        self._level = level
        self._plan: Plan | None = plan
        self._touched = touched  # the fields that will be looked at; None for whole documents

    def _narrowed_(self, fields: tuple[str, ...]) -> Query:
        if self._plan is None or self._level.execution.narrow is None:
            return self
        return Query(self._level, self._take_plan(), frozenset(fields))

    def _take_plan(self) -> Plan:
        """Return the plan and leave the object used."""
        plan = self._plan
        if plan is None:
            raise InvalidQuery("this query has been used already; build it again with ctx.db.query(...)")
        self._plan = None
        return plan

    # ---- chaining ------------------------------------------------------------------

    def with_index(self, name: str, fn: Any = None) -> Query:
        """Read a range of an index, in its order."""
        plan = self._take_plan()
        if plan.operators:
            raise InvalidQuery("with_index() comes first: ctx.db.query(table).with_index(...)")
        if type(name) is not str:
            raise TypeError(f"with_index() takes the name of an index, found a {type(name).__name__}")
        bounds = range_from(name, self._fields(plan.table, name), fn, self._level.execution.charge)
        return Query(self._level, plan.then(index=name, range=bounds))

    def with_search_index(self, name: str, fn: Any) -> NoReturn:
        raise InvalidQuery("this version of Tidewell does not have text search")

    def order(self, direction: str) -> Query:
        """Order by the index, "asc" or "desc"."""
        plan = self._take_plan()
        if plan.descending is not None:
            raise InvalidQuery("order() may be used once")
        if type(direction) is not str or direction not in ("asc", "desc"):
            raise InvalidQuery('order() takes "asc" or "desc"')
        return Query(self._level, plan.then(descending=direction == "desc"))

    def filter(self, fn: Any) -> Query:
        """Keep the rows for which an expression is true; rows left out count as read."""
        plan = self._take_plan()
        predicate = filters.build(fn, self._level.execution.charge)
        return Query(self._level, plan.then(predicates=(*plan.predicates, predicate)))

    # ---- consuming -----------------------------------------------------------------

    def take(self, n: int) -> list[Document]:
        """Return the first `n` documents, or all when there are fewer."""
        plan = self._take_plan()
        if type(n) not in (int, Int64) or n < 0:
            raise InvalidQuery("take() takes a number of documents, 0 or more")
        result: list[Document] = []
        if n == 0:
            return result
        for document in self._documents(plan):
            result.append(document)
            if len(result) == n:
                break
        return result

    def first(self) -> Document | None:
        """Return the first document, None when there is none."""
        return next(self._documents(self._take_plan()), None)

    def unique(self) -> Document | None:
        """Return the only document, None when there is none. Raises when there are two."""
        documents = self._documents(plan := self._take_plan())
        found = next(documents, None)
        if found is not None:
            second = next(documents, None)
            if second is not None:
                raise NotUnique(
                    f"unique() found more than one document in {plan.table!r}: "
                    f"{found['_id']} and {second['_id']}"
                )
        return found

    def collect(self) -> list[Document]:
        """Return all documents."""
        return list(self._documents(self._take_plan()))

    def count(self) -> int:
        """Return the number of documents; without a filter, none of them is read."""
        plan = self._take_plan()
        if plan.predicates:
            return sum(1 for _ in self._documents(plan))
        database = self._level.database_for(_NO_FIELDS)
        if database.table_number(plan.table) is None:
            return 0
        counted = database.count(plan.table, plan.index, plan.range)
        self._level.execution.charge_documents(1)
        self._level.limits.check_reads(database.usage)
        return counted

    def __iter__(self) -> Rows:
        return Rows(self._documents(self._take_plan()))

    def paginate(self, opts: Any = None, *, num_items: Any = None, cursor: Any = None) -> dict[str, Value]:
        """Return one page; `opts` is what the client sent as `paginationOpts`."""
        plan = self._take_plan()
        execution = self._level.execution
        if opts is None:
            opts = {"numItems": 20 if num_items is None else num_items, "cursor": cursor}
        elif num_items is not None or cursor is not None:
            raise InvalidQuery("paginate() takes either the options or num_items and cursor")
        taken = take_in(opts, "paginate", execution.charge)
        options = check(PAGINATION_OPTS, taken, "paginate", Scope(spend=execution.charge))
        fingerprint = plan.fingerprint()
        request, is_pinned_by_client = self._page_request(options, fingerprint)
        page = read_page(
            request,
            lambda start, stop: self._rows(plan, start, stop),
            plan.matches,
            lambda: self._level.database.usage.bytes_read,
        )
        end = execution.cursors.seal(fingerprint, page.end)
        execution.journal.add(None if is_pinned_by_client else end)
        split = None if page.split is None else execution.cursors.seal(fingerprint, page.split)
        return {
            "page": page.documents,
            "isDone": page.end is END,
            "continueCursor": end,
            "splitCursor": split,
            "pageStatus": page.status,
        }

    def _page_request(self, options: dict[str, Value], fingerprint: bytes) -> tuple[PageRequest, bool]:
        execution, limits = self._level.execution, self._level.limits
        if "maximumBytesRead" in options:
            self._level.observe_sizes()
        for name in ("numItems", "maximumRowsRead", "maximumBytesRead"):
            if name in options and not options[name] >= 1:
                raise InvalidQuery(f"paginate: {name} must be at least 1")
        chosen_end = options.get("endCursor")
        end_cursor = chosen_end if chosen_end is not None else execution.journal.next_end()

        def position(text: str | None) -> Position | None:
            return None if text is None else execution.cursors.open(text, fingerprint)

        usage = self._level.database.usage
        # A little under the hard limits: a page that has grown large is split, not failed.
        rows_left = (limits.documents_read - usage.documents_read) * 15 // 16
        bytes_left = (limits.bytes_read - usage.bytes_read) * 15 // 16
        request = PageRequest(
            items=_at_most(options["numItems"], limits.documents_read),
            start=position(options.get("cursor")),
            end=position(end_cursor),
            rows_max=max(1, _at_most(options.get("maximumRowsRead"), rows_left)),
            bytes_max=max(1, _at_most(options.get("maximumBytesRead"), bytes_left)),
        )
        return request, chosen_end is not None

    # ---- reading -------------------------------------------------------------------

    def _fields(self, table: str, index: str) -> tuple[str, ...]:
        database = self._level.database
        if database.table_number(table) is not None:
            return database.index_fields(table, index)
        if index in BUILT_IN_FIELDS:
            return BUILT_IN_FIELDS[index]
        raise UnknownIndex(f"there is no table {table!r}, so it has no index {index!r}")

    def _fields_of(self, plan: Plan) -> frozenset[str] | None:
        """Return the fields that reading looks at, by filters or afterwards; None for all."""
        if self._touched is None or not plan.predicates:
            return self._touched
        return self._touched.union(*(predicate._fields for predicate in plan.predicates))

    def _documents(self, plan: Plan) -> Iterator[Document]:
        rows = self._rows(plan)
        if not plan.predicates:
            return (document for _, document in rows)
        return (document for _, document in rows if plan.matches(document))

    def _rows(
        self, plan: Plan, start_after: bytes | None = None, stop_at: bytes | None = None
    ) -> Iterator[tuple[bytes, Document]]:
        """Yield rows as the database hands them out, paid for and counted. The only place that scans."""
        database, limits = self._level.database_for(self._fields_of(plan)), self._level.limits
        charge_documents = self._level.execution.charge_documents
        if database.table_number(plan.table) is None:
            return
        rows = database.scan_rows(
            plan.table,
            plan.index,
            plan.range,
            reverse=bool(plan.descending),
            start_after=start_after,
            stop_at=stop_at,
        )
        usage, cost = database.usage, 1 + len(plan.predicates)
        for row in rows:
            charge_documents(cost)
            limits.check_reads(usage)
            yield row
        limits.check_reads(usage)


class Rows(HostObject):
    """What iterating over a query gives: one document at a time."""

    __slots__ = ("_documents",)

    def __init__(self, documents: Iterator[Document]) -> None:
        self._documents = documents

    def __iter__(self) -> Rows:
        return self

    def __next__(self) -> Document:
        return next(self._documents)


def _at_most(wanted: float | None, limit: int) -> int:
    return limit if wanted is None else int(min(wanted, limit))
