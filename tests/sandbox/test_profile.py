"""Where the steps of a call went: in the error of one that ran out of them, and line by line."""

from __future__ import annotations

from .guest_app import GuestApp

APP = {
    "m.py": """
        from tidewell import mutation

        @mutation
        def forever(ctx):
            i = 0
            for _ in range(100):
                i += 1
            while True:
                i += 1

        @mutation
        def deep(ctx):
            return fall(0)

        def fall(n):
            return fall(n + 1)
    """
}


def test_an_error_of_steps_names_the_budget_and_the_costliest_line() -> None:
    outcome = GuestApp(APP).outcome("mutation", "m:forever", fuel=1_000_000)
    assert outcome.error.startswith("Uncaught OutOfFuel: the function used all of its 1,000,000 steps, 9")
    assert " of them at m.py:9\n" in outcome.error
    file, line, steps = outcome.profile[0]
    assert (file, line) == ("m.py", 9)
    assert steps > 950_000
    assert sum(row[2] for row in outcome.profile) <= outcome.steps


def test_the_line_is_the_same_in_every_run_and_in_production() -> None:
    app = GuestApp(APP)
    call = app.call("mutation", "m:forever", fuel=1_000_000)
    first, second = app.outcomes(call, call)
    assert first == second
    (told,) = app.outcomes(call, production=True)
    assert " of them at m.py:9\n" in told.error
    assert "while True" not in told.error


def test_a_small_budget_names_no_line_because_its_samples_are_too_few() -> None:
    outcome = GuestApp(APP).outcome("mutation", "m:forever", fuel=10_000)
    assert "used all of its 10,000 steps\n" in outcome.error


def test_an_error_of_depth_names_the_depth_and_the_calls() -> None:
    outcome = GuestApp(APP).outcome("mutation", "m:deep")
    assert outcome.error.startswith(
        "Uncaught CallDepth: calls are nested deeper than 200\n    at fall (m.py:16)"
    )
