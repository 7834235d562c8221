"""`tidewell.toml`: what an app says of itself beside its code. So far: the environment variables it needs.

    [env]
    STRIPE_KEY = "required"
    GREETING = "optional"
    MODE = ["test", "live"]

`read_settings` runs where the folder is; what it returns travels with the code, and
`read_declared` trusts nothing of it. A list names the values that a variable may have, and
it must be set. Variables that are not declared may be set as well.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any, Final

import attrs
import msgspec

FILE: Final = "tidewell.toml"
SETTINGS_BYTES_MAX: Final = 256 * 1024
DECLARED_MAX: Final = 512


class InvalidSettings(Exception):
    """The text is one line: the file, the field, and what it should be."""


@attrs.frozen
class DeclaredVariable:
    is_required: bool
    one_of: tuple[str, ...] = ()  # empty: anything


Declared = Mapping[str, DeclaredVariable]


def read_settings(text: bytes) -> bytes:
    """Return the settings in the text of a `tidewell.toml`, ready to be pushed. Raises `InvalidSettings`."""
    try:
        tree = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{FILE}: {error}") from None
    data = b"" if not tree else _encode(tree)
    read_declared(data)
    return data


def _encode(tree: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(tree, order="deterministic")
    except TypeError as error:
        raise InvalidSettings(f"{FILE}: {error}") from None


def read_declared(data: bytes) -> Declared:
    """Return the variables that settings declare, none without settings. Raises `InvalidSettings`."""
    if not data:
        return {}
    if len(data) > SETTINGS_BYTES_MAX:
        raise InvalidSettings(f"{FILE}: {len(data):,} bytes, at most {SETTINGS_BYTES_MAX:,}")
    try:
        tree = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidSettings(f"{FILE}: {error}") from None
    if type(tree) is not dict or type(tree.get("env", {})) is not dict:
        raise InvalidSettings(f"{FILE}: env: expected a table of variables")
    if unknown := sorted(set(tree) - {"env"}):
        raise InvalidSettings(f"{FILE}: {unknown[0]}: is not a setting of this version, which has [env]")
    declared = tree.get("env", {})
    if len(declared) > DECLARED_MAX:
        raise InvalidSettings(f"{FILE}: env: at most {DECLARED_MAX} variables can be declared")
    return {name: _declared(name, meaning) for name, meaning in declared.items()}


def _declared(name: str, meaning: object) -> DeclaredVariable:
    if meaning in ("required", "optional"):
        return DeclaredVariable(meaning == "required")
    if type(meaning) is list and meaning and all(type(value) is str for value in meaning):
        return DeclaredVariable(True, tuple(meaning))
    raise InvalidSettings(
        f'{FILE}: env.{name}: expected "required", "optional" or a list of the values it may have'
    )


def problems(declared: Declared, variables: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with `variables` for an app that declares `declared`: a line each, by name."""
    found = {}
    for name, wanted in declared.items():
        value = variables.get(name)
        if value is None and wanted.is_required:
            found[name] = (
                f"the environment variable {name} is not set, and {FILE} says that it must be; "
                f"set it with `tidewell env set {name} VALUE`"
            )
        elif value is not None and wanted.one_of and value not in wanted.one_of:
            found[name] = f"the environment variable {name} must be one of {', '.join(wanted.one_of)}"
    return found
