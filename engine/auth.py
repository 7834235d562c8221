"""Who a token stands for.

Sockets and HTTP ask the same `Authenticator`. It knows the admin key of the
deployment, and who checks the tokens of users (`engine.user_tokens`). Without
that every user token is refused, in the form the clients expect, instead of
running their calls as nobody.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Protocol

import attrs

from engine.backend import Identity
from tidewell.errors import InvalidValue
from tidewell.values import from_wire


@attrs.define(eq=False)
class TokenRefused(Exception):
    """A token that is not accepted. `code` is short CamelCase."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@attrs.frozen
class Grant:
    """An accepted token. `expires_ms` is on the wall clock; None never expires."""

    identity: Identity
    expires_ms: float | None = None


class TokenChecker(Protocol):
    async def check(self, token: str) -> Grant:
        """Return what a user's token grants. Raises `TokenRefused`."""


@attrs.frozen
class Authenticator:
    """Checks tokens for one deployment. Without `admin_key` no admin key is accepted."""

    admin_key: str | None = attrs.field(default=None, repr=False)
    users: TokenChecker | None = None

    async def user(self, token: str) -> Grant:
        """Return what a user's token grants. Raises `TokenRefused`."""
        if self.users is None:
            raise TokenRefused("NoAuthProvider", "this deployment has no provider for user tokens")
        return await self.users.check(token)

    async def admin(self, key: str, acting_as: Mapping[str, Any] | None) -> Grant:
        """Return what an admin key grants; with attributes it acts as that user. Raises `TokenRefused`."""
        if self.admin_key is None or not _same(key, self.admin_key):
            raise TokenRefused("BadAdminKey", "the admin key is not that of this deployment")
        claims = None if acting_as is None else _claims(acting_as)
        return Grant(Identity(claims=claims, admin=True))


def _claims(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims of an impersonated user (9.5): one way or another it must say who that is."""
    try:
        claims: dict[str, Any] = from_wire(dict(attributes), "impersonating")
    except InvalidValue as error:
        raise TokenRefused("InvalidAuthHeader", str(error)) from None
    issuer, subject = claims.get("issuer"), claims.get("subject")
    if "tokenIdentifier" not in claims:
        if issuer is None or subject is None:
            raise TokenRefused(
                "InvalidAuthHeader", "impersonating needs tokenIdentifier, or both issuer and subject"
            )
        claims["tokenIdentifier"] = f"{issuer}|{subject}"
    for name in ("tokenIdentifier", "issuer", "subject"):
        if name in claims and type(claims[name]) is not str:
            raise TokenRefused("InvalidAuthHeader", f"impersonating.{name} must be a string")
    return dict(sorted(claims.items()))


def _same(given: str, expected: str) -> bool:
    # Text from a client may hold lone surrogates, which are no key but no fault either.
    return hmac.compare_digest(given.encode(errors="surrogatepass"), expected.encode())
