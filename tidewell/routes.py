"""Routes of HTTP actions: which there may be, and which one a request takes.

An exact path wins over prefixes, and of these the longest. `HEAD` is answered by the
route for `GET`.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import attrs

T = TypeVar("T")

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ROUTES_MAX: Final = 4096
PATH_LENGTH_MAX: Final = 1024
_RESERVED: Final = "/.files"


class InvalidRoute(ValueError):
    """A route that cannot be. The text says how to write it."""


@attrs.frozen
class Route:
    path: str
    is_prefix: bool
    method: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}{'*' if self.is_prefix else ''}"


def make_route(path: object, path_prefix: object, method: object) -> Route:
    """Return the route that the arguments of `router.route` mean. Raises `InvalidRoute`."""
    if (path is None) == (path_prefix is None):
        raise InvalidRoute("a route takes either path= or path_prefix=")
    text, name = (path_prefix, "path_prefix") if path is None else (path, "path")
    if type(text) is not str or not text.startswith("/"):
        raise InvalidRoute(f"{name} is text that begins with '/'")
    if len(text) > PATH_LENGTH_MAX or "?" in text or "#" in text:
        raise InvalidRoute(f"{name} is a path of at most {PATH_LENGTH_MAX} characters, without '?' and '#'")
    if path is None and not text.endswith("/"):
        raise InvalidRoute(f"path_prefix must end with '/': {text!r}")
    if text == _RESERVED or text.startswith(_RESERVED + "/"):
        raise InvalidRoute(f"{_RESERVED} is reserved")
    if type(method) is not str or method not in METHODS:
        raise InvalidRoute(f"method is one of {', '.join(METHODS)}")
    return Route(text, path is None, method)


@attrs.define(eq=False)
class RouteTable(Generic[T]):
    """What belongs to each route."""

    _exact: dict[tuple[str, str], T] = attrs.field(factory=dict, init=False)
    _prefixes: dict[tuple[str, str], T] = attrs.field(factory=dict, init=False)

    def add(self, route: Route, target: T) -> None:
        """Raises `InvalidRoute` for a route that is there already."""
        routes = self._prefixes if route.is_prefix else self._exact
        key = (route.method, route.path)
        if key in routes:
            raise InvalidRoute(f"the route {route} is there twice")
        if len(self._exact) + len(self._prefixes) >= ROUTES_MAX:
            raise InvalidRoute(f"more than {ROUTES_MAX} routes")
        routes[key] = target

    def find(self, method: str, path: str) -> T | None:
        method = "GET" if method == "HEAD" else method
        found = self._exact.get((method, path))
        end = path.rfind("/")
        while found is None and end >= 0:
            found = self._prefixes.get((method, path[: end + 1]))
            end = path.rfind("/", 0, end)
        return found
