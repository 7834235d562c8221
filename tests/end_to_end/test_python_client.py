"""Our Python client against the real server: values, errors, subscriptions, crashes."""

from __future__ import annotations

import base64
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tidewell.client import (
    AppError,
    BlockingClient,
    CannotConnect,
    ClientClosed,
    ClientError,
    ConnectionLost,
    FunctionError,
    Int64,
    api,
    connect,
    internal,
)

from .harness import APPS, DEADLINE_S, ROOT, WAYPOINT, Process, Server
from .http_calls import value_of

PAGE = (ROOT / "docs" / "python-client.md").read_text()

VALUES: list[Any] = [
    None, True, 0, -3, 2.5, 2**53, 1e300, math.inf, -math.inf, -0.0,
    Int64(5), Int64(-(2**63)), Int64(2**63 - 1), b"", b"\x00\xff", "", "é\U0001f600", [], [1, [None]],
    {}, {"a": {"b": [Int64(1), b"x"]}},
]  # fmt: skip


def same(left: object, right: object) -> bool:
    return type(left) is type(right) and repr(left) == repr(right)


# ---- calls ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["query", "mutation", "action"])
async def test_every_kind_of_value_goes_there_and_back(values_server: Server, kind: str) -> None:
    async with connect(values_server.url) as client:
        for value in VALUES:
            if kind == "query":
                returned = await client.query("values:echo", {"value": value})
            elif kind == "action":
                returned = await client.action(api.values.act, {"value": value})
            else:
                key = await client.mutation("values:keep", {"value": value})
                returned = await client.query("values:kept", {"key": key})
            assert same(returned, value), (returned, value)
        nan = await client.query("values:echo", {"value": math.nan})
        assert math.isnan(nan)


async def test_an_error_of_the_app_comes_with_its_data(values_server: Server) -> None:
    data = {"code": "FULL", "left": Int64(0), "raw": b"\x01"}
    async with connect(values_server.url) as client:
        with pytest.raises(AppError) as caught:
            await client.mutation("values:refuse", {"data": data})
        assert same(caught.value.data, dict(sorted(data.items())))
        with pytest.raises(AppError) as caught:
            await client.mutation("values:refuse", {"data": None})
        assert caught.value.data is None


async def test_other_failures_name_the_function_and_what_happened(values_server: Server) -> None:
    async with connect(values_server.url) as client:
        with pytest.raises(FunctionError, match="Uncaught ValueError: no such channel") as caught:
            await client.mutation("values:fail")
        assert caught.value.path == "values:fail"
        with pytest.raises(FunctionError, match="Could not find public function for 'values:nope'"):
            await client.query("values:nope")
        with pytest.raises(FunctionError, match="Could not find public function for 'values:hidden'"):
            await client.query(internal.values.hidden, {"value": 1})
        with pytest.raises(FunctionError, match="ArgumentValidationError"):
            await client.query("values:typed", {"count": "three"})
        with pytest.raises(FunctionError, match="as Mutation, but it is defined as Query"):
            await client.mutation("values:echo", {"value": 1})
        assert await client.query("values:echo", {"value": "still here"}) == "still here"


async def test_an_admin_calls_internal_functions(values_server: Server) -> None:
    key = (values_server.data / "admin-key").read_text().strip()
    async with connect(values_server.url) as client:
        client.set_admin_auth(key)
        assert await client.query(internal.values.hidden, {"value": 1}) == 1
        client.clear_auth()
        with pytest.raises(FunctionError, match="Could not find public function"):
            await client.query(internal.values.hidden, {"value": 2})


async def test_a_wrong_admin_key_ends_the_client(values_server: Server) -> None:
    async with connect(values_server.url) as client:
        client.set_admin_auth("wrong")
        with pytest.raises(ClientError):
            await client.query("values:echo", {"value": 1})


async def test_refused_tokens_are_replaced_and_then_done_without(values_server: Server) -> None:
    asked: list[bool] = []
    told: list[bool] = []

    async def fetch(*, force_refresh: bool) -> str:
        asked.append(force_refresh)
        return f"no-token-{len(asked)}"

    async with connect(values_server.url) as client:
        await client.set_auth(fetch, told.append)
        assert await client.query("values:echo", {"value": "as nobody"}) == "as nobody"
    assert asked == [False, True, True]
    assert told == [False]


async def test_a_person_is_known_until_the_token_is_given_back(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    keys = {"keys": [{**json.loads(ECAlgorithm.to_jwk(private.public_key())), "kid": "k"}]}
    inline = "data:application/json;base64," + base64.b64encode(json.dumps(keys).encode()).decode()
    issuer = "https://issuer.example"
    provider = {"type": "customJwt", "issuer": issuer, "jwks": inline, "algorithm": "ES256"}
    app = tmp_path / "app"
    app.mkdir()
    (app / "auth.config.json").write_text(json.dumps({"providers": [provider]}))
    (app / "people.py").write_text(
        "from tidewell import query\n\n@query\ndef me(ctx):\n    return ctx.auth.get_user_identity()\n"
    )
    claims = {"iss": issuer, "sub": "ada", "iat": 1, "exp": 2**32}
    token = jwt.encode(claims, private, algorithm="ES256", headers={"kid": "k"})
    asked: list[bool] = []
    told: list[bool] = []

    async def fetch(*, force_refresh: bool) -> str:
        asked.append(force_refresh)
        return token if force_refresh else "an old one"  # the first is refused, the fresh one is not

    server = serve(app)
    async with connect(server.url) as client, client.subscribe("people:me") as results:
        assert await anext(results) is None
        await client.set_auth(fetch, told.append)
        assert (await anext(results))["subject"] == "ada"
        assert (asked, told) == ([False, True], [True])
        client.clear_auth()
        assert await anext(results) is None


async def test_where_nobody_listens_the_first_connection_fails(values_server: Server) -> None:
    for url in ("http://127.0.0.1:9", f"{values_server.url}/nowhere"):
        with pytest.raises(CannotConnect, match=re.escape(url)):
            async with connect(url):
                raise AssertionError("connected")


async def test_errors_of_the_body_leave_as_they_are_and_the_client_is_closed_then(
    values_server: Server,
) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with connect(values_server.url) as client:
            raise KeyError("mine")
    with pytest.raises(ClientClosed):
        await client.query("values:echo", {"value": 1})


# ---- subscriptions ----------------------------------------------------------------------


async def test_a_subscription_gives_each_result_and_a_mutation_settles_after_its_own(
    serve: Callable[..., Server],
) -> None:
    server = serve(APPS / "counter")
    async with (
        connect(server.url) as client,
        client.subscribe("counters:value", {"name": "a"}) as results,
        client.subscribe("counters:value", {"name": "a"}) as others,
    ):
        assert await anext(results) == 0
        for count in range(1, 6):
            assert await client.mutation("counters:increment", {"name": "a"}) == count
            assert results.latest == count
            assert await anext(results) == count
        assert await anext(others) == 5
        async with client.subscribe("counters:value", {"name": "a"}) as late:
            assert await anext(late) == 5


async def test_one_client_sees_the_writes_of_another(serve: Callable[..., Server]) -> None:
    server = serve(APPS / "counter")
    async with connect(server.url) as one, connect(server.url) as other:
        seen: list[Any] = []
        async with one.subscribe("counters:value", {"name": "a"}) as results, trio.open_nursery() as nursery:
            async for value in results:
                if not seen:
                    for _ in range(20):
                        nursery.start_soon(other.mutation, "counters:increment", {"name": "a"})
                seen.append(value)
                if value == 20:
                    break
        assert seen == sorted(set(seen))  # in order, and none twice


async def test_the_error_of_a_watched_query_is_raised_in_its_place(values_server: Server) -> None:
    async with connect(values_server.url) as client:
        async with client.subscribe("values:typed", {"count": "three"}) as results:
            with pytest.raises(FunctionError, match="ArgumentValidationError"):
                await anext(results)
        assert await client.query("values:typed", {"count": 3}) == "nobody: 3"


# ---- crashes ----------------------------------------------------------------------------


@pytest.fixture
def noted() -> Callable[[Server], Counter[tuple[str, int]]]:
    def read(server: Server) -> Counter[tuple[str, int]]:
        notes = value_of(server, "counters:notes")
        return Counter((note["client"], int(note["number"])) for note in notes)

    return read


async def test_killed_server_runs_each_mutation_exactly_once_and_results_go_on(
    serve: Callable[..., Server], noted: Callable[[Server], Counter[tuple[str, int]]]
) -> None:
    server = serve(APPS / "counter")
    clients, each, acknowledged = 4, 50, 0
    crash_at = {40, 120}
    async with trio.open_nursery() as nursery:

        async def increment(name: str, limiter: trio.CapacityLimiter) -> None:
            async with connect(server.url) as client, trio.open_nursery() as calls:
                for number in range(each):
                    calls.start_soon(one, client, name, number, limiter)

        async def one(client: Any, name: str, number: int, limiter: trio.CapacityLimiter) -> None:
            nonlocal acknowledged
            async with limiter:
                await client.mutation(
                    "counters:increment_and_note", {"name": "shared", "client": name, "number": number}
                )
            acknowledged += 1
            if acknowledged in crash_at:
                await trio.to_thread.run_sync(server.kill)
                await trio.to_thread.run_sync(server.start)

        async with connect(server.url) as watching:
            seen: list[Any] = []
            async with watching.subscribe("counters:value", {"name": "shared"}) as results:
                for index in range(clients):
                    nursery.start_soon(increment, str(index), trio.CapacityLimiter(8))
                with trio.fail_after(DEADLINE_S):
                    async for value in results:
                        seen.append(value)
                        if value == clients * each:
                            break
    assert acknowledged == clients * each
    assert seen == sorted(set(seen))
    assert value_of(server, "counters:value", name="shared") == clients * each
    assert noted(server) == {(str(index), number): 1 for index in range(clients) for number in range(each)}


async def test_mutations_whose_answers_were_lost_are_not_run_again(
    serve: Callable[..., Server],
    start_client: Callable[..., Process],
    noted: Callable[[Server], Counter[tuple[str, int]]],
) -> None:
    server = serve(APPS / "counter")
    proxy = start_client("lossy_proxy.js", server)
    behind_proxy = proxy.wait_for_line("^proxy at (.*)$")[1]
    done: list[int] = []

    async def one(client: Any, number: int) -> None:
        arguments = {"name": "shared", "client": "py", "number": number}
        await client.mutation("counters:increment_and_note", arguments)
        done.append(number)

    async with (
        connect(server.url) as beside,
        beside.subscribe("counters:value", {"name": "shared"}) as counts,
        connect(behind_proxy) as client,
        trio.open_nursery() as nursery,
    ):
        await one(client, 0)
        proxy.tell("mute")
        await trio.to_thread.run_sync(proxy.wait_for_line, "^mute done$")
        for number in range(1, 40):
            nursery.start_soon(one, client, number)
        async for count in counts:
            if count == 40:
                break
        assert done == [0]  # all are committed, and nobody was told
        server.kill()
        server.start()
        proxy.tell("cut")
    assert sorted(done) == list(range(40))
    assert noted(server) == {("py", number): 1 for number in range(40)}


async def test_an_action_in_flight_fails_with_its_connection(
    serve: Callable[..., Server], start_client: Callable[..., Process]
) -> None:
    server = serve(APPS / "values")
    proxy = start_client("lossy_proxy.js", server)
    behind_proxy = proxy.wait_for_line("^proxy at (.*)$")[1]
    async with connect(behind_proxy) as client, trio.open_nursery() as nursery:
        await client.action("values:act", {"value": 1})
        proxy.tell("mute")
        await trio.to_thread.run_sync(proxy.wait_for_line, "^mute done$")

        async def act() -> None:
            with pytest.raises(ConnectionLost, match="in flight"):
                await client.action("values:act", {"value": 2})

        nursery.start_soon(act)
        await trio.testing.wait_all_tasks_blocked()
        proxy.tell("cut")


# ---- without async ----------------------------------------------------------------------


def test_the_blocking_client_calls_watches_and_raises(serve: Callable[..., Server]) -> None:
    server = serve(APPS / "counter")
    with BlockingClient(server.url) as client:
        assert client.query(api.counters.value, {"name": "a"}) == 0
        with client.subscribe("counters:value", {"name": "a"}) as results:
            assert next(results) == 0
            with pytest.raises(TimeoutError):
                results.next(timeout_s=0.01)
            assert client.mutation("counters:increment", {"name": "a"}) == 1
            assert results.latest == 1
            assert next(results) == 1
        with pytest.raises(FunctionError, match="Could not find public function"):
            client.action("counters:nope")
        client.set_admin_auth((server.data / "admin-key").read_text().strip())
        assert client.query("counters:value", {"name": "b"}) == 0
        client.clear_auth()
    with pytest.raises(ClientClosed):
        client.query("counters:value", {"name": "a"})


def test_many_threads_share_one_blocking_client_over_a_crash(serve: Callable[..., Server]) -> None:
    server = serve(APPS / "counter")
    with BlockingClient(server.url) as client:

        def increment() -> None:
            for _ in range(20):
                client.mutation("counters:increment", {"name": "a"})

        threads = [threading.Thread(target=increment) for _ in range(5)]
        for thread in threads:
            thread.start()
        with client.subscribe("counters:value", {"name": "a"}) as results:
            while next(results) < 10:
                pass
            server.kill()
            server.start()
        for thread in threads:
            thread.join()
        assert client.query("counters:value", {"name": "a"}) == 100


def test_the_blocking_client_says_at_once_that_nobody_listens() -> None:
    url = "http://127.0.0.1:9"
    with pytest.raises(CannotConnect, match=re.escape(url)), BlockingClient(url):
        raise AssertionError("connected")


# ---- the page ---------------------------------------------------------------------------


def test_every_snippet_of_the_page_runs(
    serve: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(WAYPOINT / "functions")
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 5
    names: dict[str, Any] = {"__name__": "page", "ADMIN_KEY": (server.data / "admin-key").read_text().strip()}
    for snippet in snippets:
        assert "http://127.0.0.1:3210" in snippet, snippet
        exec(compile(snippet.replace("http://127.0.0.1:3210", server.url), "python-client.md", "exec"), names)
    printed = capsys.readouterr().out
    for line in re.findall(r"#> (.*)$", PAGE, re.MULTILINE):
        assert line in printed, (line, printed)
