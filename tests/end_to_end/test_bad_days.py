"""The official npm client on a network that breaks at random, and over a crash of the server.

Where connections are cut is decided by a seed, which every failure shows; set TIDEWELL_SEED to use it again.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from .harness import APPS, Process, Server
from .http_calls import call, value_of

CLIENTS, CALLS, CUTS = 16, 30, 2
WATCHERS, MOVERS, TRANSFERS, WATCHER_CUTS = 20, 4, 100, 3


@pytest.fixture
def seed() -> int:
    chosen = int(os.environ.get("TIDEWELL_SEED", secrets.randbelow(2**31)))
    print(f"TIDEWELL_SEED={chosen}")
    return chosen


def test_mutations_in_flight_when_sockets_are_cut_happen_once_and_never_flicker(
    serve: Callable[..., Server], start_client: Callable[..., Process], seed: int
) -> None:
    server = serve(APPS / "counter")
    numbers = [str(number) for number in (seed, CLIENTS, CALLS, CUTS)]
    client = start_client("cut_increments.js", server, *numbers)
    done = json.loads(client.wait_for_line("^done (.*)$")[1])
    assert client.wait() == 0, client.output

    assert done["errors"] == []
    assert [result["acknowledged"] for result in done["results"]] == [CALLS] * CLIENTS
    notes = Counter((note["client"], note["number"]) for note in value_of(server, "counters:notes"))
    assert notes == {(str(index), number): 1 for index in range(CLIENTS) for number in range(CALLS)}

    assert len(done["inFlightAtCuts"]) >= CLIENTS // 4, "the network did not break enough"
    assert sum(done["inFlightAtCuts"]) > 0, "nothing was in flight when it broke"
    for result in done["results"]:
        shown = result["shown"]
        assert shown[-1] == CALLS
        steps = [(earlier, later) for earlier, later in pairwise(shown) if later < earlier]
        assert steps == [], f"a value went back: {shown}"


def test_no_client_is_shown_a_broken_sum_through_reconnects_and_a_crash(
    serve: Callable[..., Server], start_client: Callable[..., Process], seed: int
) -> None:
    server = serve(APPS / "accounts")
    assert call(server, "mutation", "accounts:open_both")["status"] == "success"
    numbers = [str(number) for number in (seed, WATCHERS, MOVERS, TRANSFERS, WATCHER_CUTS)]
    client = start_client("accounts.js", server, *numbers)
    client.wait_for_line(f"^moved {MOVERS * TRANSFERS // 2}$")
    server.kill()
    server.start()
    done = json.loads(client.wait_for_line("^done (.*)$")[1])
    assert client.wait() == 0, client.output

    assert done["broken"] == []
    assert done["finals"] == [value_of(server, "accounts:account", name="left")] * WATCHERS
    assert done["finals"][0]["moves"] == MOVERS * TRANSFERS, "a move was lost or counted twice"
    assert done["states"] > 10 * WATCHERS
    assert done["broke"] >= WATCHERS // 4, "the network did not break enough"
