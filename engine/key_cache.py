"""The keys of token providers: fetched when a token asks for them, and kept.

Anybody can send tokens, so what they can cause is bounded: a provider is asked by one
task at a time, and after an answer or a failure not again for `PAUSE_S`. Within that a
new key is noticed as soon as a token names it, and one that was withdrawn is forgotten
after `FRESH_S`. While a provider cannot be reached its last keys go on counting, for
`KEPT_S`: an outage there signs nobody out here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final, Protocol

import attrs
import msgspec
import trio

from engine.auth_config import Provider, inline_keys, normal_issuer, url_problem
from engine.clock import Clock
from engine.jwks import InvalidKeySet, Key, KeySet, read_key_set
from engine.outgoing import FetchFailed, get

log = logging.getLogger(__name__)

FRESH_S: Final = 600.0
KEPT_S: Final = 24 * 3600.0
PAUSE_S: Final = 10.0
DOCUMENT_BYTES_MAX: Final = 256 * 1024
FETCH_S_MAX: Final = 5.0


class KeysUnavailable(Exception):
    """A provider's keys cannot be had now. The text is for clients; the log has the cause."""


class Get(Protocol):
    async def __call__(self, url: str, *, bytes_max: int, seconds_max: float) -> bytes:
        """Return what `url` answers with. Raises `FetchFailed`."""


@attrs.define(eq=False)
class _Entry:
    keys: KeySet | None = None
    fetched_s: float = 0.0
    asked_s: float | None = None
    turn: trio.Lock = attrs.field(factory=trio.Lock)


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str


@attrs.define(eq=False)
class KeyCache:
    _clock: Clock
    _get: Get = get
    _entries: dict[Provider, _Entry] = attrs.field(factory=dict, init=False)

    def keep_only(self, providers: Iterable[Provider]) -> None:
        """Forget the keys of all other providers."""
        for gone in set(self._entries) - set(providers):
            del self._entries[gone]

    async def find(self, provider: Provider, kid: str | None, algorithm: str) -> Key | None:
        """Return the key that a token names, None if the provider has no such key.

        Raises:
          KeysUnavailable: the provider's keys are not known and could not be fetched.
        """
        entry = self._entries.setdefault(provider, _Entry())
        inline = inline_keys(provider.jwks)
        if inline is not None:
            if entry.keys is None:
                entry.keys = read_key_set(inline, provider.algorithms)
            return entry.keys.find(kid, algorithm)
        found = self._known(entry, kid, algorithm)
        if found is not None and (self._is_within(entry, FRESH_S) or entry.turn.locked()):
            return found
        async with entry.turn:
            # Whoever had the turn before may have fetched just what is wanted.
            if self._known(entry, kid, algorithm) is None or not self._is_within(entry, FRESH_S):
                await self._refresh(entry, provider)
        if entry.keys is None or not self._is_within(entry, KEPT_S):
            raise KeysUnavailable(f"the keys of {provider.issuer} cannot be fetched at the moment")
        return entry.keys.find(kid, algorithm)

    def _known(self, entry: _Entry, kid: str | None, algorithm: str) -> Key | None:
        if entry.keys is None or not self._is_within(entry, KEPT_S):
            return None
        return entry.keys.find(kid, algorithm)

    def _is_within(self, entry: _Entry, seconds: float) -> bool:
        return self._clock.monotonic() - entry.fetched_s < seconds

    async def _refresh(self, entry: _Entry, provider: Provider) -> None:
        if entry.asked_s is not None and self._clock.monotonic() - entry.asked_s < PAUSE_S:
            return
        try:
            entry.keys = await self._fetch(provider)
            entry.fetched_s = self._clock.monotonic()
        except (FetchFailed, InvalidKeySet) as error:
            log.warning("the keys of %s could not be fetched: %s", provider.issuer, error)
        entry.asked_s = self._clock.monotonic()  # not if cancelled: a client that leaves must not stop others

    async def _fetch(self, provider: Provider) -> KeySet:
        url = provider.jwks
        if provider.is_oidc:
            discovered = await self._discover(url)
            if normal_issuer(discovered.issuer) != normal_issuer(provider.issuer):
                raise FetchFailed(f"{url} is about another issuer, {discovered.issuer!r}")
            url = discovered.jwks_uri
            problem = url_problem(url)
            is_from_outside = provider.jwks.startswith("https:") and not url.startswith("https:")
            if problem is not None or is_from_outside:
                raise FetchFailed(f"the jwks_uri of {provider.jwks}: {problem or 'must be https too'}")
        document = await self._get(url, bytes_max=DOCUMENT_BYTES_MAX, seconds_max=FETCH_S_MAX)
        return read_key_set(document, provider.algorithms)

    async def _discover(self, url: str) -> _Discovery:
        document = await self._get(url, bytes_max=DOCUMENT_BYTES_MAX, seconds_max=FETCH_S_MAX)
        try:
            return msgspec.json.decode(document, type=_Discovery)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise FetchFailed(f"{url} is no discovery document: {error}") from None
