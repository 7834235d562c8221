"""Golden scripts: what a client says and hears, line by line.

A script is a text file of lines:

    > JSON                     the client sends this, as it stands
    < JSON                     the next thing it hears; see below
    < Transition a/b/T -> c/d/T [QueryUpdated 0, ...]    the short form of a transition
    - commit CELL JSON         somebody else commits
    - the reply will be lost   the next mutation commits, and is never answered
    - cut                      the connection is lost, and a new one opened
    - connect again            a new one is opened after the server closed
    - closed [CODE REASON]     the server closes
    # anything

In what is heard, `"T1"` stands for a timestamp, the same wherever it stands and
later than those with smaller numbers (`T0` is zero); `"NUMBER"` and `"INTEGER"`
for any of that kind; and a string that begins with `~` is a pattern. Sending
`"T1"` sends the timestamp it stood for. Fields are exact: nothing more, nothing
less. At the end nothing may be left unheard.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Protocol

import attrs

from tidewell.protocol import decode_ts, encode_ts

_SHORT = re.compile(r"Transition (\d+)/(\d+)/(T\d+) -> (\d+)/(\d+)/(T\d+) \[(.*)\]")
_TS = re.compile(r'"(T\d+)"')


class Wire(Protocol):
    """One end of a socket, and a hand on the world behind it."""

    async def send(self, text: str) -> None: ...
    async def hear(self) -> dict[str, Any]:
        """The next message."""

    async def hear_close(self) -> tuple[int | None, str]:
        """The close code and reason, when nothing else comes before."""

    async def hear_nothing(self) -> None:
        """Check that nothing is left to hear."""

    async def cut(self) -> None: ...
    async def connect_again(self) -> None: ...
    async def commit(self, cell: str, value: Any) -> None: ...
    async def lose_next_reply(self) -> None: ...


@attrs.define
class Script:
    path: Path
    wire: Wire
    _timestamps: dict[str, int] = attrs.field(factory=lambda: {"T0": 0}, init=False)

    async def play(self) -> None:
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            try:
                await self._play_line(line.strip())
            except AssertionError as error:
                raise AssertionError(f"{self.path.name}:{number}: {line}\n{error}") from error
        await self.wire.hear_nothing()

    async def _play_line(self, line: str) -> None:
        mark, _, rest = line.partition(" ")
        if mark == ">":
            await self.wire.send(_TS.sub(lambda match: f'"{encode_ts(self._timestamps[match[1]])}"', rest))
        elif mark == "<":
            heard = await self.wire.hear()
            short = _SHORT.fullmatch(rest)
            if short is not None:
                self._match_short(short, heard)
            else:
                self._match(json.loads(rest), heard, "message")
        elif mark == "-":
            await self._direct(rest)
        else:
            assert mark in ("#", ""), f"cannot read {line!r}"

    async def _direct(self, text: str) -> None:
        match text.split(" ", 2):
            case ["commit", cell, value]:
                await self.wire.commit(cell, json.loads(value))
            case ["the", "reply", "will be lost"]:
                await self.wire.lose_next_reply()
            case ["cut"]:
                await self.wire.cut()
            case ["connect", "again"]:
                await self.wire.connect_again()
            case ["closed", *expected]:
                code, reason = await self.wire.hear_close()
                wanted = (int(expected[0]), expected[1]) if expected else (None, "")
                assert (code, reason) == wanted, (code, reason)
            case _:
                raise AssertionError(f"cannot read {text!r}")

    def _match_short(self, short: re.Match[str], heard: dict[str, Any]) -> None:
        start_set, start_identity, start_ts, end_set, end_identity, end_ts, changes = short.groups()
        assert heard["type"] == "Transition", heard
        for name, query_set, identity, ts in (
            ("startVersion", start_set, start_identity, start_ts),
            ("endVersion", end_set, end_identity, end_ts),
        ):
            expected = {"querySet": int(query_set), "identity": int(identity), "ts": ts}
            self._match(expected, heard[name], name)
        found = [f"{change['type']} {change['queryId']}" for change in heard["modifications"]]
        assert found == [change for change in changes.split(", ") if change], found

    def _match(self, expected: Any, found: Any, path: str) -> None:
        if isinstance(expected, dict):
            assert isinstance(found, dict), f"{path}: {found!r}"
            assert expected.keys() == found.keys(), f"{path}: {sorted(found)} instead of {sorted(expected)}"
            for key, value in expected.items():
                self._match(value, found[key], f"{path}.{key}")
        elif isinstance(expected, list):
            assert isinstance(found, list), f"{path}: {found!r}"
            assert len(expected) == len(found), f"{path}: {found!r}"
            for place, (one, other) in enumerate(zip(expected, found, strict=True)):
                self._match(one, other, f"{path}[{place}]")
        elif isinstance(expected, str) and re.fullmatch(r"T\d+", expected):
            self._match_ts(expected, decode_ts(found), path)
        elif isinstance(expected, str) and expected.startswith("~"):
            assert re.fullmatch(expected[1:], found, re.DOTALL), f"{path}: {found!r}"
        elif expected == "NUMBER":
            assert type(found) in (int, float), f"{path}: {found!r}"
        elif expected == "INTEGER":
            assert type(found) is int, f"{path}: {found!r}"
        else:
            assert (type(found), found) == (type(expected), expected), f"{path}: {found!r}"

    def _match_ts(self, name: str, found: int, path: str) -> None:
        known = self._timestamps.setdefault(name, found)
        assert known == found, f"{path}: {name} was {known}, now {found}"
        in_order = sorted(self._timestamps, key=lambda name: int(name[1:]))
        moments = [self._timestamps[name] for name in in_order]
        assert moments == sorted(set(moments)), self._timestamps
