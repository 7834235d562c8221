"""What `ctx.fetch` of actions asks of the network: one HTTP exchange, bounded in all it costs.

The functions that ask are not trusted, and neither are the servers that answer. So a call says
everything anew: no connection, cookie, proxy or credential outlives it or comes from the machine.
Where addresses that are not public are out of bounds, it is the address really connected to that
is checked, after the name was resolved and once more for each redirect; a name that resolves
differently the next time gains nothing. Bodies are inflated here, piece by piece against the
limit, because httpcore's callers usually inflate a whole piece first and count later.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Any, Final

import attrs
import httpcore
import httpx
import trio

from tidewell.errors import InvalidValue
from tidewell.values import Value

BODY_BYTES_MAX: Final = 16 * 2**20
TIMEOUT_MS_MAX: Final = 600_000
REDIRECTS_MAX: Final = 20
_HEAD_BYTES_MAX: Final = 64 * 1024
_HEADERS_MAX: Final = 512
_URL_CHARS_MAX: Final = 16 * 1024
_HOST_CHARS_MAX: Final = 253  # of a name in the DNS
_EXCHANGES_MAX: Final = 64
_LOOKUPS_MAX: Final = 16
_ADDRESSES_MAX: Final = 8
_PATIENCE_SECONDS: Final = 5  # with one address while the host has more
# Until the head of an answer is complete: interim answers (1xx) have no bound in HTTP, and each takes
# a while to read.
_HEAD_READ_BYTES: Final = 4 * 1024
_HEAD_RECEIVED_BYTES_MAX: Final = 2 * _HEAD_BYTES_MAX
_HELD_BYTES_MAX: Final = 256 * 2**20  # bodies of all exchanges under way
_MEMBERS_MAX: Final = 1024  # of one gzip body: blocks of 64 KiB fill it four times

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_HOST: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]*|[0-9a-f:.]*:[0-9a-f:.]*(%[0-9A-Za-z._-]+)?")
_METHODS_REFUSED: Final = frozenset({"CONNECT", "TRACE", "TRACK"})  # as in browsers: they are for proxies
_HEADERS_REFUSED: Final = frozenset(
    [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEYS: Final = frozenset({"url", "method", "headers", "body", "timeoutMs", "redirect"})
_ROOM: Final = ipaddress.ip_network("2000::/3")  # all that is handed out of IPv6
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")

Headers = list[tuple[str, str]]
Resolve = Callable[[str, int], list[str]]


class FetchFailed(Exception):
    """There is no answer. The text is one line for the function's author: what is wrong, and the remedy."""


def is_public(address: str) -> bool:
    """Whether `address` is one of the internet's, and carries no IPv4 address that is not."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast
    inner = ip.ipv4_mapped or ip.sixtofour
    if ip in _NAT64:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    if inner is not None:
        return is_public(str(inner))
    return ip in _ROOM and ip.is_global


def system_addresses(host: str, port: int) -> list[str]:
    """What the machine's resolver says. Blocks; raises `OSError`, or `ValueError` for what is no name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@attrs.frozen
class _Request:
    url: httpx.URL
    method: str
    headers: Headers
    body: bytes

    @property
    def origin(self) -> str:
        return f"{self.url.scheme}://{self.url.netloc.decode('ascii')}"

    def to_send(self) -> httpcore.Request:
        given = {name for name, _ in self.headers}
        headers = [("host", self.url.netloc.decode("ascii"))]
        # Parts of a compressed body could not be inflated.
        coding = "identity" if "range" in given else "gzip, deflate"
        defaults = [("accept", "*/*"), ("accept-encoding", coding), ("user-agent", "Tidewell")]
        headers += [(name, value) for name, value in defaults if name not in given]
        headers += [*self.headers, ("connection", "close")]
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            headers.append(("content-length", str(len(self.body))))
        return httpcore.Request(
            method=self.method,
            url=httpcore.URL(
                scheme=self.url.raw_scheme,
                host=self.url.raw_host,
                port=self.url.port,
                target=self.url.raw_path,
            ),
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            content=self.body,
        )

    def redirected(self, status: int, location: str) -> _Request:
        """The request that follows an answer, as the Fetch standard has it ("HTTP-redirect fetch")."""
        try:
            url = _checked_url(self.url.join(location))
        except (httpx.InvalidURL, ValueError, FetchFailed) as error:
            problem = f" ({error})" if isinstance(error, FetchFailed) else ""
            raise FetchFailed(
                f"{self.origin}: redirects to a URL that cannot be fetched{problem}; "
                "look at its 'location' with redirect='manual'"
            ) from None
        method, headers, body = self.method, self.headers, self.body
        if (status == 303 and method not in ("GET", "HEAD")) or (status in (301, 302) and method == "POST"):
            method, body = "GET", b""
            headers = [entry for entry in headers if not entry[0].startswith("content-")]
        following = _Request(url, method, headers, body)
        if following.origin == self.origin:
            return following
        kept = [entry for entry in headers if entry[0] not in ("authorization", "cookie")]
        return attrs.evolve(following, headers=kept)


@attrs.define(eq=False)
class _Room:
    """What the bodies of all exchanges under way may take together."""

    _held: int = attrs.field(default=0, init=False)

    def take(self, count: int) -> bool:
        self._held += count
        return self._held <= _HELD_BYTES_MAX

    def give_back(self, count: int) -> None:
        self._held -= count


@attrs.define
class _Body:
    """A body as it comes in: inflated when it is compressed, and refused when it grows too large."""

    _origin: str
    _coding: str
    _room: _Room
    _held: int = attrs.field(default=0, init=False)
    _data: bytearray = attrs.field(factory=bytearray, init=False)
    _received: int = attrs.field(default=0, init=False)
    _members: int = attrs.field(default=0, init=False)
    _inflater: Any = attrs.field(default=None, init=False)  # zlib's type has no public name
    _ended: bool = attrs.field(default=False, init=False)

    def add(self, part: bytes) -> None:
        self._received += len(part)
        try:
            while part and not self._ended:
                part = self._add(part)
        except zlib.error:
            raise FetchFailed(
                f"{self._origin}: the body is not {self._coding}, though its 'content-encoding' says so; "
                "ask for it with the header 'accept-encoding: identity'"
            ) from None
        grown = len(self._data) - self._held
        self._held += grown
        if not self._room.take(grown):
            raise FetchFailed(f"{self._origin}: too much is being fetched at the same time; try again later")
        if max(self._received, len(self._data)) > BODY_BYTES_MAX or self._members > _MEMBERS_MAX:
            raise FetchFailed(
                f"{self._origin}: the body is larger than {BODY_BYTES_MAX // 2**20} MiB; ask for less at once"
            )

    def _add(self, part: bytes) -> bytes:
        """Take some of `part`; what is left of it belongs to the next member of a gzip body."""
        if self._coding not in ("gzip", "deflate"):
            self._data += part
            return b""
        if self._inflater is None:
            if self._members and part[0] != 0x1F:
                self._ended = True  # padding after the last member, which everybody overlooks
                return b""
            if self._coding == "gzip":
                bits = 16 + zlib.MAX_WBITS
            else:  # of a zlib stream, as the standard says, or a bare one, as some servers understand it
                bits = zlib.MAX_WBITS if part[0] & 0x0F == 8 else -zlib.MAX_WBITS
            self._inflater = zlib.decompressobj(bits)
        self._data += self._inflater.decompress(part, BODY_BYTES_MAX + 1 - len(self._data))
        if not self._inflater.eof:
            self._ended = len(self._data) > BODY_BYTES_MAX
            return b""
        rest: bytes = self._inflater.unused_data
        self._inflater = None
        self._members += 1
        self._ended = (
            self._coding == "deflate" or len(self._data) > BODY_BYTES_MAX or self._members > _MEMBERS_MAX
        )
        return rest

    def release(self) -> None:
        self._room.give_back(self._held)

    def finish(self) -> bytes:
        if self._inflater is not None:
            raise FetchFailed(f"{self._origin}: the compressed body ends too early; try again")
        return bytes(self._data)


@attrs.define(eq=False)
class _Stream(httpcore.AsyncNetworkStream):
    """A connection that reads the head of an answer in small pieces, up to a limit."""

    _inner: httpcore.AsyncNetworkStream
    _network: _Network

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._network.has_head:
            return await self._inner.read(max_bytes, timeout)
        data = await self._inner.read(min(max_bytes, _HEAD_READ_BYTES), timeout)
        self._network.head_bytes += len(data)
        if self._network.head_bytes > _HEAD_RECEIVED_BYTES_MAX:
            raise httpcore.RemoteProtocolError("the head of an answer that does not end")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout), self._network)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


@attrs.define(eq=False)
class _Network(httpcore.AsyncNetworkBackend):
    """The connections of one exchange: made to checked addresses only, and closed whatever happens."""

    _origin: str
    _allow_private: bool
    _resolve: Resolve
    _lookups: trio.CapacityLimiter
    has_head: bool = attrs.field(default=False, init=False)
    head_bytes: int = attrs.field(default=0, init=False)
    _streams: list[httpcore.AsyncNetworkStream] = attrs.field(factory=list, init=False)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._addresses(host, port)
        last = addresses[-1]
        for address in addresses:
            patience = float("inf") if address == last else _PATIENCE_SECONDS
            try:
                with trio.move_on_after(patience):
                    stream = await httpcore.TrioBackend().connect_tcp(
                        address, port, timeout, local_address, socket_options
                    )
                    self._streams.append(stream)
                    return _Stream(stream, self)
            except httpcore.ConnectError:
                if address == last:
                    raise
        raise AssertionError("the last address either connects or raises")

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            # A limiter of its own: names that resolve slowly hold no thread that a commit waits for.
            found = await trio.to_thread.run_sync(
                partial(self._resolve, host, port), limiter=self._lookups, abandon_on_cancel=True
            )
        except OSError:
            found = []
        if not found:
            raise FetchFailed(f"{self._origin}: no such host is known; check the name in the URL")
        allowed = [address for address in found if self._allow_private or is_public(address)]
        if not allowed:
            raise FetchFailed(
                f"{self._origin}: is not a public address; use one of the service that is, or serve with "
                "--fetch-private"
            )
        return allowed[:_ADDRESSES_MAX]

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):  # closing a socket waits for nobody
            for stream in self._streams:
                await stream.aclose()


@attrs.define(eq=False)
class Fetches:
    """The door to the network for all actions of a deployment; nothing is kept between calls.

    Args:
      allow_private: whether addresses that are not public may be reached, such as this machine's.
    """

    allow_private: bool
    _resolve: Resolve = attrs.field(default=system_addresses, kw_only=True)
    _exchanges: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(_EXCHANGES_MAX), init=False
    )
    _lookups: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(_LOOKUPS_MAX), init=False
    )
    _room: _Room = attrs.field(factory=_Room, init=False)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()  # reads all the machine's authorities: only when first needed

    async def fetch(self, args: dict[str, Value]) -> dict[str, Value]:
        """Answer a `ctx.fetch`. Raises `FetchFailed`, or `InvalidValue` when `args` are no such call."""
        url, method, headers, body, timeout_ms, redirect = _shape(args)
        if not 0 < timeout_ms <= TIMEOUT_MS_MAX:
            raise FetchFailed(f"timeoutMs: is more than 0 and at most {TIMEOUT_MS_MAX:,}")
        request = _request(url, method, headers, body)
        try:
            with trio.fail_after(timeout_ms / 1000):
                async with self._exchanges:
                    return await self._follow(request, redirect)
        except trio.TooSlowError:
            raise FetchFailed(
                f"{request.origin}: no full answer within {timeout_ms:g} ms; "
                "try again later, or with a larger timeout"
            ) from None

    async def _follow(self, request: _Request, redirect: str) -> dict[str, Value]:
        first = request.origin
        for hops in range(REDIRECTS_MAX + 1):
            answer = await self._exchange(request, redirect)
            if not isinstance(answer, _Request):
                return answer | {"redirected": hops > 0}
            request = answer
        raise FetchFailed(
            f"{first}: redirects more than {REDIRECTS_MAX} times; look at its answers with redirect='manual'"
        )

    async def _exchange(self, request: _Request, redirect: str) -> dict[str, Value] | _Request:
        """The answer to `request`, or the request to which it is redirected."""
        body: _Body | None = None
        network = _Network(request.origin, self.allow_private, self._resolve, self._lookups)
        sent = request.to_send()
        try:
            connection = httpcore.AsyncHTTPConnection(
                sent.url.origin,
                ssl_context=self._tls if request.url.scheme == "https" else None,
                network_backend=network,
            )
            response = await connection.handle_async_request(sent)
            network.has_head = True
            headers = _received_headers(response, request.origin)
            location = next((value for name, value in headers if name == "location"), None)
            if response.status in _REDIRECTS and location is not None and redirect != "manual":
                if redirect == "error":
                    raise FetchFailed(
                        f"{request.origin}: redirects, which redirect='error' refuses; "
                        "fetch the URL it redirects to, or use redirect='follow'"
                    )
                return request.redirected(response.status, location)
            codings = ",".join(value for name, value in headers if name == "content-encoding")
            coding = codings.strip().lower().removeprefix("x-")
            body = _Body(request.origin, coding, self._room)
            return {
                "status": response.status,
                "statusText": response.extensions["reason_phrase"].decode("latin-1"),
                "headers": [[name, value] for name, value in headers],
                "url": str(request.url.copy_with(fragment=None)),
                "body": await _read(response, body),
            }
        except (httpcore.NetworkError, httpcore.ProtocolError, ValueError) as error:
            raise FetchFailed(f"{request.origin}: {_reason(error)}") from None
        finally:
            if body is not None:
                body.release()
            await network.aclose()


async def _read(response: httpcore.Response, body: _Body) -> bytes:
    """Read until the end or until `body` has enough of it.

    httpcore's generators, one in another, must be left by an exception that arises within: trio warns
    of a generator that is merely forgotten. So enough is said by a cancellation, which is met where
    the next bytes are waited for.
    """
    failure: FetchFailed | None = None
    with trio.CancelScope() as enough:
        async for part in response.aiter_stream():
            if failure is None:
                try:
                    body.add(part)
                except FetchFailed as error:
                    failure = error
                    enough.cancel()
            # A server can send a great many tiny pieces at once, for which httpcore does not pause.
            await trio.lowlevel.cancel_shielded_checkpoint()
    if failure is not None:
        raise failure
    return body.finish()


def _received_headers(response: httpcore.Response, origin: str) -> Headers:
    length = sum(len(name) + len(value) for name, value in response.headers)
    if len(response.headers) > _HEADERS_MAX or length > _HEAD_BYTES_MAX:
        raise FetchFailed(
            f"{origin}: the answer has more than {_HEADERS_MAX} headers or {_HEAD_BYTES_MAX // 1024} KiB of "
            "them; ask another server"
        )
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what is behind it; trio groups the attempts to connect."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _causes(one)
    if error.__cause__ is not None:
        yield from _causes(error.__cause__)


def _reason(error: BaseException) -> str:
    """What went wrong, without the addresses and files that the system's own texts name."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not accepted ({cause.verify_message}); renew it there, or let this "
                "machine trust its authority"
            )
        if isinstance(cause, ssl.SSLError):
            return "does not speak TLS as it should; check that the URL and its port are meant for https"
        if isinstance(cause, ConnectionRefusedError):
            return "refused the connection; check the port, and that the server runs"
    if isinstance(error, httpcore.LocalProtocolError | ValueError):
        return "cannot be asked for this in HTTP; check the URL, the method and the headers"
    if isinstance(error, httpcore.RemoteProtocolError):
        return "did not answer in proper HTTP/1.1, or not to the end; check the URL and its port"
    return "cannot be reached, or broke off; try again later"


def _shape(args: Value) -> tuple[str, str, list[list[str]], bytes, float, str]:
    """The parts of a call, which comes from a worker and may be anything."""
    if not isinstance(args, dict) or args.keys() != _KEYS:
        raise InvalidValue("fetch", f"is an object of {', '.join(sorted(_KEYS))}")
    url, method, headers, body = args["url"], args["method"], args["headers"], args["body"]
    timeout_ms, redirect = args["timeoutMs"], args["redirect"]
    if not isinstance(url, str) or not isinstance(method, str):
        raise InvalidValue("fetch", "'url' and 'method' are text")
    if not isinstance(headers, list) or not all(
        isinstance(entry, list) and len(entry) == 2 and all(isinstance(text, str) for text in entry)
        for entry in headers
    ):
        raise InvalidValue("fetch.headers", "is a list of pairs of text")
    if not isinstance(body, bytes):
        raise InvalidValue("fetch.body", "is bytes")
    if type(timeout_ms) not in (int, float):
        raise InvalidValue("fetch.timeoutMs", "is a number")
    if redirect not in ("follow", "error", "manual"):
        raise InvalidValue("fetch.redirect", "is 'follow', 'error' or 'manual'")
    return url, method, headers, body, timeout_ms, redirect


def _request(url: str, method: str, headers: list[list[str]], body: bytes) -> _Request:
    if not _TOKEN.fullmatch(method) or method.upper() in _METHODS_REFUSED:
        raise FetchFailed(f"method {method[:40]!r}: is none that can be used; use GET, POST or the like")
    if len(body) > BODY_BYTES_MAX:
        raise FetchFailed(f"body: is larger than {BODY_BYTES_MAX // 2**20} MiB; send it in parts")
    if len(url) > _URL_CHARS_MAX:
        raise FetchFailed(f"url: is longer than {_URL_CHARS_MAX:,} characters; send data in the body")
    try:
        parsed = _checked_url(httpx.URL(url))
    except (httpx.InvalidURL, ValueError):
        raise FetchFailed("url: is not a URL; write it as 'https://host/path'") from None
    except FetchFailed as error:
        raise FetchFailed(f"url: {error}") from None
    return _Request(parsed, method.upper(), _checked_headers(headers), body)


def _checked_url(url: httpx.URL) -> httpx.URL:
    if url.scheme not in ("http", "https"):
        raise FetchFailed("is neither http nor https; write it as 'https://host/path'")
    if url.userinfo:
        raise FetchFailed("has a user's name or password in it; send them in the header 'authorization'")
    host = url.raw_host.decode("ascii")
    if len(host) > _HOST_CHARS_MAX or not _HOST.fullmatch(host) or ".." in host:
        raise FetchFailed("has no valid host; write it as 'https://host/path'")
    if url.port is not None and not 0 < url.port < 65536:
        raise FetchFailed("has no valid port; leave it out, or use one from 1 to 65535")
    return url


def _checked_headers(headers: list[list[str]]) -> Headers:
    checked = [(name.lower(), value.strip(" \t")) for name, value in headers]
    if (
        len(checked) > _HEADERS_MAX
        or sum(len(name) + len(value) for name, value in checked) > _HEAD_BYTES_MAX
    ):
        raise FetchFailed(
            f"headers: are more than {_HEADERS_MAX}, or {_HEAD_BYTES_MAX // 1024} KiB; send data in the body"
        )
    for name, value in checked:
        if not _TOKEN.fullmatch(name):
            raise FetchFailed(f"header {name[:40]!r}: is not a name; use letters, digits and '-'")
        if name in _HEADERS_REFUSED:
            raise FetchFailed(f"header {name!r}: belongs to the connection and cannot be set; leave it out")
        if not _HEADER_VALUE.fullmatch(value):
            raise FetchFailed(f"header {name!r}: its value is not one line of Latin-1; encode it first")
    return checked
