"""Objects of the host that guests may hold.

A guest loads attributes without asking anybody, as long as the name passes the
policy (no leading underscore, nothing denied). So what a host object shows is
exactly its public attributes, and this base class makes that set explicit:

* state lives in slots whose names start with an underscore, out of reach;
* every public name of the class must be in `_exposed_`, and the reverse, or the
  class statement fails. Nothing becomes visible by accident;
* instances have no `__dict__`, so nothing can be added to them.

A class that a guest may write items into (`box[key] = value`) says so with
`_writable_ = True`; attributes of host objects are never writable. What is not a
plain method (a subscript, a length, iteration) is the ordinary special method of
the class, written by the host, and charges the meter itself.
"""

from __future__ import annotations

import re
import types
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from sandbox import policy

_NAME_MAX: Final = 64  # of a name that is compared with those that there are
_INNER_CAPITAL: Final = re.compile("(?<=[a-z0-9])(?=[A-Z])")
_CALLED_OTHERWISE: Final = {"neq": "ne"}  # in the language that many apps come from


class HostObject:
    """Base of everything of the host that a guest can hold. See the module's text."""

    __slots__ = ()

    _exposed_: ClassVar[frozenset[str]] = frozenset()
    _writable_: ClassVar[bool] = False

    if not TYPE_CHECKING:  # to the type checker, an attribute that is missing stays an error

        def __getattr__(self, name: str) -> NoReturn:
            """Say what is missing, and what `withIndex` is called here. Asked where nothing was found."""
            text = f"'{type(self).__name__}' object has no attribute '{name}'"
            if len(name) <= _NAME_MAX:
                here = _CALLED_OTHERWISE.get(name) or _INNER_CAPITAL.sub("_", name).lower()
                if here in self._exposed_:
                    text += f"; it is called {here}"
            raise AttributeError(text)

    def _narrowed_(self, fields: tuple[str, ...]) -> HostObject:
        """Return what reads the same documents for these fields of them alone."""
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__slots__" not in cls.__dict__:
            raise TypeError(f"{cls.__name__} is a host object and needs __slots__")
        public = {name for base in cls.__mro__ for name in vars(base) if not name.startswith("_")}
        if public != cls._exposed_:
            odd = ", ".join(sorted(public ^ cls._exposed_))
            raise TypeError(f"{cls.__name__}: _exposed_ and the public names differ in {odd}")


def shown(value: Any) -> Any:
    """Return what a guest holds of a function of the host: its call, which has no attributes to write."""
    return value.__call__ if type(value) is types.FunctionType else value


class Named(HostObject):
    """Something whose attributes are names that users chose, so that any name goes: `api.messages.send`."""

    __slots__ = ()

    def _name_(self, name: str) -> Any:
        raise NotImplementedError


def touching(value: Any, fields: tuple[str, ...]) -> Any:
    """Return `value`, knowing that of the documents it reads next only `fields` will be looked at."""
    return value._narrowed_(fields) if isinstance(value, HostObject) else value


def named(value: Any, name: str) -> Any:
    """Return `value.name` where the name is denied for everything but a `Named`."""
    if isinstance(value, Named):
        return value._name_(name)
    raise AttributeError(policy.DENIED_ATTRIBUTES[name].text(f"the attribute {name}"))
