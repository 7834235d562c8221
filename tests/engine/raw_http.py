"""An HTTP client that sends exactly what a test says, and reads what comes back with h11."""

from __future__ import annotations

import json
from typing import Any

import attrs
import h11
import trio

from .raw_socket import DEADLINE_S


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawHttp:
    def __init__(self, stream: Any, deadline_s: float = DEADLINE_S) -> None:
        self.stream = stream
        self._deadline_s = deadline_s
        self._received = b""

    async def send(self, data: bytes | str) -> None:
        await self.stream.send_all(data.encode() if isinstance(data, str) else data)

    async def get(self, path: str, *headers: str) -> Answer:
        return await self.request("GET", path, b"", *headers)

    async def post(self, path: str, body: Any, *headers: str) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.request("POST", path, data, *headers)

    async def request(self, method: str, path: str, body: bytes, *headers: str) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        return await self.answer(method)

    async def answer(self, method: str = "GET") -> Answer:
        """Read the next answer; `method` is that of its request."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "localhost")]))
        parser.send(h11.EndOfMessage())
        if self._received:  # no bytes would mean the end of the connection
            parser.receive_data(self._received)
        head: h11.Response | None = None
        body = b""
        with trio.fail_after(self._deadline_s):
            while True:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    parser.receive_data(await self.stream.receive_some())
                elif isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
        assert head is not None
        self._received = parser.trailing_data[0]
        headers = {name.decode(): value.decode() for name, value in head.headers}
        return Answer(head.status_code, headers, body)

    async def is_ended(self) -> bool:
        """Whether the server ends the connection, with nothing more to say."""
        with trio.fail_after(self._deadline_s):
            try:
                return not self._received and not await self.stream.receive_some()
            except trio.BrokenResourceError:
                return True
