"""`tidewell why`: who made a field what it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import trio

from engine.history import History, check_document_id
from engine.log_commands import Paper, call_line, commit_json, for_programs, opened
from engine.moments import write_moment
from engine.provenance import Source, Step, changes_of, explain, follow
from engine.rerun import rerunner
from engine.showing import Line, printable, readable
from engine.store_commands import data_option, json_option
from sandbox.pool import PoolFailed
from tidewell.values import MISSING, Value

ARGUMENT_WIDTH: Final = 60
VALUE_WIDTH: Final = 48


@click.command()
@click.argument("document_id", metavar="ID")
@click.argument("field")
@click.option("-n", "count", type=click.IntRange(1), default=10, show_default=True, help="How many changes.")
@click.option("--no-lines", is_flag=True, help="Run nothing again; without source lines.")
@json_option
@data_option
def why(document_id: str, field: str, count: int, no_lines: bool, as_json: bool, data: Path) -> None:
    """Follow a value back: every call that changed FIELD of the document ID, newest first.

    For each: who called it with which arguments, the source line that wrote the field, and which
    arguments or documents held the same value. If the newest value stood in another document that
    was read, it is followed there. FIELD may be a path such as address.city.

    To find the lines, the calls are run again in the sandbox; nothing is changed.
    """
    with opened(data) as history:
        steps = changes_of(history, check_document_id(document_id), field)
        shown = steps[:count]
        if not no_lines:
            shown = _explained(shown, field, history, data)
    if as_json:
        click.echo(json.dumps([_json(step) for step in shown]))
        return
    newest = steps[0]
    is_gone = newest.after is MISSING
    head: Line = [
        (printable(field), "bold"),
        (f" of {newest.change.table} {document_id} ", ""),
        ("is gone" if is_gone else f"is {readable(newest.after)}", "bold"),
    ]
    lines = [head]
    for step in shown:
        lines += _lines(step)
    if len(steps) > len(shown):
        lines.append([(f"and {len(steps) - len(shown)} earlier changes; -n shows them", "dim")])
    Paper().print(lines)


def _explained(steps: Sequence[Step], field: str, history: History, data: Path) -> list[Step]:
    async def run() -> list[Step]:
        async with rerunner(history.store, data) as again:
            newest = [await follow(step, field, history, again) for step in steps[:1]]
            return newest + [await explain(step, field, history, again) for step in steps[1:]]

    try:
        return trio.run(run)
    except* PoolFailed as failures:
        error: BaseException = failures
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise click.ClickException(f"{error}; --no-lines does without running") from None


def _lines(step: Step) -> list[Line]:
    lines = [call_line(step.commit, step.ts)]
    lines.append(
        [
            ("    ", ""),
            (readable(step.before, VALUE_WIDTH), "red"),
            (" -> ", "dim"),
            (readable(step.after, VALUE_WIDTH), "green"),
        ]
    )
    if step.line is not None:
        lines.append([("    at ", "dim"), (printable(step.line), "cyan"), (f"  {printable(step.text)}", "")])
    elif step.why_not:
        lines.append([(f"    line unknown: {printable(step.why_not)}", "dim")])
    if step.commit is not None and step.commit.args:
        told = ", ".join(
            f"{printable(name)}={readable(value, ARGUMENT_WIDTH)}" for name, value in step.commit.args.items()
        )
        lines.append([("    with ", "dim"), (told, "")])
    for source in step.sources:
        lines.append([("    same value in ", "dim"), *_source(source)])
        if source.written is not None:
            lines += [[("      ", ""), *line] for line in _lines(source.written)]
    return lines


def _source(source: Source) -> Line:
    if source.argument is not None:
        return [("the argument ", "dim"), (printable(source.argument), "yellow")]
    return [
        (f"{printable(str(source.field))} of {source.table} {source.document_id}", "yellow"),
        (f", read at {printable(str(source.line))}", "dim"),
    ]


def _json(step: Step) -> dict[str, Any]:
    told: dict[str, Any] = {"ts": str(step.ts), "time": write_moment(step.ts)}
    if step.commit is not None:
        told = commit_json(step.commit)
    values: dict[str, Value] = {"before": step.before, "after": step.after}
    told |= {name: for_programs(value) for name, value in values.items() if value is not MISSING}
    sources = [_source_json(source) for source in step.sources]
    return told | {
        "line": step.line,
        "text": step.text,
        "sources": sources,
        "whyNoLine": step.why_not or None,
    }


def _source_json(source: Source) -> dict[str, Any]:
    if source.argument is not None:
        return {"argument": source.argument}
    told: dict[str, Any] = {"document": source.document_id, "table": source.table, "field": source.field}
    written = {} if source.written is None else {"written": _json(source.written)}
    return told | {"line": source.line} | written


COMMANDS: Final = (why,)
