"""`ctx.fetch` and `ctx.parallel` on a whole deployment, against a server of the test's own."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.backend import ActionOutcome
from sandbox.frames import ProtocolViolation, Syscall
from tidewell.values import Value, pack

from .deployed import Deployed, Traffic, call, deployed
from .upstream import upstream

APP = {
    "out.py": """
        from typing import Any

        from tidewell import AppError, FunctionError, action, mutation, query


        @query
        def value(ctx) -> int:
            found = ctx.db.query("counters").first()
            return 0 if found is None else found["n"]


        @mutation
        def add(ctx, by: int) -> int:
            found = ctx.db.query("counters").first()
            if found is None:
                ctx.db.insert("counters", {"n": by})
                return by
            ctx.db.patch(found["_id"], {"n": found["n"] + by})
            return found["n"] + by


        @mutation
        def refuse(ctx, what: str) -> None:
            raise AppError(what)


        @action
        def twice(ctx, n: int) -> int:
            return 2 * n


        @action
        def post(ctx, url: str) -> Any:
            answer = ctx.fetch(f"{url}/things?a=1", method="post", json={"n": 1}, headers={"X-Own": "yes"})
            told = answer.json()
            return {
                "told": [told["method"], told["path"], told["body"], told["headers"]["x-own"]],
                "kind": told["headers"]["content-type"],
                "status": [answer.status, answer.status_text, answer.ok, answer.redirected],
                "many": [answer.headers.get("X-Many"), answer.headers.get_all("x-many")],
                "none": "x-none" in answer.headers,
                "size": len(answer.body()) == len(answer.text()),
            }


        @action
        def get(ctx, url: str, options: dict[str, Any]) -> Any:
            answer = ctx.fetch(url, **options)
            return [answer.status, answer.ok, answer.url, answer.redirected, len(answer.body())]


        @action
        def caught(ctx, url: str) -> str:
            before = ctx.now()
            try:
                ctx.fetch(url)
            except FunctionError as error:
                return str(error)


        @action
        def meet(ctx, url: str) -> Any:
            one, two, value, doubled = ctx.parallel(
                ctx.later.fetch(f"{url}/meet/a"),
                ctx.later.fetch(f"{url}/meet/b"),
                ctx.later.run_query("out:value"),
                ctx.later.run_action("out:twice", {"n": 4}),
            )
            return [one.json()["met"], two.json()["met"], value, doubled]


        @action
        def many(ctx, count: int) -> Any:
            return ctx.parallel(*[ctx.later.run_mutation("out:add", {"by": 1}) for n in range(count)])


        @action
        def failing(ctx, keep: bool) -> Any:
            calls = [
                ctx.later.run_mutation("out:add", {"by": 1}),
                ctx.later.run_mutation("out:refuse", {"what": "first"}),
                ctx.later.fetch("http://127.0.0.1:1/"),
                ctx.later.run_mutation("out:refuse", {"what": "second"}),
            ]
            found = ctx.parallel(*calls, return_exceptions=keep)
            told = ["other" if isinstance(one, FunctionError) else one for one in found]
            return [one.data if isinstance(one, AppError) else one for one in told]


        @action
        def wrong(ctx, what: str) -> Any:
            if what == "call":
                return ctx.parallel(ctx.run_query("out:value"))
            if what == "again":
                once = ctx.later.run_query("out:value")
                return ctx.parallel(once, once)
            if what == "long headers":
                return ctx.fetch("http://a.example", headers=[("a", "a" * 40_000)])
            if what == "unknown":
                return ctx.later.run_query("out:nothing")
            if what == "arguments":
                return ctx.later.run_mutation("out:add", {"by": "x"})
            if what == "url":
                return ctx.fetch("ftp://a.example")
            if what == "method":
                return ctx.fetch("http://a.example", method="BREW")
            if what == "both":
                return ctx.fetch("http://a.example", method="POST", body="a", json=1)
            if what == "header":
                return ctx.fetch("http://a.example", headers={"a\\nb": "c"})
            if what == "timeout":
                return ctx.fetch("http://a.example", timeout=0)
            return ctx.fetch("http://a.example", redirect="sometimes")
        """
}


@pytest.fixture(scope="module")
def outside() -> Iterator[str]:
    with upstream() as url:
        yield url


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, APP) as it:
        yield it


async def act(it: Deployed, path: str, **args: Any) -> ActionOutcome:
    return await it.deployment.act(call(path, **args))


async def given(it: Deployed, path: str, **args: Any) -> Value:
    outcome = await act(it, path, **args)
    assert outcome.failure is None, outcome.failure
    return outcome.value


async def test_a_request_arrives_as_it_was_asked_for_and_the_answer_as_it_was_given(
    it: Deployed, outside: str
) -> None:
    assert await given(it, "out:post", url=outside) == {
        "told": ["POST", "/things?a=1", '{"n": 1}', "yes"],
        "kind": "application/json",
        "status": [200, "OK", True, False],
        "many": ["one", ["one", "two"]],
        "none": False,
        "size": True,
    }


async def test_a_status_is_an_answer_and_redirects_are_followed_if_wanted(it: Deployed, outside: str) -> None:
    assert await given(it, "out:get", url=f"{outside}/status/404", options={}) == [
        404,
        False,
        f"{outside}/status/404",
        False,
        2,
    ]
    followed: Any = await given(it, "out:get", url=f"{outside}/away", options={})
    assert followed[:4] == [200, True, f"{outside}/echo", True]
    kept: Any = await given(it, "out:get", url=f"{outside}/away", options={"redirect": "manual"})
    assert kept[:4] == [302, False, f"{outside}/away", False]


async def test_no_answer_is_an_error_that_can_be_caught(it: Deployed) -> None:
    text = await given(it, "out:caught", url="http://127.0.0.1:1/")
    assert isinstance(text, str)
    assert text.startswith("ctx.fetch: FetchError: ")


async def test_private_addresses_are_out_of_reach_where_they_shall_be(tmp_path: Path, outside: str) -> None:
    async with deployed(tmp_path, APP, fetch_private=False) as it:
        for url in (
            outside,
            outside.replace("127.0.0.1", "localhost"),
            "http://[::1]:1/",
            "http://10.0.0.1/",
        ):
            text = await given(it, "out:caught", url=url)
            assert "public" in str(text), (url, text)


async def test_calls_in_parallel_are_under_way_at_the_same_time(it: Deployed, outside: str) -> None:
    assert await given(it, "out:meet", url=outside) == ["a", "b", 0, 8]


async def test_a_thousand_mutations_in_parallel_are_all_done(it: Deployed) -> None:
    results: Any = await given(it, "out:many", count=1000)
    assert sorted(results) == list(range(1, 1001))
    assert await it.value("out:value") == 1000
    failure = (await act(it, "out:many", count=1001)).failure
    assert failure is not None
    assert "takes at most 1000 calls, found 1001" in failure.message


async def test_the_first_failure_in_order_raises_when_all_is_done_or_each_stands_in_its_place(
    it: Deployed,
) -> None:
    failure = (await act(it, "out:failing", keep=False)).failure
    assert failure is not None
    assert failure.data == "first"
    assert await it.value("out:value") == 1
    assert await given(it, "out:failing", keep=True) == [2, "first", "other", "second"]


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("call", r"parallel: takes calls that are yet to be made, as ctx\.later\.fetch\(url\)"),
        ("again", "was given a call that is made already"),
        ("long headers", "headers of more than 32768 bytes"),
        ("unknown", "Could not find function for 'out:nothing'"),
        ("arguments", "ArgumentValidationError"),
        ("url", "url: begins with http:// or https://"),
        ("method", "method: is one of DELETE, GET"),
        ("both", "body: cannot be given together with json"),
        ("header", "is no header"),
        ("timeout", "timeout: is a number of seconds"),
        ("redirect", "redirect: is one of error, follow, manual"),
    ],
)
async def test_what_is_no_call_says_so(it: Deployed, what: str, text: str) -> None:
    failure = (await act(it, "out:wrong", what=what)).failure
    assert failure is not None
    assert re.search(text, failure.message), failure.message
    assert "out.py" in failure.message


async def test_results_that_are_too_large_together_are_refused(it: Deployed, outside: str) -> None:
    await it.push(
        {
            "big.py": """
                from tidewell import FunctionError, action


                @action
                def both(ctx, url: str) -> list[str]:
                    calls = [ctx.later.fetch(f"{url}/bytes/9000000") for n in range(3)]
                    found = ctx.parallel(*calls, return_exceptions=True)
                    return [str(one) if isinstance(one, FunctionError) else "here" for one in found]
                """
        }
    )
    found: Any = await given(it, "big:both", url=outside)
    assert sorted(found) == ["ctx.parallel: results of more than 17825792 bytes"] * 2 + ["here"]


@pytest.mark.parametrize(
    ("operation", "args"),
    [
        ("parallel", {}),
        ("parallel", {"calls": [1]}),
        ("parallel", {"calls": [{"args": {}, "operation": "stream", "path": "out:value"}]}),
        ("parallel", {"calls": [{"args": [], "operation": "run_query", "path": "out:value"}]}),
        ("parallel", {"calls": [{"args": {}, "operation": "run_query", "path": "out:value"}] * 1001}),
        ("parallel", {"calls": [{"args": {"url": 7}, "operation": "fetch", "path": "ctx.fetch"}]}),
        ("fetch", {"url": 7}),
    ],
)
async def test_a_worker_that_asks_for_what_no_function_can_is_found_out(
    it: Deployed, monkeypatch: pytest.MonkeyPatch, operation: Any, args: Any
) -> None:
    found_out = 0
    request = Traffic.request

    async def misbehave(traffic: Traffic, worker: Any, frame: Any, **options: Any) -> Any:
        nonlocal found_out
        if "on_syscall" in options:
            try:
                await options["on_syscall"](Syscall(number=1, operation=operation, path="x", args=pack(args)))
            except ProtocolViolation:  # upon which the pool ends the worker
                found_out += 1
        return await request(traffic, worker, frame, **options)

    monkeypatch.setattr(Traffic, "request", misbehave)
    await act(it, "out:twice", n=1)
    assert found_out == 1
