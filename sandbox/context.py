"""`ctx`: what a handler is given, one class per kind of function (function-semantics 7.2).

Frozen faces over the execution. What a kind does not have is there all the same
and says why, because "no attribute 'db'" would teach nobody anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

import attrs

from sandbox.convert import take_in_wide
from sandbox.database import DatabaseReader, DatabaseWriter, NotAllowed
from sandbox.execution import Execution, Level
from sandbox.facades.random_ import Random
from sandbox.fetching import TIMEOUT_S, Fetched, fetch_message
from sandbox.file_links import FileLinks
from sandbox.files import ActionStorage, AskFiles, MutationStorage, Storage
from sandbox.guest import GuestRuntime
from sandbox.host import HostObject
from sandbox.later import Later, Laters, checked_laters
from sandbox.limits import DEFAULTS
from sandbox.sdk import path_named
from tidewell.errors import InvalidValue, TidewellError
from tidewell.ranges import IndexRange
from tidewell.values import Value, normalize

ENVIRONMENT_TABLE: Final = "_environment_variables"  # rows of {"name", "value"}, written by the engine
ENVIRONMENT_INDEX: Final = "by_name"
BUCKET_SECONDS_MAX: Final = 366 * 24 * 3600
OUTSIDE: Final = {
    "fetch": "what it gets could not be had again when it is run again; fetch in an action",
    "later": "its calls are one transaction and run one after another; use it in an action",
    "parallel": "its calls are one transaction and run one after another; use it in an action",
}
OBSERVED_MAX: Final = 64  # different things that one execution may have looked at


@attrs.frozen
class Arguments:
    """Arguments of a nested call, and whether integers in them need 64 bits (`convert.take_in_wide`)."""

    values: dict[str, Value]
    has_wide: bool = False


# (level, "run_query" | "run_mutation" | "run_action", canonical path, arguments, limits) -> result
RunNested = Callable[[Level, str, str, Arguments, dict[str, int] | None], Value]


# (level, operation, canonical path, arguments) -> the call, checked and not made
PrepareNested = Callable[[Level, str, str, Arguments], Later]
# (level, calls) -> of each its result, or the exception that it ended with
RunTogether = Callable[[Level, list[Later]], list[Any]]


@attrs.frozen
class Surroundings:
    """What the faces of one call need besides its level."""

    runtime: GuestRuntime
    run_nested: RunNested
    prepare_nested: PrepareNested
    run_together: RunTogether
    request: dict[str, Value]
    environment: dict[str, Value] | None  # None: read the rows of the table
    file: str
    line: int
    links: FileLinks
    ask_files: AskFiles


class Log(HostObject):
    """`ctx.log`: lines of a level, like `print` makes them."""

    __slots__ = ("_runtime", "_write")
    _exposed_ = frozenset({"debug", "error", "info", "warn"})

    def __init__(self, runtime: GuestRuntime, write: Callable[[str, str], None]) -> None:
        self._runtime = runtime
        self._write = write

    def debug(self, *values: Any) -> None:
        self._line("DEBUG", values)

    def info(self, *values: Any) -> None:
        self._line("INFO", values)

    def warn(self, *values: Any) -> None:
        self._line("WARN", values)

    def error(self, *values: Any) -> None:
        self._line("ERROR", values)

    def _line(self, level: str, values: tuple[Any, ...]) -> None:
        texts = self._runtime.texts
        self._write(level, texts.limit(" ".join([texts.str(value) for value in values])))


class Auth(HostObject):
    __slots__ = ("_execution",)
    _exposed_ = frozenset({"get_user_identity"})

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def get_user_identity(self) -> dict[str, Value] | None:
        """The claims of the caller, None when anonymous. Reading them makes the result the caller's own."""
        self._execution.observed.add("identity")
        claims = self._execution.identity
        copied: dict[str, Value] | None = normalize(claims)
        return copied


class Environment(HostObject):
    """`ctx.env`: variables of the deployment. Queries and mutations read them as rows."""

    __slots__ = ("_level", "_variables")
    _exposed_ = frozenset({"get"})

    def __init__(self, level: Level, variables: dict[str, Value] | None) -> None:
        self._level = level
        self._variables = variables

    def get(self, name: str, default: Any = None) -> Any:
        if type(name) is not str:
            raise TypeError("the name of an environment variable is text")
        found = self._find(name)
        return default if found is None else found

    def __getitem__(self, name: str) -> Any:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def _find(self, name: str) -> Any:
        if self._variables is not None:
            return self._variables.get(name)
        database = self._level.database
        if database.table_number(ENVIRONMENT_TABLE) is None:
            return None
        rows = database.scan_rows(ENVIRONMENT_TABLE, ENVIRONMENT_INDEX, IndexRange((name,)))
        row = next(rows, None)
        return None if row is None else row[1].get("value")


class Meta(HostObject):
    __slots__ = ("_level", "_surroundings")
    _exposed_ = frozenset({"function", "request", "transaction_metrics"})

    def __init__(self, level: Level, surroundings: Surroundings) -> None:
        self._level = level
        self._surroundings = surroundings

    def function(self) -> dict[str, Value]:
        """Path and kind of the running function, and where it is written."""
        around = self._surroundings
        return {"path": self._level.path, "kind": self._level.kind, "file": around.file, "line": around.line}

    def transaction_metrics(self) -> dict[str, dict[str, int]]:
        """What is used of each limit of the transaction, and what remains."""
        if self._level.kind == "action":
            raise NotAllowed("an action is not a transaction and has no transaction metrics")
        self._level.observe_sizes()
        return self._level.limits.metrics(self._level.database.usage)

    def request(self) -> dict[str, Value]:
        """Who calls, and from where: ip, user agent, request id."""
        if self._level.kind == "query":
            raise NotAllowed("a query cannot look at the request: its result is shared by all callers")
        copied: dict[str, Value] = normalize(self._surroundings.request)
        return copied


class Context(HostObject):
    """What every kind of function has."""

    __slots__ = ("_level", "_surroundings")  # the faces below are made when asked for: most calls need none
    _exposed_ = frozenset(
        {
            "auth",
            "db",
            "env",
            "fetch",
            "later",
            "log",
            "meta",
            "now",
            "parallel",
            "random",
            "run_action",
            "run_mutation",
            "run_query",
            "scheduler",
            "storage",
            "time_bucket",
            "uuid4",
        }
    )

    def __init__(self, level: Level, surroundings: Surroundings) -> None:
        self._level = level
        self._surroundings = surroundings

    @property
    def auth(self) -> Auth:
        return Auth(self._level.execution)

    @property
    def env(self) -> Environment:
        return Environment(self._level, self._surroundings.environment)

    @property
    def log(self) -> Log:
        return Log(self._surroundings.runtime, self._level.execution.log)

    @property
    def meta(self) -> Meta:
        return Meta(self._level, self._surroundings)

    @property
    def random(self) -> Random:
        return Random(self._surroundings.runtime)

    @property
    def db(self) -> Any:
        raise NotAllowed(
            "an action has no ctx.db; read and write through ctx.run_query(...) and ctx.run_mutation(...)"
        )

    @property
    def scheduler(self) -> NoReturn:
        raise NotAllowed("this version of Tidewell does not have the scheduler")

    @property
    def storage(self) -> Storage:
        around = self._surroundings
        if self._level.kind == "action":
            return ActionStorage(self._level, around.links, self.env.get, around.ask_files)
        kind = MutationStorage if self._level.kind == "mutation" else Storage
        return kind(self._level, around.links, self.env.get)

    @property
    def later(self) -> Laters:
        """Calls for `parallel`, in an action."""
        self._refuse("later")
        return Laters(self._run_later, self._fetch_later)

    def fetch(
        self,
        url: Any,
        *,
        method: Any = "GET",
        headers: Any = None,
        body: Any = None,
        json: Any = None,
        timeout: Any = None,
        redirect: Any = "follow",
    ) -> Fetched:
        """Make an HTTP request, from an action; raises `FunctionError` when there is no answer."""
        self._refuse("fetch")
        asked = self._fetch_later(
            url, method=method, headers=headers, body=body, json=json, timeout=timeout, redirect=redirect
        )
        (answer,) = self._together([asked], keeps_failures=False)
        fetched: Fetched = answer
        return fetched

    def parallel(self, *calls: Any, return_exceptions: Any = False) -> list[Any]:
        """Make calls of `ctx.later` side by side; their results, in the order of the calls.

        All of them end before this does. Then the first that failed raises, or with
        `return_exceptions` stands in the list as its exception.
        """
        self._refuse("parallel")
        return self._together(checked_laters(calls), keeps_failures=bool(return_exceptions))

    def _together(self, calls: list[Later], *, keeps_failures: bool) -> list[Any]:
        results = self._surroundings.run_together(self._level, calls)
        for result in results:
            if isinstance(result, Exception) and not keeps_failures:
                raise result
        return results

    def _run_later(self, operation: str, fn: Any, args: Any) -> Later:
        path, taken = self._taken_call(fn, args)
        return self._surroundings.prepare_nested(self._level, operation, path, taken)

    def _fetch_later(self, url: Any, *, timeout: Any, **options: Any) -> Later:
        runtime = self._surroundings.runtime
        wait_s = TIMEOUT_S if timeout is None else timeout
        message = fetch_message(runtime, url, timeout=wait_s, **options)
        return Later("fetch", "ctx.fetch", message, lambda answer: Fetched(runtime, answer))

    def now(self) -> int:
        """Milliseconds since the epoch; the same throughout a query or a mutation."""
        execution = self._level.execution
        execution.observed.add("time")
        return int(execution.now_ms)

    def time_bucket(self, seconds: Any) -> int:
        """The time rounded down to `seconds`, in milliseconds. A query runs again when its bucket ends."""
        if type(seconds) is not int or not 1 <= seconds <= BUCKET_SECONDS_MAX:
            raise InvalidValue("time_bucket", f"takes whole seconds from 1 to {BUCKET_SECONDS_MAX}")
        execution = self._level.execution
        if len(execution.observed) > OBSERVED_MAX:
            raise InvalidValue("time_bucket", "was asked for too many different sizes")
        execution.observed.add(f"bucket:{seconds}")
        return int(execution.now_ms) // (seconds * 1000) * seconds * 1000

    def uuid4(self) -> str:
        return self.random.uuid4()

    def run_query(self, fn: Any, args: Any = None, *, limits: Any = None) -> Value:
        """Call a query, in the same transaction if there is one; the arguments are one dict."""
        return self._run("run_query", fn, args, limits)

    def run_mutation(self, fn: Any, args: Any = None, *, limits: Any = None) -> Value:
        """Call a mutation; what it wrote is undone if it fails."""
        return self._run("run_mutation", fn, args, limits)

    def run_action(self, fn: Any, args: Any = None, *, limits: Any = None) -> Value:
        """Call an action, from an action."""
        return self._run("run_action", fn, args, limits)

    def _run(self, operation: str, fn: Any, args: Any, limits: Any) -> Value:
        self._refuse(operation)
        path, taken = self._taken_call(fn, args)
        wanted = None if limits is None else _checked_limits(limits)
        return self._surroundings.run_nested(self._level, operation, path, taken, wanted)

    def _taken_call(self, fn: Any, args: Any) -> tuple[str, Arguments]:
        path = path_named(fn)
        taken, has_wide = take_in_wide({} if args is None else args, "args", self._level.execution.charge)
        if type(taken) is not dict:
            raise InvalidValue("args", f"the arguments of {path} are one dict, found a {type(args).__name__}")
        return path, Arguments(taken, has_wide)

    def _refuse(self, operation: str) -> None:
        """Raise when this kind of function cannot do `operation`."""


class QueryContext(Context):
    __slots__ = ("_db",)
    _exposed_ = Context._exposed_

    def __init__(self, level: Level, surroundings: Surroundings) -> None:
        super().__init__(level, surroundings)
        self._db = DatabaseReader(level)

    @property
    def db(self) -> DatabaseReader:
        return self._db

    def _refuse(self, operation: str) -> None:
        if operation in OUTSIDE:
            raise NotAllowed(f"a query cannot use ctx.{operation}: {OUTSIDE[operation]}")
        if operation != "run_query":
            raise NotAllowed(
                f"a query cannot use ctx.{operation}(): it only reads; make it a mutation or an action"
            )


class MutationContext(Context):
    __slots__ = ("_db",)
    _exposed_ = Context._exposed_

    def __init__(self, level: Level, surroundings: Surroundings) -> None:
        super().__init__(level, surroundings)
        self._db = DatabaseWriter(level)

    @property
    def db(self) -> DatabaseWriter:
        return self._db

    def _refuse(self, operation: str) -> None:
        if operation in OUTSIDE:
            raise NotAllowed(f"a mutation cannot use ctx.{operation}: {OUTSIDE[operation]}")
        if operation == "run_action":
            raise NotAllowed(
                "a mutation cannot use ctx.run_action(): it could not be undone; call it from an action"
            )


class ActionContext(Context):
    __slots__ = ()
    _exposed_ = Context._exposed_


class RefusedAuth(HostObject):
    """`ctx.auth` of a request whose token does not count. The handler runs; asking who calls fails."""

    __slots__ = ("_problem",)
    _exposed_ = frozenset({"get_user_identity"})

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def get_user_identity(self) -> NoReturn:
        raise TokenNotAccepted(f"the token of this request was refused: {self._problem}")


class TokenNotAccepted(TidewellError):
    """An HTTP action asked who calls, and the caller's token is not one to go by."""

    code = "Unauthenticated"


class HttpActionContext(ActionContext):
    __slots__ = ("_refused",)
    _exposed_ = Context._exposed_

    def __init__(self, level: Level, surroundings: Surroundings, refused: Any) -> None:
        super().__init__(level, surroundings)
        self._refused = refused

    @property
    def auth(self) -> Any:
        return Auth(self._level.execution) if self._refused is None else RefusedAuth(str(self._refused))


CONTEXTS: Final[dict[str, type[Context]]] = {
    "query": QueryContext,
    "mutation": MutationContext,
    "action": ActionContext,
}


def _checked_limits(limits: Any) -> dict[str, int]:
    if type(limits) is not dict:
        raise InvalidValue("limits", "is a dict of limits by name")
    for name, share in limits.items():
        if type(name) is not str or name not in DEFAULTS:
            raise InvalidValue(
                "limits", f"has a name that is no limit; they are {', '.join(sorted(DEFAULTS))}"
            )
        if type(share) is not int or share < 0:
            raise InvalidValue(f"limits.{name}", "is a number, 0 or more")
    return dict(limits)
