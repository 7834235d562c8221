"""Nested calls as a record stores them: what is said once is not said again.

A mutation that calls others mostly calls the same few, often with arguments of its own, and most of
them return None. So where the path, the arguments or the result is that of an earlier call, the
stored form has a number in its place: from 1, of the nested call that has it; 0 for the
call at the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from sandbox.frames import Count, Digest, Name, Nested, Position

T = TypeVar("T", str, bytes)
Top = tuple[str, bytes, bytes]  # path, arguments and result of the call at the top


class StoredNested(msgspec.Struct, array_like=True, frozen=True):
    """See `sandbox.frames.Nested`."""

    depth: Position
    path: Name | Count
    args: bytes | Count
    args_digest: Digest
    result: Digest | Count
    error: str
    event: Count


def shorten(calls: Sequence[Nested], top: Top) -> list[StoredNested]:
    """Return the stored form of the nested calls of a call."""
    path, args, result = top
    paths, arguments, results = {path: 0}, {args: 0}, {result: 0}
    return [
        StoredNested(
            call.depth,
            _said(call.path, paths, number),
            _said(call.args, arguments, number),
            call.args_digest,
            _said(call.result, results, number),
            call.error,
            call.event,
        )
        for number, call in enumerate(calls, 1)
    ]


def _said(value: T, known: dict[T, int], number: int) -> T | int:
    """Return who said it before, or the value itself if nobody did."""
    first = known.setdefault(value, number)
    return value if first == number else first


def lengthen(stored: Sequence[StoredNested], top: Top) -> list[Nested]:
    """Return the nested calls in a stored form, which may be anything.

    Raises:
      msgspec.DecodeError: a number in it is of no earlier call.
    """
    path, args, result = top
    paths, arguments, results = [path], [args], [result]
    calls = []
    for each in stored:
        _say(each.path, paths)
        _say(each.args, arguments)
        _say(each.result, results)
        calls.append(
            Nested(
                each.depth, paths[-1], arguments[-1], each.args_digest, results[-1], each.error, each.event
            )
        )
    return calls


def _say(value: T | int, said: list[T]) -> None:
    if isinstance(value, int):
        if value >= len(said):
            raise msgspec.DecodeError(f"a nested call is said to be like call {value}, of {len(said)}")
        said.append(said[value])
    else:
        said.append(value)
