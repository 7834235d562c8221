"""What the engine believes of functions that remove files."""

from __future__ import annotations

from typing import Any

import pytest

from engine.guest_outcomes import GuestOutcome, read_outcome
from engine.runner import Runner
from sandbox.frames import Outcome
from storage import DocumentWrite, WriteSet
from tidewell.errors import InvalidValue
from tidewell.ids import encode_id
from tidewell.values import object_of, pack

FILES = 3
NOTHING: Any = None  # stands for a store and a pool that are not asked


def outcome(table: int, body: bytes | None) -> GuestOutcome:
    writes = WriteSet(documents=(DocumentWrite(table, bytes(16), body),))
    return read_outcome(Outcome(kind="value", value=pack(None), writes=writes.pack()))


def test_of_system_tables_rows_of_files_alone_can_be_removed() -> None:
    runner = Runner(NOTHING, NOTHING, False, lambda: FILES)
    runner._check_removals([outcome(FILES, None), outcome(10_001, None)])
    with pytest.raises(InvalidValue, match="a write to the system table 4"):
        runner._check_removals([outcome(10_001, None), outcome(4, None)])
    with pytest.raises(InvalidValue, match="a write to the system table 3"):
        Runner(NOTHING, NOTHING, False)._check_removals([outcome(FILES, None)])


def test_no_row_of_a_system_table_can_be_written() -> None:
    document = {"_creationTime": 1.5, "_id": encode_id(FILES, bytes(16))}
    with pytest.raises(InvalidValue, match="a write to the system table 3"):
        outcome(FILES, pack(object_of(document)))
