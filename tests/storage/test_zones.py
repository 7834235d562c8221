"""What a view knows of its rows: never wrong about what is there, and enough to pass over the rest."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import SharedStore, Store, Transaction, old_entries, zones
from storage import snapshot as snapshot_module
from storage.zones import GROUP_ZONES, Track, Zones
from tidewell.ranges import RangeBuilder

from .harness import add_index, change, commit, insert, internal_id
from .strategies import LONG_PREFIX

SEED = 20_261_123
VALUES = [0, 1, 2, "x", LONG_PREFIX, LONG_PREFIX + "a", LONG_PREFIX + "b", LONG_PREFIX + "c"]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), max_size=4 * GROUP_ZONES),
    st.integers(0, 300),
    st.integers(0, 80),
)
def test_no_zone_with_something_to_show_is_passed_over(
    spans: list[tuple[int, int]], begin: int, ts: int
) -> None:
    track = Track(is_reverse=False)
    times = [(start, start + length) for start, length in spans]
    for place, each in enumerate(times):
        track.add(place.to_bytes(4, "big"), each)
    start = min(begin, len(times))
    expected = [place for place in range(start, len(times)) if times[place][0] <= ts < times[place][1]]
    assert track.visible_from(start, ts) == (expected[0] if expected else len(times))


@pytest.mark.parametrize("is_reverse", [False, True])
def test_position_is_found_on_the_way_of_the_scan(is_reverse: bool) -> None:
    track = Track(is_reverse)
    ends = [bytes([number]) for number in (10, 20, 30)]
    for end in reversed(ends) if is_reverse else ends:
        track.add(end, (0, 1))
    found = [track.zone_at(bytes([position])) for position in (5, 10, 15, 30, 35)]
    assert found == ([3, 2, 2, 0, 0] if is_reverse else [0, 0, 1, 2, 3])


def test_what_is_known_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zones, "ZONES_MAX", 10)
    known = Zones()
    track = known.track("index", b"a", reverse=False)
    for number in range(30):
        known.add(track, bytes([number]), (0, 1))
    assert known.track("index", b"a", reverse=False) is not track
    assert len(track.ends) == 30, "whoever is on it goes on with it"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "_NEAR_COMMITS", 2)
    monkeypatch.setattr(snapshot_module, "_CHUNK_SIZES", (1, 2, 5))
    monkeypatch.setattr(old_entries, "ZONE_ROWS", 2)
    monkeypatch.setattr(zones, "GROUP_ZONES", 3)


def random_history(store: Store, dice: random.Random) -> dict[int, dict[str, Any]]:
    """Insert, change and delete; return what `n` each document had after each commit."""
    insert(store, "posts", {"n": 0})
    add_index(store, "posts", "by_n", "n")
    states: dict[int, dict[str, Any]] = {}
    with store.snapshot() as snapshot:
        state = {row["_id"]: row["n"] for row in Transaction(snapshot).scan("posts", "by_n")}
    for _ in range(150):
        states[store.head_ts] = dict(state)
        if not state or dice.random() < 0.45:
            value = dice.choice(VALUES)
            [made] = insert(store, "posts", {"n": value})
            state[made] = value
        elif dice.random() < 0.5:
            one = dice.choice(sorted(state))
            state[one] = dice.choice(VALUES)
            change(store, one, {"n": state[one]})
        else:
            # Mostly the oldest, as of a queue.
            one = next(iter(state)) if dice.random() < 0.8 else dice.choice(sorted(state))
            del state[one]
            change(store, one, None)
    return states


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("order", ["oldest first", "newest first", "any"])
def test_one_view_shows_every_snapshot_whatever_was_looked_at_before(tmp_path: Path, order: str) -> None:
    dice = random.Random(SEED)
    with Store.open(tmp_path / "store", sync=False) as store:
        states = random_history(store, dice)
    asked = sorted(states, reverse=order == "newest first")
    if order == "any":
        dice.shuffle(asked)
    with SharedStore.open(tmp_path / "store") as shared:
        for ts in asked:
            for reverse in (False, True):
                for index, within, select in (
                    ("by_n", None, lambda value: True),
                    ("by_creation_time", None, lambda value: True),
                    ("by_n", lambda q: q.gt("n", 0).lte("n", LONG_PREFIX + "a"), _is_in_the_middle),
                ):
                    check_scan(shared, ts, states[ts], index, within, select, reverse)


def _is_in_the_middle(value: Any) -> bool:
    return value in (1, 2, "x", LONG_PREFIX, LONG_PREFIX + "a")


def check_scan(
    shared: SharedStore,
    ts: int,
    state: dict[str, Any],
    index: str,
    within: Callable[[Any], Any] | None,
    select: Callable[[Any], bool],
    reverse: bool,
) -> None:
    transaction = Transaction(shared.snapshot(ts))
    asked = []
    if within is not None:
        builder = RangeBuilder(index, transaction.index_fields("posts", index))
        asked = [within(builder).finish()]

    def scan() -> Iterator[dict[str, Any]]:
        return transaction.scan("posts", index, *asked, reverse=reverse)

    rows = list(scan())
    assert {row["_id"]: row["n"] for row in rows} == {
        one: value for one, value in state.items() if select(value)
    }, (SEED, ts, index, reverse)
    if index == "by_n":
        order = [VALUES.index(row["n"]) for row in rows]
        assert order == sorted(order, reverse=reverse), (SEED, ts)
    few = list(islice(scan(), 3))
    assert few == rows[:3], (SEED, ts, index, reverse)


def enqueue(store: Store, number: int) -> str:
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        made = transaction.insert("jobs", {"n": number}, internal_id(number), float(number))
        commit(store, transaction)
    return made


def test_heads_of_old_queues_are_found_without_reading_the_whole_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each snapshot's head was once looked for from the very first entry that ever was."""
    monkeypatch.setattr(snapshot_module, "_NEAR_COMMITS", 2)
    heads: list[tuple[int, Any]] = []
    with Store.open(tmp_path / "store", sync=False) as store:
        queue = [enqueue(store, number) for number in range(3)]
        for number in range(400):
            heads.append((store.head_ts, number))
            queue.append(enqueue(store, number + 3))
            change(store, queue.pop(0), None)
    read = 0
    real = old_entries._rows_after

    def counted(*arguments: Any) -> Any:
        nonlocal read
        rows = real(*arguments)
        read += len(rows)
        return rows

    monkeypatch.setattr(old_entries, "_rows_after", counted)
    with SharedStore.open(tmp_path / "store") as shared:
        for ts, number in heads:
            [first] = islice(Transaction(shared.snapshot(ts)).scan("jobs", "by_creation_time"), 1)
            assert first["n"] == number
    assert read < 100 * len(heads), "of 400 entries for each"
