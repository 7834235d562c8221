"""Housekeeping: what a deployment forgets, a bounded step at a time, while it serves.

Three things grow without anybody asking for it: the rows of idempotent requests, the
history that older snapshots need, and the claims that records name. The first two are kept for
14 days (`function-semantics.md` 12.5 and 13.7), the third for as long as there is such a record. All
go in steps so small that no commit waits long for one.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

import attrs
import trio

from engine.backend import BackendFault
from engine.clock import Clock
from engine.committer import Committer
from engine.idempotency import Idempotency
from engine.kept_claims import KeptClaims
from engine.offload import RunBlocking
from storage import CommitOutcomeUnknown, RetentionPolicy, Store, StoreError

INTERVAL_S: Final = 60.0
# Snapshots of running calls are younger: a transaction lives 10 s at most (function-semantics 19.3).
READABLE_NS: Final = 60 * 10**9

_log = logging.getLogger("tidewell.engine")


@attrs.define(eq=False)
class Housekeeping:
    _store: Store
    _committer: Committer
    _idempotency: Idempotency
    _claims: KeptClaims
    _clock: Clock
    _run_blocking: RunBlocking
    _policy: RetentionPolicy = attrs.field(factory=RetentionPolicy)

    async def run(self) -> None:
        """Tidy up once in a while, until cancelled."""
        while True:
            await trio.sleep(INTERVAL_S)
            try:
                await self.forget_requests()
                await self.move_horizon()
                await self.forget_claims()
            except CommitOutcomeUnknown:
                raise
            except (BackendFault, StoreError) as error:
                # A full disk, most likely. It is no reason to end, and there will be another time.
                _log.warning("nothing is forgotten for now: %s", error)

    async def forget_requests(self) -> None:
        """Remove the rows of requests that are past their time."""
        while rows := self._idempotency.expired_rows(self._clock.now_ns()):
            await self._committer.write_rows(rows)

    async def move_horizon(self) -> None:
        """Drop the versions that no snapshot within the retention needs."""
        is_done = False
        while not is_done:
            retain = partial(
                self._store.retain,
                self._policy,
                now_ns=self._clock.now_ns(),
                keep_from=max(0, self._committer.head_ts - READABLE_NS),
            )
            # Shielded like a commit: it is one, and the store must not be closed under it.
            with trio.CancelScope(shield=True):
                is_done = (await self._run_blocking(retain)).is_done

    async def forget_claims(self) -> None:
        """Remove rows of claims that no record names any more, of the next few."""
        rows = self._claims.unneeded_rows(self._store.horizon)
        if rows:
            await self._committer.write_rows(rows)
