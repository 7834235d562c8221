"""The collector looks at everything seldom, and often enough."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from engine.collector import YOUNG, spare_the_event_loop


@pytest.fixture
def full_collections() -> Iterator[list[str]]:
    """The full collections since the process was set up, and the settings as they were afterwards."""
    found: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            found.append(phase)

    before = gc.get_threshold()
    spare_the_event_loop()
    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_a_crowd_of_sockets_holds_is_not_visited_over_and_over(full_collections: list[str]) -> None:
    crowd = [[number] for number in range(75 * YOUNG)]  # some three thousand sockets
    assert len(full_collections) <= 1
    assert crowd


def test_what_closed_sockets_leave_behind_is_found(full_collections: list[str]) -> None:
    class Socket:
        def __init__(self) -> None:
            self.session: Any = self

    old = Socket()
    gone = weakref.ref(old)
    gc.collect(1)
    del old
    kept = []
    for number in range(300 * YOUNG):
        kept.append([number])
        if gone() is None:
            break
    assert gone() is None
