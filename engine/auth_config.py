"""Token providers: what an app's `auth.config.json` declares, in the two forms of the protocol (9.5).

`expand` runs where the folder is: it puts in the environment variables and the key
files, so that what is pushed stands alone. `read_providers` runs where the push
arrives and trusts nothing: whatever is wrong is one line that names the field.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

import attrs
import msgspec

from engine.jwks import InvalidKeySet, read_key_set

FILE: Final = "auth.config.json"
CONFIG_BYTES_MAX: Final = 256 * 1024
PROVIDERS_MAX: Final = 32
OIDC_ALGORITHMS: Final = ("RS256", "EdDSA")
CUSTOM_ALGORITHMS: Final = ("RS256", "ES256")

_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_FIELDS: Final = {
    True: ("domain", "applicationID"),
    False: ("type", "issuer", "jwks", "algorithm", "applicationID"),
}


class InvalidAuthConfig(Exception):
    """The text is one line: the file, the field, and what it should be."""


@attrs.frozen
class Provider:
    """Who may issue tokens, and how they are told from forged ones. Equal entries are one provider."""

    issuer: str
    audience: str | None  # None: tokens for anybody
    algorithms: tuple[str, ...]
    is_oidc: bool
    jwks: str  # where the keys are: a URL or a data: URI; of OIDC the discovery document


def normal_issuer(issuer: str) -> str:
    """Return the part of an issuer that counts: no `https://`, no trailing slash."""
    return issuer.removeprefix("https://").removesuffix("/")


def expand(text: bytes, environment: Mapping[str, str], read_file: Callable[[str], bytes | None]) -> bytes:
    """Return the configuration with `${NAME}` and `file:` replaced by what they stand for.

    Args:
      read_file: gives the bytes of a file of the app, None if there is no such file.

    Raises:
      InvalidAuthConfig: not JSON, an unknown variable, an unknown file.
    """
    tree = _decode(text)

    def expanded(value: Any, place: str) -> Any:
        if type(value) is dict:
            return {key: expanded(item, f"{place}.{key}" if place else key) for key, item in value.items()}
        if type(value) is list:
            return [expanded(item, f"{place}[{number}]") for number, item in enumerate(value)]
        if type(value) is not str:
            return value

        def variable(match: re.Match[str]) -> str:
            if match[1] not in environment:
                raise _wrong(
                    place,
                    f"the environment variable {match[1]!r} is not set; set it with "
                    f"`tidewell env set {match[1]} VALUE`, and push again",
                )
            return environment[match[1]]

        value = _VARIABLE.sub(variable, value)
        if place.endswith(".jwks") and value.startswith("file:"):
            data = read_file(value.removeprefix("file:"))
            if data is None:
                raise _wrong(place, f"there is no file {value.removeprefix('file:')!r} in the app folder")
            value = "data:application/json;base64," + base64.b64encode(data).decode()
        return value

    return msgspec.json.encode(expanded(tree, ""), order="deterministic")


def read_providers(text: bytes) -> tuple[Provider, ...]:
    """Return the providers of an expanded configuration, none without text. Raises `InvalidAuthConfig`."""
    if not text:
        return ()
    tree = _decode(text)
    if type(tree) is not dict or type(tree.get("providers")) is not list:
        raise _wrong("providers", 'expected {"providers": [...]}')
    if unknown := sorted(set(tree) - {"providers"}):
        raise _wrong(unknown[0], "is not a field of this file, which has 'providers'")
    if len(tree["providers"]) > PROVIDERS_MAX:
        raise _wrong("providers", f"at most {PROVIDERS_MAX} can be declared")
    return tuple(_provider(entry, f"providers[{number}]") for number, entry in enumerate(tree["providers"]))


def inline_keys(uri: str) -> bytes | None:
    """Return what a `data:` URI holds, None for any other. Raises ValueError if it is malformed."""
    if uri[:5].lower() != "data:":
        return None
    head, comma, body = uri[5:].partition(",")
    if not comma:
        raise ValueError("a data: URI has a comma before its data")
    data = unquote_to_bytes(body)
    if not head.lower().endswith(";base64"):
        return data
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError(f"the data is not base64: {error}") from None


def _provider(entry: object, place: str) -> Provider:
    if type(entry) is not dict:
        raise _wrong(place, "expected an object")
    is_oidc = "type" not in entry
    fields = _FIELDS[is_oidc]
    if unknown := sorted(set(entry) - set(fields)):
        form = "an OIDC provider (no 'type')" if is_oidc else "a customJwt provider"
        raise _wrong(f"{place}.{unknown[0]}", f"is not a field of {form}, which has {', '.join(fields)}")
    if is_oidc:
        domain = _text(entry, "domain", place)
        issuer = domain if "://" in domain else f"https://{domain}"
        _check_url(issuer, f"{place}.domain")
        discovery = issuer.removesuffix("/") + "/.well-known/openid-configuration"
        return Provider(issuer, _text(entry, "applicationID", place), OIDC_ALGORITHMS, True, discovery)
    if entry["type"] != "customJwt":
        raise _wrong(f"{place}.type", "must be 'customJwt', or be left out for an OIDC provider")
    algorithm = _text(entry, "algorithm", place)
    if algorithm not in CUSTOM_ALGORITHMS:
        raise _wrong(f"{place}.algorithm", f"must be one of {', '.join(CUSTOM_ALGORITHMS)}")
    jwks = _text(entry, "jwks", place)
    _check_jwks(jwks, algorithm, f"{place}.jwks")
    audience = _text(entry, "applicationID", place) if "applicationID" in entry else None
    return Provider(_text(entry, "issuer", place), audience, (algorithm,), False, jwks)


def _check_jwks(jwks: str, algorithm: str, place: str) -> None:
    try:
        inline = inline_keys(jwks)
        if inline is None:
            _check_url(jwks, place)
        elif not read_key_set(inline, (algorithm,), may_hold_secrets=False).keys:
            raise _wrong(place, f"holds no public key for {algorithm}")
    except (ValueError, InvalidKeySet) as error:
        raise _wrong(place, str(error)) from None


def _check_url(url: str, place: str) -> None:
    problem = url_problem(url)
    if problem is not None:
        raise _wrong(place, problem)


def url_problem(url: str) -> str | None:
    """Return why keys are not fetched from `url`, None if they are: https, or http on this very machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"{url!r} is not a URL: {error}"
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if not host or parts.scheme not in ("https", "http") or not is_plain:
        return f"{url!r} is not an https:// URL"
    if "@" in parts.netloc:
        return "the URL must not hold a user or a password"
    if parts.scheme == "http" and not _is_loopback(host):
        return f"{url!r}: http is for this machine alone (localhost); use https"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _text(entry: dict[str, Any], field: str, place: str) -> str:
    value = entry.get(field)
    if type(value) is not str or not value:
        found = "is missing" if field not in entry else "must be a text that is not empty"
        raise _wrong(f"{place}.{field}", found)
    return value


def _decode(text: bytes) -> Any:
    if len(text) > CONFIG_BYTES_MAX:
        raise InvalidAuthConfig(f"{FILE}: {len(text):,} bytes, at most {CONFIG_BYTES_MAX:,}")
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidAuthConfig(f"{FILE}: not JSON: {error}") from None


def _wrong(place: str, problem: str) -> InvalidAuthConfig:
    return InvalidAuthConfig(f"{FILE}: {place}: {problem}")
