"""Which route a request takes, and which routes cannot be."""

from __future__ import annotations

import pytest

from tidewell import Response, Router, http_action
from tidewell.errors import InvalidFunctionCall
from tidewell.routes import InvalidRoute, RouteTable, make_route
from tidewell.validators import InvalidValidator


def table(*routes: tuple[str, str]) -> RouteTable[str]:
    made: RouteTable[str] = RouteTable()
    for method, path in routes:
        is_prefix = path.endswith("*")
        place = path.rstrip("*")
        made.add(make_route(None if is_prefix else place, place if is_prefix else None, method), path)
    return made


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/a/b", "/a/b"),
        ("HEAD", "/a/b", "/a/b"),
        ("POST", "/a/b", "/a/*"),
        ("POST", "/a/b/c/d", "/a/b/*"),
        ("POST", "/a/", "/a/*"),
        ("POST", "/a", None),
        ("GET", "/", None),
        ("PUT", "/anything", "/*"),
        ("get", "/a/b", None),
    ],
)
def test_exact_wins_over_prefixes_and_longer_over_shorter(method: str, path: str, found: str | None) -> None:
    routes = table(("GET", "/a/b"), ("POST", "/a/*"), ("POST", "/a/b/*"), ("PUT", "/*"))
    assert routes.find(method, path) == found


@pytest.mark.parametrize(
    ("path", "prefix", "method", "problem"),
    [
        (None, None, "GET", "either path= or path_prefix="),
        ("/a", "/a/", "GET", "either path= or path_prefix="),
        ("a", None, "GET", "begins with '/'"),
        (7, None, "GET", "begins with '/'"),
        (None, "/a", "GET", "must end with '/'"),
        ("/.files", None, "GET", "is reserved"),
        (None, "/.files/", "GET", "is reserved"),
        ("/a", None, "HEAD", "method is one of GET, POST"),
        ("/a", None, "get", "method is one of GET, POST"),
        ("/a?b", None, "GET", "without"),
    ],
)
def test_route_that_cannot_be_says_why(path: object, prefix: object, method: object, problem: str) -> None:
    with pytest.raises(InvalidRoute, match=problem):
        make_route(path, prefix, method)


def test_router_takes_http_actions_and_each_route_once() -> None:
    @http_action
    def hook(ctx: object, request: object) -> Response:
        return Response("ok")

    router = Router()
    router.route(path="/hook", method="POST", handler=hook)
    with pytest.raises(InvalidValidator, match="the route POST /hook is there twice"):
        router.route(path="/hook", method="POST", handler=hook)
    with pytest.raises(InvalidValidator, match="a function under @http_action"):
        router.route(path="/else", method="POST", handler=lambda ctx, request: None)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(InvalidFunctionCall, match="called by requests alone"):
        hook()
