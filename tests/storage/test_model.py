"""The store and a plain dict, side by side, through anything that may happen to a store.

After every step of a random life (transactions, groups, tables and indexes that come and go,
backfills, retention, reopening) both must agree at every readable timestamp: on each
document, on every index, in both directions, for random ranges. Batch sizes are tiny, so that
the edges which large ones hide are everywhere.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from storage import (
    Buffer,
    Commit,
    NotYetCommitted,
    OutOfRetention,
    RetentionPolicy,
    Snapshot,
    Store,
    Transaction,
    UniqueConflict,
    Usage,
    WriteSet,
    catalog_rows,
    old_entries,
    zones,
)
from storage import (
    snapshot as snapshot_module,
)
from storage import (
    store as store_module,
)
from tidewell.errors import IndexNotReady, NotFound, UniqueViolated, UnknownIndex
from tidewell.ids import decode_id
from tidewell.ranges import IndexRange, RangeBuilder
from tidewell.values import MISSING, object_of, pack

from .harness import check, internal_id
from .strategies import LONG_PREFIX, indexed_values, sort_key

TABLES = ("cats", "dogs")
FIELDS = ("a", "b", "c.d")

small = st.sampled_from([None, 0, 1, 2, "", "x", "y\x00", LONG_PREFIX, LONG_PREFIX + "a", LONG_PREFIX + "b"])
field_values = st.one_of(small, indexed_values, st.just(MISSING))


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    flat = {name: draw(field_values) for name in ("a", "b")}
    inner = draw(field_values)
    if inner is not MISSING:
        flat["c"] = {"d": inner}
    return {name: value for name, value in flat.items() if value is not MISSING}


def value_at(document: dict[str, Any], field: str) -> Any:
    value: Any = document
    for name in field.split("."):
        if type(value) is not dict or name not in value:
            return MISSING
        value = value[name]
    return value


def exactly(document: Any) -> bytes:
    """Return what tells NaN from nothing and zero from negative zero."""
    return pack(document and object_of(document))


@attrs.define
class Index:
    index_id: int
    fields: tuple[str, ...]
    unique: bool
    ready: bool


@attrs.define
class State:
    """Everything that is visible at one timestamp."""

    tables: dict[str, dict[str, dict[str, Any]]] = attrs.field(factory=dict)
    indexes: dict[str, dict[str, Index]] = attrs.field(factory=dict)


@contextmanager
def tiny_batches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_module, "_NEAR_COMMITS", 2)
        patch.setattr(snapshot_module, "_CHUNK_SIZES", (1, 2, 3))
        patch.setattr(old_entries, "ZONE_ROWS", 2)
        patch.setattr(zones, "GROUP_ZONES", 2)
        patch.setattr(catalog_rows, "CHANGES_MAX", 2)
        patch.setattr(store_module, "_LOG_BATCH", 2)
        yield


class StoreAgainstDict(RuleBasedStateMachine):
    ids = Bundle("ids")

    @initialize()
    def open(self) -> None:
        self.batches = tiny_batches()
        self.batches.__enter__()
        self.path = tempfile.mkdtemp(prefix="store-model-")
        self.store = Store.open(self.path, map_size=1 << 17)
        self.history: dict[int, State] = {0: State()}
        self.horizon = 0
        self.made = 0
        self.kept: list[tuple[Snapshot, int]] = []

    def teardown(self) -> None:
        if hasattr(self, "store"):
            check(self.store)
            for held, _ in self.kept:
                held.close()
            self.store.close()
            shutil.rmtree(self.path)
            self.batches.__exit__(None, None, None)

    # ---- what can happen -------------------------------------------------------------

    @property
    def newest(self) -> State:
        return self.history[max(self.history)]

    def put(self, ts: int, state: State) -> None:
        assert ts > max(self.history)
        self.history[ts] = state

    @rule(target=ids, data=st.data())
    def commit_group(self, data: st.DataObject) -> Any:
        """Some transactions, each over the ones accepted before it, durable together."""
        layers: list[tuple[int, WriteSet]] = []
        commits = []
        made: list[str] = []
        for _ in range(data.draw(st.integers(1, 3))):
            with self.store.snapshot() as base:
                transaction = Transaction(Buffer.overlay(base, [writes for _, writes in layers]))
                state = copy.deepcopy(self.newest)
                made += self.write_something(transaction, state, data)
                writes = WriteSet.unpack(transaction.write_set().pack())
            ts = max(self.history) + data.draw(st.integers(1, 3))
            self.store.changes(writes, layers)
            layers.append((ts, writes))
            commits.append(writes.commit(ts, record=b"r%d" % ts, private=[(b"last", b"%d" % ts)]))
            self.put(ts, state)
        self.store.commit(commits)
        assert self.store.private_get(b"last") == b"%d" % self.store.head_ts
        return made[-1] if made else ""

    def write_something(self, transaction: Transaction, state: State, data: st.DataObject) -> list[str]:
        made = []
        for _ in range(data.draw(st.integers(0, 4))):
            action = data.draw(st.sampled_from(["insert", "insert", "replace", "delete", "savepoint"]))
            table = data.draw(st.sampled_from(TABLES))
            existing = sorted(state.tables.get(table, {}))
            if action == "insert":
                self.made += 1
                body = data.draw(bodies())
                created = float(data.draw(st.integers(1, 5)))
                try:
                    id_ = transaction.insert(table, body, internal_id(self.made), created)
                except UniqueViolated:
                    assert self.would_collide(state, table, None, body)
                    if not existing and table not in state.tables:
                        state.tables[table] = {}
                    continue
                assert not self.would_collide(state, table, None, body)
                normal = {**body, "_id": id_, "_creationTime": int(created)}
                state.tables.setdefault(table, {})[id_] = normal
                made.append(id_)
            elif action == "savepoint":
                before = copy.deepcopy(state)
                transaction.push_savepoint()
                used = attrs.evolve(transaction.usage)
                if data.draw(st.booleans()):
                    self.write_something(transaction, state, data)
                    transaction.release_savepoint()
                else:
                    self.write_something(transaction, copy.deepcopy(state), data)
                    transaction.rollback_savepoint()
                    state.tables, state.indexes = before.tables, before.indexes
                assert self.usage_grew(used, transaction.usage)
            elif existing:
                id_ = data.draw(st.sampled_from(existing))
                if action == "delete":
                    transaction.delete(id_)
                    del state.tables[table][id_]
                else:
                    body = data.draw(
                        bodies() | st.just({k: v for k, v in state.tables[table][id_].items() if k[0] != "_"})
                    )
                    try:
                        transaction.replace(id_, body)
                    except UniqueViolated:
                        assert self.would_collide(state, table, id_, body)
                        continue
                    assert not self.would_collide(state, table, id_, body) or body == {
                        k: v for k, v in state.tables[table][id_].items() if k[0] != "_"
                    }
                    old = state.tables[table][id_]
                    state.tables[table][id_] = {**body, "_id": id_, "_creationTime": old["_creationTime"]}
            self.compare_transaction(transaction, state, table)
        return made

    def usage_grew(self, before: Usage, after: Usage) -> bool:
        return all(
            getattr(after, name) >= getattr(before, name) for name in ("intervals", "documents_written")
        )

    def would_collide(self, state: State, table: str, id_: str | None, body: dict[str, Any]) -> bool:
        for index in state.indexes.get(table, {}).values():
            if not (index.unique and index.ready):
                continue
            ours = [value_at(body, field) for field in index.fields]
            if any(value is None or value is MISSING for value in ours):
                continue
            for other, document in state.tables.get(table, {}).items():
                theirs = [value_at(document, field) for field in index.fields]
                if other != id_ and list(map(sort_key, ours)) == list(map(sort_key, theirs)):
                    return True
        return False

    @rule(id_=ids)
    def write_what_is_gone(self, id_: str) -> None:
        if not id_ or any(id_ in documents for documents in self.newest.tables.values()):
            return
        with self.store.snapshot() as base:
            transaction = Transaction(base)
            for write in (lambda: transaction.delete(id_), lambda: transaction.replace(id_, {})):
                with pytest.raises(NotFound):
                    write()
            assert not transaction.write_set()

    @rule(
        table=st.sampled_from(TABLES),
        fields=st.lists(st.sampled_from(FIELDS), min_size=1, max_size=2, unique=True).map(tuple),
        unique=st.booleans(),
    )
    def add_index(self, table: str, fields: tuple[str, ...], unique: bool) -> None:
        state = copy.deepcopy(self.newest)
        name = "by_" + "_".join(field.replace(".", "") for field in fields)
        if name in state.indexes.get(table, {}):
            return
        plan = self.store.catalog().plan()
        if table not in state.tables:
            plan.create_table(table)
            state.tables[table] = {}
        index = plan.add_index(table, name, fields, unique=unique)
        state.indexes.setdefault(table, {})[name] = Index(index.index_id, fields, unique, False)
        self.commit_change(plan.change(), state)

    @rule(steps=st.integers(1, 3))
    def fill_indexes(self, steps: int) -> None:
        for table, indexes in self.newest.indexes.items():
            for name, index in indexes.items():
                if index.ready:
                    continue
                backfill = self.store.backfill(index.index_id)
                try:
                    for _ in range(steps):
                        backfill.step(2)
                except UniqueConflict:
                    assert index.unique
                    state = copy.deepcopy(self.newest)
                    del state.indexes[table][name]
                    plan = self.store.catalog().plan()
                    plan.remove_index(index.index_id)
                    self.commit_change(plan.change(), state)
                    return
                if backfill.is_complete:
                    state = copy.deepcopy(self.newest)
                    state.indexes[table][name].ready = True
                    plan = self.store.catalog().plan()
                    plan.enable_index(index.index_id)
                    self.commit_change(plan.change(), state)
                    return

    @rule(table=st.sampled_from(TABLES), data=st.data())
    def remove_index(self, table: str, data: st.DataObject) -> None:
        indexes = self.newest.indexes.get(table)
        if not indexes:
            return
        name = data.draw(st.sampled_from(sorted(indexes)))
        state = copy.deepcopy(self.newest)
        plan = self.store.catalog().plan()
        plan.remove_index(state.indexes[table].pop(name).index_id)
        self.commit_change(plan.change(), state)

    @rule(table=st.sampled_from(TABLES))
    def drop_table(self, table: str) -> None:
        if table not in self.newest.tables:
            return
        state = copy.deepcopy(self.newest)
        del state.tables[table]
        state.indexes.pop(table, None)
        plan = self.store.catalog().plan()
        plan.drop_table(table)
        self.commit_change(plan.change(), state)

    def commit_change(self, change: Any, state: State) -> None:
        ts = max(self.history) + 1
        self.store.commit([Commit(ts, catalog=change)])
        self.put(ts, state)

    @rule(back=st.integers(0, 6), rows_max=st.integers(1, 4))
    def forget(self, back: int, rows_max: int) -> None:
        known = sorted(self.history)
        target = known[max(0, len(known) - 1 - back)]
        for _ in range(3):
            step = self.store.retain(RetentionPolicy(age_ns=0), now_ns=target, rows_max=rows_max)
            if step.is_done:
                break
        assert self.store.horizon <= min([target, *(snapshot.ts for snapshot, _ in self.kept)]) or (
            self.store.horizon == self.horizon
        )
        self.horizon = self.store.horizon

    @rule(back=st.integers(0, 4))
    def keep_a_snapshot(self, back: int) -> None:
        known = [ts for ts in sorted(self.history) if ts >= self.horizon]
        ts = known[max(0, len(known) - 1 - back)]
        self.kept.append((self.store.snapshot(ts), ts))

    @rule()
    def drop_snapshots(self) -> None:
        while self.kept:
            self.kept.pop()[0].close()

    @rule()
    def reopen(self) -> None:
        self.drop_snapshots()
        head = self.store.head_ts
        self.store.close()
        self.store = Store.open(self.path, create=False, map_size=1 << 17)
        assert self.store.head_ts == head

    # ---- what must hold -------------------------------------------------------------

    @rule(data=st.data())
    def compare_as_of(self, data: st.DataObject) -> None:
        ts = data.draw(st.integers(0, max(self.history) + 1))
        if ts > max(self.history):
            with pytest.raises(NotYetCommitted):
                self.store.snapshot(ts)
        elif ts < self.horizon:
            with pytest.raises(OutOfRetention):
                self.store.snapshot(ts)
        else:
            with self.store.snapshot(ts) as snapshot:
                state = self.history[max(known for known in self.history if known <= ts)]
                self.compare(snapshot, state)
                self.compare_ranges(snapshot, state, data)

    @invariant()
    def agree_now(self) -> None:
        if hasattr(self, "store"):
            with self.store.snapshot() as snapshot:
                self.compare(snapshot, self.newest)
            for held, ts in self.kept:
                self.compare(held, self.history[max(known for known in self.history if known <= ts)])
            expected = [ts for ts in sorted(self.history) if ts > self.horizon]
            assert [entry.ts for entry in self.store.log(self.horizon)] == expected

    def compare(self, snapshot: Snapshot, state: State) -> None:
        transaction = Transaction(snapshot)
        assert set(snapshot.catalog.tables) == set(state.tables)
        for table in TABLES:
            self.compare_transaction(transaction, state, table)

    def compare_transaction(self, transaction: Transaction, state: State, table: str) -> None:
        documents = state.tables.get(table, {})
        for id_, document in documents.items():
            assert exactly(transaction.get(id_)) == exactly(document)
        indexes = {"by_creation_time": (), "by_id": ("_id",)}
        for name, index in state.indexes.get(table, {}).items():
            if index.ready:
                indexes[name] = index.fields
            else:
                with pytest.raises(IndexNotReady):
                    transaction.index_fields(table, name)
        with pytest.raises(UnknownIndex):
            transaction.index_fields(table, "by_nothing")
        for name, fields in indexes.items():
            expected = self.in_order(documents, fields)
            for reverse in (False, True):
                found = list(transaction.scan(table, name, reverse=reverse))
                wanted = expected[::-1] if reverse else expected
                assert list(map(exactly, found)) == list(map(exactly, wanted)), (table, name, reverse)
            assert transaction.count(table, name) == len(expected)

    def in_order(self, documents: dict[str, Any], fields: tuple[str, ...]) -> list[dict[str, Any]]:
        return sorted(
            documents.values(),
            key=lambda document: (
                *(sort_key(value_at(document, field)) for field in fields),
                document["_creationTime"],
                decode_id(document["_id"])[1],
            ),
        )

    def compare_ranges(self, snapshot: Snapshot, state: State, data: st.DataObject) -> None:
        """Compare random ranges, taken part by part, and what the read set says of them."""
        for table, indexes in state.indexes.items():
            for name, index in indexes.items():
                if not index.ready:
                    continue
                transaction = Transaction(snapshot)
                first = index.fields[0]
                builder = RangeBuilder(name, transaction.index_fields(table, name))
                low, high = data.draw(field_values), data.draw(field_values)
                range_: IndexRange = builder.gte(first, low).lt(first, high).finish()
                expected = [
                    document
                    for document in self.in_order(state.tables.get(table, {}), index.fields)
                    if sort_key(low) <= sort_key(value_at(document, first)) < sort_key(high)
                ]
                found = list(transaction.scan(table, name, range_))
                assert list(map(exactly, found)) == list(map(exactly, expected))
                assert transaction.count(table, name, range_) == len(expected)
                middle = len(expected) // 2
                rows = list(transaction.scan_rows(table, name, range_))
                if rows:
                    key = rows[middle][0]
                    left = transaction.scan_rows(table, name, range_, stop_at=key)
                    right = transaction.scan_rows(table, name, range_, start_after=key)
                    parts = [exactly(row) for _, row in left] + [exactly(row) for _, row in right]
                    assert parts == list(map(exactly, expected))


# TIDEWELL_EXAMPLES=500 for a night's worth.
StoreAgainstDict.TestCase.settings = settings(
    max_examples=int(os.environ.get("TIDEWELL_EXAMPLES", "60")),
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestStoreAgainstDict = StoreAgainstDict.TestCase
