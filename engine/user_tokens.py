"""Whether a user's token is accepted, and who it stands for (protocol, 9.5).

In order: take it apart; find the provider that issued it; find the key it names; check
the signature; check the times. Nothing of a token is used before its signature holds,
except to choose the provider and the key, and both choices are among what the app declared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import msgspec

from engine.auth import Grant, TokenRefused
from engine.auth_config import Provider, normal_issuer
from engine.backend import Identity
from engine.claims import identity_of
from engine.clock import Clock
from engine.jwks import InvalidToken, Unverified, check_signature, peek
from engine.key_cache import KeyCache, KeysUnavailable
from tidewell.errors import InvalidValue

LEEWAY_MS: Final = 5000.0  # clocks differ


class _Registered(msgspec.Struct):
    """The claims that decide; a token in which one has another type is refused."""

    iss: str
    sub: str
    exp: float
    nbf: float | None = None
    iat: float | None = None
    aud: str | list[str] | None = None

    @property
    def audiences(self) -> list[str]:
        return [] if self.aud is None else [self.aud] if isinstance(self.aud, str) else self.aud


_registered: Final = msgspec.json.Decoder(_Registered)
_everything: Final = msgspec.json.Decoder(dict[str, Any])


@attrs.define(eq=False)
class UserTokens:
    """Implements `engine.auth.TokenChecker` with the providers in force when a token comes."""

    _providers: Callable[[], Sequence[Provider]]
    _keys: KeyCache
    _clock: Clock

    async def check(self, token: str) -> Grant:
        """Return what `token` grants. Raises `TokenRefused`."""
        try:
            unverified = peek(token)
            registered = _registered.decode(unverified.payload)
        except (InvalidToken, msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise TokenRefused("InvalidAuthHeader", f"not a token: {error}") from None
        provider = self._choose(registered)
        await self._check_signature(token, unverified, provider)
        self._check(registered, provider)
        try:
            claims = _everything.decode(unverified.payload)
            identity = identity_of(claims, is_oidc=provider.is_oidc)
        except (InvalidValue, msgspec.DecodeError, RecursionError) as error:
            raise TokenRefused("InvalidAuthHeader", f"the claims cannot be read: {error}") from None
        return Grant(Identity(claims=identity), registered.exp * 1000 + LEEWAY_MS)

    def _choose(self, registered: _Registered) -> Provider:
        providers = self._providers()
        self._keys.keep_only(providers)
        issuer = normal_issuer(registered.iss)
        for provider in providers:
            is_addressed = provider.audience is None or provider.audience in registered.audiences
            if is_addressed and normal_issuer(provider.issuer) == issuer:
                return provider
        audience = ", ".join(registered.audiences) or "nobody in particular"
        raise TokenRefused(
            "NoAuthProvider",
            f"no provider is declared for tokens of {registered.iss!r} for {audience!r}; "
            f"{len(providers)} are declared in auth.config.json",
        )

    async def _check_signature(self, token: str, unverified: Unverified, provider: Provider) -> None:
        algorithm, kid = unverified.algorithm, unverified.kid
        if algorithm not in provider.algorithms:
            raise _refused(f"it is signed with {algorithm!r}, accepted is {', '.join(provider.algorithms)}")
        if kid is None and not provider.is_oidc:
            raise _refused("it does not say which key it is signed with (kid)")
        try:
            key = await self._keys.find(provider, kid, algorithm)
        except KeysUnavailable as error:
            raise _refused(str(error)) from None
        if key is None:
            raise _refused(f"{provider.issuer} has no {algorithm} key {kid!r}")
        try:
            check_signature(token, key)
        except InvalidToken as error:
            raise _refused(str(error)) from None

    def _check(self, registered: _Registered, provider: Provider) -> None:
        now_ms = self._clock.now_ms()
        if not registered.sub:
            raise _refused("it names no subject")
        if provider.is_oidc and len(registered.audiences) != 1:
            raise _refused("it is for more than one audience")
        # Written so that a time that is no number would be refused, too.
        if not now_ms < registered.exp * 1000 + LEEWAY_MS:
            raise _refused("it has expired")
        for name, seconds in (("nbf", registered.nbf), ("iat", registered.iat)):
            if seconds is not None and not now_ms >= seconds * 1000 - LEEWAY_MS:
                raise _refused(f"it is of the future ({name})")


def _refused(why: str) -> TokenRefused:
    return TokenRefused("Unauthenticated", f"the token is not accepted: {why}")
