"""Planted bugs. Each has to be found within its budget of seeds, or the fuzzer has gone blind.

A canary names the workload in whose runs it shows, the checkers that are to find it,
and how many seeds they may take. What it plants is put in at the seams of the simulation,
by wrapping or by swapping a class for one that is derived from it: the engine has no
switch for a bug.

    python -m fuzz.canaries            all of them
    python -m fuzz.canaries early      one, by name
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import attrs
import click
import msgspec

from engine.backend import QueryOutcome
from engine.chance import Chance
from engine.client_requests import ClientRequests
from engine.committer import Committer, Overtaken, View
from engine.connection import Connection
from engine.deployment import Deployment
from engine.queries import Queries, QueryWatch
from fuzz.plants import Plant
from fuzz.simulation import Plan, run_seed
from sandbox.frames import Outcome, Ran, Refused, Run
from sandbox.worker import RequestHandler
from storage import Changes, IndexKey, Interval, ReadSet, Store, Timestamp


class SkipsConflictChecks(Plant):
    """A proposal that was overtaken by a commit is accepted all the same."""

    def deployment(self, deployment: Deployment) -> None:
        deployment.committer.__class__ = _CarelessCommitter


class _CarelessCommitter(Committer):
    __slots__ = ()

    def check(self, view: View, reads: ReadSet, code: str | None) -> None:
        try:
            super().check(view, reads, code)
        except Overtaken as overtaken:
            if overtaken.conflict_ts is None:
                raise


class ForgetsRangeEnds(Plant):
    """A range counts as read from its start to its first key, as if scans forgot how far they went."""

    def handler(self, handler: RequestHandler) -> RequestHandler:
        return _ForgetfulHandler(handler)


class _ForgetfulHandler:
    def __init__(self, inner: RequestHandler) -> None:
        self._inner = inner
        self.load = inner.load

    def run(self, frame: Run, syscall: Any) -> Ran | Refused:
        reply = self._inner.run(frame, syscall)
        return Ran(outcomes=list(map(_without_ends, reply.outcomes))) if isinstance(reply, Ran) else reply


def _without_ends(outcome: Outcome) -> Outcome:
    if not outcome.reads:
        return outcome
    reads = ReadSet.unpack(outcome.reads)
    short = ReadSet.of((index, start, min(end, start + b"\0")) for index, start, end in reads.intervals())
    return msgspec.structs.replace(outcome, reads=short.pack())


class RepliesBeforeSync(Plant):
    """A commit counts as done when it is written, and is synced a little later."""

    replies_before_sync = True


class InvalidatesNewKeysOnly(Plant):
    """Subscriptions hear of the keys that a commit put in, and not of those it took out."""

    def deployment(self, deployment: Deployment) -> None:
        committer: Any = deployment.committer
        announce, store = committer._announce, deployment.store

        def announce_new(ts: int, changes: Changes) -> None:
            announce(ts, Changes(tuple(key for key in changes.keys if _is_there(store, ts, key))))

        committer._announce = announce_new


def _is_there(store: Store, ts: int, index_key: IndexKey) -> bool:
    index_id, key = index_key
    with store.snapshot(ts) as snapshot:
        index = snapshot.catalog.index(index_id)
        return index is None or next(snapshot.scan(index, Interval(key, key + b"\0")), None) is not None


class MixesSnapshots(Plant):
    """Each result of a transition is the newest one there is, and not the one at the transition's time."""

    def deployment(self, deployment: Deployment) -> None:
        deployment.queries.__class__ = _HurriedQueries


class _HurriedQueries(Queries):
    __slots__ = ()

    async def evaluate(self, watches: Sequence[QueryWatch], ts: Timestamp) -> list[QueryOutcome]:
        outcomes = []
        for watch in watches:
            outcomes += await super().evaluate([watch], max(ts, self._head()))
        return outcomes


class DeliversEarly(Plant):
    """A transition does not wait for the answer to the mutation that it shows."""

    def connection(self, connection: Connection) -> None:
        connection._session._requests.__class__ = _HastyRequests


class _HastyRequests(ClientRequests):
    __slots__ = ()

    def may_show(self, ts: Timestamp) -> bool:
        return True


class ReusesSeeds(Plant):
    """Now and then an execution is given the seed of the one before."""

    def chance(self, chance: Chance) -> Chance:
        return _TiredChance(chance)


class _TiredChance:
    def __init__(self, inner: Chance) -> None:
        self._inner = inner
        self._last = b""
        self._random = Random(0)

    def token(self, size_bytes: int) -> bytes:
        drawn = self._inner.token(size_bytes)
        if size_bytes != 32 or not self._last or self._random.random() < 0.9:
            drawn, self._last = drawn, drawn if size_bytes == 32 else self._last
            return drawn
        return self._last

    def uniform(self) -> float:
        return self._inner.uniform()


@attrs.frozen
class Canary:
    name: str
    plant: Callable[[], Plant]
    workload: str
    finders: frozenset[str]  # checkers, any of which may find it first
    seeds_max: int = 5
    faults: str = "all"


_SERIAL: Final = frozenset({"serial", "reexecution", "workload"})
_SHOWN: Final = frozenset({"snapshots", "completeness"})

CANARIES: Final = (
    Canary("conflict", SkipsConflictChecks, "bank", _SERIAL),
    Canary("skew", SkipsConflictChecks, "lists", frozenset({"workload"})),
    Canary("range-end", ForgetsRangeEnds, "traps", frozenset({"serial", "workload"})),
    Canary("reply-before-sync", RepliesBeforeSync, "counter", frozenset({"durability"}), faults="crashes"),
    Canary("new-keys-only", InvalidatesNewKeysOnly, "inbox", _SHOWN, faults="none"),
    Canary("snapshots", MixesSnapshots, "cycle", frozenset({"snapshots", "workload"}), faults="none"),
    Canary("drawn", SkipsConflictChecks, "drawn", frozenset({"reexecution"}), faults="none"),
    Canary("early", DeliversEarly, "counter", frozenset({"sessions"})),
    Canary("seed", ReusesSeeds, "inbox", frozenset({"seeds", "answers"}), faults="none"),
)


@attrs.frozen
class Found:
    canary: Canary
    seeds: int  # run
    problem: str | None  # None: not found within the budget
    real_s: float


def hunt(canary: Canary) -> Found:
    """Run seeds with the bug until one of the canary's checkers finds it."""
    started = time.monotonic()
    plan = Plan(canary.workload, canary.faults, duration_s=10, clients=5)
    for seed in range(1, canary.seeds_max + 1):
        result = run_seed(seed, plan, canary.plant())
        for problem in result.problems:
            if problem.partition(":")[0] in canary.finders:
                return Found(canary, seed, problem, time.monotonic() - started)
    return Found(canary, canary.seeds_max, None, time.monotonic() - started)


def describe(found: Found) -> str:
    name = f"{found.canary.name} ({found.canary.plant.__doc__})"
    if found.problem is None:
        return f"NOT FOUND in {found.seeds} seeds of {found.canary.workload}: {name}"
    where = f"seed {found.seeds} of {found.canary.workload} in {found.real_s:.1f} s"
    return f"found by {where}: {name}\n  {found.problem}"


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """End with status 1 if a planted bug is not found."""
    is_blind = False
    for canary in CANARIES:
        if not names or canary.name in names:
            found = hunt(canary)
            is_blind = is_blind or found.problem is None
            print(describe(found), flush=True)
    sys.exit(is_blind)


if __name__ == "__main__":
    main()
