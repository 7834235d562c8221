"""The real store as what a `GuestApp` keeps its documents in."""

from __future__ import annotations

from pathlib import Path

from sandbox.transaction import Database
from storage import Buffer, CatalogPlan, Commit, Store, Transaction, WriteSet
from tidewell.schema import Schema


class StoreBacking:
    """Opens and commits the way the engine does, one commit after another."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(folder / "store")

    def prepare(self, schema: Schema) -> None:
        plan: CatalogPlan = self.store.catalog().plan()
        for name, table in schema.tables.items():
            plan.create_table(name)
            for index in table.indexes:
                plan.add_index(name, index.name, index.fields, unique=index.unique, state="ready")
        self.store.commit([Commit(self.store.head_ts + 1, catalog=plan.change())])

    def open(self, overlay: list[bytes]) -> Database:
        snapshot = self.store.snapshot()
        if not overlay:
            return Transaction(snapshot)
        return Transaction(Buffer.overlay(snapshot, [WriteSet.unpack(packed) for packed in overlay]))

    def commit(self, writes: bytes) -> None:
        self.store.commit([WriteSet.unpack(writes).commit(self.store.head_ts + 1)])
