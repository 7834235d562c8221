"""The command line's side of `admin_api`: one request to a server, with the key from a data folder."""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from tidewell.errors import AppError, FunctionError
from tidewell.protocol import encode_ts
from tidewell.values import Value, from_wire, to_wire

ANSWER_S_MAX: Final = 3600.0  # a push over much data takes long


class AdminFailed(Exception):
    """The server refused, or there is none. The text is for people; of a push it has several lines."""


@attrs.frozen
class Admin:
    """A server that is asked as an admin."""

    url: str
    key: str | None  # None: as nobody
    acting_as: Mapping[str, Any] | None = None  # the claims of a person to call as

    @classmethod
    def of(cls, url: str, data: Path) -> Admin:
        """Return the server at `url`, with the admin key in `data`. Raises `AdminFailed`."""
        try:
            key = (data / "admin-key").read_text().strip()
        except OSError:
            raise AdminFailed(
                f"there is no admin key in {data}; give the deployment's data folder with --data"
            ) from None
        return cls(url, key)

    def get(self, name: str) -> Any:
        return self._ask("GET", f"/api/v1/{name}", None)

    def post(self, name: str, body: object) -> Any:
        return self._ask("POST", f"/api/v1/{name}", body)

    def call(self, path: str, args: Mapping[str, Value]) -> Value:
        """Return what a function of any kind gives, once. Raises like `query_at`."""
        body = {"path": path, "args": to_wire(args), "format": "convex_encoded_json"}
        return _value_of(path, self._ask("POST", "/api/function", body))

    def query_at(self, ts: int, path: str, args: Mapping[str, Value]) -> Value:
        """Return what a query gives as of a commit. Raises `AppError`, `FunctionError` and `AdminFailed`."""
        body = {"path": path, "args": to_wire(args), "ts": encode_ts(ts), "format": "convex_encoded_json"}
        return _value_of(path, self._ask("POST", "/api/query_at_ts", body))

    def explain(self, path: str, args: Mapping[str, Value]) -> tuple[Value, str]:
        """Return what a query gives, and what the cache did for it, in words. Raises like `query_at`."""
        body = {"path": path, "args": to_wire(args), "format": "convex_encoded_json"}
        answer = self._ask("POST", "/api/explain", body)
        return _value_of(path, answer), str(answer.get("text", ""))

    def _ask(self, method: str, path: str, body: object) -> Any:
        if not self.url.startswith(("http://", "https://")):
            raise AdminFailed(f"{self.url!r} is not the URL of a deployment, such as http://127.0.0.1:3210")
        data = None if body is None else msgspec.json.encode(body)
        request = urllib.request.Request(self.url.rstrip("/") + path, data, method=method)
        if self.key is not None:
            claims = (
                ""
                if self.acting_as is None
                else base64.b64encode(msgspec.json.encode(self.acting_as)).decode()
            )
            request.add_header("Authorization", f"Convex {self.key}{claims and ':'}{claims}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S_MAX) as response:
                return msgspec.json.decode(response.read())
        except urllib.error.HTTPError as refusal:
            raise AdminFailed(_told(refusal)) from None
        except urllib.error.URLError as error:
            reason = getattr(error.reason, "strerror", None) or error.reason
            raise AdminFailed(f"{self.url}: {reason}; is the deployment being served there?") from None
        except (OSError, ValueError, http.client.HTTPException, msgspec.DecodeError) as error:
            raise AdminFailed(f"{self.url}: {error or type(error).__name__}") from None


def _value_of(path: str, answer: Any) -> Value:
    if answer["status"] == "success":
        return from_wire(answer["value"])
    if "errorData" in answer:
        raise AppError(from_wire(answer["errorData"]))
    raise FunctionError(path, answer["errorMessage"])


def _told(refusal: urllib.error.HTTPError) -> str:
    try:
        answer = msgspec.json.decode(refusal.read())
        if refusal.code == 401:
            return f"{answer['message']}; is --data the folder of the deployment at --url?"
        return str(answer["message"])
    except (OSError, msgspec.DecodeError, KeyError, TypeError, http.client.HTTPException):
        return f"{refusal.url}: answered with status {refusal.code}"
