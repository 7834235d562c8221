"""The HTTP API: section 15 of the protocol, one request to one response.

Knows no sockets. A function that threw is an answer (status 200); every other
trouble is `{code, message}` under a status of its own.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import msgspec
import trio

from engine.auth import Authenticator, TokenRefused
from engine.backend import (
    ABSENT,
    ANONYMOUS,
    ActionOutcome,
    Backend,
    BackendFault,
    Call,
    Failure,
    Identity,
    MutationOutcome,
    QueryOutcome,
)
from engine.clients import read_client
from engine.exchange import TEXT, Refused, Request, Response, preflight, refusal, with_cors
from engine.failures import (
    Trouble,
    error_text,
    request_id_from,
    trouble_of,
    trouble_of_fault,
    unknown_function,
)
from engine.heavy import HeavyReader, is_heavy, is_too_heavy, read_body, read_json
from engine.query_set import read_call
from tidewell.protocol import decode_ts, encode_ts
from tidewell.values import plain_json, wire_json

log = logging.getLogger(__name__)

ENCODED: Final = "convex_encoded_json"
PLAIN: Final = "json"
_FORMATS: Final = {
    ENCODED: ENCODED, "convex_json": ENCODED, PLAIN: PLAIN, "convex_clean_json": PLAIN,
}  # fmt: skip
_BATCH_MAX: Final = 1000
ADMIN_PREFIX: Final = "/api/v1/"

Outcome = QueryOutcome | MutationOutcome | ActionOutcome


@attrs.frozen
class _Call:
    """One call of a body: what to run, and the form of the answer."""

    target: Call | Failure
    request_id: str
    format: str


class HttpApi:
    def __init__(
        self,
        backend: Backend,
        authenticator: Authenticator,
        *,
        instance_name: str,
        version: str,
        make_nonce: Callable[[], str],
        admin: Callable[[Request], Awaitable[Response]] | None = None,
        heavy: HeavyReader | None = None,
    ) -> None:
        self._backend = backend
        self._admin = admin
        self._heavy = heavy or HeavyReader()
        self._authenticator = authenticator
        self._version = version
        self._make_nonce = make_nonce
        self._routes: dict[str, dict[str, Callable[[Request], Awaitable[Response]]]] = {
            "/api/query": {"POST": self._query, "GET": self._query_by_get},
            "/api/mutation": {"POST": self._mutation},
            "/api/action": {"POST": self._action},
            "/api/query_ts": {"POST": self._query_ts},
            "/api/query_at_ts": {"POST": self._query_at_ts},
            "/api/query_batch": {"POST": self._query_batch},
            "/api/explain": {"POST": self._explain},
            "/api/function": {"POST": self._function},
            "/api/debug_event": {"POST": self._debug_event},
            "/version": {"GET": self._text(version)},
            "/instance_version": {"GET": self._text(version)},
            "/instance_name": {"GET": self._text(instance_name)},
        }

    def owns(self, path: str) -> bool:
        """Whether `path` belongs to the API, so that nothing else may answer it."""
        return path in self._routes or path == "/api" or path.startswith("/api/")

    async def respond(self, request: Request) -> Response:
        """Answer a request for a path that the API owns."""
        if request.method == "OPTIONS":
            return with_cors(request, preflight(request))
        try:
            response = await self._routed(await self._read(request))
        except Refused as refused:
            response = refused.response()
        except BackendFault as fault:
            response = _troubled(trouble_of_fault(fault))
        except Exception:
            log.exception("a request failed: %s %s", request.method, request.path)
            response = refusal(500, "InternalServerError", _INTERNAL)
        return with_cors(request, response)

    async def _read(self, request: Request) -> Request:
        """Return a request whose body is read, if that takes long."""
        if request.path.startswith(ADMIN_PREFIX) or not is_heavy(request.body):
            return request
        if is_too_heavy(request.body):
            raise Refused(413, "PayloadTooLarge", "a request of too many values")
        return attrs.evolve(request, tree=await self._heavy.read(read_body, request.body))

    async def _routed(self, request: Request) -> Response:
        if request.path.startswith("/api/run/"):
            methods: dict[str, Callable[[Request], Awaitable[Response]]] = {"POST": self._run}
        elif self._admin is not None and request.path.startswith(ADMIN_PREFIX):
            if not (await self._identify(request)).admin:
                raise Refused(403, "Unauthorized", f"{request.path} needs the admin key")
            return await self._admin(request)
        elif request.path in self._routes:
            methods = self._routes[request.path]
        else:
            raise Refused(404, "NotFound", f"nothing is served at {request.path}")
        method = "GET" if request.method == "HEAD" else request.method  # the connection leaves the body away
        if method not in methods:
            allowed = ", ".join(methods)
            raise Refused(
                405, "MethodNotAllowed", f"{request.path} takes {allowed}", [(b"allow", allowed.encode())]
            )
        return await methods[method](request)

    # ---- endpoints ------------------------------------------------------------------------

    async def _query(self, request: Request) -> Response:
        identity = await self._identify(request)
        call = self._read_call(_body(request), request, identity)
        return self._result(call, await self._run_as("query", call, None))

    async def _query_by_get(self, request: Request) -> Response:
        identity = await self._identify(request)
        body: dict[str, Any] = {"path": request.parameter("path"), "format": request.parameter("format")}
        args = request.parameter("args")
        if args is not None:
            body["args"] = read_json(args.encode(errors="surrogatepass"), "the parameter 'args'")
        call = self._read_call(body, request, identity)
        return self._result(call, await self._run_as("query", call, None))

    async def _mutation(self, request: Request) -> Response:
        identity = await self._identify(request)
        call = self._read_call(_body(request), request, identity)
        return self._result(call, await self._run_as("mutation", call, None))

    async def _action(self, request: Request) -> Response:
        identity = await self._identify(request)
        call = self._read_call(_body(request), request, identity)
        return self._result(call, await self._run_as("action", call, None))

    async def _query_ts(self, _: Request) -> Response:
        return _json_response({"ts": encode_ts(self._backend.head_ts)})

    async def _query_at_ts(self, request: Request) -> Response:
        identity = await self._identify(request)
        body = _body(request)
        ts = self._read_ts(body.get("ts"))
        call = self._read_call(body, request, identity)
        return self._result(call, await self._run_as("query", call, ts))

    async def _query_batch(self, request: Request) -> Response:
        identity = await self._identify(request)
        queries = _body(request).get("queries")
        if type(queries) is not list or len(queries) > _BATCH_MAX:
            raise Refused(400, "BadRequest", f"'queries' must be an array of at most {_BATCH_MAX} calls")
        calls = [self._read_call(query, request, identity) for query in queries]
        ts = self._backend.head_ts
        results: list[msgspec.Raw] = [msgspec.Raw(b"null")] * len(calls)

        async def run(place: int) -> None:
            call = calls[place]
            response = self._result(call, await self._run_as("query", call, ts))
            results[place] = msgspec.Raw(response.body)

        try:
            async with trio.open_nursery() as nursery:
                for place in range(len(calls)):
                    nursery.start_soon(run, place)
        except* (BackendFault, Refused) as group:
            raise _first(group) from None
        return _json_response({"results": results})

    async def _explain(self, request: Request) -> Response:
        """Run a query, and say also what the cache did for it."""
        identity = await self._identify(request)
        if not identity.admin:
            raise Refused(403, "Unauthorized", "/api/explain needs the admin key")
        call = self._read_call(_body(request), request, identity)
        if isinstance(call.target, Failure):
            return self._result(call, await self._run_as("query", call, None))
        explained = await self._backend.explain(call.target)
        return self._result(call, explained.outcome, {"explain": explained.to_json(), "text": str(explained)})

    async def _function(self, request: Request) -> Response:
        identity = await self._identify(request)
        if not identity.admin:
            raise Refused(403, "Unauthorized", "/api/function needs the admin key")
        call = self._read_call(_body(request), request, identity)
        return self._result(call, await self._run_any(call))

    async def _run(self, request: Request) -> Response:
        identity = await self._identify(request)
        module, _, function = request.path.removeprefix("/api/run/").rpartition("/")
        body = _body(request)
        path = f"{module}:{function}" if module else function
        call = self._read_call({**body, "path": path}, request, identity, default_format=PLAIN)
        return self._result(call, await self._run_any(call))

    async def _debug_event(self, _: Request) -> Response:
        return _json_response({})

    def _text(self, text: str) -> Callable[[Request], Awaitable[Response]]:
        async def respond(_: Request) -> Response:
            return Response(200, text.encode(), TEXT)

        return respond

    # ---- reading ----------------------------------------------------------------------------

    async def _identify(self, request: Request) -> Identity:
        """Return who the headers say is calling. Raises `Refused` with 401."""
        authorization = request.header(b"authorization")
        admin_key = request.parameter("adminKey")
        try:
            if authorization is not None:
                scheme, _, credentials = authorization.strip().partition(" ")
                credentials = credentials.strip()
                if scheme.lower() == "bearer":
                    return (await self._authenticator.user(credentials)).identity
                if scheme.lower() == "convex":
                    key, _, acting_as = credentials.partition(":")
                    attributes = _attributes(acting_as) if acting_as else None
                    return (await self._authenticator.admin(key, attributes)).identity
                raise TokenRefused("InvalidAuthHeader", "expected 'Bearer <token>' or 'Convex <admin key>'")
            if admin_key is not None:
                return (await self._authenticator.admin(admin_key, None)).identity
        except TokenRefused as refusal:
            raise Refused(401, refusal.code, refusal.message) from None
        return ANONYMOUS

    def _read_call(
        self, body: object, request: Request, identity: Identity, default_format: str | None = None
    ) -> _Call:
        if type(body) is not dict or type(body.get("path")) is not str:
            raise Refused(400, "BadRequest", "a call needs a 'path' that is a string")
        component = body.get("componentPath")
        args = body.get("args", {})
        read = read_call(
            body["path"],
            args if isinstance(args, list) else [args],
            component if type(component) is str else None,
        )
        request_id = request_id_from(request.header(b"convex-request-id") or self._make_nonce())
        target = read if isinstance(read, Failure) else Call(*read, identity, request_id, "http")
        return _Call(target, request_id, _format(body.get("format"), request, default_format))

    def _read_ts(self, text: object) -> int:
        try:
            ts = decode_ts(text) if type(text) is str else -1
        except ValueError:
            ts = -1
        if not 0 <= ts <= self._backend.head_ts:
            raise Refused(400, "BadTimestamp", "'ts' must be a timestamp that this server has given out")
        return ts

    # ---- running ------------------------------------------------------------------------------

    async def _run_as(self, kind: str, call: _Call, ts: int | None) -> Outcome:
        if isinstance(call.target, Failure):
            return ActionOutcome(None, b"null", (), call.target)
        if kind == "query":
            return await self._backend.query(call.target, ts=ts)
        if kind == "mutation":
            return await self._backend.mutate(call.target)
        return await self._backend.act(call.target)

    async def _run_any(self, call: _Call) -> Outcome:
        """Run a function as what it is."""
        if isinstance(call.target, Failure):
            return await self._run_as("query", call, None)
        kind = self._backend.kind_of(call.target.path)
        if kind is None:
            return ActionOutcome(None, b"null", (), unknown_function(call.target.path))
        return await self._run_as(kind, call, None)

    def _result(self, call: _Call, outcome: Outcome, more: dict[str, Any] | None = None) -> Response:
        trouble = trouble_of(outcome.failure)
        if trouble is not None:
            return _troubled(trouble)
        redacted = self._backend.redacted
        failure = outcome.failure
        result: dict[str, Any]
        if failure is None:
            encoded = outcome.value_json if call.format == ENCODED else _plain(outcome.value)
            result = {"status": "success", "value": msgspec.Raw(encoded)}
        else:
            text = error_text(call.request_id, failure, redacted)
            result = {"status": "error", "errorMessage": text}
            if failure.data is not ABSENT:
                data = wire_json(failure.data) if call.format == ENCODED else _plain(failure.data)
                result["errorData"] = msgspec.Raw(data)
        result["logLines"] = [] if redacted else list(outcome.log_lines)
        return _json_response(result | (more or {}))


_INTERNAL: Final = "Your request couldn't be completed. Try again later."


def _troubled(trouble: Trouble) -> Response:
    if trouble.transient:
        return refusal(503, trouble.code, trouble.message.strip())
    log.error("a call ended in a fault: %s", trouble.message)
    return refusal(500, trouble.code, _INTERNAL)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _plain(value: object) -> bytes:
    return msgspec.json.encode(plain_json(value))


def _json_response(tree: object) -> Response:
    return Response(200, msgspec.json.encode(tree))


def _body(request: Request) -> dict[str, Any]:
    body = read_json(request.body, "the request body") if request.tree is None else request.tree
    if type(body) is not dict:
        raise Refused(400, "BadJsonBody", "the request body must be a JSON object")
    return body


def _attributes(text: str) -> dict[str, Any]:
    try:
        attributes = msgspec.json.decode(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        attributes = None
    if type(attributes) is not dict:
        raise TokenRefused("InvalidAuthHeader", "what follows the admin key is not an identity in base64")
    return attributes


def _format(name: object, request: Request, default: str | None) -> str:
    if name is None:
        return default or _default_format(request.header(b"convex-client"))
    if type(name) is not str or name not in _FORMATS:
        raise Refused(400, "BadFormat", f"unknown format {name!r}; there are {', '.join(_FORMATS)}")
    return _FORMATS[name]


def _default_format(client_header: str | None) -> str:
    """Return the format for a call that names none; old clients meant the encoded one (15.3)."""
    client = read_client(client_header)
    since = {"npm": (1, 4, 1), "python": (0, 5, 0)}.get(client.name)
    return ENCODED if since is not None and client.version < since else PLAIN
