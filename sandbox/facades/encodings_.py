"""`base64`, `hashlib`, `hmac`, `uuid` and `urllib.parse`: bytes in, bytes or text out, charged by length."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import urllib.parse
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sandbox import costs, policy
from sandbox.facades import addresses
from sandbox.facades.base import Facade, data, integer, text
from sandbox.faces import Face
from sandbox.host import HostObject

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

_ALGORITHMS: Final = ("blake2b", "blake2s", "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256")
_ENCODERS: Final = (
    "b16encode",
    "b32encode",
    "b64encode",
    "standard_b64encode",
    "urlsafe_b64encode",
)
_DECODERS: Final = (
    "b16decode",
    "b32decode",
    "b64decode",
    "standard_b64decode",
    "urlsafe_b64decode",
)

_CALL_STEPS: Final = 2  # beside the length
_SLOW_BYTES: Final = 4  # per step where the standard module works in Python


class Hash(HostObject):
    __slots__ = ("_charge", "_state", "digest_size", "name")
    _exposed_ = frozenset({"copy", "digest", "digest_size", "hexdigest", "name", "update"})

    def __init__(self, charge: Callable[[int], None], state: Any, name: str) -> None:
        self._charge = charge
        self._state = state
        self.digest_size = state.digest_size
        self.name = name

    def update(self, chunk: Any) -> None:
        self._charge(len(data(chunk)) // costs.HASH_BYTES + 1)
        self._state.update(chunk)

    def digest(self) -> bytes:
        return bytes(self._state.digest())

    def hexdigest(self) -> str:
        return str(self._state.hexdigest())

    def copy(self) -> Hash:
        return Hash(self._charge, self._state.copy(), self.name)


def build_base64(runtime: GuestRuntime) -> Facade:
    charge = runtime.meter.charge

    def encoder(name: str) -> Callable[[Any], bytes]:
        function = getattr(base64, name)

        def encode(s: Any) -> bytes:
            if len(data(s)) * 2 > policy.TEXT_LENGTH_MAX:
                raise ValueError("too many bytes to encode")
            charge(_CALL_STEPS + len(s) // (_SLOW_BYTES if "b32" in name else costs.SCAN_BYTES))
            return bytes(function(s))

        return encode

    def decoder(name: str) -> Callable[[Any], bytes]:
        function = getattr(base64, name)

        def decode(s: Any) -> bytes:
            if type(s) is not str:
                data(s)
            charge(_CALL_STEPS + len(s) // (_SLOW_BYTES if "b32" in name else costs.SCAN_BYTES))
            raw = s.encode("ascii") if type(s) is str else s
            try:
                return bytes(function(raw))
            except binascii.Error as error:
                raise ValueError(str(error)) from None

        return decode

    members = {name: encoder(name) for name in _ENCODERS} | {name: decoder(name) for name in _DECODERS}
    return Facade("base64", members)


def _new(runtime: GuestRuntime, name: str, chunk: bytes) -> Hash:
    runtime.meter.charge(_CALL_STEPS)
    made = Hash(runtime.meter.charge, hashlib.new(name, usedforsecurity=False), name)
    made.update(chunk)
    return made


def _algorithm(name: Any) -> str:
    if type(name) is not str or name not in _ALGORITHMS:
        raise ValueError(f"unsupported hash type; use one of {', '.join(_ALGORITHMS)}")
    return name


def build_hashlib(runtime: GuestRuntime) -> Facade:
    def maker(name: str) -> Callable[..., Hash]:
        return lambda chunk=b"": _new(runtime, name, data(chunk))

    members: dict[str, Any] = {name: maker(name) for name in _ALGORITHMS}
    members["new"] = lambda name, chunk=b"": _new(runtime, _algorithm(name), data(chunk))
    return Facade("hashlib", members)


def build_hmac(runtime: GuestRuntime) -> Facade:
    charge = runtime.meter.charge

    def name_of(digestmod: Any) -> str:
        if callable(digestmod):
            made = digestmod()
            digestmod = made.name if type(made) is Hash else ""
        return _algorithm(digestmod)

    def new(key: Any, msg: Any = b"", digestmod: Any = "sha256") -> Hash:
        charge(len(data(key)) // costs.HASH_BYTES + 2 * _CALL_STEPS)
        name = name_of(digestmod)
        made = Hash(charge, hmac.new(key, digestmod=name), name)
        made.update(b"" if msg is None else msg)
        return made

    def digest(key: Any, msg: Any, digestmod: Any) -> bytes:
        return new(key, msg, digestmod).digest()

    def compare_digest(a: Any, b: Any) -> bool:
        if type(a) is not type(b) or type(a) not in (str, bytes):
            raise TypeError("compare_digest takes two texts or two bytes")
        charge(max(len(a), len(b)) // costs.COPY_BYTES)  # it goes over the second, whatever the first is
        return hmac.compare_digest(a, b)

    return Facade("hmac", {"compare_digest": compare_digest, "digest": digest, "new": new})


_UUID_STEPS: Final = 6
_UUID_TEXT_MAX: Final = 100
_URL_MAX: Final = 16_384
_SAFE_MAX: Final = 256


class Uuid(HostObject):
    __slots__ = ("_value", "bytes", "hex", "int", "urn", "version")
    _exposed_ = frozenset({"bytes", "hex", "int", "urn", "version"})

    def __init__(self, value: uuid.UUID) -> None:
        self._value = value
        self.bytes = value.bytes
        self.hex = value.hex
        self.int = value.int
        self.urn = value.urn
        self.version = value.version

    def __eq__(self, other: object) -> Any:
        return self._value == other._value if type(other) is Uuid else NotImplemented

    def __lt__(self, other: Any) -> Any:
        return self._value < other._value if type(other) is Uuid else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value.int)

    def _text_(self) -> str:
        digits = self.hex
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def _repr_(self) -> str:
        return f"UUID('{self._text_()}')"

    def _format_(self, spec: str) -> str:
        raise TypeError("unsupported format string passed to UUID; write str(...) before the colon")


def build_uuid(runtime: GuestRuntime) -> Facade:
    def uuid4() -> Uuid:
        runtime.observed.add("random")
        runtime.meter.charge(_UUID_STEPS)
        return Uuid(uuid.UUID(runtime.chance.user.uuid4()))

    def parse(hex: Any = None, *, bytes: Any = None, int: Any = None) -> Uuid:  # noqa: A002  # as users write them
        runtime.meter.charge(_UUID_STEPS)
        if hex is not None:
            if len(text(hex, "hex")) > _UUID_TEXT_MAX:
                raise ValueError("badly formed hexadecimal UUID string")
            return Uuid(uuid.UUID(hex))
        if bytes is not None:
            return Uuid(uuid.UUID(bytes=data(bytes)))
        return Uuid(uuid.UUID(int=integer(int, "int", low=0)))

    def named(version: Callable[[uuid.UUID, str], uuid.UUID]) -> Callable[[Any, Any], Uuid]:
        def make(namespace: Any, name: Any) -> Uuid:
            if type(namespace) is not Uuid:
                raise TypeError("the namespace must be a UUID")
            runtime.meter.charge(len(text(name)) // costs.HASH_BYTES + _UUID_STEPS)
            return Uuid(version(namespace._value, name))

        return make

    return Facade(
        "uuid",
        {
            "NAMESPACE_DNS": Uuid(uuid.NAMESPACE_DNS),
            "NAMESPACE_URL": Uuid(uuid.NAMESPACE_URL),
            "UUID": Face("UUID", Uuid, parse, annotation=uuid.UUID),
            "uuid3": named(uuid.uuid3),
            "uuid4": uuid4,
            "uuid5": named(uuid.uuid5),
        },
    )


class Url(HostObject):
    """What `urlparse` and `urlsplit` give."""

    __slots__ = (
        "_charge",
        "fragment",
        "hostname",
        "netloc",
        "params",
        "password",
        "path",
        "port",
        "query",
        "scheme",
        "username",
    )
    _exposed_ = frozenset(__slots__[1:]) | {"geturl"}

    def __init__(self, parts: urllib.parse.ParseResult, charge: Callable[[int], None]) -> None:
        self._charge = charge
        self.scheme, self.netloc, self.path, self.params, self.query, self.fragment = parts
        self.hostname, self.port = parts.hostname, parts.port
        self.username, self.password = parts.username, parts.password

    def _parts(self) -> tuple[str, ...]:
        return (self.scheme, self.netloc, self.path, self.params, self.query, self.fragment)

    def __iter__(self) -> Any:
        return iter(self._parts())

    def __getitem__(self, index: Any) -> Any:
        return self._parts()[index]

    def __len__(self) -> int:
        return 6

    def geturl(self) -> str:
        parts = self._parts()
        self._charge(2 * _CALL_STEPS + sum(map(len, parts)) // costs.SCAN_BYTES)
        return addresses.unsplit(parts)


def build_urllib_parse(runtime: GuestRuntime) -> Facade:
    charge = runtime.meter.charge
    structure = runtime.structure
    runtime.forgets.append(urllib.parse.clear_cache)  # type: ignore[attr-defined]  # not in the stubs

    def checked(value: Any) -> str:
        charge(len(text(value)) // 4 + 1)
        return str(value)

    def address(value: Any) -> str:
        """The standard module remembers what it has parsed: short texts alone."""
        if len(text(value)) > _URL_MAX:
            raise ValueError(f"a URL of more than {_URL_MAX} characters")
        if not value.isascii():
            charge(len(value))  # for its normal form
        return checked(value)

    def quoted(value: Any) -> bytes:
        charge(len(data(value)) // 4 + 1)
        return bytes(value)

    def quoter(function: Callable[..., str]) -> Callable[..., str]:
        def quote(string: Any, safe: Any = "/") -> str:
            raw = checked(string) if type(string) is str else quoted(string)
            if len(raw) * 12 > policy.TEXT_LENGTH_MAX:
                raise ValueError("a text too long to quote")
            if len(text(safe)) > _SAFE_MAX:
                raise ValueError(f"more than {_SAFE_MAX} safe characters")
            return function(raw, safe=checked(safe))

        return quote

    def unquoter(function: Callable[[str], str]) -> Callable[[Any], str]:
        return lambda string: function(checked(string))

    def urlencode(query: Any, doseq: Any = False) -> str:
        pairs = runtime.methods.pairs(query) if type(query) is dict else structure.listed(query)
        rows: list[tuple[str, Any]] = []
        for key, value in pairs.items() if type(pairs) is dict else pairs:
            if doseq and type(value) in (list, tuple):
                rows += [(key, item) for item in value]
            else:
                rows.append((key, value))
        out = [(checked(runtime.texts.str(key)), checked(runtime.texts.str(value))) for key, value in rows]
        if sum(len(key) + len(value) for key, value in out) * 12 > policy.TEXT_LENGTH_MAX:
            raise ValueError("too much to encode")
        return urllib.parse.urlencode(out)

    def parse_qsl(qs: Any, keep_blank_values: Any = False) -> list[tuple[str, str]]:
        return urllib.parse.parse_qsl(checked(qs), bool(keep_blank_values), max_num_fields=10_000)

    def parse_qs(qs: Any, keep_blank_values: Any = False) -> dict[str, list[str]]:
        result: dict[str, list[str]] = {}
        for key, value in parse_qsl(qs, keep_blank_values):
            result.setdefault(key, []).append(value)
        return result

    def urlparse(url: Any) -> Url:
        return Url(urllib.parse.urlparse(address(url)), charge)

    def urljoin(base: Any, url: Any) -> str:
        return addresses.join(address(base), address(url))

    return Facade(
        "urllib.parse",
        {
            "parse_qs": parse_qs,
            "parse_qsl": parse_qsl,
            "quote": quoter(urllib.parse.quote),
            "quote_plus": quoter(urllib.parse.quote_plus),
            "unquote": unquoter(urllib.parse.unquote),
            "unquote_plus": unquoter(urllib.parse.unquote_plus),
            "urlencode": urlencode,
            "urljoin": urljoin,
            "urlparse": urlparse,
            "urlsplit": urlparse,
        },
    )
