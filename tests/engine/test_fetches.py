"""`ctx.fetch` against real servers: such as behave, such as do not, and such as must not be reached."""

from __future__ import annotations

import gzip
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import h11
import pytest
import trio
import trio.testing

from engine.fetches import BODY_BYTES_MAX, Fetches, FetchFailed, is_public
from tests.engine.private_ca import PrivateCA, https_server
from tidewell.errors import InvalidValue

MIB = 2**20


@attrs.define
class Server:
    """What it answers can be said after its address is known; `asked` has what it was sent."""

    url: str
    parts: list[bytes] = attrs.field(factory=list)
    asked: list[bytes] = attrs.field(factory=list)
    hanging: trio.Event = attrs.field(factory=trio.Event)

    def headers(self) -> list[str]:
        return self.asked[-1].decode("latin-1").split("\r\n\r\n")[0].lower().split("\r\n")[1:]


def answer(body: bytes = b"", *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def to(url: str, status: int = 302) -> bytes:
    return answer(b"", f"Location: {url}", status=f"{status} Elsewhere")


async def one_request(stream: trio.SocketStream) -> bytes:
    """The bytes of one request, or of as much as shows that it is none."""
    connection = h11.Connection(h11.SERVER)
    asked = b""
    with suppress(h11.RemoteProtocolError):
        while (event := connection.next_event()) is not h11.PAUSED:
            if event is h11.NEED_DATA:
                data = bytes(await stream.receive_some(65536))
                asked += data
                connection.receive_data(data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                break
    return asked


@asynccontextmanager
async def serving(*parts: bytes, hangs: bool = False) -> AsyncIterator[Server]:
    """A server that says the next of `parts`, the last one for ever, to whoever comes."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                server.asked.append(await one_request(stream))
                await stream.send_all(server.parts.pop(0) if len(server.parts) > 1 else server.parts[0])
                if hangs:
                    server.hanging.set()
                    await stream.receive_some(1)
            except trio.BrokenResourceError:
                pass  # the client had enough

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server = Server(f"http://127.0.0.1:{listener.socket.getsockname()[1]}", list(parts))
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield server
        nursery.cancel_scope.cancel()


def call(url: str, **others: Any) -> dict[str, Any]:
    args = {
        "url": url,
        "method": "GET",
        "headers": [],
        "body": b"",
        "timeoutMs": 60_000,
        "redirect": "follow",
    }
    return args | others


async def fetch(url: str, **others: Any) -> dict[str, Any]:
    return await Fetches(allow_private=True).fetch(call(url, **others))


async def test_answer_has_all_its_parts() -> None:
    said = answer(b"nothing here", "Set-Cookie: a=1", "X-Two: é", "Set-Cookie: b=2", status="404 Not Found")
    async with serving(said) as server:
        assert await fetch(f"{server.url}/notes?tag=a%20b#top") == {
            "status": 404,
            "statusText": "Not Found",
            "headers": [
                ["content-length", "12"],
                ["set-cookie", "a=1"],
                ["x-two", "é".encode().decode("latin-1")],
                ["set-cookie", "b=2"],
            ],
            "url": f"{server.url}/notes?tag=a%20b",
            "redirected": False,
            "body": b"nothing here",
        }
    assert server.asked[0].startswith(b"GET /notes?tag=a%20b HTTP/1.1\r\n")
    assert server.headers() == [
        f"host: {server.url.removeprefix('http://')}",
        "accept: */*",
        "accept-encoding: gzip, deflate",
        "user-agent: tidewell",
        "connection: close",
    ]


async def test_method_headers_and_body_are_sent() -> None:
    async with serving(answer()) as server:
        headers = [["Content-Type", "text/plain"], ["X-A", " 1 "], ["x-a", "2"], ["User-Agent", "mine"]]
        await fetch(server.url, method="post", headers=headers, body=b"hello")
    assert server.asked[0].startswith(b"POST / HTTP/1.1\r\n")
    assert server.headers()[3:] == [
        "content-type: text/plain",
        "x-a: 1",
        "x-a: 2",
        "user-agent: mine",
        "connection: close",
        "content-length: 5",
    ]


async def test_no_cookie_is_kept_for_the_next_call() -> None:
    fetches = Fetches(allow_private=True)
    async with serving(answer(b"", "Set-Cookie: a=1; Path=/")) as server:
        await fetches.fetch(call(server.url))
        await fetches.fetch(call(server.url))
    assert not any(line.startswith("cookie") for line in server.headers())


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answer(b"direct")) as server, serving(answer(b"proxied")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        assert (await fetch(server.url))["body"] == b"direct"


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def members(data: bytes) -> bytes:
    return gzip.compress(data[:3]) + gzip.compress(data[3:]) + b"\0" * 10


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("X-GZip", gzip.compress),
        ("gzip", members),
        ("deflate", zlib.compress),
        ("deflate", bare_deflate),
        ("identity", bytes),
        ("br", bytes),  # not asked for, and given as it is
    ],
)
async def test_compressed_body_is_inflated(coding: str, pack: Callable[[bytes], bytes]) -> None:
    async with serving(answer(pack(b"much ado" * 1000), f"Content-Encoding: {coding}")) as server:
        assert (await fetch(server.url))["body"] == b"much ado" * 1000


async def test_part_of_a_body_is_asked_for_uncompressed() -> None:
    async with serving(answer()) as server:
        await fetch(server.url, headers=[["Range", "bytes=0-9"]])
    assert "accept-encoding: identity" in server.headers()


async def test_answer_without_a_body_may_name_a_coding() -> None:
    async with serving(answer(b"", "Content-Encoding: gzip")) as server:
        assert (await fetch(server.url, method="HEAD"))["body"] == b""


async def test_chunks_are_joined() -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 2000 + b"0\r\n\r\n"
    async with serving(said) as server:
        assert (await fetch(server.url))["body"] == b"x" * 2000


async def test_body_of_just_the_limit_is_returned() -> None:
    said = answer(gzip.compress(bytes(BODY_BYTES_MAX), 1), "Content-Encoding: gzip")
    async with serving(said) as server:
        assert len((await fetch(server.url))["body"]) == BODY_BYTES_MAX


BOMB = gzip.compress(bytes(BODY_BYTES_MAX + 1), 1)
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(BODY_BYTES_MAX + MIB)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (answer(BOMB, "Content-Encoding: gzip"), "larger than 16 MiB; ask for less"),
        (answer(gzip.compress(b"") * 1100, "Content-Encoding: gzip"), "larger than 16 MiB"),
        (ENDLESS, "larger than 16 MiB"),
        (answer(b"plain", "Content-Encoding: gzip"), "is not gzip.*accept-encoding: identity"),
        (answer(gzip.compress(b"whole")[:-3], "Content-Encoding: gzip"), "ends too early"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "not to the end"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 600 + b"\r\n", "more than 512 headers"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", "64 KiB"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 400_000, "not answer in proper HTTP"),
        (b"SSH-2.0-x\r\n\r\n", "not answer in proper HTTP"),
        (b"", "not answer in proper HTTP"),
    ],
    ids=range(11),
)
async def test_bad_answer_fails_in_one_line(said: bytes, problem: str) -> None:
    async with serving(said) as server:
        with pytest.raises(FetchFailed, match=f"^{server.url}: .*{problem}") as caught:
            await fetch(server.url)
    assert "\n" not in str(caught.value)


async def test_interim_answers_without_end_are_given_up() -> None:
    async with serving(b"HTTP/1.1 100 \r\n\r\n" * 20_000, hangs=True) as server:
        with pytest.raises(FetchFailed, match="not answer in proper HTTP"):
            await fetch(server.url)


async def test_interim_answers_before_the_answer_are_passed_over() -> None:
    async with serving(b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" * 3 + answer(b"there")) as server:
        assert (await fetch(server.url))["body"] == b"there"


async def test_bodies_of_many_exchanges_share_their_room() -> None:
    """Seventeen bodies of almost the largest size, all of them hanging: the last one has no room."""
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {BODY_BYTES_MAX}\r\n\r\n"
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    piece = packer.compress(bytes(BODY_BYTES_MAX - 1000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    fetches = Fetches(allow_private=True)
    problems: list[str] = []
    async with serving(head.encode() + piece, hangs=True) as server, trio.open_nursery() as nursery:

        async def one() -> None:
            try:
                await fetches.fetch(call(server.url))
            except FetchFailed as failed:
                problems.append(str(failed))
                nursery.cancel_scope.cancel()

        for _ in range(17):
            nursery.start_soon(one)
    assert problems, "all of them had room"  # more than one may have met the end of it at once
    assert all("too much is being fetched at the same time" in problem for problem in problems)
    assert fetches._room._held == 0


async def test_bomb_is_given_up_while_it_comes_in() -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {2 * len(BOMB)}\r\n\r\n"
    async with serving(head.encode() + BOMB, hangs=True) as server:  # which keeps the rest to itself
        with pytest.raises(FetchFailed, match="larger than"):
            await fetch(server.url)


async def test_bomb_takes_no_more_memory_than_a_body_may() -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    piece = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)  # 1 KiB, which can be repeated
    assert len(piece) * 50 < 64 * 1024, "of the whole bomb, 50 MiB arrive at once"
    async with serving(answer(piece * 200, "Content-Encoding: deflate")) as server:
        tracemalloc.start()
        try:
            with pytest.raises(FetchFailed, match="larger than"):
                await fetch(server.url)
            assert tracemalloc.get_traced_memory()[1] < 3 * BODY_BYTES_MAX
        finally:
            tracemalloc.stop()


async def test_redirects_are_followed() -> None:
    async with serving(to("/b?c", 301), to("d", 307), answer(b"here")) as server:
        found = await fetch(f"{server.url}/a/x", headers=[["Authorization", "me"]])
    assert (found["body"], found["redirected"], found["url"]) == (b"here", True, f"{server.url}/d")
    assert "authorization: me" in server.headers()


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [
        ("POST", 301, b"GET"),
        ("POST", 302, b"GET"),
        ("PUT", 302, b"PUT"),
        ("PUT", 303, b"GET"),
        ("HEAD", 303, b"HEAD"),
        ("POST", 307, b"POST"),
        ("POST", 308, b"POST"),
    ],
)
async def test_redirect_changes_the_method_as_in_browsers(method: str, status: int, then: bytes) -> None:
    async with serving(to("/", status), answer()) as server:
        await fetch(server.url, method=method, headers=[["Content-Type", "text/plain"]], body=b"data")
    assert server.asked[1].startswith(then + b" / ")
    kept = then == method.encode()
    assert server.asked[1].endswith(b"data") == kept
    assert ("content-type: text/plain" in server.headers()) == kept


async def test_credentials_are_not_sent_to_another_origin() -> None:
    async with serving(answer()) as other, serving(to(other.url)) as server:
        await fetch(server.url, headers=[["Authorization", "me"], ["COOKIE", "a=1"], ["X-Kept", "yes"]])
    assert "authorization: me" in server.headers()
    assert "x-kept: yes" in other.headers()
    assert not any(line.startswith(("authorization", "cookie")) for line in other.headers())
    assert f"host: {other.url.removeprefix('http://')}" in other.headers()


async def test_redirect_is_an_answer_or_an_error_where_that_is_wished() -> None:
    async with serving(to("/b")) as server:
        found = await fetch(server.url, redirect="manual")
        assert (found["status"], found["headers"][1], found["redirected"]) == (302, ["location", "/b"], False)
        with pytest.raises(FetchFailed, match="redirect='error' refuses"):
            await fetch(server.url, redirect="error")
    assert len(server.asked) == 2


async def test_redirects_in_a_circle_end() -> None:
    async with serving(to("/")) as server:
        with pytest.raises(FetchFailed, match="more than 20 times"):
            await fetch(server.url)
    assert len(server.asked) == 21


@pytest.mark.parametrize(
    "place", ["file:///etc/passwd", "http://a:b@x/", "http://[", "http://x:99999/", "x://"]
)
async def test_redirect_to_what_cannot_be_fetched_fails(place: str) -> None:
    async with serving(to(place)) as server:
        with pytest.raises(FetchFailed, match="redirects to a URL that cannot be fetched"):
            await fetch(server.url)


@pytest.mark.parametrize(
    ("others", "problem"),
    [
        ({"url": "file:///etc/passwd"}, "neither http nor https"),
        ({"url": "http+unix://%2Fsocket/"}, "neither http nor https"),
        ({"url": "/relative"}, "neither http nor https"),
        ({"url": "http:///path"}, "no valid host"),
        ({"url": "http://a..b:0/"}, "no valid host"),
        ({"url": "http://[::1"}, "is not a URL"),
        ({"url": "http://x/\r\nHost: y"}, "is not a URL"),
        ({"url": "http://" + "x" * 20_000}, "longer than"),
        ({"url": "http://" + "x" * 64 + ".example/"}, "cannot be asked"),
        ({"url": "http://me:secret@x/"}, "password"),
        ({"method": "GET /x"}, "method 'GET /x'"),
        ({"method": "connect"}, "method 'connect'"),
        ({"body": bytes(16 * MIB + 1)}, "16 MiB"),
        ({"headers": [["Host", "other"]]}, "'host'"),
        ({"headers": [["Transfer-Encoding", "chunked"]]}, "'transfer-encoding'"),
        ({"headers": [["content-length", "0"]]}, "'content-length'"),
        ({"headers": [["Connection", "keep-alive"]]}, "'connection'"),
        ({"headers": [["X Y", ""]]}, "'x y'"),
        ({"headers": [["X", "a\r\nHost: b"]]}, "'x': its value"),
        ({"headers": [["X", "\u20ac"]]}, "'x': its value"),
        ({"headers": [["X", "y" * 70_000]]}, "64 KiB"),
        ({"headers": [["X", "y"]] * 600}, "more than 512"),
        ({"timeoutMs": 0}, "timeoutMs"),
        ({"timeoutMs": 600_001}, "timeoutMs"),
        ({"timeoutMs": float("nan")}, "timeoutMs"),
    ],
)
async def test_request_that_cannot_be_made_is_refused(others: dict[str, Any], problem: str) -> None:
    with pytest.raises(FetchFailed, match=problem) as caught:
        await Fetches(allow_private=True).fetch(call("http://127.0.0.1:9/") | others)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "args",
    [
        None,
        [],
        {},
        call("http://x/") | {"more": 1},
        call("http://x/") | {"url": b"http://x/"},
        call("http://x/") | {"method": None},
        call("http://x/") | {"headers": {"a": "b"}},
        call("http://x/") | {"headers": [["a"]]},
        call("http://x/") | {"headers": [["a", 1]]},
        call("http://x/") | {"headers": ["ab"]},
        call("http://x/") | {"body": "text"},
        call("http://x/") | {"timeoutMs": True},
        call("http://x/") | {"timeoutMs": "1"},
        call("http://x/") | {"redirect": "maybe"},
        call("http://x/") | {"redirect": []},
    ],
)
async def test_what_is_no_call_is_an_invalid_value(args: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^fetch"):
        await Fetches(allow_private=True).fetch(args)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "::127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "fc00::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
async def test_address_that_is_not_public_is_out_of_bounds(address: str) -> None:
    fetches = Fetches(allow_private=False, resolve=lambda _host, _port: [address])
    with pytest.raises(FetchFailed, match=r"^http://inner\.example: is not a public address; ") as caught:
        await fetches.fetch(call("http://inner.example/"))
    assert address not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "2002:808:808::", "64:ff9b::808:808"]
)
def test_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:7f00:1]"]
)
async def test_no_spelling_of_this_machine_is_reached(host: str) -> None:
    async with serving(answer()) as server:
        with pytest.raises(FetchFailed, match="is not a public address"):
            await Fetches(allow_private=False).fetch(call(server.url.replace("127.0.0.1", host)))
    assert server.asked == []


async def test_each_redirect_resolves_and_is_checked_anew() -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        resolved.append(_host)
        fetches.allow_private = False  # from the next connection on: the first stands for a public server
        return ["127.0.0.1"]

    resolved: list[str] = []
    fetches = Fetches(allow_private=True, resolve=resolve)
    async with serving(to("/again"), answer(b"secret")) as server:
        with pytest.raises(FetchFailed, match="is not a public address"):
            await fetches.fetch(call(server.url.replace("127.0.0.1", "rebound.example")))
    assert resolved == ["rebound.example"] * 2
    assert len(server.asked) == 1


async def test_next_address_is_tried_when_one_refuses() -> None:
    fetches = Fetches(allow_private=True, resolve=lambda _host, _port: ["127.0.0.2", "::1", "127.0.0.1"])
    async with serving(answer(b"here")) as server:
        found = await fetches.fetch(call(server.url.replace("127.0.0.1", "many.example")))
    assert found["body"] == b"here"


async def test_unknown_host_is_named() -> None:
    def unknown(_host: str, _port: int) -> list[str]:
        raise OSError("Name or service not known")

    with pytest.raises(FetchFailed, match=r"^https://nobody\.example: no such host is known"):
        await Fetches(allow_private=False, resolve=unknown).fetch(call("https://nobody.example/"))


async def test_resolver_that_is_slow_is_given_up(mock_clock: trio.testing.MockClock) -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        trio.from_thread.run_sync(asked.set)
        over.wait()
        return []

    async def expect_failure() -> None:
        with pytest.raises(FetchFailed, match="no full answer within 1500 ms"):
            await Fetches(allow_private=False, resolve=resolve).fetch(
                call("http://slow.example/", timeoutMs=1500)
            )

    asked, over = trio.Event(), threading.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_failure)
            await asked.wait()
            mock_clock.jump(1.6)
    finally:
        over.set()


async def test_refused_connection_is_told() -> None:
    async with serving(b"") as server:
        pass
    with pytest.raises(FetchFailed, match=f"^{server.url}: refused the connection"):
        await fetch(server.url)


async def test_timeout_bounds_the_body_too(mock_clock: trio.testing.MockClock) -> None:
    async def expect_failure() -> None:
        with pytest.raises(FetchFailed, match=f"^{server.url}: no full answer within 1500 ms"):
            await fetch(server.url, timeoutMs=1500)

    said = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun"
    async with serving(said, hangs=True) as server, trio.open_nursery() as nursery:
        nursery.start_soon(expect_failure)
        await server.hanging.wait()
        mock_clock.jump(1.6)


async def test_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = PrivateCA(tmp_path / "ours")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    async with https_server(authority.server_context("localhost"), {"/": b"safe"}) as (port, _):
        assert (await fetch(f"https://localhost:{port}/"))["body"] == b"safe"
        with pytest.raises(FetchFailed, match=r"not accepted .*not valid for '127\.0\.0\.1'"):
            await fetch(f"https://127.0.0.1:{port}/")
        monkeypatch.setenv("SSL_CERT_FILE", str(PrivateCA(tmp_path / "theirs").root))
        with pytest.raises(FetchFailed, match="certificate is not accepted"):
            await fetch(f"https://localhost:{port}/")


async def test_certificate_must_be_of_the_name_and_not_of_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = PrivateCA(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    fetches = Fetches(allow_private=True, resolve=lambda _host, _port: ["127.0.0.1"])
    async with https_server(authority.server_context("safe.example"), {"/": b"safe"}) as (port, _):
        assert (await fetches.fetch(call(f"https://safe.example:{port}/")))["body"] == b"safe"
        with pytest.raises(FetchFailed, match="certificate is not accepted"):
            await fetches.fetch(call(f"https://other.example:{port}/"))


async def test_server_without_tls_is_told() -> None:
    async with serving(answer()) as server:
        with pytest.raises(FetchFailed, match="does not speak TLS"):
            await fetch(server.url.replace("http:", "https:"))


async def test_64_calls_at_once_reach_the_network_and_the_next_one_waits() -> None:
    async def ask() -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await fetches.fetch(call(server.url))

    async def reached(calls: int) -> None:
        while len(server.asked) < calls:
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()

    scopes: list[trio.CancelScope] = []
    fetches = Fetches(allow_private=True)
    async with serving(b"", hangs=True) as server, trio.open_nursery() as nursery:
        for _ in range(65):
            nursery.start_soon(ask)
        await reached(64)
        assert len(server.asked) == 64
        scopes[0].cancel()  # the first that began has had its turn
        await reached(65)
        nursery.cancel_scope.cancel()
