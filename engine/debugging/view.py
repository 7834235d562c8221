"""The debugger's terminal: the source with the line that is about to run, and what there is at it.

    source                       │ variables
    ...                          │ ...
    ▶ 24  likes = post["likes"]  │ ─ documents
                                 │ ...
    ─ calls ─────────────────────┴ ─ log

Drawn by prompt_toolkit, which is what IPython and most terminal clients of databases
stand on: it draws whole screens, reads every terminal's keys, and its input can be a
pipe, so that tests press keys. Its interface has been the same since 2019.

Everything about where one is and how to get elsewhere is in `session`. Keys are read
one after another; what runs the call again runs in between, and takes about as long
as the call did.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import attrs
from prompt_toolkit.application import Application, get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import (
    BufferControl,
    ConditionalContainer,
    Dimension,
    FormattedTextControl,
    HSplit,
    Layout,
    VSplit,
    Window,
)
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style
from prompt_toolkit.widgets import TextArea

from engine.debugging.panes import HELP, Panes
from engine.debugging.session import CannotGo, Direction, Session
from engine.debugging.subject import Subject

_STYLE: Final = Style.from_dict(
    {
        "bar": "reverse",
        "title": "bold underline",
        "current": "bold reverse",
        "break": "ansired bold",
        "number": "ansibrightblack",
        "changed": "ansiyellow bold",
        "name": "ansicyan",
        "raise": "ansired",
        "faint": "ansibrightblack",
        "message": "ansiyellow",
    }
)
_SIDE_SHARE: Final = 45  # percent of the width for what stands beside the source


class Unreadable(Exception):
    """A command typed after `:` that is none."""


@attrs.define
class View:
    """See the module's text. `log_lines` are those of the whole run."""

    session: Session
    subject: Subject
    log_lines: list[str]
    warning: str = ""
    message: str = attrs.field(init=False)
    panes: Panes = attrs.field(init=False)
    _command: Buffer = attrs.field(init=False)
    _source: Window = attrs.field(init=False)
    _sheet: TextArea = attrs.field(init=False)  # over everything else, for what takes room

    def __attrs_post_init__(self) -> None:
        self.message = self.warning or "? shows the keys"
        self.session.on_run = self._running
        self.panes = Panes(self.session, self.subject, self.log_lines)
        self._command = Buffer(multiline=False, accept_handler=self._typed)
        self._sheet = TextArea(read_only=True, scrollbar=True, wrap_lines=True)

    def run(self, *, input: Input | None = None, output: Output | None = None) -> None:  # noqa: A002  # as theirs
        """Show the terminal until the person leaves."""
        self.application(input, output).run()

    def application(
        self,
        input: Input | None = None,  # noqa: A002  # as theirs
        output: Output | None = None,
    ) -> Application[None]:
        return Application(
            layout=self._layout(),
            key_bindings=self._keys(),
            style=_STYLE,
            full_screen=True,
            input=input,
            output=output,
            enable_page_navigation_bindings=False,
        )

    # ---- the screen ------------------------------------------------------------------------

    def _layout(self) -> Layout:
        def pane(text: Callable[[], StyleAndTextTuples], *, wraps: bool = True, **options: Any) -> Window:
            return Window(FormattedTextControl(text, show_cursor=False), wrap_lines=wraps, **options)

        panes = self.panes
        self._source = source = Window(
            FormattedTextControl(
                panes.source,
                focusable=True,
                show_cursor=False,
                get_cursor_position=panes.source_position,
            ),
            wrap_lines=False,
        )
        side = HSplit(
            [
                pane(panes.variables, height=Dimension(weight=3)),
                pane(panes.documents, height=Dimension(weight=2)),
            ],
            width=Dimension(weight=_SIDE_SHARE),
        )
        below = VSplit(
            [
                pane(panes.calls, width=Dimension(weight=100 - _SIDE_SHARE)),
                Window(width=1, char="│"),
                pane(panes.log, width=Dimension(weight=_SIDE_SHARE)),
            ],
            height=Dimension(min=3, max=8, weight=1),
        )
        main = HSplit(
            [
                VSplit(
                    [
                        HSplit([source], width=Dimension(weight=100 - _SIDE_SHARE)),
                        Window(width=1, char="│"),
                        side,
                    ],
                    height=Dimension(weight=4),
                ),
                Window(height=1, char="─"),
                below,
            ]
        )
        typing = has_focus(self._command)
        reading_sheet = has_focus(self._sheet)
        return Layout(
            HSplit(
                [
                    pane(panes.header, wraps=False, height=1, style="class:bar"),
                    ConditionalContainer(self._sheet, filter=reading_sheet),
                    ConditionalContainer(main, filter=~reading_sheet),
                    pane(
                        self._footer,
                        height=Dimension(min=1, max=3),
                        dont_extend_height=True,
                        style="class:message",
                    ),
                    ConditionalContainer(
                        VSplit([Window(width=1, char=":"), Window(BufferControl(self._command), height=1)]),
                        filter=typing,
                    ),
                ]
            ),
            focused_element=source,
        )

    def _footer(self) -> StyleAndTextTuples:
        return [("", self.message)]

    # ---- the keys --------------------------------------------------------------------------

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        reading = ~has_focus(self._command) & ~has_focus(self._sheet)

        def bind(*names: str, does: Callable[[], object]) -> None:
            def pressed(event: KeyPressEvent) -> None:
                self._do(does)

            for name in names:
                keys.add(name, filter=reading)(pressed)

        session = self.session
        moves: list[tuple[tuple[str, ...], tuple[str, ...], Callable[[Direction], None]]] = [
            (("right", "s"), ("left", "S"), session.step),
            (("n",), ("p",), session.next),
            (("o",), ("O",), session.out),
            (("c",), ("C",), session.run_on),
        ]
        for forwards, backwards, move in moves:
            bind(*forwards, does=partial(move, 1))
            bind(*backwards, does=partial(move, -1))
        bind("g", "home", does=lambda: session.go(1))
        bind("G", "end", does=lambda: session.go(session.total))
        bind("pagedown", does=lambda: session.go(session.at + 10))
        bind("pageup", does=lambda: session.go(session.at - 10))
        bind("up", does=lambda: self.panes.look_at(1))
        bind("down", does=lambda: self.panes.look_at(-1))
        bind("b", does=self._break_here)

        @keys.add("?", filter=reading)
        @keys.add("h", filter=reading)
        def _(event: KeyPressEvent) -> None:
            self._unfold(HELP)

        @keys.add("q", filter=has_focus(self._sheet))
        @keys.add("?", filter=has_focus(self._sheet))
        @keys.add("enter", filter=has_focus(self._sheet))
        @keys.add("escape", eager=True, filter=has_focus(self._sheet))
        def _(event: KeyPressEvent) -> None:
            self.message = ""
            event.app.layout.focus(self._source)

        @keys.add(":", filter=reading)
        def _(event: KeyPressEvent) -> None:
            self._ask(event, "")

        @keys.add("w", filter=reading)
        def _(event: KeyPressEvent) -> None:
            self._ask(event, "w ")

        @keys.add("v", filter=reading)
        def _(event: KeyPressEvent) -> None:
            self._ask(event, "v ")

        @keys.add("q", filter=reading)
        @keys.add("c-c")
        @keys.add("c-d")
        def _(event: KeyPressEvent) -> None:
            event.app.exit()

        @keys.add("escape", eager=True, filter=has_focus(self._command))
        def _(event: KeyPressEvent) -> None:
            self._command.reset()
            event.app.layout.focus(self._source)

        @keys.add("enter", filter=has_focus(self._command))
        def _(event: KeyPressEvent) -> None:
            event.app.layout.focus(self._source)
            self._command.validate_and_handle()

        return keys

    def _ask(self, event: KeyPressEvent, begun: str) -> None:
        self.message = "a stop · b FILE:LINE · w DOCUMENT-OR-TABLE · v VARIABLE · clear"
        self._command.text = begun
        self._command.cursor_position = len(begun)
        event.app.layout.focus(self._command)

    def _unfold(self, text: str) -> None:
        """Show a text over everything else, to be scrolled and put away."""
        self._sheet.text = text
        self.message = "q puts this away"
        get_app().layout.focus(self._sheet)

    def _do(self, action: Callable[[], object]) -> None:
        before = self.session.at
        self.message = ""
        try:
            done = action()
            self.message = done if isinstance(done, str) else ""
        except (CannotGo, Unreadable) as problem:
            self.message = str(problem)
        if self.session.at != before:
            self.panes.moved()

    def _running(self) -> None:
        """Say so before the call runs again: with a long run the keys are slow for a while."""
        app = get_app()
        if app.is_running:
            self.message = "running the call again …"
            app.renderer.render(app, app.layout)

    # ---- what is typed -----------------------------------------------------------------------

    def _typed(self, buffer: Buffer) -> bool:
        self._do(lambda: self._obey(buffer.text.strip()))
        return False

    def _obey(self, text: str) -> str:
        """Do what was typed; return what to tell of it. Raises `Unreadable` or `CannotGo`."""
        verb, _, rest = text.partition(" ")
        rest = rest.strip()
        if verb.isascii() and verb.isdigit() and not rest and len(verb) < 16:
            self.session.go(int(verb))
            return ""
        if verb == "b" and rest:
            return self._break_at(rest)
        if verb == "w" and rest:
            is_set = self.session.toggle_document(rest)
            return f"{'stops' if is_set else 'no longer stops'} at writes to {rest}"
        if verb == "v" and rest:
            self._unfold(f"{rest} = {self.panes.in_full(rest)}")
            return self.message
        if text == "clear":
            self.session.lines.clear()
            self.session.documents.clear()
            return "no breaks"
        raise Unreadable(f"{text!r} is no command: a number, b FILE:LINE, w DOCUMENT, v VARIABLE or clear")

    def _break_here(self) -> str:
        level = self.panes.level()
        return self._told_break(level.routine.file, level.line)

    def _break_at(self, place: str) -> str:
        file, _, number = place.rpartition(":")
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise Unreadable(f"{place!r} is no place; it looks like posts.py:24")
        file = file or self.panes.level().routine.file
        if not 0 < int(number) <= len(self.subject.lines.get(file, ())):
            raise Unreadable(f"there is no line {number} in {file}")
        return self._told_break(file, int(number))

    def _told_break(self, file: str, line: int) -> str:
        is_set = self.session.toggle_line(file, line)
        return f"{'stops' if is_set else 'no longer stops'} at {file}:{line}"
