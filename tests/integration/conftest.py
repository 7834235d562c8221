"""Apps over both databases: the simple one in memory and the real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ..sandbox.guest_app import GuestApp
from ..sandbox.memory_database import MemoryBacking
from .store_backing import StoreBacking

MakeApp = Callable[[Mapping[str, str]], GuestApp]


@pytest.fixture(params=["memory", "store"])
def make_app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeApp]:
    """Return a function that loads an app; what it opened is closed afterwards."""
    opened: list[StoreBacking] = []

    def make(files: Mapping[str, str]) -> GuestApp:
        if request.param == "memory":
            return GuestApp(files, MemoryBacking())
        opened.append(StoreBacking(tmp_path / str(len(opened))))
        return GuestApp(files, opened[-1])

    yield make
    for backing in opened:
        backing.store.close()
