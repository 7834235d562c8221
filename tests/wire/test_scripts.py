"""The sequences of the protocol document, against the session, a server's socket, and a real deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.commands import Close

from ..engine.fake_backend import FakeBackend
from ..engine.raw_socket import RawSocket, Served, running_server
from ..engine.session_driver import FakeAuthenticator, SessionDriver
from .deployment import HeldDeployment, as_backend, running_deployment
from .script import Script

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
PLAYED_BY_DEPLOYMENT = [path for path in SCRIPTS if "(fake pages)" not in path.read_text()]
every_script = pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)


class SessionWire:
    """The session alone, without a socket or a loop."""

    def __init__(self) -> None:
        self.backend = FakeBackend()
        self.driver = SessionDriver(self.backend)

    async def send(self, text: str) -> None:
        self.driver.send(text)

    async def hear(self) -> dict[str, Any]:
        return self.driver.take()

    async def hear_close(self) -> tuple[int | None, str]:
        await self.hear_nothing()
        closed: Close | None = self.driver.closed
        assert closed is not None, "the session is still open"
        return closed.code, closed.reason

    async def hear_nothing(self) -> None:
        assert not self.driver.sent, list(self.driver.sent)

    async def cut(self) -> None:
        if self.driver.mutations:
            self.driver.run_mutation()
        self.driver.session.close(None)
        await self.connect_again()

    async def connect_again(self) -> None:
        self.driver = SessionDriver(self.backend)

    async def commit(self, cell: str, value: Any) -> None:
        self.backend.commit({cell: value})
        self.driver.pump()

    async def lose_next_reply(self) -> None:
        self.driver.auto = False


class SocketWire:
    """A real server, spoken to over TCP, frame by frame."""

    def __init__(self, backend: FakeBackend | HeldDeployment, served: Served) -> None:
        self.backend = backend
        self._served = served
        self._socket: RawSocket | None = None

    async def _open(self) -> RawSocket:
        if self._socket is None:
            self._socket = await self._served.open()
        return self._socket

    async def send(self, text: str) -> None:
        await (await self._open()).send(text)

    async def hear(self) -> dict[str, Any]:
        return await (await self._open()).hear()

    async def hear_close(self) -> tuple[int | None, str]:
        return await (await self._open()).hear_close()

    async def hear_nothing(self) -> None:
        # What a marker brings can only come after what was still under way.
        socket = await self._open()
        if socket.is_closed:
            return
        await socket.send('{"type":"Nonsense"}')
        fatal = await socket.hear()
        assert fatal["type"] == "FatalError", fatal

    async def cut(self) -> None:
        if self.backend.reply_gate is not None:
            await self.backend.committed.wait()
            self.backend.reply_gate = None
        assert self._socket is not None
        await self._socket.abort()
        await self.connect_again()

    async def connect_again(self) -> None:
        self._socket = None

    async def commit(self, cell: str, value: Any) -> None:
        if isinstance(self.backend, HeldDeployment):
            await self.backend.commit(cell, value)
        else:
            self.backend.commit({cell: value})

    async def lose_next_reply(self) -> None:
        self.backend.hold_replies()


@every_script
async def test_session_plays(path: Path) -> None:
    await Script(path, SessionWire()).play()


@every_script
async def test_server_plays(path: Path) -> None:
    backend = FakeBackend()
    async with running_server(backend, authenticator=FakeAuthenticator()) as served:
        await Script(path, SocketWire(backend, served)).play()


@pytest.mark.parametrize("path", PLAYED_BY_DEPLOYMENT, ids=lambda path: path.stem)
async def test_deployment_plays(path: Path, tmp_path: Path) -> None:
    async with (
        running_deployment(tmp_path) as deployment,
        running_server(as_backend(deployment), authenticator=FakeAuthenticator()) as served,
    ):
        await Script(path, SocketWire(deployment, served)).play()


async def test_page_keeps_its_end_while_data_changes(tmp_path: Path) -> None:
    """The sequence of 19.6 on real pages: on one socket, and on the next with the journal sent back."""

    def modify(base: int, number: int, cursor: str | None, journal: str | None = None) -> dict[str, Any]:
        args = {"paginationOpts": {"cursor": cursor, "id": 2, "numItems": 2}}
        change = {
            "type": "Add",
            "queryId": number,
            "udfPath": "feed:page",
            "args": [args],
            "journal": journal,
        }
        return {
            "type": "ModifyQuerySet", "baseVersion": base, "newVersion": base + 1, "modifications": [change],
        }  # fmt: skip

    async def change_of(socket: RawSocket) -> tuple[list[str], bool, str, str]:
        (change,) = (await socket.hear())["modifications"]
        value = change["value"]
        return value["page"], value["isDone"], value["continueCursor"], change["journal"]

    async with (
        running_deployment(tmp_path) as deployment,
        running_server(as_backend(deployment)) as served,
    ):
        for name in ("a", "c", "d"):
            await deployment.run("feed:put", name=name)
        socket = await served.open()
        await socket.send(modify(0, 0, None))
        page, is_done, first_end, first_journal = await change_of(socket)
        assert (page, is_done) == (["a", "c"], False)
        await socket.send(modify(1, 1, first_end))
        page, is_done, _, _ = await change_of(socket)
        assert (page, is_done) == (["d"], True)

        await deployment.run("feed:put", name="b")
        assert await change_of(socket) == (["a", "b", "c"], False, first_end, first_journal)
        await deployment.run("feed:put", name="e")
        page, is_done, _, _ = await change_of(socket)
        assert (page, is_done) == (["d", "e"], True)

        await socket.abort()
        await deployment.run("feed:put", name="a2")
        again = await served.open()
        await again.send(modify(0, 0, None, first_journal))
        page, _, end, _ = await change_of(again)
        assert (page, end) == (["a", "a2", "b", "c"], first_end)


def test_every_sequence_of_the_document_has_a_script() -> None:
    assert {path.stem[:4] for path in SCRIPTS} >= {f"19.{number}" for number in range(1, 7)}
