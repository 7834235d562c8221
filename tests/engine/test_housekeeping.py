"""What a deployment forgets, and that it forgets nothing else. Over a real store, with commits in line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import attrs
import pytest
import trio

from engine.committer import Committer
from engine.guest_outcomes import read_outcome
from engine.housekeeping import READABLE_NS, Housekeeping
from engine.idempotency import KEPT_NS, Idempotency
from engine.kept_claims import PREFIX, KeptClaims
from sandbox.frames import Outcome
from storage import OutOfRetention, RetentionPolicy, Store, Transaction, WriteLog
from tidewell.values import pack

from .set_clock import SetClock

T = TypeVar("T")
DAY_NS = 24 * 3600 * 10**9


async def in_line(call: Callable[..., T], /, *arguments: object) -> T:
    await trio.lowlevel.checkpoint()
    return call(*arguments)


@attrs.define
class House:
    store: Store
    clock: SetClock
    committer: Committer
    idempotency: Idempotency
    keeping: Housekeeping

    def write(self, number: int) -> int:
        """Commit a new state of the one document; return the timestamp."""
        self.clock.ns += 10**9
        with self.store.snapshot() as snapshot:
            transaction = Transaction(snapshot)
            if number == 0:
                transaction.insert("notes", {"number": 0}, bytes(16), 1000.0)
            else:
                [document] = list(transaction.scan("notes", "by_creation_time"))
                transaction.replace(document["_id"], {"number": number})
            self.store.commit([transaction.write_set().commit(self.clock.ns)])
        self.committer.head_ts = self.store.head_ts
        return self.store.head_ts

    def read(self, ts: int) -> int:
        with self.store.snapshot(ts) as snapshot:
            [document] = list(Transaction(snapshot).scan("notes", "by_creation_time"))
        number: int = document["number"]
        return number


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with Store.open(tmp_path / "store") as store:
        clock = SetClock()
        committer = Committer(store, WriteLog(horizon=0), clock, lambda ts, keys: None, in_line)
        idempotency = Idempotency(store)
        policy = RetentionPolicy(age_ns=14 * DAY_NS)
        claims = KeptClaims(store)
        keeping = Housekeeping(store, committer, idempotency, claims, clock, in_line, policy)
        yield House(store, clock, committer, idempotency, keeping)


async def test_history_past_its_age_goes_and_the_newest_state_stays(house: House) -> None:
    old = [house.write(number) for number in range(3)]
    house.clock.ns += 20 * DAY_NS
    newest = house.write(3)
    await house.keeping.move_horizon()
    with pytest.raises(OutOfRetention):
        house.read(old[0])
    assert house.read(newest) == 3


async def test_what_running_calls_may_read_stays_whatever_its_age(house: House) -> None:
    house.write(0)
    before = house.write(1)
    newest = house.write(2)
    house.clock.ns += 20 * DAY_NS
    assert newest - before < READABLE_NS
    await house.keeping.move_horizon()
    assert house.read(before) == 1


async def test_requests_past_their_time_are_forgotten_and_others_are_not(house: House) -> None:
    guest = read_outcome(Outcome(kind="value", value=pack("answer")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.committer.run)
        for number in range(2):
            ts = house.committer.accepted_ts + 1
            await house.committer.write_rows(
                house.idempotency.rows(("session", number), guest)(ts, house.clock.ns)
            )
            house.clock.ns += KEPT_NS // 2 + DAY_NS
        await house.keeping.forget_requests()
        house.committer.close()
    assert house.idempotency.find(("session", 0)) is None
    kept = house.idempotency.find(("session", 1))
    assert kept is not None
    assert (await kept.wait()).value == "answer"


async def test_claims_go_when_the_history_of_their_records_has_gone(house: House) -> None:
    people = [pack({"issuer": "https://issuer.example", "subject": name}) for name in ("ann", "ben", "cleo")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.committer.run)
        for claims in people:
            await house.committer.write_rows(house.keeping._claims.rows(claims, house.clock.ns))
            house.clock.ns += 8 * DAY_NS
        await house.keeping.move_horizon()
        assert house.store.horizon > 0
        await house.keeping.forget_claims()
        house.committer.close()
    assert {row[8:] for _, row in house.store.private_items(PREFIX)} == set(people[1:])
