from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.field_reads import FieldReads, changed_fields
from storage.read_set import ReadSet
from tidewell.errors import InvalidValue
from tidewell.values import Int64, pack

from .strategies import values

documents = st.dictionaries(st.sampled_from("abc"), values, max_size=3)
intervals = st.tuples(st.integers(1, 3), st.binary(max_size=2), st.binary(max_size=2))
reads = st.lists(st.tuples(st.frozensets(st.sampled_from("abc")), intervals))


@given(reads)
def test_field_reads_survive_packing(rows: list[tuple[frozenset[str], tuple[int, bytes, bytes]]]) -> None:
    found = FieldReads.of(rows)
    assert FieldReads.unpack(found.pack()) == found
    assert found.whole() == ReadSet.of(interval for _, interval in rows)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_field_reads_are_refused(data: bytes) -> None:
    try:
        found = FieldReads.unpack(data)
    except InvalidValue:
        return
    assert FieldReads.unpack(found.pack()) == found


def test_field_reads_out_of_order_or_of_nothing_are_refused() -> None:
    a, b = (FieldReads.of([(frozenset({name}), (1, b"a", b"b"))]).parts[0] for name in "ab")
    for parts in ((b, a), (a, a), ((frozenset({"a"}), ReadSet()),)):
        with pytest.raises(InvalidValue):
            FieldReads.unpack(FieldReads(parts).pack())


@given(documents, documents)
def test_fields_changed_are_those_that_are_stored_differently(
    old: dict[str, object], new: dict[str, object]
) -> None:
    def stored(document: dict[str, object], name: str) -> bytes:
        return pack(document[name]) if name in document else b""

    assert changed_fields(old, new) == {
        name for name in {*old, *new} if stored(old, name) != stored(new, name)
    }


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, Int64(1)), (0, -0.0), ("", b""), ([1], [Int64(1)])])
def test_values_that_python_takes_for_equal_are_changes(old: object, new: object) -> None:
    assert changed_fields({"a": old, "b": 1}, {"a": new, "b": 1}) == {"a"}
