"""Transactions of the engine itself, on behalf of an operator: no function, no worker.

They run with the writes of functions held, on what is durable, so that they meet no
conflict and need no retry. That makes everybody wait for a moment, which is right for
what a person does by hand and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import attrs
import trio

from engine.committer import Committer, Proposal, View
from storage import CatalogChange, CatalogPlan, ReadSet, Store, Timestamp, Transaction, WriteSet

T = TypeVar("T")


@attrs.frozen(eq=False)
class OwnWrites:
    _store: Store
    _committer: Committer
    _hold_writes: Callable[[], AbstractAsyncContextManager[None]]

    async def run(
        self,
        work: Callable[[Transaction], T],
        *,
        prepare: Callable[[CatalogPlan], None] | None = None,
        on_head: Callable[[Timestamp], None] | None = None,
    ) -> T:
        """Commit what `work` writes; return what it returns, once that is durable.

        Args:
          work: must not await anything, and leaves nothing behind when it raises.
          prepare: makes the tables that `work` needs and that are not there.
          on_head: called in the step in which the head moves to the commit.

        Raises:
          BackendFault, StoreError: the store took nothing. And whatever `work` raises.
        """
        async with self._hold_writes():
            if prepare is not None:
                plan = self._store.catalog().plan()
                prepare(plan)
                if change := plan.change():
                    await self._commit(ReadSet(), WriteSet(), change)
            with self._store.snapshot() as snapshot:
                transaction = Transaction(snapshot)
                result = work(transaction)
                reads, writes = transaction.read_set(), transaction.write_set()
            if writes:
                await self._commit(reads, writes, on_head=on_head)
            return result

    async def _commit(
        self,
        reads: ReadSet,
        writes: WriteSet,
        catalog: CatalogChange | None = None,
        on_head: Callable[[Timestamp], None] | None = None,
    ) -> None:
        view = View(self._committer.head_ts)
        proposal = Proposal(view, reads, writes, None, catalog=catalog, on_head=on_head)
        # Writes stay held until it is known, whoever is cancelled.
        with trio.CancelScope(shield=True):
            await self._committer.accept(proposal).durable.wait()
