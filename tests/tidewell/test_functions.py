"""The decorators and references, as an editor and a test outside the sandbox see them."""

from typing import Any

import pytest

import tidewell
from tidewell import Id, action, api, internal, internal_query, mutation, query, v
from tidewell.errors import InvalidFunctionCall
from tidewell.refs import canonical_path, path_of
from tidewell.validators import InvalidValidator


def test_annotations_and_args_build_one_tree() -> None:
    @query
    def annotated(ctx: Any, author: Id["users"], limit: int = 20, anything: Any = None) -> list[str]:  # type: ignore[name-defined]  # noqa: F821  # the name of a table
        raise NotImplementedError

    @query(
        args={"author": v.id("users"), "limit": v.optional(int), "anything": v.optional(v.any())},
        returns=v.array(v.string()),
    )
    def spelled(ctx, author, limit=20, anything=None):  # type: ignore[no-untyped-def]  # the spelling under test
        raise NotImplementedError

    assert annotated.signature == spelled.signature
    assert annotated.returns == spelled.returns
    assert (annotated.kind, annotated.visibility) == ("query", "public")


def test_a_lone_args_takes_everything_and_no_parameter_takes_nothing() -> None:
    @mutation
    def anything(ctx, args): ...  # type: ignore[no-untyped-def]  # the spelling under test

    @mutation(retries=20)
    def nothing(ctx): ...  # type: ignore[no-untyped-def]  # the spelling under test

    @internal_query
    def unannotated(ctx, x, from_): ...  # type: ignore[no-untyped-def]  # the spelling under test

    assert anything.signature.arguments is None
    assert nothing.signature.arguments == v.object({})
    assert nothing.retries == 20
    assert unannotated.signature.arguments == v.object({"x": v.any(), "from": v.any()})
    assert unannotated.signature.parameters == {"from": "from_"}
    assert unannotated.visibility == "internal"


def test_what_args_declares_may_be_taken_together() -> None:
    @query(args={"a": v.any(), "b": v.optional(v.any()), "from": v.any()})
    def together(ctx, a, **rest): ...  # type: ignore[no-untyped-def]  # the spelling under test

    assert together.signature.arguments == v.object({"a": v.any(), "b": v.optional(v.any()), "from": v.any()})
    assert together.signature.parameters == {}


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: query(lambda: 0), "takes ctx"),
        (lambda: query(lambda ctx, *rest: 0), "cannot be given by name"),
        (lambda: query(lambda ctx, **rest: 0), r"'\*\*rest' takes is not declared; write args="),
        (lambda: query(args={"a": v.any()})(lambda ctx: 0), "not a parameter"),
        (lambda: query(args={"a": v.any()})(lambda ctx, args: 0), "arrive by name"),
        (lambda: query(args={})(lambda ctx, a: 0), "not declared in args="),
        (lambda: query(args={"a": v.optional(v.any())})(lambda ctx, a: 0), "needs a default: a=None"),
        (lambda: query(args=v.string())(lambda ctx: 0), "args= is a dict"),
        (lambda: action(retries=3), "retries= is for mutations"),
        (lambda: mutation(retries=-1), "from 0 to"),
    ],
)
def test_a_mistake_in_a_declaration_says_what_is_wrong(declare: Any, message: str) -> None:
    with pytest.raises(InvalidValidator, match=message):
        declare()


def test_a_declared_function_is_not_called_directly() -> None:
    @query
    def recent(ctx): ...  # type: ignore[no-untyped-def]  # the spelling under test

    with pytest.raises(InvalidFunctionCall, match=r"ctx\.run_query"):
        recent(None)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("messages", "messages:default"),
        ("messages.js:default", "messages:default"),
        ("messages:default", "messages:default"),
        ("admin/reports:daily", "admin/reports:daily"),
        ("messages:", None),
        ("a-b:c", None),
        ("a//b:c", None),
        ("..:c", None),
        ("m:not an identifier", None),
        ("m" * 65 + ":f", None),
        ("", None),
    ],
)
def test_a_path_has_one_canonical_form(written: str, canonical: str | None) -> None:
    assert canonical_path(written) == canonical


def test_references_name_functions() -> None:
    assert path_of(api.posts.recent) == "posts:recent"
    assert path_of(internal.admin.reports.daily) == "admin/reports:daily"
    assert path_of(api.posts.import_) == "posts:import"
    assert path_of(api.posts) is None
    assert path_of("posts:recent") == "posts:recent"
    assert path_of(3) is None


def test_a_name_for_later_says_so() -> None:
    with pytest.raises(ImportError, match="Crons is not available"):
        _ = tidewell.Crons
