"""The decorators that make a function of a module one that clients can call.

```python
@query
def recent(ctx, author: Id["users"], limit: int = 20) -> list[dict]: ...
```

Inside the sandbox their place is taken by host objects of the same names
(`sandbox/sdk.py`). These ones serve editors, type checkers and tests: they check
the signature at once and keep what was declared.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NoReturn, overload

import attrs

from tidewell.errors import InvalidFunctionCall
from tidewell.signatures import UNSET, Parameter, Signature, read_returns, read_signature
from tidewell.validators import InvalidValidator, Validator

Kind = Literal["query", "mutation", "action"]
Visibility = Literal["public", "internal"]

RETRIES_MAX: Final = 1000  # of one mutation; what is not committed after so many attempts never will be

Handler = Callable[..., Any]


@attrs.frozen(eq=False)
class Function:
    """A declared function. It is called by its path, never directly."""

    kind: Kind
    visibility: Visibility
    handler: Handler
    signature: Signature
    returns: Validator | None
    retries: int | None

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise InvalidFunctionCall(direct_call_message(self.kind, getattr(self.handler, "__name__", "it")))


def direct_call_message(kind: Kind, name: str) -> str:
    return (
        f"{name!r} is a {kind} and cannot be called directly; use ctx.run_{kind}(...), "
        "or move the shared part into a function without a decorator"
    )


class Decorator:
    """`query`, `mutation`, ...: used bare, or with `args=`, `returns=` and `retries=`."""

    __slots__ = ("_kind", "_visibility")

    def __init__(self, kind: Kind, visibility: Visibility) -> None:
        self._kind: Kind = kind
        self._visibility: Visibility = visibility

    @overload
    def __call__(self, handler: Handler, /) -> Function: ...

    @overload
    def __call__(
        self,
        handler: None = None,
        /,
        *,
        args: Mapping[str, Any] | Validator | None = None,
        returns: Any = None,
        retries: int | None = None,
    ) -> Callable[[Handler], Function]: ...

    def __call__(
        self,
        handler: Handler | None = None,
        /,
        *,
        args: Mapping[str, Any] | Validator | None = None,
        returns: Any = None,
        retries: int | None = None,
    ) -> Function | Callable[[Handler], Function]:
        """Declare a function.

        Args:
          args: the validators of its arguments, in place of annotations.
          returns: the validator of its result, in place of the return annotation.
          retries: attempts of a mutation after the first, when others are in the way.
        """
        check_retries(retries, self._kind)

        def declare(handler: Handler) -> Function:
            parameters, annotation = _real_signature(handler)
            return Function(
                self._kind,
                self._visibility,
                handler,
                read_signature(parameters, args),
                read_returns(annotation, returns),
                retries,
            )

        return declare if handler is None else declare(handler)


def check_retries(retries: object, kind: Kind) -> None:
    if retries is None:
        return
    if kind != "mutation":
        raise InvalidValidator(f"retries= is for mutations; a {kind} has no conflicts to retry after")
    if type(retries) is not int or not 0 <= retries <= RETRIES_MAX:
        raise InvalidValidator(f"retries= is a number from 0 to {RETRIES_MAX}")


def _real_signature(handler: Handler) -> tuple[list[Parameter], object]:
    signature = inspect.signature(handler, eval_str=True)
    parameters = [
        Parameter(
            name=parameter.name,
            annotation=UNSET if parameter.annotation is parameter.empty else parameter.annotation,
            has_default=parameter.default is not parameter.empty,
            is_plain=parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY),
            takes_rest=parameter.kind == parameter.VAR_KEYWORD,
        )
        for parameter in signature.parameters.values()
    ]
    returned = signature.return_annotation
    return parameters, UNSET if returned is signature.empty else returned


query: Final = Decorator("query", "public")
mutation: Final = Decorator("mutation", "public")
action: Final = Decorator("action", "public")
internal_query: Final = Decorator("query", "internal")
internal_mutation: Final = Decorator("mutation", "internal")
internal_action: Final = Decorator("action", "internal")
