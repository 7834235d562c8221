"""The policy tables agree with what is built from them, and every refusal says what to write instead."""

from __future__ import annotations

import json

import pytest
import surface

from sandbox import policy
from sandbox.compiler import CompileError, compile_module
from sandbox.facades.registry import BUILDERS
from sandbox.guest import GuestRuntime
from sandbox.host import HostObject


def test_every_facade_of_the_policy_is_built_and_no_other() -> None:
    assert set(BUILDERS) == set(policy.FACADES)
    runtime = GuestRuntime()
    for name in policy.FACADES:
        members = dir(runtime.facade(name))
        assert members
        assert not [member for member in members if member.startswith("_")]
        assert not [member for member in members if member in policy.DENIED_ATTRIBUTES], name


def test_every_builtin_of_the_policy_exists_and_no_other() -> None:
    listed = {
        *policy.BUILTIN_TYPES, *policy.BUILTIN_FUNCTIONS, *policy.BUILTIN_CONSTANTS,
        *policy.BUILTIN_EXCEPTIONS,
    }  # fmt: skip
    assert set(GuestRuntime().builtins) == listed
    assert not listed & set(policy.REFUSED_NAMES)


def test_guests_are_given_names_they_cannot_spell_for_everything_else() -> None:
    runtime = GuestRuntime()
    for name in set(runtime.namespace("m")["__builtins__"]) - set(runtime.builtins):
        assert name.startswith("_"), name
        assert name.endswith("_"), name


@pytest.mark.parametrize("name", sorted(policy.REFUSED_NAMES))
def test_a_refused_name_is_an_error_with_line_and_replacement(name: str) -> None:
    with pytest.raises(CompileError) as refused:
        compile_module(f"a = 1\nx = {name}\n", "posts.py", "posts")
    assert (refused.value.filename, refused.value.line) == ("posts.py", 2)
    assert policy.REFUSED_NAMES[name].instead in refused.value.message


@pytest.mark.parametrize("name", sorted(set(policy.REFUSED_NAMES) - {"super"}))
def test_a_refused_name_is_free_for_the_author(name: str) -> None:
    compile_module(f"def {name}(a):\n    return a\nx = {name}(1)\n", "posts.py", "posts")


@pytest.mark.parametrize("name", sorted(policy.DENIED_ATTRIBUTES))
def test_a_denied_attribute_is_denied_in_every_position(name: str) -> None:
    for source in (
        f"x = [].{name}",
        f"[].{name} = 1",
        f"del [].{name}",
        f"[].{name} += 1",
        f"for [].{name} in []: pass",
        f"x = lambda a: a.{name}()",
        f"match 1:\n    case int({name}=1): pass",
        f"match 1:\n    case a.{name}: pass",
    ):
        with pytest.raises(CompileError):
            compile_module(source, "posts.py", "posts")
    runtime = GuestRuntime()
    namespace = runtime.namespace("m")
    with pytest.raises(AttributeError):
        runtime.run(compile_module(f"getattr([], {name!r})", "m.py", "m"), namespace)


@pytest.mark.parametrize("name", sorted(policy.REFUSED_MODULES))
def test_a_refused_module_is_an_error_unless_the_app_has_one(name: str) -> None:
    with pytest.raises(CompileError, match="is not available in functions, because"):
        compile_module(f"import {name}", "posts.py", "posts")
    compile_module(f"import {name}", "posts.py", "posts", frozenset({name}))


def test_the_digest_covers_the_tables() -> None:
    assert len(policy.DIGEST) == 64
    assert policy._digest() == policy.DIGEST


def test_no_type_within_reach_has_grown_an_attribute() -> None:
    assert surface.RECORD.exists(), "record the surface of this version: tests/sandbox/surface.py --write"
    assert surface.language_surface() == json.loads(surface.RECORD.read_text())


def test_a_host_object_shows_what_it_lists_or_is_no_class() -> None:
    with pytest.raises(TypeError, match="_exposed_"):

        class Careless(HostObject):
            __slots__ = ()

            def leak(self) -> None: ...

    with pytest.raises(TypeError, match="__slots__"):

        class Open(HostObject):
            _exposed_ = frozenset()
