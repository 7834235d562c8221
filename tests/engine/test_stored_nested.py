"""Nested calls in a record: nothing is said twice, and all of it comes back."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.stored_nested import StoredNested, lengthen, shorten
from sandbox.frames import Nested

TOP = ("a:top", b"arguments", b"result")
FEW = st.sampled_from([b"", b"arguments", b"result", b"other"])
PATHS = st.sampled_from(["a:top", "a:b", "b:c"])
CALLS = st.lists(
    st.builds(
        Nested, st.integers(2, 4), PATHS, FEW, FEW, FEW, st.sampled_from(["", "oops"]), st.integers(0, 9)
    )
)


@given(CALLS)
def test_calls_come_back_as_they_were(calls: list[Nested]) -> None:
    assert lengthen(shorten(calls, TOP), TOP) == calls


def test_what_was_said_before_is_a_number() -> None:
    calls = [
        Nested(2, "a:b", b"arguments", b"", b"one", "", 0),
        Nested(2, "a:b", b"others", b"", b"result", "", 1),
        Nested(3, "a:top", b"others", b"", b"one", "", 2),
    ]
    assert [(each.path, each.args, each.result) for each in shorten(calls, TOP)] == [
        ("a:b", 0, b"one"),
        (1, b"others", 0),
        (0, 2, 1),
    ]


def test_number_of_no_earlier_call_is_refused() -> None:
    """A capsule may come from anybody."""
    forged = StoredNested(2, 1, b"", b"", b"", "", 0)
    with pytest.raises(msgspec.DecodeError, match="call 1"):
        lengthen([forged], TOP)
