"""HTTP actions as an app declares them: `http_action`, `Router`, `Request`, `Response`.

```python
router = Router()

@http_action
def hook(ctx, request):
    ctx.run_mutation("inbox:add", {"text": request.json()["text"]})
    return Response("ok", 200, {"content-type": "text/plain"})

router.route(path="/hook", method="POST", handler=hook)
```

Inside the sandbox their place is taken by host objects of the same names
(`sandbox/http_actions.py`). These ones serve editors, type checkers and tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, Protocol

import attrs

from tidewell.errors import InvalidFunctionCall
from tidewell.routes import InvalidRoute, Route, RouteTable, make_route
from tidewell.validators import InvalidValidator

DIRECT_CALL: Final = (
    "is an HTTP action and is called by requests alone; move what others need into a function"
)


@attrs.frozen(eq=False)
class HttpAction:
    """A declared HTTP action. It answers requests that a router brings to it."""

    handler: Callable[[Any, Any], Any]

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise InvalidFunctionCall(f"{getattr(self.handler, '__name__', 'it')!r} {DIRECT_CALL}")


def http_action(handler: Callable[[Any, Any], Any]) -> HttpAction:
    """Declare a function of `(ctx, request)` that answers HTTP requests."""
    return HttpAction(handler)


@attrs.frozen(eq=False)
class Response:
    """What an HTTP action answers. A generator's pieces are sent as they come."""

    body: str | bytes | Iterable[bytes] | None = None
    status: int = 200
    headers: Mapping[str, str] | None = None


class Values(Protocol):
    """Query parameters, fields of a form, or headers (whose names have no case)."""

    def get(self, name: str, default: Any = None) -> Any:
        """The first value of that name."""

    def get_all(self, name: str) -> list[str]:
        """All values of that name, in order."""

    def __contains__(self, name: object) -> bool: ...


class Request(Protocol):
    """What an HTTP action is given."""

    method: str
    url: str
    path: str
    query: Values
    headers: Values

    def body(self) -> bytes: ...

    def text(self) -> str: ...

    def json(self) -> Any: ...

    def form(self) -> Values: ...


class Router:
    """Brings requests to HTTP actions. `http.py` has one in its variable `router`."""

    def __init__(self) -> None:
        self._routes: RouteTable[HttpAction] = RouteTable()
        self.routes: list[Route] = []

    def route(
        self,
        *,
        path: str | None = None,
        path_prefix: str | None = None,
        method: str,
        handler: HttpAction,
    ) -> None:
        """Have `handler` answer requests of `method` for a path, or for all paths below a prefix."""
        if not isinstance(handler, HttpAction):
            raise InvalidValidator("handler is a function under @http_action")
        try:
            route = make_route(path, path_prefix, method)
            self._routes.add(route, handler)
        except InvalidRoute as error:
            raise InvalidValidator(str(error)) from None
        self.routes.append(route)
