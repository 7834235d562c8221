"""Cursors: opaque, bound to query and deployment, equal for equal places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.cursors import END, CursorCodec, InvalidCursor, Journal

codec = CursorCodec(b"the key of one deployment")
other = CursorCodec(b"the key of another one...")
QUERY, ANOTHER = b"12345678", b"87654321"

positions = st.binary(max_size=40) | st.just(END)


@given(positions)
def test_a_cursor_opens_to_the_place_it_was_sealed_for(position: bytes) -> None:
    text = codec.seal(QUERY, position)
    assert codec.open(text, QUERY) == position
    assert codec.seal(QUERY, position) == text
    with pytest.raises(InvalidCursor, match="another query"):
        codec.open(text, ANOTHER)
    with pytest.raises(InvalidCursor, match="not one of this deployment"):
        other.open(text, QUERY)


@given(positions, st.data())
def test_a_cursor_with_one_character_changed_is_refused(position: bytes, data: st.DataObject) -> None:
    text = codec.seal(QUERY, position)
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABab01-_"))
    changed = text[:place] + letter + text[place + 1 :]
    if changed == text:
        return
    with pytest.raises(InvalidCursor):
        codec.open(changed, QUERY)


@given(st.text(max_size=60))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        codec.open(text, QUERY)


def test_a_cursor_shows_nothing_of_the_key() -> None:
    text = codec.seal(QUERY, b"secret" * 5)
    assert "c2VjcmV0" not in text
    assert len(codec.seal(QUERY, b"x" * 30)) == len(text)


def test_a_journal_pins_pages_by_call_order() -> None:
    first = Journal(None)
    assert first.next_end() is None
    first.add("a")
    first.add(None)
    first.add("c")
    assert first.text == "a.-.c"
    again = Journal(first.text)
    assert again.next_end() == "a"
    again.add("a")
    assert again.next_end() is None
    again.add(None)
    assert again.next_end() == "c"
    assert Journal(None).text is None
