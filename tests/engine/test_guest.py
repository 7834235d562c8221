"""A worker's transactions: each on its snapshot, with exactly the write sets it was given over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.guest import GuestStore
from engine.testing.workers import StoreReader
from sandbox.transaction import CannotServe
from storage import Commit, Store, Transaction, WriteSet
from tidewell.ids import decode_id


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        plan = store.catalog().plan()
        plan.create_table("counters")
        store.commit([Commit(1, catalog=plan.change())])
        yield store


@pytest.fixture
def guest(store: Store) -> GuestStore:
    return GuestStore("", StoreReader(store))


def increment(database: object, counter: str) -> bytes:
    """Add one to a counter and return the packed write set."""
    assert isinstance(database, Transaction)
    before = database.get(counter)
    if before is None:
        database.insert("counters", {"n": 1}, decode_id(counter)[1], 1)
    else:
        database.replace(counter, {"n": before["n"] + 1})
    return database.write_set().pack()


COUNTER = "j57000820c20a1g7104gm2rc1m70ynr8"


def test_each_call_of_a_batch_sees_the_write_sets_before_it(store: Store, guest: GuestStore) -> None:
    with store.pin() as pin:
        overlay: list[bytes] = []
        for n in range(1, 20):
            overlay.append(increment(guest.begin(1, pin.txn_id, overlay), COUNTER))
            assert guest.begin(1, pin.txn_id, overlay).get(COUNTER)["n"] == n  # type: ignore[index]  # is there


def test_write_sets_of_one_request_do_not_show_in_the_next(store: Store, guest: GuestStore) -> None:
    with store.pin() as pin:
        first = increment(guest.begin(1, pin.txn_id, []), COUNTER)
        second = increment(guest.begin(1, pin.txn_id, [first]), COUNTER)
        assert guest.begin(1, pin.txn_id, [first, second]).get(COUNTER)["n"] == 2  # type: ignore[index]  # is there
        assert guest.begin(1, pin.txn_id, [first]).get(COUNTER)["n"] == 1  # type: ignore[index]  # is there
        assert guest.begin(1, pin.txn_id, []).get(COUNTER) is None
    store.commit([WriteSet.unpack(first).commit(2)])
    with store.pin() as pin:
        assert guest.begin(2, pin.txn_id, []).get(COUNTER)["n"] == 1  # type: ignore[index]  # is there
        assert guest.begin(2, pin.txn_id, [second]).get(COUNTER)["n"] == 2  # type: ignore[index]  # is there
        assert guest.begin(1, pin.txn_id, []).get(COUNTER) is None


def test_a_state_that_is_not_visible_is_refused(guest: GuestStore) -> None:
    with pytest.raises(CannotServe):
        guest.begin(1, 10**9, [])
