"""Keys of an OIDC provider over real TLS: whom the machine trusts is asked, and nobody else."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path

import pytest

from engine.auth import TokenRefused
from engine.auth_config import read_providers
from engine.clock import SystemClock
from engine.key_cache import KeyCache
from engine.outgoing import FetchFailed, get
from engine.user_tokens import UserTokens

from .private_ca import PrivateCA, https_server
from .tokens import AUDIENCE, SigningKey, claims, ed_key, key_set, rsa_key

CONFIG = "/.well-known/openid-configuration"


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrivateCA:
    """An authority that this process trusts, as a machine does whose administrator installed it."""
    authority = PrivateCA(tmp_path / "ca")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    return authority


def documents(port: int, *keys: SigningKey) -> dict[str, bytes]:
    issuer = f"https://localhost:{port}"
    return {
        CONFIG: json.dumps({"issuer": issuer, "jwks_uri": f"{issuer}/keys"}).encode(),
        "/keys": json.dumps(key_set(*keys)).encode(),
    }


def checker(issuer: str) -> UserTokens:
    declared = {"providers": [{"domain": issuer, "applicationID": AUDIENCE}]}
    providers = read_providers(json.dumps(declared).encode())
    return UserTokens(lambda: providers, KeyCache(SystemClock()), SystemClock())


def token(key: SigningKey, issuer: str) -> str:
    now = int(time.time())
    return key.sign(claims(iss=issuer, iat=now, exp=now + 60))


async def test_discovery_and_keys_are_fetched_over_tls(ca: PrivateCA) -> None:
    pages: dict[str, bytes] = {}
    async with https_server(ca.server_context("localhost"), pages) as (port, asked):
        rsa, ed, issuer = rsa_key(), ed_key(), f"https://localhost:{port}"
        pages |= documents(port, rsa, ed)
        it = checker(issuer)
        for key in (rsa, ed):
            grant = await it.check(token(key, issuer))
            assert grant.identity.claims is not None
            assert grant.identity.claims["tokenIdentifier"] == f"{issuer}|ada"
        assert asked == [CONFIG, "/keys"]
        with pytest.raises(TokenRefused):
            await it.check(token(rsa_key("rsa"), issuer))  # a stranger's key under a known name


async def test_issuer_by_address_needs_a_certificate_for_the_address(ca: PrivateCA) -> None:
    async with https_server(ca.server_context("127.0.0.1"), {"/": b"{}"}) as (port, _):
        assert await get(f"https://127.0.0.1:{port}/", bytes_max=10, seconds_max=60) == b"{}"


@pytest.mark.parametrize("case", ["unknown authority", "another name", "expired"])
async def test_certificate_that_does_not_hold_is_not_asked(case: str, ca: PrivateCA, tmp_path: Path) -> None:
    context = {
        "unknown authority": lambda: PrivateCA(tmp_path / "stranger").server_context("localhost"),
        "another name": lambda: ca.server_context("elsewhere.example"),
        "expired": lambda: ca.server_context("localhost", timedelta(days=-1)),
    }[case]()
    pages: dict[str, bytes] = {}
    async with https_server(context, pages) as (port, asked):
        rsa, issuer = rsa_key(), f"https://localhost:{port}"
        pages |= documents(port, rsa)
        with pytest.raises(FetchFailed, match="CERTIFICATE_VERIFY_FAILED"):
            await get(issuer + CONFIG, bytes_max=1000, seconds_max=60)
        with pytest.raises(TokenRefused, match="cannot be fetched at the moment"):
            await checker(issuer).check(token(rsa, issuer))
        assert asked == [], "nothing was said to a server that proved nothing"
