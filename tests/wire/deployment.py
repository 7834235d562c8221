"""A real deployment with the app of this folder, for scripts that have to play on it as well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from engine.app_folder import read_app_folder
from engine.backend import (
    ActionOutcome,
    Backend,
    Call,
    Identity,
    Kind,
    MutationOutcome,
    QueryOutcome,
)
from engine.chance import SystemChance
from engine.clock import SystemClock
from engine.deployment import Deployment, open_deployment

APP = Path(__file__).parent / "app"


def ignore_execution(*_: object) -> None:
    pass


def ignore_progress(*_: object) -> None:
    pass


@attrs.define
class HeldDeployment:
    """A deployment whose mutations can be kept from reporting their commit."""

    inner: Deployment
    reply_gate: trio.Event | None = None
    committed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def head_ts(self) -> int:
        return self.inner.head_ts

    @property
    def redacted(self) -> bool:
        return self.inner.redacted

    def kind_of(self, path: str) -> Kind | None:
        return self.inner.kind_of(path)

    def newest_success(self, session_id: str) -> tuple[int, int] | None:
        return self.inner.newest_success(session_id)

    async def query(self, call: Call, *, ts: int | None = None) -> QueryOutcome:
        return await self.inner.query(call, ts=ts)

    async def mutate(self, call: Call, *, idempotency: tuple[str, int] | None = None) -> MutationOutcome:
        outcome = await self.inner.mutate(call, idempotency=idempotency)
        self.committed.set()
        if self.reply_gate is not None:
            await self.reply_gate.wait()
        return outcome

    async def act(self, call: Call) -> ActionOutcome:
        return await self.inner.act(call)

    def watch(self, *args: Any, **options: Any) -> Any:
        return self.inner.watch(*args, **options)

    async def evaluate(self, *args: Any) -> list[QueryOutcome]:
        return await self.inner.evaluate(*args)

    def hold_replies(self) -> None:
        self.reply_gate, self.committed = trio.Event(), trio.Event()

    async def commit(self, cell: str, value: Any) -> None:
        """Commit as somebody else would."""
        await self.run("cells:put", name=cell, value=value)

    async def run(self, path: str, **args: Any) -> None:
        """Run a mutation from within."""
        call = Call(path, args, Identity(admin=True), "0" * 16, "internal")
        outcome = await self.inner.mutate(call)
        assert outcome.failure is None, outcome.failure


def as_backend(deployment: HeldDeployment) -> Backend:
    return deployment


@asynccontextmanager
async def running_deployment(folder: Path, app: Path = APP) -> AsyncIterator[HeldDeployment]:
    """Open a deployment, push the app, and end in order afterwards."""
    deployment = open_deployment(
        folder, clock=SystemClock(), chance=SystemChance(), on_execution=ignore_execution
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(deployment.run)
        try:
            await deployment.push(read_app_folder(app), ignore_progress)
            yield HeldDeployment(deployment)
        finally:
            deployment.close()
