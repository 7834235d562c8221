"""`ctx.fetch`: an HTTP exchange with the outside, which the engine makes for an action.

What travels, as packed values:

    asked      {"url", "method", "headers": [[name, value]], "body": bytes, "timeoutMs", "redirect"}
    answer     {"status", "statusText", "headers": [[name, value]], "url", "redirected", "body": bytes}

An exchange that has no answer (no such host, a time-out) raises `FunctionError`. A status
of 404 or 500 is an answer like any other.
"""

from __future__ import annotations

from typing import Any, Final

from sandbox.costs import COPY_BYTES
from sandbox.guest import GuestRuntime
from sandbox.host import HostObject
from sandbox.http_actions import Values, taken_headers
from tidewell.errors import InvalidValue, LimitExceeded
from tidewell.values import Value

FETCH_BODY_BYTES_MAX: Final = 16 * 2**20  # of what is sent, and of what comes back
TIMEOUT_S: Final = 30.0
TIMEOUT_S_MAX: Final = 600.0  # an action has no more (function-semantics 17, A6)
URL_LENGTH_MAX: Final = 16 * 1024
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_REDIRECTS: Final = frozenset({"error", "follow", "manual"})


def fetch_message(
    runtime: GuestRuntime,
    url: Any,
    *,
    method: Any,
    headers: Any,
    body: Any,
    json: Any,
    timeout: Any,
    redirect: Any,
) -> dict[str, Value]:
    """Return what the engine is asked for. Raises for what is no request, with the line of its maker."""
    if type(url) is not str or len(url) > URL_LENGTH_MAX:
        raise InvalidValue("url", f"is text of at most {URL_LENGTH_MAX} characters")
    if not url.startswith(("http://", "https://")):
        raise InvalidValue("url", "begins with http:// or https://")
    if type(method) is not str or len(method) > 16 or method.upper() not in _METHODS:
        raise InvalidValue("method", f"is one of {', '.join(sorted(_METHODS))}")
    if redirect not in _REDIRECTS:
        raise InvalidValue("redirect", f"is one of {', '.join(sorted(_REDIRECTS))}")
    if type(timeout) not in (int, float) or not 0 < timeout <= TIMEOUT_S_MAX:
        raise InvalidValue("timeout", f"is a number of seconds, above 0 and at most {TIMEOUT_S_MAX:.0f}")
    pairs = taken_headers(headers)
    names = {name for name, _ in pairs}
    if json is not None:
        if body is not None:
            raise InvalidValue("body", "cannot be given together with json")
        body = runtime.facade("json").dumps(json)
        if "content-type" not in names:
            pairs.append(("content-type", "application/json"))
    elif type(body) is str and "content-type" not in names:
        pairs.append(("content-type", "text/plain; charset=utf-8"))
    data = _bytes_of(body)
    if len(data) > FETCH_BODY_BYTES_MAX:
        raise LimitExceeded("TooLargeValue", f"ctx.fetch sends at most {FETCH_BODY_BYTES_MAX} bytes")
    runtime.meter.charge(len(data) // COPY_BYTES)
    return {
        "body": data,
        "headers": [[name, value] for name, value in pairs],
        "method": method.upper(),
        "redirect": redirect,
        "timeoutMs": int(timeout * 1000) or 1,
        "url": url,
    }


def _bytes_of(body: Any) -> bytes:
    if body is None:
        return b""
    if type(body) is str:
        return body.encode(errors="replace")
    if type(body) is bytes:
        return body
    raise InvalidValue("body", f"is text, bytes or None, found a {type(body).__name__}")


class Fetched(HostObject):
    """What came back. `body()`, `text()` and `json()` give its content, as of a request of an HTTP action."""

    __slots__ = ("_message", "_runtime")
    _exposed_ = frozenset(
        {"body", "headers", "json", "ok", "redirected", "status", "status_text", "text", "url"}
    )

    def __init__(self, runtime: GuestRuntime, message: dict[str, Any]) -> None:
        runtime.meter.charge(len(message["body"]) // COPY_BYTES)
        self._runtime = runtime
        self._message = message

    @property
    def status(self) -> int:
        status: int = self._message["status"]
        return status

    @property
    def status_text(self) -> str:
        return str(self._message["statusText"])

    @property
    def ok(self) -> bool:
        """Whether the status is from 200 to 299."""
        return 200 <= self.status <= 299

    @property
    def url(self) -> str:
        """Where it came from in the end."""
        return str(self._message["url"])

    @property
    def redirected(self) -> bool:
        return bool(self._message["redirected"])

    @property
    def headers(self) -> Values:
        pairs = [(name, value) for name, value in self._message["headers"]]
        return Values(pairs, self._runtime.meter.charge, has_case=False)

    def body(self) -> bytes:
        data: bytes = self._message["body"]
        return data

    def text(self) -> str:
        """The content as UTF-8; what is none is shown as U+FFFD."""
        data = self.body()
        self._runtime.meter.charge(len(data) // COPY_BYTES)
        return data.decode(errors="replace")

    def json(self) -> Any:
        return self._runtime.facade("json").loads(self.text())
