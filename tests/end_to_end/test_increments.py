"""Many clients increment one document: nothing is lost, nothing counts twice, nobody sees an error.

Two tests kill the server in the middle. Both JavaScript clients, the official one and our own,
send again what was not answered, under the same session and request ids; whether such a mutation
had been committed before the crash is known from the record in its own transaction. One test
kills at a random moment, when few mutations are committed but not answered; in the other one,
answers are lost on the way, so that there are many.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from .harness import APPS, Process, Server
from .http_calls import value_of
from .watcher import Watcher


def result_of(client: Process) -> dict[str, Any]:
    found = client.wait_for_line(r"^done (.*)$")
    assert client.wait() == 0, client.output
    result: dict[str, Any] = json.loads(found[1])
    return result


def noted(server: Server) -> Counter[tuple[str, int]]:
    """How often each increment of each client has happened."""
    return Counter((note["client"], note["number"]) for note in value_of(server, "counters:notes"))


LIBRARIES = pytest.mark.parametrize("library", ["convex", "tidewell"])


@LIBRARIES
def test_fifty_clients_times_twenty_increments_are_a_thousand(
    serve: Callable[..., Server], start_client: Callable[..., Process], library: str
) -> None:
    server = serve(APPS / "counter")
    result = result_of(start_client("increment.js", server, library, "counters:increment", "50", "20"))
    assert result == {"acknowledged": 1000, "errors": []}
    assert value_of(server, "counters:value", name="shared") == 1000


@LIBRARIES
def test_killed_server_keeps_every_acknowledged_increment_and_none_twice(
    serve: Callable[..., Server], start_client: Callable[..., Process], library: str
) -> None:
    server = serve(APPS / "counter")
    client = start_client("increment.js", server, library, "counters:increment_and_note", "20", "30")
    for acknowledged in (100, 350):
        client.wait_for_line(f"^acknowledged {acknowledged}$")
        server.kill()
        server.start()
    assert result_of(client) == {"acknowledged": 600, "errors": []}
    assert value_of(server, "counters:value", name="shared") == 600
    assert noted(server) == {(str(index), number): 1 for index in range(20) for number in range(30)}


@LIBRARIES
def test_mutations_whose_answers_were_lost_in_a_crash_are_answered_and_not_run_again(
    serve: Callable[..., Server], start_client: Callable[..., Process], library: str
) -> None:
    server = serve(APPS / "counter")
    proxy = start_client("lossy_proxy.js", server)
    behind_proxy = proxy.wait_for_line("^proxy at (.*)$")[1]
    client = start_client("increment.js", behind_proxy, library, "counters:increment_and_note", "5", "40")
    client.wait_for_line("^acknowledged 10$")
    proxy.tell("mute")
    proxy.wait_for_line("^mute done$")

    watcher = Watcher(server, start_client("watch.js", server))  # not by the proxy
    watcher.watch("counters:value", name="shared")
    watcher.saw("value/shared", 200)
    unanswered = 200 - client.count("^acknowledged")
    assert unanswered > 0
    server.kill()
    server.start()
    proxy.tell("cut")

    assert result_of(client) == {"acknowledged": 200, "errors": []}
    assert value_of(server, "counters:value", name="shared") == 200
    assert noted(server) == {(str(index), number): 1 for index in range(5) for number in range(40)}
