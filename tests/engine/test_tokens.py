"""User tokens: which are accepted, which are not, and who an accepted one stands for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import attrs
import pytest
import trio

from engine.auth import Grant, TokenRefused
from engine.auth_config import Provider, read_providers
from engine.jwks import InvalidKeySet, read_key_set
from engine.key_cache import FRESH_S, KEPT_S, PAUSE_S, KeyCache
from engine.outgoing import FetchFailed
from engine.user_tokens import UserTokens

from .tokens import AUDIENCE, ISSUER, NOW_S, claims, custom, data_uri, ec_key, ed_key, key_set, rsa_key

RSA, EC, ED = rsa_key(), ec_key(), ed_key()
STRANGER = rsa_key("rsa")  # another key under the same name
CONFIG_URL = f"{ISSUER}/.well-known/openid-configuration"
KEYS_URL = "https://keys.example/jwks"
OIDC = {"domain": "issuer.example", "applicationID": AUDIENCE}


@attrs.define
class StillClock:
    now_s: float = NOW_S
    passed_s: float = 1000.0

    def now_ns(self) -> int:
        return int(self.now_s * 1e9)

    def now_ms(self) -> float:
        return self.now_s * 1000

    def monotonic(self) -> float:
        return self.passed_s

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.passed_s += seconds


@attrs.define
class Web:
    """Documents by URL; what is not there cannot be reached."""

    pages: dict[str, Any] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)
    gate: trio.Event | None = None

    async def __call__(self, url: str, *, bytes_max: int, seconds_max: float) -> bytes:
        self.asked.append(url)
        await (trio.lowlevel.checkpoint() if self.gate is None else self.gate.wait())
        if url not in self.pages:
            raise FetchFailed(f"{url}: not reachable")
        return json.dumps(self.pages[url]).encode()


@attrs.define
class Checker:
    """A server's view of tokens, with providers that can be changed."""

    providers: tuple[Provider, ...]
    clock: StillClock
    web: Web
    tokens: UserTokens = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = UserTokens(lambda: self.providers, KeyCache(self.clock, self.web), self.clock)

    async def grant(self, token: str) -> Grant:
        return await self.tokens.check(token)

    async def identity(self, token: str) -> dict[str, Any]:
        return dict((await self.grant(token)).identity.claims or {})

    async def code(self, token: str) -> str:
        """The code with which a token is refused; "accepted" if it is not."""
        try:
            await self.grant(token)
        except TokenRefused as refusal:
            return refusal.code
        return "accepted"


def checker(*entries: dict[str, Any], **pages: Any) -> Checker:
    config = json.dumps({"providers": entries}).encode()
    return Checker(read_providers(config), StillClock(), Web(pages))


def discovered(*keys: Any, entry: dict[str, Any] = OIDC) -> Checker:
    it = checker(entry)
    it.web.pages = {CONFIG_URL: {"issuer": ISSUER, "jwks_uri": KEYS_URL}, KEYS_URL: key_set(*keys)}
    return it


def part(tree: Any) -> str:
    data = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: dict[str, Any], secret: bytes | None = None, payload: Any = None) -> str:
    """A token put together by hand; signed with HMAC if there is a secret, else not at all."""
    signed = f"{part(header)}.{part(claims() if payload is None else payload)}"
    signature = b"" if secret is None else hmac.digest(secret, signed.encode(), hashlib.sha256)
    return f"{signed}.{part(signature)}"


def spoilt(token: str) -> str:
    """The same token for somebody else."""
    header, _, signature = token.split(".")
    return f"{header}.{part(claims(sub='eve'))}.{signature}"


# ---- custom JWT ---------------------------------------------------------------------------

TABLE: dict[str, tuple[str, str]] = {
    "good": (RSA.sign(claims()), "accepted"),
    "without iat": (RSA.sign(claims(iat=None)), "accepted"),
    "audience in a list": (RSA.sign(claims(aud=["else", AUDIENCE])), "accepted"),
    "issuer with a slash": (RSA.sign(claims(iss=ISSUER + "/")), "accepted"),
    "issuer without https": (RSA.sign(claims(iss="issuer.example")), "accepted"),
    "expired within the tolerance": (RSA.sign(claims(exp=NOW_S - 4)), "accepted"),
    "valid soon, within the tolerance": (RSA.sign(claims(nbf=NOW_S + 5)), "accepted"),
    "expires at a fraction": (RSA.sign(claims(exp=NOW_S + 0.5)), "accepted"),
    "expired": (RSA.sign(claims(exp=NOW_S - 5)), "Unauthenticated"),
    "not yet valid": (RSA.sign(claims(nbf=NOW_S + 6)), "Unauthenticated"),
    "issued in the future": (RSA.sign(claims(iat=NOW_S + 60)), "Unauthenticated"),
    "empty subject": (RSA.sign(claims(sub="")), "Unauthenticated"),
    "another key of the same name": (STRANGER.sign(claims()), "Unauthenticated"),
    "unknown key": (RSA.sign(claims(), kid="other"), "Unauthenticated"),
    "no key named": (RSA.sign(claims(), kid=None), "Unauthenticated"),
    "changed after signing": (spoilt(RSA.sign(claims())), "Unauthenticated"),
    "signature cut off": (RSA.sign(claims()).rpartition(".")[0] + ".", "Unauthenticated"),
    "another kind of key": (EC.sign(claims(), kid="rsa"), "Unauthenticated"),
    "a stronger algorithm, not the declared": (RSA.sign(claims(), alg="RS512"), "Unauthenticated"),
    "alg none": (forged({"alg": "none", "kid": "rsa"}), "Unauthenticated"),
    "alg None": (forged({"alg": "NoNe", "kid": "rsa"}), "Unauthenticated"),
    "alg empty": (forged({"alg": "", "kid": "rsa"}), "Unauthenticated"),
    "HMAC with the public key": (forged({"alg": "HS256", "kid": "rsa"}, RSA.public_pem), "Unauthenticated"),
    "HMAC with the key set": (
        forged({"alg": "HS256", "kid": "rsa"}, json.dumps(key_set(RSA)).encode()),
        "Unauthenticated",
    ),
    "RS256 in name, HMAC in truth": (
        forged({"alg": "RS256", "kid": "rsa"}, RSA.public_pem),
        "Unauthenticated",
    ),
    "key in the header": (STRANGER.sign(claims(), jwk=STRANGER.jwk), "Unauthenticated"),
    "key set in the header": (STRANGER.sign(claims(), jku=data_uri(key_set(STRANGER))), "Unauthenticated"),
    "another issuer": (RSA.sign(claims(iss="https://evil.example")), "NoAuthProvider"),
    "issuer by http": (RSA.sign(claims(iss="http://issuer.example")), "NoAuthProvider"),
    "another audience": (RSA.sign(claims(aud="else")), "NoAuthProvider"),
    "no audience": (RSA.sign(claims(aud=None)), "NoAuthProvider"),
    "no expiry": (RSA.sign(claims(exp=None)), "InvalidAuthHeader"),
    "expiry as text": (forged({"alg": "RS256"}, payload=claims(exp=str(NOW_S + 60))), "InvalidAuthHeader"),
    "no subject": (forged({"alg": "RS256", "kid": "rsa"}, payload={**claims(sub=None)}), "InvalidAuthHeader"),
    "subject that is no text": (forged({"alg": "RS256"}, payload=claims(sub=7)), "InvalidAuthHeader"),
    "expiry that is no number": (
        forged({"alg": "RS256"}, payload=json.dumps(claims()).replace(str(NOW_S + 60), "NaN").encode()),
        "InvalidAuthHeader",
    ),
    "no algorithm": (forged({"kid": "rsa"}), "InvalidAuthHeader"),
    "key name that is no text": (forged({"alg": "RS256", "kid": ["rsa"]}), "InvalidAuthHeader"),
    "critical extension": (RSA.sign(claims(), crit=["b64"], b64=False), "InvalidAuthHeader"),
    "claims that are no object": (forged({"alg": "RS256"}, payload=[]), "InvalidAuthHeader"),
    "claims nested without end": (
        forged({"alg": "RS256"}, payload=b'{"iss":' + b"[" * 40_000),
        "InvalidAuthHeader",
    ),
    "two parts": ("a.b", "InvalidAuthHeader"),
    "nothing": ("", "InvalidAuthHeader"),
    "not ASCII": ("é\ud800", "InvalidAuthHeader"),
    "five parts, as encrypted ones have": ("a.b.c.d.e", "InvalidAuthHeader"),
    "too long": (RSA.sign(claims(more="x" * 70_000)), "InvalidAuthHeader"),
}


@pytest.mark.parametrize("case", TABLE)
async def test_token_is_judged_by_all_it_says(case: str) -> None:
    token, expected = TABLE[case]
    assert await checker(custom(RSA)).code(token) == expected


async def test_each_algorithm_is_accepted_where_it_is_declared_alone() -> None:
    assert await checker(custom(EC)).code(EC.sign(claims())) == "accepted"
    both = checker(custom(RSA, EC))
    assert await both.code(RSA.sign(claims())) == "accepted"
    assert await both.code(EC.sign(claims())) == "Unauthenticated"


async def test_first_provider_that_matches_issuer_and_audience_decides() -> None:
    it = checker(custom(EC, applicationID="else"), custom(RSA), custom(EC, applicationID=None))
    assert await it.code(RSA.sign(claims())) == "accepted"
    assert await it.code(EC.sign(claims())) == "Unauthenticated"
    assert await it.code(EC.sign(claims(aud=None))) == "accepted"


async def test_without_providers_no_user_is_known() -> None:
    assert await checker().code(RSA.sign(claims())) == "NoAuthProvider"


async def test_providers_count_as_they_are_when_the_token_comes() -> None:
    it = checker(custom(RSA))
    it.providers = ()
    assert await it.code(RSA.sign(claims())) == "NoAuthProvider"


async def test_grant_ends_when_the_tolerance_after_the_expiry_does() -> None:
    grant = await checker(custom(RSA)).grant(RSA.sign(claims()))
    assert grant.expires_ms == (NOW_S + 60 + 5) * 1000
    assert not grant.identity.admin


# ---- OIDC -------------------------------------------------------------------------------------


async def test_oidc_provider_is_found_by_discovery() -> None:
    it = discovered(RSA, ED)
    assert await it.code(RSA.sign(claims())) == "accepted"
    assert await it.code(ED.sign(claims())) == "accepted"
    assert it.web.asked == [CONFIG_URL, KEYS_URL]


async def test_oidc_token_is_for_one_audience() -> None:
    it = discovered(RSA)
    assert await it.code(RSA.sign(claims(aud=[AUDIENCE]))) == "accepted"
    assert await it.code(RSA.sign(claims(aud=[AUDIENCE, "else"]))) == "Unauthenticated"


async def test_oidc_token_without_a_key_name_means_the_only_key() -> None:
    assert await discovered(RSA).code(RSA.sign(claims(), kid=None)) == "accepted"
    assert await discovered(RSA, rsa_key("second")).code(RSA.sign(claims(), kid=None)) == "Unauthenticated"


async def test_oidc_does_not_take_es256() -> None:
    assert await discovered(EC).code(EC.sign(claims())) == "Unauthenticated"


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example", "jwks_uri": KEYS_URL},
        {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"},
        {"issuer": ISSUER, "jwks_uri": "http://keys.example/jwks"},
        {"issuer": ISSUER, "jwks_uri": "http://127.0.0.1:8000/jwks"},
        {"issuer": ISSUER},
        [],
    ],
)
async def test_discovery_is_not_led_astray(document: Any) -> None:
    it = discovered(RSA)
    it.web.pages[CONFIG_URL] = document
    assert await it.code(RSA.sign(claims())) == "Unauthenticated"
    assert it.web.asked == [CONFIG_URL]


# ---- keys ---------------------------------------------------------------------------------------

REMOTE = custom(jwks=KEYS_URL)


def remote(*keys: Any) -> Checker:
    it = checker(REMOTE)
    it.web.pages = {KEYS_URL: key_set(*keys)}
    return it


async def test_keys_are_fetched_once_while_they_are_fresh() -> None:
    it = remote(RSA)
    for _ in range(3):
        assert await it.code(RSA.sign(claims())) == "accepted"
    assert it.web.asked == [KEYS_URL]


async def test_tokens_that_come_together_cause_one_fetch() -> None:
    it = remote(RSA)
    it.web.gate = trio.Event()
    codes: list[str] = []

    async def check() -> None:
        codes.append(await it.code(RSA.sign(claims())))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(check)
        await trio.testing.wait_all_tasks_blocked()
        it.web.gate.set()
    assert codes == ["accepted"] * 10
    assert it.web.asked == [KEYS_URL]


async def test_new_key_is_fetched_when_a_token_names_it() -> None:
    it = remote(RSA)
    await it.grant(RSA.sign(claims()))
    new = rsa_key("new")
    it.web.pages[KEYS_URL] = key_set(RSA, new)
    it.clock.pass_time(PAUSE_S)
    assert await it.code(new.sign(claims())) == "accepted"
    assert len(it.web.asked) == 2


async def test_made_up_key_names_cause_a_fetch_now_and_then() -> None:
    it = remote(RSA)
    for number in range(50):
        assert await it.code(RSA.sign(claims(), kid=f"made-up-{number}")) == "Unauthenticated"
    assert len(it.web.asked) == 1


async def test_withdrawn_key_is_forgotten_once_the_set_is_old() -> None:
    it = remote(RSA)
    token = RSA.sign(claims(exp=NOW_S + 10 * FRESH_S))
    await it.grant(token)
    it.web.pages[KEYS_URL] = key_set(EC)
    assert await it.code(token) == "accepted"
    it.clock.pass_time(FRESH_S)
    assert await it.code(token) == "Unauthenticated"


async def test_provider_out_of_reach_signs_nobody_out_for_a_day() -> None:
    it = remote(RSA)
    token = RSA.sign(claims(exp=NOW_S + 2 * KEPT_S))
    await it.grant(token)
    del it.web.pages[KEYS_URL]
    it.clock.pass_time(KEPT_S - 1)
    assert await it.code(token) == "accepted"
    it.clock.pass_time(PAUSE_S)
    assert await it.code(token) == "Unauthenticated"


async def test_known_keys_do_not_wait_for_a_fetch_that_is_under_way() -> None:
    it = remote(RSA)
    token = RSA.sign(claims(exp=NOW_S + 10 * FRESH_S))
    await it.grant(token)
    it.clock.pass_time(FRESH_S)
    it.web.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.grant, token)
        await trio.testing.wait_all_tasks_blocked()
        assert await it.code(token) == "accepted"
        it.web.gate.set()


async def test_failed_fetch_is_not_repeated_at_once() -> None:
    it = checker(REMOTE)
    for _ in range(5):
        assert await it.code(RSA.sign(claims())) == "Unauthenticated"
    assert len(it.web.asked) == 1
    it.web.pages[KEYS_URL] = key_set(RSA)
    it.clock.pass_time(PAUSE_S)
    assert await it.code(RSA.sign(claims())) == "accepted"


async def test_client_that_leaves_during_a_fetch_stops_nobody_else() -> None:
    it = remote(RSA)
    it.web.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.grant, RSA.sign(claims()))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    it.web.gate.set()
    assert await it.code(RSA.sign(claims())) == "accepted"


def strange(**changed: Any) -> dict[str, Any]:
    return {"keys": [{**RSA.jwk, **changed}]}


@pytest.mark.parametrize(
    "tree",
    [
        strange(use="enc"),
        strange(alg="RS512"),
        strange(kty="oct", k="c2VjcmV0"),
        strange(key_ops=["sign"]),
        strange(n=7),
        strange(n="!!"),
        strange(kid=5),
        {"keys": [EC.jwk, ED.jwk, "text", None, {}]},
        key_set(rsa_key(bits=1024)),
    ],
)
def test_keys_for_something_else_are_passed_over(tree: Any) -> None:
    document = json.dumps({"keys": [*tree["keys"], rsa_key("fits").jwk]}).encode()
    assert [key.kid for key in read_key_set(document, ["RS256"]).keys] == ["fits"]


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [' + b"{}," * 200 + b"{}]}"]
)
def test_what_is_no_key_set_is_refused(document: bytes) -> None:
    with pytest.raises(InvalidKeySet):
        read_key_set(document, ["RS256"])


# ---- identity ---------------------------------------------------------------------------------------

PROFILE = {
    "name": "Ada Lovelace",
    "given_name": "Ada",
    "email": "ada@example.org",
    "email_verified": True,
    "address": {"formatted": "12 St James's Square", "city": "London"},
    "updated_at": 1_700_000_000,
    "birthdate": "1815-12-10",
    "https://example.org/roles": ["admin"],
    "org": {"name": "engine", "plan": {"seats": 3}},
    "jti": "1",
    "fva": [1, 2],
    "nbf": NOW_S,
}
WHO = {"tokenIdentifier": f"{ISSUER}|ada", "issuer": ISSUER, "subject": "ada"}
KNOWN = {
    "name": "Ada Lovelace",
    "givenName": "Ada",
    "email": "ada@example.org",
    "emailVerified": True,
    "address": "12 St James's Square",
    "updatedAt": "2023-11-14T22:13:20Z",
    "birthday": "1815-12-10",
}


async def test_identity_of_an_oidc_token() -> None:
    assert await discovered(RSA).identity(RSA.sign(claims(**PROFILE))) == {
        **WHO,
        **KNOWN,
        "https://example.org/roles": ["admin"],
        "org": {"name": "engine", "plan": {"seats": 3}},
    }


async def test_identity_of_a_custom_token_has_every_claim_under_its_own_name() -> None:
    identity = await checker(custom(RSA)).identity(RSA.sign(claims(**PROFILE)))
    assert identity == {
        **WHO,
        **KNOWN,
        "given_name": "Ada",
        "email_verified": True,
        "address.formatted": "12 St James's Square",
        "address.city": "London",
        "updated_at": 1_700_000_000,
        "birthdate": "1815-12-10",
        "https://example.org/roles": ["admin"],
        "org.name": "engine",
        "org.plan.seats": 3,
    }


@pytest.mark.parametrize("make", [lambda: checker(custom(RSA)), lambda: discovered(RSA)])
async def test_refreshed_token_is_the_same_identity(make: Any) -> None:
    it = make()
    first = await it.identity(RSA.sign(claims(jti="1", fva=[1, 2])))
    second = await it.identity(
        RSA.sign(claims(jti="2", fva=[3, 4], nbf=NOW_S, iat=NOW_S, exp=NOW_S + 999, aud=[AUDIENCE]))
    )
    assert first == second == WHO


@pytest.mark.parametrize("make", [lambda: checker(custom(RSA)), lambda: discovered(RSA)])
async def test_no_claim_can_stand_in_for_who_the_user_is(make: Any) -> None:
    impostor = {"tokenIdentifier": "x|root", "issuer": "x", "subject": "root"}
    assert await make().identity(RSA.sign(claims(**impostor))) == WHO


async def test_claims_that_no_value_can_hold_are_left_out() -> None:
    odd = {"$type": 1, "": 2, "naïve": 3, "big": 2**70, "fine": 1.0, "email": 5, "email_verified": "true"}
    identity = await discovered(RSA).identity(RSA.sign(claims(**odd)))
    assert identity == {**WHO, "fine": 1, "emailVerified": True}
