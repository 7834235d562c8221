from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewell.errors import InvalidId
from tidewell.ids import decode_id, encode_id


@pytest.mark.parametrize(
    ("table", "internal_id", "text"),
    [
        (1017, bytes(pow(251, k + 1, 256) for k in range(16)), "z43zp6c3e75gkmz1kfwj6mbbx5sw281h"),
        (10001, bytes(range(16)), "j57000820c20a1g7104gm2rc1m70ynr8"),
        (1, bytes(16), "0400000000000000000000000000248"),
        (10000, b"\xff" * 16, "j17fzzzzzzzzzzzzzzzzzzzzzzzzzkp6"),
    ],
)
def test_the_ids_of_the_protocol_document(table: int, internal_id: bytes, text: str) -> None:
    assert encode_id(table, internal_id) == text
    assert decode_id(text) == (table, internal_id)


@given(st.integers(1, 2**32 - 1), st.binary(min_size=16, max_size=16))
def test_every_id_comes_back(table: int, internal_id: bytes) -> None:
    assert decode_id(encode_id(table, internal_id)) == (table, internal_id)


@given(st.integers(1, 2**32 - 1), st.binary(min_size=16, max_size=16), st.data())
def test_an_id_with_one_character_changed_is_refused(
    table: int, internal_id: bytes, data: st.DataObject
) -> None:
    text = encode_id(table, internal_id)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("0123456789abcdefghjkmnpqrstvwxyz").filter(lambda c: c != text[place]))
    changed = text[:place] + other + text[place + 1 :]
    with pytest.raises(InvalidId):
        decode_id(changed)


@given(st.text(max_size=40))
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidId):
        decode_id(text)
