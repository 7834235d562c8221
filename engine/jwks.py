"""Signatures of tokens: key sets (RFC 7517), and what they say of a token. PyJWT enters here alone.

A key is bound to one algorithm when the set is read, from its own kind and from what the
provider allows. What a token's header says chooses among these, and never how a key is used:
that is what keeps a public RSA key from being taken for an HMAC secret.

Key sets come from outside. A key that is strange is passed over, since providers publish
keys for other uses in the same set; a set that is no key set is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs
import jwt
import msgspec

KEYS_MAX: Final = 100
TOKEN_BYTES_MAX: Final = 64 * 1024
_RSA_BITS_MAX: Final = 8192  # checking a signature takes longer with the size of the key

# kind and curve -> the algorithm, and the members that make up the public key
_KINDS: Final = {
    ("RSA", None): ("RS256", ("n", "e")),
    ("EC", "P-256"): ("ES256", ("x", "y")),
    ("OKP", "Ed25519"): ("EdDSA", ("x",)),
}
_jws: Final = jwt.PyJWS(options={"enforce_minimum_key_length": True})


class InvalidKeySet(Exception):
    """What should be a key set is none."""


class InvalidToken(Exception):
    """Not a signed token, or not signed as it says."""


@attrs.frozen
class Key:
    kid: str | None
    algorithm: str
    material: jwt.PyJWK = attrs.field(repr=False)


@attrs.frozen
class KeySet:
    keys: tuple[Key, ...]

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key that a token names. One that names none may mean the only key there is."""
        fitting = [key for key in self.keys if key.algorithm == algorithm]
        if kid is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.kid == kid), None)


@attrs.frozen
class Unverified:
    """The parts of a token that nobody has vouched for yet."""

    algorithm: str
    kid: str | None
    payload: bytes


def read_key_set(document: bytes, algorithms: Sequence[str], *, may_hold_secrets: bool = True) -> KeySet:
    """Return the keys of a JWKS document that fit `algorithms`. Raises `InvalidKeySet`.

    Args:
      may_hold_secrets: False refuses a set with private keys, which somebody put where it does not belong.
    """
    try:
        tree = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidKeySet(f"the key set is not JSON: {error}") from None
    entries = tree.get("keys") if type(tree) is dict else None
    if type(entries) is not list or len(entries) > KEYS_MAX:
        raise InvalidKeySet(f'a key set is {{"keys": [...]}} with at most {KEYS_MAX} keys')
    if not may_hold_secrets and any(type(entry) is dict and {"d", "k"} & set(entry) for entry in entries):
        raise InvalidKeySet("the key set holds a secret key; give the public keys alone")
    return KeySet(tuple(key for entry in entries if (key := _read_key(entry, algorithms)) is not None))


def peek(token: str) -> Unverified:
    """Take a token apart without believing it. Raises `InvalidToken`."""
    if len(token) > TOKEN_BYTES_MAX or not token.isascii():
        raise InvalidToken(f"a token is ASCII text of at most {TOKEN_BYTES_MAX:,} bytes")
    try:
        parts = _jws.decode_complete(token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise InvalidToken(str(error)) from None
    algorithm = parts["header"].get("alg")
    if type(algorithm) is not str:
        raise InvalidToken("the token does not say how it is signed")
    return Unverified(algorithm, parts["header"].get("kid"), parts["payload"])


def check_signature(token: str, key: Key) -> None:
    """Raises `InvalidToken` unless `key` signed `token`."""
    try:
        _jws.decode(token, key.material, [key.algorithm])
    except jwt.PyJWTError as error:
        raise InvalidToken(str(error)) from None


def _read_key(entry: object, algorithms: Sequence[str]) -> Key | None:
    if type(entry) is not dict:
        return None
    kind, kid, uses = entry.get("kty"), entry.get("kid"), entry.get("key_ops", ["verify"])
    curve = None if kind == "RSA" else entry.get("crv")
    if type(kind) is not str or not isinstance(curve, str | None) or not isinstance(kid, str | None):
        return None
    algorithm, members = _KINDS.get((kind, curve), ("", ()))
    if (
        algorithm not in algorithms
        or entry.get("alg", algorithm) != algorithm
        or entry.get("use", "sig") != "sig"
        or type(uses) is not list
        or "verify" not in uses
    ):
        return None
    public: dict[str, Any] = {"kty": kind, "crv": curve, **{name: entry.get(name) for name in members}}
    if not all(type(public[name]) is str for name in members):
        return None
    try:
        material = jwt.PyJWK(public, algorithm)
    except jwt.PyJWTError:
        return None
    too_short = material.Algorithm.check_key_length(material.key) is not None
    if too_short or (kind == "RSA" and material.key.key_size > _RSA_BITS_MAX):
        return None
    return Key(kid, algorithm, material)
