"""Replays of a deployment that has been closed, in confined workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engine.deployment import WORKER_ENTRY
from engine.replay.divergence import Replayed
from engine.replay.replayer import Replayer
from engine.replay.source import Source
from sandbox.pool import WorkerPool

PLANTS = str(Path(__file__).parent)


@asynccontextmanager
async def replayer(
    data: Path, *, entry: str = WORKER_ENTRY, hash_seed: int | None = None, workers: int = 2, **options: Any
) -> AsyncIterator[Replayer]:
    """Give a replayer of the data folder `data`, with workers of the build that `entry` names."""
    with Source.open(data) as source:
        pool = WorkerPool(
            entry=entry,
            argument=source.worker_argument,
            size=workers,
            hash_seed=hash_seed,
            import_paths=(PLANTS,),
            **options,
        )
        async with pool.running():
            yield Replayer(source, pool)


async def replay_all(data: Path, **options: Any) -> list[Replayed]:
    """Replay everything and return it in the order of the log."""
    done: list[Replayed] = []
    async with replayer(data, **options) as it:
        await it.replay_all(it.source.recorded(), 2, done.append)
    return sorted(done, key=lambda replayed: replayed.ts)


def divergences(done: list[Replayed]) -> list[Replayed]:
    return [replayed for replayed in done if replayed.divergence is not None]
