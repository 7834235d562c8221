"""`ctx`: what each kind of function has, nested calls, limits, and what is written down of a call."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.frames import Outcome
from sandbox.limits import DEFAULT_LIMITS
from tidewell.values import pack, unpack

from .guest_app import GuestApp
from .memory_database import MemoryBacking

APP = {
    "m.py": """
        from tidewell import AppError, FunctionError, action, api, internal, mutation, query, v
        import random
        import time

        @query
        def try_(ctx, what: str):
            if what == "run_mutation":
                ctx.run_mutation("m:write")
            elif what == "run_action":
                ctx.run_action("m:act")
            elif what == "insert":
                ctx.db.insert("t", {})
            elif what == "request":
                ctx.meta.request()
            elif what == "parallel":
                ctx.parallel()
            elif what == "fetch":
                ctx.fetch("https://a.example")
            elif what == "later":
                ctx.later.run_query("m:inner")
            elif what == "scheduler":
                ctx.scheduler.run_after(0, "m:write")
            elif what == "direct":
                write(ctx)
            elif what == "reference":
                ctx.run_query(api.m)
            elif what == "declared":
                ctx.run_query(write)
            elif what == "args":
                ctx.run_query("m:inner", [1])
            elif what == "limits":
                ctx.run_query("m:inner", {}, limits={"nonsense": 1})

        @mutation
        def write(ctx, times: int = 1):
            for n in range(times):
                ctx.db.insert("t", {"n": n})

        @mutation
        def mutation_runs_action(ctx):
            ctx.run_action("m:act")

        @action
        def act(ctx):
            return ctx.db

        @query
        def inner(ctx, n: int = 0):
            return [n, ctx.random.random(), ctx.now()]

        @query
        def outer(ctx):
            own = random.random()
            one, two = ctx.run_query(api.m.inner, {"n": 1}), ctx.run_query("m:inner", {"n": 2})
            return [own, one, two, random.random(), int(time.time() * 1000)]

        @query
        def deeper(ctx, left: int):
            return 1 if left == 0 else 1 + ctx.run_query("m:deeper", {"left": left - 1})

        @query
        def failures(ctx):
            told = []
            attempts = [("m:inner", {"n": "x"}), ("m:nope", {}), ("m:write", {}), ("m:deeper", {"left": 9})]
            for path, args in attempts:
                try:
                    ctx.run_query(path, args)
                except FunctionError as error:
                    told.append([error.path, error.message])
            return told

        @query
        def app_error(ctx):
            try:
                ctx.run_query("m:raises")
            except AppError as error:
                return [error.data, isinstance(error, Full)]

        class Full(AppError):
            pass

        @query
        def raises(ctx):
            raise Full({"why": [1]})

        @query
        def raises_no_value(ctx):
            raise AppError({1, 2})

        @query
        def nested_no_value(ctx):
            try:
                ctx.run_query("m:raises_no_value")
            except FunctionError as error:
                return error.message

        @query
        def raises_text(ctx):
            raise AppError("no room")

        @query
        def logs(ctx, lines: int = 0):
            print("a", 1, [True])
            ctx.log.debug("b")
            ctx.log.info("c")
            ctx.log.warn("d")
            ctx.log.error("e" * 5000)
            for n in range(lines):
                print(n)

        @query
        def reads(ctx, n: int, limits: dict = None):
            if limits is not None:
                return ctx.run_query("m:reads", {"n": n}, limits=limits)
            for _ in range(n):
                ctx.db.query("t").first()
            return ctx.meta.transaction_metrics()["documents_read"]

        @query
        def swallows(ctx):
            try:
                while True:
                    pass
            except Exception:
                pass
            return "survived"

        @query
        def env(ctx, name: str):
            return [ctx.env.get(name), ctx.env.get(name, "-")]

        @action
        def action_env(ctx, name: str):
            return ctx.env[name]

        @mutation
        def about(ctx):
            return [ctx.meta.function(), ctx.meta.request()]

        @query
        def me(ctx):
            mine = ctx.auth.get_user_identity()
            mine["subject"] = "changed"
            return ctx.auth.get_user_identity()

        @action
        def calls(ctx):
            told = [ctx.run_query(api.m.inner, {"n": 5})[0]]
            for path, args in (("m:raises", {}), ("m:inner", {"n": "x"}), ("m:failing", {}), ("m:nope", {})):
                try:
                    ctx.run_query(path, args)
                except AppError as error:
                    told.append(error.data)
                except FunctionError as error:
                    told.append([error.path, error.message])
            return told

        @action
        def waits(ctx):
            before = [ctx.now(), int(time.time() * 1000)]
            ctx.run_query(api.m.inner)
            return [before, [ctx.now(), int(time.time() * 1000)]]

        @query
        def large(ctx):
            return [["x" * 1000] * 8000, ["y" * 1000] * 8190, ["z" * 1000] * 1000]

        @query
        def failing(ctx):
            return 1 // 0

        @mutation
        def draws(ctx, extra: bool):
            first = ctx.db.insert("t", {})
            if extra:
                ctx.random.random()
                ctx.db.insert("t", {})
            return [first, ctx.uuid4()]
    """
}


@pytest.fixture
def app() -> GuestApp:
    return GuestApp(APP)


def first_line(outcome: Outcome) -> str:
    return outcome.error.splitlines()[0].removeprefix("Uncaught ")


@pytest.mark.parametrize(
    ("what", "code", "text"),
    [
        ("run_mutation", "NotAllowedInQuery", "a query cannot use ctx.run_mutation()"),
        ("run_action", "NotAllowedInQuery", "a query cannot use ctx.run_action()"),
        ("insert", "NotAllowedInQuery", "a query cannot use ctx.db.insert()"),
        ("request", "NotAllowedInQuery", "a query cannot look at the request"),
        ("scheduler", "NotAllowedInQuery", "does not have the scheduler"),
        ("parallel", "NotAllowedInQuery", "a query cannot use ctx.parallel: its calls are one transaction"),
        ("fetch", "NotAllowedInQuery", "a query cannot use ctx.fetch: what it gets could not be had again"),
        ("later", "NotAllowedInQuery", "a query cannot use ctx.later: its calls are one transaction"),
        ("direct", "InvalidFunctionCall", "cannot be called directly; use ctx.run_mutation(...)"),
        ("reference", "InvalidFunctionCall", "a function is named by its path"),
        ("declared", "InvalidFunctionCall", "name the function by its path or a reference"),
        ("args", "InvalidValue", "the arguments of m:inner are one dict, found a list"),
        ("limits", "InvalidValue", "has a name that is no limit; they are bytes_read"),
    ],
)
def test_what_a_function_may_not_do_says_why(app: GuestApp, what: str, code: str, text: str) -> None:
    outcome = app.outcome("query", "m:try", {"what": what})
    assert outcome.code == code, outcome.error
    assert text in first_line(outcome)


def test_a_mutation_runs_no_action_and_an_action_has_no_database(app: GuestApp) -> None:
    assert "cannot use ctx.run_action()" in first_line(app.outcome("mutation", "m:mutation_runs_action"))
    assert "an action has no ctx.db" in first_line(app.outcome("action", "m:act"))


def test_nested_calls_draw_from_streams_of_their_own_and_share_the_clock(app: GuestApp) -> None:
    own, one, two, after, seconds = app.query("m:outer")
    draws = [own, one[1], two[1], after]
    assert len(set(draws)) == 4
    assert {one[2], two[2], seconds} == {int(app.now_ms)}
    assert app.query("m:outer") != [own, one, two, after, seconds]


def test_an_insert_changes_no_draw_and_a_draw_no_id(app: GuestApp) -> None:
    plain = unpack(app.outcome("mutation", "m:draws", {"extra": False}, seed=bytes(32)).value)
    more = unpack(GuestApp(APP).outcome("mutation", "m:draws", {"extra": True}, seed=bytes(32)).value)
    assert plain[0] == more[0]
    assert plain[1] != more[1]


def test_calls_nest_eight_deep(app: GuestApp) -> None:
    assert app.query("m:deeper", left=7) == 8
    outcome = app.outcome("query", "m:deeper", {"left": 8})
    assert "CallDepth: calls are nested deeper than 8" in outcome.error


def test_failures_of_nested_calls_are_told_as_function_errors(app: GuestApp) -> None:
    inner, unknown, kind, depth = app.query("m:failures")
    assert inner == [
        "m:inner",
        "ArgumentValidationError: args.n: found the string 'x', expected an integral number",
    ]
    assert unknown == ["m:nope", "Could not find function for 'm:nope'."]
    assert kind == [
        "m:write",
        "Trying to execute m:write as Query, but it is defined as Mutation.",
    ]
    assert depth[0] == "m:deeper"
    assert "CallDepth" in depth[1]


def test_an_application_error_crosses_a_nested_call_as_one_with_its_data(app: GuestApp) -> None:
    assert app.query("m:app_error") == [{"why": [1]}, False]
    outcome = app.outcome("query", "m:raises")
    assert outcome.kind == "app_error"
    assert first_line(outcome) == 'ConvexError: {"why":[1]}'
    outcome = app.outcome("query", "m:raises_text")
    assert (first_line(outcome), outcome.error_data) == ("ConvexError: no room", pack("no room"))


def test_application_errors_without_a_value_are_errors_of_the_function(app: GuestApp) -> None:
    outcome = app.outcome("query", "m:raises_no_value")
    assert (outcome.kind, outcome.code, outcome.error_data) == ("function", "InvalidValue", None)
    assert first_line(outcome) == "InvalidValue: data: a set is not a value; use sorted(...) or list(...)"


def test_an_application_error_without_a_value_crosses_as_a_function_error(app: GuestApp) -> None:
    assert app.query("m:nested_no_value") == (
        "InvalidValue: data: a set is not a value; use sorted(...) or list(...)"
    )


def test_log_lines_have_levels_and_caps(app: GuestApp) -> None:
    lines = app.outcome("query", "m:logs").log_lines
    assert lines[:4] == ["[LOG] a 1 [True]", "[DEBUG] b", "[INFO] c", "[WARN] d"]
    assert lines[4].startswith("[ERROR] eee")
    assert lines[4].endswith("... (cut)")
    assert len(lines[4]) <= 4096
    lines = app.outcome("query", "m:logs", {"lines": 300}).log_lines
    assert len(lines) == 257
    assert lines[-1] == "[WARN] more than 256 log lines; the rest is left out"


def test_a_call_that_reads_too_much_ends_with_the_limit_and_its_use(app: GuestApp) -> None:
    app.mutate("m:write")
    outcome = app.outcome("query", "m:reads", {"n": 5000})
    assert outcome.code == "TooManyReads"
    limit = DEFAULT_LIMITS.database_queries
    assert f"database_queries is {limit + 1}, at most {limit}" in first_line(outcome)
    assert outcome.counters["database_queries"] == limit + 1


def test_nearing_a_limit_is_logged(app: GuestApp) -> None:
    app.mutate("m:write")
    outcome = app.outcome("query", "m:reads", {"n": 4000})
    assert unpack(outcome.value) == {"used": 4000, "remaining": 28_000}
    (line,) = outcome.log_lines
    assert line.startswith("[WARN] database_queries: 4000 of 4096 used")


def test_nested_limits_tighten_and_never_loosen(app: GuestApp) -> None:
    app.mutate("m:write")
    outcome = app.outcome("query", "m:reads", {"n": 4, "limits": {"documents_read": 3}})
    assert "TooManyDocumentsRead" in first_line(outcome)
    metrics = app.query("m:reads", n=3, limits={"documents_read": 3, "bytes_read": 10**12})
    assert metrics == {"used": 3, "remaining": 0}


def test_a_budget_that_ran_out_is_the_outcome_whatever_is_returned(app: GuestApp) -> None:
    outcome = app.outcome("query", "m:swallows", fuel=10_000)
    assert (outcome.kind, outcome.code, outcome.steps) == ("fuel", "OutOfFuel", 10_000)
    assert outcome.profile[0][0] == "m.py"
    assert app.query("m:inner")[0] == 0


def test_environment_variables_are_rows_for_queries_and_values_for_actions() -> None:
    backing = MemoryBacking()
    app = GuestApp(APP, backing)
    assert app.query("m:env", name="KEY") == [None, "-"]
    backing.state.create_table("_environment_variables", by_name=("name",))
    writer = backing.open([])
    writer.insert("_environment_variables", {"name": "KEY", "value": "secret"}, bytes(16), 1)
    writer.commit()
    assert app.query("m:env", name="KEY") == ["secret", "secret"]
    assert app.query("m:env", name="OTHER") == [None, "-"]
    action = app.outcome("action", "m:action_env", {"name": "KEY"}, env=pack({"KEY": "x"}))
    assert unpack(action.value) == "x"
    for env in (pack({}), b""):
        outcome = app.outcome("action", "m:action_env", {"name": "NO"}, env=env)
        assert first_line(outcome) == "KeyError: 'NO'"


def test_a_function_knows_itself_and_its_caller(app: GuestApp) -> None:
    outcome = app.outcome("mutation", "m:about", request=pack({"requestId": "r1"}))
    function, request = unpack(outcome.value)
    assert function["path"] == "m:about"
    assert (function["kind"], function["file"]) == ("mutation", "m.py")
    assert request == {"requestId": "r1"}


def test_an_identity_is_a_private_copy(app: GuestApp) -> None:
    outcome = app.outcome("query", "m:me", identity={"subject": "ada"})
    assert unpack(outcome.value) == {"subject": "ada"}


def test_an_action_calls_through_the_engine(app: GuestApp) -> None:
    told: list[Any] = app.act("m:calls")
    assert told == [
        5,
        {"why": [1]},
        ["m:inner", "ArgumentValidationError: args.n: found the string 'x', expected an integral number"],
        ["m:failing", "ZeroDivisionError: integer division or modulo by zero"],
        ["m:nope", "Could not find function for 'm:nope'."],
    ]
    assert [syscall.number for syscall in app.syscalls] == [1, 2, 3]


def test_an_action_sees_time_pass_from_call_to_call(app: GuestApp) -> None:
    start = int(app.now_ms)
    app.elapsed_ms = 250
    assert app.act("m:waits") == [[start, start], [start + 250, start + 250]]


def test_arguments_and_results_have_at_most_16_mib(app: GuestApp) -> None:
    wide = {"n": [["x" * 1000] * 8000] * 2}
    outcome = app.outcome("query", "m:inner", {**wide, "more": [["y" * 1000] * 1000]})
    assert (outcome.code, outcome.error) == (
        "TooLargeValue",
        "TooLargeValue: args is larger than 16777216 bytes\n",
    )
    assert app.outcome("query", "m:inner", wide).code == "ArgumentValidation"
    assert app.outcome("query", "m:large").code == "TooLargeValue"


def test_production_shows_no_source_lines(app: GuestApp) -> None:
    call = app.call("query", "m:failing")
    (shown,), (hidden,) = app.outcomes(call), app.outcomes(call, production=True)
    assert "return 1 // 0" in shown.error
    assert "return 1 // 0" not in hidden.error
    assert "at failing (m.py:" in hidden.error


def test_unknown_code_is_refused(app: GuestApp) -> None:
    from sandbox.frames import Refused, Run

    frame = Run(code="v2", begin_ts=1, txn_id=1, overlay=[], calls=[app.call("query", "m:inner")])
    assert app.executor.run(frame, app.answer) == Refused(reason="unknown_code")


def test_the_same_call_has_the_same_outcome_whatever_ran_before() -> None:
    paths = ["m:inner", "m:outer", "m:failures", "m:raises", "m:swallows", "m:logs", "m:failing", "m:me"]
    fresh = {path: GuestApp(APP).outcome("query", path, seed=bytes(32), fuel=50_000) for path in paths}
    used = GuestApp(APP)
    for path in [*paths, *reversed(paths)]:
        assert used.outcome("query", path, seed=bytes(32), fuel=50_000) == fresh[path]
