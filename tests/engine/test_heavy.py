"""Large messages of clients: read beside the event loop, the same as small ones, or refused by weight."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine import heavy
from engine.exchange import Refused
from engine.heavy import HEAVY_BYTES, WEIGHT_MAX, is_heavy, is_too_heavy, read_body, read_message
from engine.query_set import ReadArgs, read_call
from tidewell import protocol
from tidewell.values import wire_json

from .fake_backend import FakeBackend
from .raw_http import RawHttp
from .raw_socket import running_server
from .session_driver import SessionDriver, add

LARGE = [[0.5] * 100 for _ in range(300)]  # of numbers that JSON keeps as they are


def mutation(args: Any) -> dict[str, Any]:
    return {"type": "Mutation", "requestId": 0, "udfPath": "values:echo_mutation", "args": [args]}


def test_weight_decides_what_is_heavy() -> None:
    assert not is_heavy("x" * HEAVY_BYTES)
    assert is_heavy("x" * (HEAVY_BYTES + 1))
    assert is_heavy(json.dumps(LARGE))
    assert is_heavy(json.dumps(LARGE).encode())
    assert not is_too_heavy("x" * WEIGHT_MAX)
    assert is_too_heavy("[]," * (WEIGHT_MAX // 90))
    assert not is_too_heavy(json.dumps([1.25] * 1_800_000)), "16 MiB of numbers are arguments"


@pytest.mark.parametrize("args", [{"value": LARGE}, {"value": {"$integer": "x"}}, 7, {"value": "\ud800"}])
def test_message_read_beside_says_the_same(args: Any) -> None:
    text = json.dumps(mutation(args))
    read = read_message(text)
    assert isinstance(read, protocol.Mutation)
    plain = protocol.decode_client_message(text)
    assert isinstance(plain, protocol.Mutation)
    assert read_call(read.udf_path, read.args, None) == read_call(plain.udf_path, plain.args, None)
    answers = []
    for message in (None, read):
        driver = SessionDriver()
        driver.session.receive(text, driver.now_ns, message)
        driver.pump()
        answers.append(driver.take_all())
    assert answers[0] == answers[1]


def test_subscriptions_read_beside_are_the_same() -> None:
    change = add(0, "values:echo", value=LARGE)
    text = json.dumps(
        {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [change]}
    )
    read = read_message(text)
    assert isinstance(read, protocol.ModifyQuerySet)
    [added] = read.modifications
    assert isinstance(added, protocol.Add)
    assert isinstance(added.args, ReadArgs)
    driver = SessionDriver()
    driver.session.receive(text, driver.now_ns, read)
    driver.pump()
    assert driver.take()["modifications"][0]["value"] == LARGE


def test_what_is_no_message_is_fatal_all_the_same() -> None:
    driver = SessionDriver()
    driver.session.receive("{", driver.now_ns, read_message("{"))
    driver.pump()
    assert driver.take()["type"] == "FatalError"
    assert driver.closed is not None


def test_body_read_beside_has_the_calls_of_a_batch_read() -> None:
    call = {"path": "values:echo", "args": {"value": LARGE}}
    tree: Any = read_body(json.dumps({**call, "queries": [call, 7, {"args": [call]}]}).encode())
    for read in (tree["args"], tree["queries"][0]["args"], tree["queries"][2]["args"]):
        assert isinstance(read, ReadArgs)
        assert read.problem is None
    with pytest.raises(Refused, match="is not JSON"):
        read_body(b"{")


async def test_large_calls_are_served_and_overweight_ones_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heavy, "WEIGHT_MAX", 4_000_000)
    async with running_server(FakeBackend()) as served:
        http = RawHttp(await served.connect())
        for kind in ("query", "mutation"):
            name = "echo" if kind == "query" else "echo_mutation"
            body = {"path": f"values:{name}", "args": {"value": LARGE}, "format": "json"}
            answer = await http.post(f"/api/{kind}", body)
            assert json.loads(answer.body)["value"] == LARGE
        answer = await http.post(
            "/api/query", json.dumps({"path": "values:echo", "args": {"v": [[]] * 50_000}})
        )
        assert answer.status == 413

        one = await served.open()
        await one.send(mutation({"value": LARGE}))
        assert (await one.hear())["result"] == json.loads(wire_json(LARGE))
        await one.send({**mutation({"value": [[]] * 50_000}), "requestId": 1})
        await one.hear()
        assert await one.hear_close() == (1009, "MessageTooLarge")
