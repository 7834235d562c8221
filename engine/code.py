"""Code versions: the pushed source of an app, named by its content.

A version is the files as pushed, the token providers that came with them, what a
worker said of the files (the analysis), and the clock and the seed of the import
phase, which every later run of the same version must see again. The engine keeps
the source as opaque bytes: it never parses, compiles or imports it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import msgspec

from engine.app_settings import FILE as SETTINGS_FILE
from engine.app_settings import Declared, read_declared
from engine.auth_config import FILE as AUTH_FILE
from engine.auth_config import Provider, read_providers
from sandbox.analysis import Analysis, FunctionSpec, decode_analysis
from sandbox.frames import Load, Module
from tidewell.routes import RouteTable

CODE_BYTES_MAX: Final = 8 * 2**20  # function-semantics 19.1, code per deployment
MODULE_BYTES_MAX: Final = 256 * 2**10  # sandbox-threat-model 4, compile step


@attrs.frozen
class CodeVersion:
    hash: str  # 64 hex digits of SHA-256 over the files
    modules: tuple[Module, ...]  # sorted by path
    analysis: bytes
    now_ms: int  # when it was first pushed
    seed: bytes  # of the import phase
    described: Analysis
    functions: Mapping[str, FunctionSpec]  # by canonical path
    auth: bytes = b""  # the token providers as pushed
    settings: bytes = b""  # of tidewell.toml, as pushed
    declared: Declared = attrs.field(factory=dict)  # the environment variables that the settings declare
    providers: tuple[Provider, ...] = ()
    routes: RouteTable[str] = attrs.field(factory=RouteTable, eq=False)  # to paths of HTTP actions

    def load_frame(self) -> Load:
        return Load(
            code=self.hash,
            modules=list(self.modules),
            analyse=False,
            now_ms=self.now_ms,
            seed=self.seed,
            analysis=self.analysis,
        )


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form in which a version is kept in the store."""

    modules: list[Module]
    analysis: bytes
    now_ms: int
    seed: bytes
    auth: bytes = b""
    settings: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


def hash_modules(modules: Sequence[Module], auth: bytes = b"", settings: bytes = b"") -> str:
    """Return the name of a version: SHA-256 over its files in order of their paths, lengths included."""
    digest = hashlib.sha256()
    files = [(module.path, module.source) for module in sorted(modules, key=lambda module: module.path)]
    if auth:
        files.append((AUTH_FILE, auth))
    if settings:
        files.append((SETTINGS_FILE, settings))
    for path, source in files:
        for part in (path.encode(), source):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def make_version(
    modules: Sequence[Module],
    analysis: bytes,
    now_ms: int,
    seed: bytes,
    auth: bytes = b"",
    settings: bytes = b"",
) -> CodeVersion:
    """Put a version together.

    Raises:
      InvalidAnalysis: a worker sent nonsense as the analysis.
      InvalidAuthConfig, InvalidSettings: what the app says of its token providers, or of itself, is wrong.
    """
    ordered = tuple(sorted(modules, key=lambda module: module.path))
    described = decode_analysis(analysis)
    return CodeVersion(
        hash=hash_modules(ordered, auth, settings),
        modules=ordered,
        analysis=analysis,
        now_ms=now_ms,
        seed=seed,
        described=described,
        functions={spec.path: spec for spec in described.functions},
        auth=auth,
        settings=settings,
        declared=read_declared(settings),
        providers=read_providers(auth),
        routes=described.read_routes(),
    )


def encode_version(code: CodeVersion) -> bytes:
    stored = _Stored(list(code.modules), code.analysis, code.now_ms, code.seed, code.auth, code.settings)
    return _encoder.encode(stored)


def decode_version(data: bytes) -> CodeVersion:
    stored = _decoder.decode(data)
    return make_version(
        stored.modules, stored.analysis, stored.now_ms, stored.seed, stored.auth, stored.settings
    )
