"""`tidewell fuzz`: search the interleavings of an app's calls for one that breaks what must hold.

It runs the app in this process, without the wall around it: on the machine of whoever
writes the app, and never on data that anybody needs.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
from rich.console import Console

from engine.app_folder import InvalidAppFolder
from engine.chance import SystemChance
from engine.clock import SystemClock
from engine.push import PushFailed
from storage import StoreError

if TYPE_CHECKING:  # loaded when the command runs: it takes Hypothesis along
    from engine.testing.rules import Rules
    from engine.testing.schedule import Broken
    from engine.testing.search import Search

SECONDS: Final = 60.0
NOTES_VARIABLE: Final = "HYPOTHESIS_STORAGE_DIRECTORY"
SEED_BYTES: Final = 3  # short enough to be typed

_clock: Final = SystemClock()


class _TimeIsUp(BaseException):
    """Ends a session from within; Hypothesis lets it pass, as it does ^C."""


@attrs.define
class _Progress:
    """Counts what is done, for whoever watches, and ends it in time."""

    _show: Callable[[str], object]
    _end: float | None
    seeds: int = 0
    schedules: int = 0
    transactions: int = 0

    def __call__(self) -> None:
        if self._end is not None and _clock.monotonic() >= self._end:
            raise _TimeIsUp
        self.schedules += 1
        self._show(f"{self.schedules:,} schedules tried, nothing is broken")


@click.command()
@click.argument("app", type=click.Path(path_type=Path), default=Path("functions"))
@click.option(
    "--rules",
    "rules_file",
    type=click.Path(path_type=Path),
    help="What must hold and what may happen.  [default: fuzz.py beside APP]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=SECONDS,
    show_default=True,
    help="How long to look for something.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Run this one seed: what it found, it finds again.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Folder for the data of what broke something.  [default: .tidewell/fuzz-SEED beside APP]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
def fuzz(
    app: Path, rules_file: Path | None, seconds: float, seed: int | None, keep: Path | None, as_json: bool
) -> None:
    """Search the interleavings of calls of the functions in APP for one that breaks an invariant.

    \b
    In fuzz.py beside APP, say what must always hold, and what may happen:
        from tidewell.testing import invariant, step
        @invariant
        def nobody_is_overdrawn(db):
            assert all(row["balance"] >= 0 for row in db.query("accounts"))
        step("bank:withdraw")

    Queries and mutations run whole; between any two transactions of an action others may
    come in. Arguments are made from the validators of each function, unless step() gives
    Hypothesis strategies. Without step(), every public mutation and action may happen.

    What breaks an invariant is shortened and shown as a test. Ends with status 1 then,
    with 0 when nothing was found, and with 2 when it could not search.
    """
    console = Console(stderr=True)
    began = _clock.monotonic()
    beside = app.resolve().parent / ".tidewell"
    with _told_in_one_line(), _keeping_notes_in(beside / "hypothesis"), console.status("starting") as status:
        show = status.update if console.is_terminal else str
        progress = _Progress(show, None if seed is not None else began + seconds)
        rules, search = _prepare(app, rules_file, progress)
        broken = _search(search, progress, seed)
        folder = None
        if broken is not None:
            folder = keep or beside / f"fuzz-{broken.seed}"
            if (folder / "store").exists():
                _remove_store(folder)
            broken = search.replay(broken, folder)
    spent = _clock.monotonic() - began
    if as_json:
        click.echo(json.dumps(_as_json(broken, progress, spent, folder)))
    elif broken is None:
        click.echo(
            f"Nothing is broken after {progress.schedules:,} schedules of {progress.transactions:,} "
            f"transactions, {progress.seeds} seeds, in {spent:.1f} s."
        )
    else:
        assert folder is not None
        click.echo(_report(broken, rules, app, rules_file, folder, spent))
    if broken is not None:
        raise SystemExit(1)


def _prepare(app: Path, rules_file: Path | None, progress: _Progress) -> tuple[Rules, Search]:
    try:
        from engine.testing.rules import InvalidRules, find_rules, load_rules
        from engine.testing.search import Search
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"this command needs {error.name}; install it with `pip install 'tidewell[testing]'`"
        ) from None
    try:
        file = rules_file or find_rules(app)
        rules = _loaded(file, load_rules)
        return rules, Search.prepare(app, rules, progress)
    except InvalidRules as error:
        raise click.UsageError(str(error)) from None


def _loaded(file: Path, load: Callable[[Path], Rules]) -> Rules:
    from engine.testing.rules import InvalidRules

    try:
        return load(file)
    except InvalidRules:
        raise
    except Exception as error:  # of the file: any at all
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
        ]
        where = f"{file}:{lines[-1]}" if lines else str(file)
        raise InvalidRules(f"{where}: {type(error).__name__}: {error}") from None


def _search(search: Search, progress: _Progress, seed: int | None) -> Broken | None:
    from engine.testing.search import NotRepeatable

    at = int.from_bytes(SystemChance().token(SEED_BYTES), "big") if seed is None else seed
    try:
        while True:
            session = search.run(at)
            progress.seeds += 1
            progress.transactions += session.moves
            if session.broken is not None or seed is not None:
                return session.broken
            at += 1
    except _TimeIsUp:
        return None
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # how a long search is ended
    except NotRepeatable as error:
        raise click.UsageError(str(error)) from None


@contextmanager
def _keeping_notes_in(folder: Path) -> Iterator[None]:
    """Let Hypothesis keep its notes in `folder`, and not where the command happens to be called."""
    before = os.environ.get(NOTES_VARIABLE)
    os.environ[NOTES_VARIABLE] = before or str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[NOTES_VARIABLE]


@contextmanager
def _told_in_one_line() -> Iterator[None]:
    try:
        yield
    except (InvalidAppFolder, PushFailed, StoreError) as error:
        raise click.UsageError(str(error)) from None


def _remove_store(folder: Path) -> None:
    """Make room for the data of a schedule where that of an earlier run of its seed is."""
    for file in (folder / "store").iterdir():
        file.unlink()
    (folder / "store").rmdir()


def _report(
    broken: Broken, rules: Rules, app: Path, rules_file: Path | None, folder: Path, spent: float
) -> str:
    from engine.testing.schedule import code_of

    setups = [prepare.__name__ for prepare in rules.setups]
    code = code_of(broken, str(app), rules.module, setups)
    option = "" if rules_file is None else f" --rules {rules_file}"
    commits = broken.schedule.commits()
    lines = [
        f"{broken.invariant} is broken; seed {broken.seed}, found in {spent:.1f} s.",
        "",
        *(f"  {line}" for line in broken.problem.splitlines()),
        "",
        "The shortest schedule that breaks it, as a test:",
        "",
        *(f"    {line}".rstrip() for line in code.splitlines()),
        "",
        f"Repeat it:  tidewell fuzz {app} --seed {broken.seed}{option}",
        f"Its data:   tidewell log --data {folder}",
    ]
    if commits:
        lines.append(f"Its last commit, step by step:  tidewell debug {commits[-1]} --data {folder}")
    return "\n".join(lines)


def _as_json(broken: Broken | None, progress: _Progress, spent: float, folder: Path | None) -> dict[str, Any]:
    return {
        "schedules": progress.schedules,
        "seeds": progress.seeds,
        "seconds": round(spent, 1),
        "broken": None
        if broken is None
        else {
            "invariant": broken.invariant,
            "problem": broken.problem,
            "seed": broken.seed,
            "data": str(folder),
            "commits": broken.schedule.commits(),
            "moves": [
                {"call": move.call, "operation": move.operation, "path": move.path, "error": move.error}
                for move in broken.schedule.moves
            ],
        },
    }


COMMANDS: Final = (fuzz,)
