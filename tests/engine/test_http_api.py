"""The HTTP API over a real server's socket. Section numbers are those of the protocol document."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

from engine.backend import BackendFault, Failure
from tidewell.protocol import decode_ts, encode_ts

from .fake_backend import FakeBackend
from .raw_http import Answer, RawHttp
from .raw_socket import Served, running_server
from .session_driver import FakeAuthenticator, add, values

ENCODED = "convex_encoded_json"


@attrs.define
class Api:
    http: RawHttp
    backend: FakeBackend
    served: Served

    async def call(self, kind: str, path: str, args: Any = None, *headers: str, **more: Any) -> Answer:
        body = {"path": path, "args": [{} if args is None else args], "format": ENCODED, **more}
        return await self.http.post(f"/api/{kind}", body, *headers)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    backend = FakeBackend()
    options = {"authenticator": FakeAuthenticator(), "version": "1.2.3", "instance_name": "the-name"}
    async with running_server(backend, **options) as served:
        yield Api(RawHttp(await served.connect()), backend, served)


# ---- calls (15.1) ----------------------------------------------------------------------


async def test_query_mutation_and_action_answer_with_their_value(api: Api) -> None:
    for kind, path in (
        ("query", "values:echo"),
        ("mutation", "values:echo_mutation"),
        ("action", "values:echo_action"),
    ):
        answer = await api.call(kind, path, {"value": 3})
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json == {"status": "success", "value": 3.0, "logLines": ["[LOG] echo"]}


@pytest.mark.parametrize("args", [{"value": "x"}, [{"value": "x"}]])
async def test_args_may_be_the_object_or_an_array_that_holds_it(api: Api, args: Any) -> None:
    answer = await api.http.post("/api/query", {"path": "values:echo", "args": args, "format": "json"})
    assert answer.json["value"] == "x"


async def test_query_by_get(api: Api) -> None:
    answer = await api.http.get("/api/query?path=values:echo&args=%7B%22value%22%3A%222%22%7D&format=json")
    assert answer.json["value"] == "2"
    assert (await api.http.get("/api/query?path=counter:get")).json["value"] == 0


@pytest.mark.parametrize("path", ["messages", "messages:default", "messages.js:default"])
async def test_paths_are_canonicalized(api: Api, path: str) -> None:
    assert (await api.call("query", path)).json["value"] == []


async def test_mutation_is_seen_by_the_next_query_and_by_sockets(api: Api) -> None:
    socket = await api.served.open()
    await socket.send(
        {
            "type": "ModifyQuerySet",
            "baseVersion": 0,
            "newVersion": 1,
            "modifications": [add(0, "counter:get")],
        }
    )
    await socket.hear()
    assert (await api.call("mutation", "counter:add", {"by": 4})).json["value"] == 4.0
    assert (await api.call("query", "counter:get")).json["value"] == 4.0
    assert values(await socket.hear()) == {0: 4.0}


async def test_function_that_threw_is_status_200(api: Api) -> None:
    for kind, path in (
        ("query", "errors:fail"),
        ("mutation", "errors:fail_mutation"),
        ("action", "errors:fail_action"),
    ):
        answer = await api.call(kind, path)
        assert answer.status == 200
        assert answer.json["status"] == "error"
        assert answer.json["errorMessage"].startswith("[Request ID: ")
        assert "Uncaught ValueError: no such channel" in answer.json["errorMessage"]
        assert "errorData" not in answer.json


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("messages:nope", "Could not find public function for 'messages:nope'."),
        ("hidden:who", "Could not find public function for 'hidden:who'."),
        ("no-hyphens:x", "Could not find public function for 'no-hyphens:x'."),
        ("counter:add", "Trying to execute counter:add as Query, but it is defined as Mutation."),
    ],
)
async def test_wrong_function_is_a_developer_error(api: Api, path: str, text: str) -> None:
    answer = await api.call("query", path)
    assert answer.status == 200
    assert text in answer.json["errorMessage"]


@pytest.mark.parametrize("args", ["[]", "3", '[{"value":{"$foo":1}}]', '[{"nope":1}]', "null"])
async def test_bad_arguments_are_a_developer_error(api: Api, args: str) -> None:
    answer = await api.http.post("/api/query", b'{"path":"values:echo","args":' + args.encode() + b"}")
    assert answer.status == 200
    assert "\nArgumentValidationError: " in answer.json["errorMessage"]


async def test_application_error_has_its_data(api: Api) -> None:
    answer = await api.call("query", "errors:refuse", {"data": {"n": {"$integer": "AQAAAAAAAAA="}}})
    assert answer.json["errorData"] == {"n": {"$integer": "AQAAAAAAAAA="}}
    answer = await api.call(
        "query", "errors:refuse", {"data": {"n": {"$integer": "AQAAAAAAAAA="}}}, format="json"
    )
    assert answer.json["errorData"] == {"n": "1"}
    answer = await api.call("query", "errors:refuse", {"data": None})
    assert answer.json["errorData"] is None


async def test_redaction_hides_texts_and_logs(api: Api) -> None:
    api.backend.redacted = True
    answer = await api.call("query", "errors:refuse", {"data": "why"})
    assert answer.json["errorMessage"].endswith("] Server Error")
    assert answer.json["errorData"] == "why"
    assert (await api.call("query", "values:echo")).json["logLines"] == []


async def test_request_id_of_the_caller_is_used(api: Api) -> None:
    answer = await api.call("query", "errors:fail", {}, "Convex-Request-Id: 0123456789abcdef")
    assert answer.json["errorMessage"].startswith("[Request ID: 0123456789abcdef] ")
    answer = await api.call("query", "errors:fail", {}, "Convex-Request-Id: anything else")
    request_id = answer.json["errorMessage"][len("[Request ID: ") :][:16]
    assert int(request_id, 16)


# ---- snapshots -------------------------------------------------------------------------


async def test_query_at_ts_reads_the_snapshot_of_query_ts(api: Api) -> None:
    ts = (await api.http.post("/api/query_ts", b"")).json["ts"]
    assert decode_ts(ts) == 1000
    await api.call("mutation", "counter:add")
    assert (await api.call("query_at_ts", "counter:get", ts=ts)).json["value"] == 0.0
    assert (await api.call("query", "counter:get")).json["value"] == 1.0


@pytest.mark.parametrize("ts", [None, 3, "zz", "", encode_ts(10**6)])
async def test_timestamp_that_was_never_given_out_is_refused(api: Api, ts: object) -> None:
    answer = await api.call("query_at_ts", "counter:get", ts=ts)
    assert answer.status == 400
    assert answer.json["code"] == "BadTimestamp"


async def test_batch_is_of_one_snapshot_and_in_order(api: Api) -> None:
    queries = [
        {"path": "counter:get", "args": {}},
        {"path": "errors:fail", "args": {}},
        {"path": "values:echo", "args": {"value": 7}, "format": ENCODED},
    ]
    results = (await api.http.post("/api/query_batch", {"queries": queries})).json["results"]
    assert [result["status"] for result in results] == ["success", "error", "success"]
    assert results[2]["value"] == 7.0
    assert (await api.http.post("/api/query_batch", {"queries": []})).json == {"results": []}
    assert (await api.http.post("/api/query_batch", {"queries": [3]})).status == 400
    assert (await api.http.post("/api/query_batch", {})).status == 400


# ---- function and run ------------------------------------------------------------------


async def test_function_runs_any_kind_for_the_admin_alone(api: Api) -> None:
    assert (await api.call("function", "counter:add")).status == 403
    key = "Authorization: Convex the-admin-key"
    assert (await api.call("function", "counter:add", {}, key)).json["value"] == 1.0
    assert (await api.call("function", "counter:get", {}, key)).json["value"] == 1.0
    assert (await api.call("function", "counter:add_later", {}, key)).json["value"] == 2.0
    assert (await api.call("function", "hidden:who", {}, key)).json["value"]["admin"] is True
    assert "Could not find" in (await api.call("function", "nope:nope", {}, key)).json["errorMessage"]


async def test_run_names_the_function_in_the_url(api: Api) -> None:
    answer = await api.http.post("/api/run/dir/module/fn", {"args": {"value": {"$integer": "AQAAAAAAAAA="}}})
    assert answer.json["value"] == "1"
    answer = await api.http.post("/api/run/counter/add", {"args": {}})
    assert answer.json["value"] == 1
    answer = await api.http.post("/api/run/counter/add", {"args": {}}, "Convex-Client: npm-1.0.0")
    assert answer.json["value"] == 2
    assert "Could not find" in (await api.http.post("/api/run/hidden/who", {"args": {}})).json["errorMessage"]
    assert (await api.http.get("/api/run/counter/add")).status == 405


# ---- plain endpoints -------------------------------------------------------------------


async def test_version_and_name_are_plain_text(api: Api) -> None:
    for path, text in (
        ("/version", b"1.2.3"),
        ("/instance_version", b"1.2.3"),
        ("/instance_name", b"the-name"),
    ):
        answer = await api.http.get(path)
        assert (answer.status, answer.body) == (200, text)
        assert answer.headers["content-type"].startswith("text/plain")


async def test_debug_event_is_taken(api: Api) -> None:
    assert (await api.http.post("/api/debug_event", {"event": {"x": 1}})).status == 200


# ---- formats (15.3) --------------------------------------------------------------------


@pytest.mark.parametrize("name", [ENCODED, "convex_json"])
async def test_encoded_format(api: Api, name: str) -> None:
    answer = await api.call("query", "values:zoo", format=name)
    assert b'"int":3.0' in answer.body
    assert answer.json["value"]["int64"] == {"$integer": "/////////38="}
    assert answer.json["value"]["nan"] == {"$float": "AAAAAAAA+H8="}
    assert answer.json["value"]["negative_zero"] == {"$float": "AAAAAAAAAIA="}
    assert answer.json["value"]["bytes"] == {"$bytes": "AP8="}


@pytest.mark.parametrize("name", ["json", "convex_clean_json", None])
async def test_plain_format(api: Api, name: str | None) -> None:
    value = (await api.call("query", "values:zoo", format=name)).json["value"]
    assert value["int64"] == str(2**63 - 1)
    assert value["bytes"] == "AP8="
    assert (value["nan"], value["inf"]) == ("NaN", "Infinity")


async def test_unknown_format_is_refused(api: Api) -> None:
    for name in ("xml", 3, ""):
        answer = await api.call("query", "values:zoo", format=name)
        assert (answer.status, answer.json["code"]) == (400, "BadFormat")


@pytest.mark.parametrize(
    ("client", "is_encoded"),
    [
        ("npm-1.4.0", True),
        ("npm-1.4.1", False),
        ("npm-1.48.0", False),
        ("python-0.4.9", True),
        ("python-0.5.0", False),
        ("rust-0.1.0", False),
        ("nonsense", False),
    ],
)
async def test_default_format_depends_on_the_client(api: Api, client: str, is_encoded: bool) -> None:
    answer = await api.call("query", "values:zoo", {}, f"Convex-Client: {client}", format=None)
    assert (answer.json["value"]["bytes"] == {"$bytes": "AP8="}) is is_encoded


# ---- authentication (15.2) -------------------------------------------------------------


def impersonation(attributes: Any) -> str:
    encoded = base64.b64encode(json.dumps(attributes).encode()).decode()
    return f"Authorization: Convex the-admin-key:{encoded}"


async def test_bearer_token_is_the_identity(api: Api) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await api.call("query", "values:who", {}, f"Authorization: {scheme} token-A")
        assert answer.json["value"] == {"admin": False, "name": "i|a"}


async def test_admin_key_may_come_in_the_header_or_the_query(api: Api) -> None:
    answer = await api.call("query", "values:who", {}, "Authorization: cOnVeX the-admin-key")
    assert answer.json["value"] == {"admin": True, "name": None}
    answer = await api.http.get("/api/query?path=values:who&adminKey=the-admin-key")
    assert answer.json["value"] == {"admin": True, "name": None}


async def test_admin_may_act_as_a_user(api: Api) -> None:
    for attributes in ({"issuer": "i", "subject": "z"}, {"tokenIdentifier": "i|z"}):
        answer = await api.call("query", "values:who", {}, impersonation(attributes))
        assert answer.json["value"] == {"admin": True, "name": "i|z"}


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Bearer nonsense",
        "Authorization: Convex wrong",
        "Authorization: Basic abc",
        "Authorization: token-A",
        "Authorization: Convex the-admin-key:!!!",
        "Authorization: Convex the-admin-key:AAAA",
        impersonation([1]),
        impersonation({"name": "nobody in particular"}),
        impersonation({"tokenIdentifier": 3}),
        impersonation({"tokenIdentifier": "x", "$bad": 1}),
    ],
)
async def test_refused_token_is_401(api: Api, header: str) -> None:
    answer = await api.call("query", "values:who", {}, header, "Origin: http://page")
    assert answer.status == 401
    assert set(answer.json) == {"code", "message"}
    assert answer.headers["access-control-allow-origin"] == "http://page"
    assert api.backend.runs == []


# ---- CORS (15.2) -----------------------------------------------------------------------


async def test_preflight_allows_what_is_asked(api: Api) -> None:
    answer = await api.http.request(
        "OPTIONS",
        "/api/mutation",
        b"",
        "Origin: https://page.example",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: content-type, convex-client",
    )
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-allow-headers"] == "content-type, convex-client"
    assert answer.headers["access-control-max-age"] == "86400"
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert method in answer.headers["access-control-allow-methods"]


async def test_errors_carry_cors_headers_too(api: Api) -> None:
    origin = "Origin: http://page"
    for answer in (
        await api.http.get("/api/nope", origin),
        await api.http.get("/api/mutation", origin),
        await api.http.post("/api/query", b"{", origin),
        await api.call("query", "values:who", {}, origin, format="xml"),
    ):
        assert answer.status >= 400
        assert answer.headers["access-control-allow-origin"] == "http://page"
        assert answer.headers["access-control-allow-credentials"] == "true"


async def test_no_origin_no_cors(api: Api) -> None:
    answer = await api.http.get("/version")
    assert not [name for name in answer.headers if name.startswith("access-control")]


# ---- refusals (10.4) -------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"\xff\xfe",
        b'{"path":3,"args":{}}',
        b'{"args":{}}',
        b"[" * 100_000,
        b'{"a":NaN}',
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
async def test_body_that_is_no_call_is_400(api: Api, body: bytes) -> None:
    answer = await api.http.post("/api/query", body)
    assert answer.status == 400
    assert set(answer.json) == {"code", "message"}


async def test_head_is_answered_where_get_is(api: Api) -> None:
    for path in ("/version", "/instance_name", "/api/query?path=counter:get"):
        full = await api.http.get(path)
        answer = await api.http.request("HEAD", path, b"")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-length"] == full.headers["content-length"]
    assert (await api.http.request("HEAD", "/api/mutation", b"")).status == 405


async def test_unknown_path_is_404_and_wrong_method_405(api: Api) -> None:
    for path in ("/api/nope", "/nope", "/", "/api", "/api/storage/x"):
        answer = await api.http.get(path)
        assert answer.status == 404
        assert set(answer.json) == {"code", "message"}
    answer = await api.http.get("/api/mutation")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (BackendFault("Overloaded", "too busy", transient=True), 503, "TooManyConcurrentRequests"),
        (BackendFault("StoreBroken", "secret path", transient=False), 500, "InternalServerError"),
    ],
)
async def test_fault_is_503_or_500(api: Api, fault: BackendFault, status: int, code: str) -> None:
    api.backend.fault = fault
    for kind in ("query", "mutation", "action"):
        answer = await api.call(kind, "counter:get")
        assert (answer.status, answer.json["code"]) == (status, code)
        assert "secret" not in answer.json["message"]
    answer = await api.http.post("/api/query_batch", {"queries": [{"path": "a:b"}, {"path": "a:b"}]})
    assert answer.status == status


async def test_write_conflict_is_503(api: Api) -> None:
    api.backend.next_failure = Failure("two wrote the counter\n", kind="Conflict", transient=True)
    answer = await api.call("mutation", "counter:add")
    assert (answer.status, answer.json["code"]) == (503, "OptimisticConcurrencyControlFailure")
    assert answer.json["message"] == "two wrote the counter"
