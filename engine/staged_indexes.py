"""Staged indexes: declared by a push, filled behind it, ready some time after it.

A push does not wait for an index with `staged=True`; whoever asks for it too early is
told that it is still being filled (`function-semantics.md` X10). The filling goes on
over restarts. A push that is under way goes first, because it may change the list.

Invariant: an index is enabled only when its backfill has reached the present, by a
commit that re-checks that; so nobody reads half of one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from engine.backend import BackendFault
from engine.code import CodeVersion
from engine.offload import RunBlocking
from storage import CatalogPlan, CommitOutcomeUnknown, IndexInfo, Store, StoreError, UniqueConflict
from tidewell.schema import Index

STEP: Final = 1000  # documents in one go off the event loop
RETRY_S: Final = 60.0  # after a full disk, say

_log = logging.getLogger("tidewell.engine")


@attrs.define(eq=False)
class StagedIndexes:
    """Fills, one step after another, what the active schema declares as staged.

    Args:
      one_at_a_time: held by pushes; here for one step.
      commit: commits a change of the catalog, with writes held.
    """

    _store: Store
    _active: Callable[[], CodeVersion | None]
    _one_at_a_time: trio.Lock
    _commit: Callable[[Callable[[CatalogPlan], None]], Awaitable[None]]
    _run_blocking: RunBlocking
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _given_up: set[int] = attrs.field(factory=set, init=False)  # unique indexes over duplicates

    def note_push(self) -> None:
        """Other code is active: look again at what it declares."""
        self._changed.set()

    async def run(self) -> None:
        """Fill whatever there is to fill, until cancelled."""
        self._changed.set()  # what the last run of this program has left
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            try:
                while await self._step():
                    pass
            except CommitOutcomeUnknown:
                raise
            except BackendFault as fault:
                await self._try_later(fault)
            except StoreError as error:
                await self._try_later(error)

    async def _try_later(self, error: Exception) -> None:
        _log.warning("staged indexes are not filled for now: %s", error)
        await trio.sleep(RETRY_S)
        self._changed.set()

    async def _step(self) -> bool:
        """Do one step; False when nothing is left to do."""
        async with self._one_at_a_time:
            await self._declare()
            index = self._next()
            if index is None:
                return False
            backfill = self._store.backfill(index.index_id)
            try:
                progress = await self._run_blocking(backfill.step, STEP)
            except UniqueConflict as conflict:
                self._given_up.add(index.index_id)  # another push has to say what is wanted instead
                _log.warning("the staged index %s cannot be used: %s", index.name, conflict)
                return True
            if progress.is_complete:
                await self._commit(lambda plan: plan.enable_index(index.index_id))
            return True

    async def _declare(self) -> None:
        """Add what is missing: a push that failed may have taken it away for an index of its own."""

        def add(plan: CatalogPlan) -> None:
            for name, index in self._staged():
                info = plan.catalog.tables.get(name)
                if info is not None and not any(is_same(old, index) for old in info.indexes):
                    plan.add_index(name, index.name, index.fields, unique=index.unique)

        plan = self._store.catalog().plan()
        add(plan)
        if plan.change():
            await self._commit(add)

    def _next(self) -> IndexInfo | None:
        catalog = self._store.catalog()
        for name, index in self._staged():
            info = catalog.tables.get(name)
            for old in () if info is None else info.indexes:
                if is_same(old, index) and not old.is_ready and old.index_id not in self._given_up:
                    return old
        return None

    def _staged(self) -> list[tuple[str, Index]]:
        return staged_in(self._active())


def staged_in(code: CodeVersion | None) -> list[tuple[str, Index]]:
    """Return the staged indexes that a version declares, each with the name of its table."""
    schema = None if code is None else code.described.read_schema()
    if schema is None:
        return []
    return [(name, index) for name, table in schema.tables.items() for index in table.indexes if index.staged]


def is_same(old: IndexInfo, index: Index) -> bool:
    """Whether an index of the store is the one that a schema declares."""
    return (old.name, old.fields, old.unique) == (index.name, index.fields, index.unique)
