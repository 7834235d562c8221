"""A pytest fixture that is a running `BlockingTestServer`, its seed shown when a test fails."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from engine.testing.blocking import BlockingTestServer
from engine.testing.faults import NO_FAULTS, Faults
from engine.testing.server import NO_VARIABLES, App

SEED_VARIABLE: Final = "TIDEWELL_SEED"


def server_fixture(
    app: App, *, seed: int = 0, faults: Faults = NO_FAULTS, env: Mapping[str, str] = NO_VARIABLES
) -> Any:
    """Return a fixture: a fresh server for each test, on `app`, whose seed `TIDEWELL_SEED` may replace.

    ```python
    server = server_fixture("functions")

    def test_a_new_post_is_listed(server): ...
    ```
    """
    import pytest

    chosen = int(os.environ.get(SEED_VARIABLE, seed))

    @pytest.fixture
    def server(request: pytest.FixtureRequest) -> Iterator[BlockingTestServer]:
        repeat = f"seed {chosen}; repeat with {SEED_VARIABLE}={chosen}"
        request.node.add_report_section("call", "tidewell.testing", repeat)
        with BlockingTestServer(app, seed=chosen, faults=faults, env=env) as running:
            yield running

    return server
