"""Keys, tokens and key sets of tests. Keys are made once for a run; nothing of them is written anywhere."""

from __future__ import annotations

import base64
import json
from typing import Any

import attrs
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.example"
AUDIENCE = "the-app"
NOW_S = 1_795_360_169


@attrs.frozen
class SigningKey:
    kid: str
    algorithm: str
    private: Any = attrs.field(repr=False)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key, as a key set has it."""
        kinds: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
        public = json.loads(kinds[self.algorithm].to_jwk(self.private.public_key()))
        public.pop("key_ops", None)
        return {**public, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    @property
    def public_pem(self) -> bytes:
        data: bytes = self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return data

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A token; a header of None is left out."""
        parts = {"kid": self.kid, **header}
        return jwt.encode(
            claims,
            self.private,
            parts.pop("alg", self.algorithm),
            {name: value for name, value in parts.items() if value is not None},
        )


def rsa_key(kid: str = "rsa", bits: int = 2048) -> SigningKey:
    return SigningKey(kid, "RS256", rsa.generate_private_key(65537, bits))


def ec_key(kid: str = "ec") -> SigningKey:
    return SigningKey(kid, "ES256", ec.generate_private_key(ec.SECP256R1()))


def ed_key(kid: str = "ed") -> SigningKey:
    return SigningKey(kid, "EdDSA", ed25519.Ed25519PrivateKey.generate())


def key_set(*keys: SigningKey) -> dict[str, Any]:
    return {"keys": [key.jwk for key in keys]}


def data_uri(tree: Any) -> str:
    return "data:application/json;base64," + base64.b64encode(json.dumps(tree).encode()).decode()


def custom(*keys: SigningKey, **fields: Any) -> dict[str, Any]:
    """An entry of auth.config.json; a field of None is left out."""
    entry = {
        "type": "customJwt",
        "issuer": ISSUER,
        "applicationID": AUDIENCE,
        "algorithm": keys[0].algorithm if keys else "RS256",
        "jwks": data_uri(key_set(*keys)),
        **fields,
    }
    return {name: value for name, value in entry.items() if value is not None}


def claims(**changed: Any) -> dict[str, Any]:
    """Claims of a good token; one of None is left out."""
    all_claims = {
        "iss": ISSUER,
        "sub": "ada",
        "aud": AUDIENCE,
        "iat": NOW_S - 10,
        "exp": NOW_S + 60,
        **changed,
    }
    return {name: value for name, value in all_claims.items() if value is not None}
