"""What the development server says on its terminal: pushes, executions, function logs.

Plain lines on standard output, coloured when it is a terminal. Lines that came from
user code are indented under the execution they belong to.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
from rich.console import Console
from rich.markup import escape

from engine.backend import Call
from engine.conflict_report import ConflictReport
from engine.guest_outcomes import GuestOutcome
from engine.push import PushReport
from engine.runner import Lost
from sandbox.frames import Kind

PROFILE_SHOWN: Final = 5  # lines of the program that took most steps
_LETTERS: Final = {"query": "Q", "mutation": "M", "action": "A"}


@attrs.define(eq=False)
class Report:
    """One terminal's worth of news.

    Args:
      verbose: also show executions that said nothing (queries run often).
    """

    console: Console
    verbose: bool = False

    def serving(self, what: str, url: str, site_url: str, data: Path) -> None:
        self._line(f"[bold]Tidewell is serving {escape(what)} at {url}[/bold]")
        self._line(f"  HTTP actions at {site_url}")
        self._line(
            f"  data in {escape(str(data))}, admin key in {escape(str(data / 'admin-key'))}; Ctrl-C stops"
        )

    def has_no_code(self, url: str, data: Path) -> None:
        self._line(f"  nothing was pushed yet: tidewell push APP --url {url} --data {escape(str(data))}")

    def stopping(self, signal_name: str) -> None:
        self._line(f"Stopping on {signal_name}: finishing what is under way.")

    def cutting_off(self) -> None:
        self._line("Stopping at once: what is under way is given up.")

    def stopped(self) -> None:
        self._line("Stopped. Everything acknowledged is on disk.")

    def progress(self, text: str) -> None:
        self._line(f"[dim]  {escape(text)}[/dim]")

    def pushed(self, pushed: PushReport) -> None:
        if not pushed.changed:
            return
        count = len(pushed.code.functions)
        self._line(
            f"[green]Pushed[/green] {count} function{'s' * (count != 1)}, version {pushed.code.hash[:12]}"
        )
        for warning in pushed.warnings:
            self._line(f"[yellow]  warning: {escape(warning)}[/yellow]")

    def push_failed(self, problems: Sequence[str], *, has_code: bool) -> None:
        rest = "the last good version stays in force" if has_code else "there is no earlier version to serve"
        self._line(f"[red]Push failed[/red]; {rest}:")
        for problem in problems:
            self._user_text(problem)

    def execution(self, call: Call, kind: Kind, ended: GuestOutcome | Lost, seconds: float) -> None:
        lines: list[str] = []
        profile: Sequence[tuple[str, int, int]] = ()
        failed = True
        if isinstance(ended, Lost):
            lines.append(ended.message)
        else:
            failed = ended.failure is not None
            lines += ended.log_lines
            if ended.failure is not None:
                lines += ended.failure.message.splitlines()
            profile = ended.profile[:PROFILE_SHOWN]
        if kind == "query" and not lines and not self.verbose:
            return
        steps = "" if isinstance(ended, Lost) else f", {ended.steps:,} steps"
        colour = "red" if failed else "cyan"
        clock = time.strftime("%H:%M:%S")
        self._line(
            f"[dim]{clock}[/dim] [{colour}]{_LETTERS[kind]} {escape(call.path)}[/{colour}]"
            f" [dim]{seconds * 1000:.1f} ms{steps}{f', request {call.request_id}' if failed else ''}[/dim]"
        )
        for text in lines:
            self._user_text(text)
        for file, line, spent in profile:  # there is one when a limit ended the call
            self._user_text(f"{spent:>14,} steps at {file}:{line}")

    def conflict(self, conflict: ConflictReport) -> None:
        self._line(f"[dim]  conflict: {escape(str(conflict))}[/dim]")

    def _user_text(self, text: str) -> None:
        """Print lines of user code: without markup, and without characters that could steer the terminal."""
        for line in text.splitlines():
            shown = "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in line)
            self._line(f"  {escape(shown)}")

    def _line(self, markup: str) -> None:
        self.console.print(markup, soft_wrap=True, highlight=False)
