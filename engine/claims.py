"""From the claims of a token to what `ctx.auth.get_user_identity()` returns (protocol, 9.5).

Claims that change with every refresh are withheld: they would make each cached result
private to one token, and every refresh of a token a rerun of its user's queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tidewell.errors import InvalidValue
from tidewell.values import Value, normalize

_TEXTS: Final = {
    "name": "name",
    "given_name": "givenName",
    "family_name": "familyName",
    "nickname": "nickname",
    "preferred_username": "preferredUsername",
    "profile": "profileUrl",
    "picture": "pictureUrl",
    "email": "email",
    "gender": "gender",
    "birthdate": "birthday",
    "zoneinfo": "timezone",
    "locale": "language",
    "phone_number": "phoneNumber",
}
_FLAGS: Final = {"email_verified": "emailVerified", "phone_number_verified": "phoneNumberVerified"}
_OTHERS: Final = ("address", "updated_at")
# Registered claims are spoken for; the age of factors, nonces and hashes are new in every token.
_WITHHELD: Final = frozenset(
    {"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "fva", "nonce", "at_hash", "c_hash"}
)
_REGISTERED: Final = frozenset({"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "fva"})


def identity_of(claims: Mapping[str, Any], *, is_oidc: bool) -> dict[str, Value]:
    """Return the identity that verified claims stand for.

    An OIDC token's standard claims appear under the names that clients know, and
    the others under their own. Of a custom token all appear under their own names
    as well, nested ones as `outer.inner`. No claim can stand in for who the user is.
    """
    own: dict[str, Value] = {}
    for name, value in _own(claims, is_oidc=is_oidc):
        # A claim that no value can hold, or no field be named after, is no reason to lock a user out.
        try:
            own.update(normalize({name: value}))
        except InvalidValue:
            continue
    known = _known(claims)
    who = {
        "tokenIdentifier": f"{claims['iss']}|{claims['sub']}",
        "issuer": claims["iss"],
        "subject": claims["sub"],
    }
    identity: dict[str, Value] = normalize({**own, **known, **who})
    return identity


def _own(claims: Mapping[str, Any], *, is_oidc: bool) -> Iterator[tuple[str, Any]]:
    if not is_oidc:
        yield from _flattened({name: value for name, value in claims.items() if name not in _REGISTERED})
        return
    spoken_for = {*_TEXTS, *_FLAGS, *_OTHERS, *_WITHHELD}
    yield from ((name, value) for name, value in claims.items() if name not in spoken_for)


def _flattened(claims: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in claims.items():
        if type(value) is dict:
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _known(claims: Mapping[str, Any]) -> dict[str, Value]:
    known: dict[str, Value] = {}
    for claim, key in _TEXTS.items():
        if type(claims.get(claim)) is str:
            known[key] = claims[claim]
    for claim, key in _FLAGS.items():
        flag = (
            {"true": True, "false": False}.get(claims[claim])
            if _is_text(claims, claim)
            else claims.get(claim)
        )
        if type(flag) is bool:  # some providers write it as text
            known[key] = flag
    address = claims.get("address")
    if type(address) is dict and type(address.get("formatted")) is str:
        known["address"] = address["formatted"]
    updated = _moment(claims.get("updated_at"))
    if updated is not None:
        known["updatedAt"] = updated
    return known


def _is_text(claims: Mapping[str, Any], claim: str) -> bool:
    return type(claims.get(claim)) is str


def _moment(seconds: object) -> str | None:
    """Return a moment as RFC 3339 text; some providers write it so themselves."""
    try:
        if type(seconds) is str:
            moment = datetime.fromisoformat(seconds)
            return seconds if moment.tzinfo is not None else None
        if type(seconds) in (int, float):
            moment = datetime.fromtimestamp(seconds, UTC)  # type: ignore[arg-type]  # narrowed by the exact type
            return moment.isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        pass
    return None
