"""What a person says of an app for `tidewell fuzz`: what must always hold, and what may happen.

```python
from tidewell.testing import invariant, setup, step

@setup
def one_cup_is_left(server):
    server.mutation("shop:stock", {"name": "tea", "count": 1})

@invariant
def nothing_is_sold_twice(db):
    for item in db.query("items"):
        assert item["count"] >= 0

step("shop:buy", {"name": st.just("tea")})
```

While a file of rules is loaded, each of the three enters what it declares into the
`Rules` that are being gathered. Loading runs the file: it belongs to whoever called the
command, and is never part of what is pushed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from sandbox.database import DatabaseReader
from tidewell.refs import path_of

RULES_FILE: Final = "fuzz.py"  # beside the app's folder, or in its folder `tests`

Invariant = Callable[[DatabaseReader], object]
Setup = Callable[[Any], object]  # takes a BlockingTestServer
F = TypeVar("F", bound=Callable[..., object])


class InvalidRules(Exception):
    """The rules cannot be used; the text is one line that says what to do."""


@attrs.frozen
class Step:
    """A call that may happen; a strategy or a value for each argument not left to its validator."""

    path: str
    args: Mapping[str, Any]
    users: tuple[str | None, ...]  # who may call, by subject; None is nobody in particular


@attrs.define
class Rules:
    invariants: list[Invariant] = attrs.field(factory=list)
    steps: list[Step] = attrs.field(factory=list)  # none: every public mutation and action of the app
    setups: list[Setup] = attrs.field(factory=list)
    module: str = "fuzz"  # where readable code finds them


_gathering: list[Rules] = []


def invariant(check: F) -> F:
    """Declare what must hold after every transaction: a function of `db`, which is `ctx.db`, to read.

    It is broken when the function raises, as `assert` does, or returns False.
    """
    for rules in _gathering[-1:]:
        rules.invariants.append(check)
    return check


def setup(prepare: F) -> F:
    """Declare what is done before anything happens: a function of a `BlockingTestServer`."""
    for rules in _gathering[-1:]:
        rules.setups.append(prepare)
    return prepare


def step(
    function: object, args: Mapping[str, Any] | None = None, *, users: Sequence[str | None] = (None,)
) -> Step:
    """Declare a call that may happen at any time: a mutation, an action or a query.

    Args:
      function: its path or reference.
      args: a Hypothesis strategy, or a value, for each argument that is not to be derived from its validator.
      users: the subjects of those who may make the call; None is nobody in particular.
    """
    path = path_of(function)
    if path is None:
        raise InvalidRules(f"{function!r} is no path of a function, as 'posts:like' is")
    declared = Step(path, dict(args or {}), tuple(users))
    for rules in _gathering[-1:]:
        rules.steps.append(declared)
    return declared


def documents(table: str) -> Any:
    """Return a strategy of ids of documents that exist in `table` when the call is made.

    The call waits until there is one.
    """
    from engine.testing.strategies import documents as strategy  # with Hypothesis, which only `fuzz` needs

    return strategy(table)


def find_rules(app: Path) -> Path:
    """Return the file of rules that belongs to an app. Raises `InvalidRules`."""
    places = [app.resolve().parent / RULES_FILE, app / "tests" / RULES_FILE]
    for place in places:
        if place.is_file():
            return place
    raise InvalidRules(
        f"there is no {places[0]} that says what must hold; write one (docs/testing.md), or give --rules FILE"
    )


def load_rules(file: Path) -> Rules:
    """Run a file of rules and return what it declares. Raises `InvalidRules`, and what the file raises."""
    module_name = file.stem
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise InvalidRules(f"{file} is not a file of Python")
    rules = Rules(module=module_name)
    with _importing_from(file.resolve().parent):
        _gathering.append(rules)
        try:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        finally:
            _gathering.pop()
    if not rules.invariants:
        raise InvalidRules(f"{file} declares no @invariant; without one nothing can be found to be broken")
    return rules


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
